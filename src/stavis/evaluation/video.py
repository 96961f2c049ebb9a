"""Scores of all frames of one video, of every method at once."""

from collections.abc import Callable
from typing import cast

import numpy as np

from stavis import maps
from stavis.datasets.layout import Layout
from stavis.evaluation.baselines import (
    FixedMap,
    InterObserver,
    NoiseMaps,
    VideoGaze,
    read_center,
    read_video_gaze,
)
from stavis.evaluation.ground_truth import read_density, read_fixations
from stavis.evaluation.other_videos import read_counts
from stavis.evaluation.plan import ScoredMaps, VideoTask
from stavis.evaluation.predictions import MapReader
from stavis.evaluation.results import METRICS, VideoScores, write_scores
from stavis.metrics import Protocol
from stavis.metrics.frame import FrameScores, score_pixels
from stavis.metrics.negatives import (
    Negatives,
    OtherVideosNegatives,
    Pixels,
    SameVideoNegatives,
    VideoFixations,
    merge_scaled,
)


class _MapScorer:
    """Scores maps of a reader."""

    def __init__(self, reader: MapReader) -> None:
        self.reader = reader

    def score(
        self, frame: int, truth: "_Truth", fixated: Pixels, protocol: Protocol
    ) -> FrameScores[float] | None:
        saliency_map = self.reader.read(frame)
        if saliency_map is None:
            return None
        return score_pixels(
            saliency_map, truth.density(frame), fixated, truth.negatives(frame), protocol=protocol
        )

    def finish(self, num_frames: int) -> tuple[int, tuple[str, ...]]:
        num_beyond = self.reader.count_beyond(num_frames)
        return num_beyond, self.reader.notes


class _ObserverScorer:
    """Scores each observer by the others."""

    def __init__(self, gaze: VideoGaze, truth: "_Truth") -> None:
        self._inter_observer = InterObserver(gaze, truth.fixations.size)

    def score(
        self, frame: int, truth: "_Truth", fixated: Pixels, protocol: Protocol
    ) -> FrameScores[float] | None:
        return self._inter_observer.score(frame, truth.source_of_negatives, fixated, protocol)

    def finish(self, num_frames: int) -> tuple[int, tuple[str, ...]]:
        return 0, ()


class _Truth:
    """A video's ground truth. What several methods need for a frame is read once."""

    def __init__(self, task: VideoTask, advance: Callable[[int], None]) -> None:
        self._layout = Layout(task.data)
        self._task = task
        self.fixations: VideoFixations = read_fixations(self._layout, task.database, task.entry, advance)
        self.source_of_negatives: Negatives
        if task.settings.protocol == "stavis":
            self.source_of_negatives = SameVideoNegatives(self.fixations, task.settings.quirks)
        else:
            others = [read_counts(task, other) for other in task.others]
            self.source_of_negatives = OtherVideosNegatives(merge_scaled(others, self.fixations.size))
        self._density: tuple[int, maps.Array] = (-1, np.empty((0, 0)))
        self._negatives: tuple[int, Pixels] = (-1, Pixels(np.empty(0, np.intp), np.empty(0)))

    def density(self, frame: int) -> maps.Array:
        if self._density[0] != frame:
            video = self._task.entry.video
            density = read_density(self._layout, self._task.database, video, frame, self.fixations.size)
            self._density = (frame, density)
        return self._density[1]

    def negatives(self, frame: int) -> Pixels:
        if self._negatives[0] != frame:
            self._negatives = (frame, self.source_of_negatives.of_frame(self.fixations.frames[frame]))
        return self._negatives[1]


class _OtherDensity(MapReader):
    """Reader of the baseline "shuffled": the density maps of another video, from its start again at its end."""

    def __init__(self, task: VideoTask) -> None:
        assert task.partner is not None
        self._task, self._partner = task, task.partner

    def read(self, frame: int) -> maps.Array | None:
        layout, number = Layout(self._task.data), frame % self._partner.num_frames
        return maps.read_density_map(layout.density_map(self._task.database, self._partner.video, number))


def score_video(task: VideoTask, advance: Callable[[int], None]) -> None:
    """Scores every method's maps of a video and stores the scores."""
    # Before the work: if maps change meanwhile, the scores are not taken for theirs.
    identities = [task.identity(scored) for scored in task.scored]
    settings, num_frames = task.settings, task.entry.num_frames
    protocol = cast(Protocol, settings.protocol)
    truth = _Truth(task, advance)
    scorers = [_make_scorer(task, scored, truth) for scored in task.scored]
    frames: list[list[int]] = [[] for _ in scorers]
    scores: list[list[FrameScores[float]]] = [[] for _ in scorers]
    missing: list[list[int]] = [[] for _ in scorers]
    advance(settings.first_frame * len(scorers))
    for frame in range(settings.first_frame, num_frames, settings.stride):
        fixated = truth.fixations.frames[frame]
        for i, scorer in enumerate(scorers):
            if (frame - settings.first_frame) // settings.stride % task.scored[i].stride:
                advance(min(settings.stride, num_frames - frame))
                continue
            result = scorer.score(frame, truth, fixated, protocol)
            if result is None:
                missing[i].append(frame)
            else:
                frames[i].append(frame)
                scores[i].append(result)
            advance(min(settings.stride, num_frames - frame))
    for i, (scored, scorer) in enumerate(zip(task.scored, scorers, strict=True)):
        num_beyond, notes = scorer.finish(num_frames)
        video = VideoScores(
            method=scored.method,
            database=task.database,
            video=task.entry.video,
            split=scored.split,
            num_frames=num_frames,
            frame_rate=task.entry.frame_rate,
            frames=np.array(frames[i], dtype=np.int64),
            scores=dict(
                zip(METRICS, np.array(scores[i], dtype=np.float64).reshape(-1, len(METRICS)).T, strict=True)
            ),
            missing=tuple(missing[i]),
            num_beyond=num_beyond,
            source=str(scored.source.path) if scored.source is not None else scored.method,
            notes=(*notes, *scored.notes()),
        )
        write_scores(task.scores_path(scored), video, identities[i])


def _make_scorer(task: VideoTask, scored: ScoredMaps, truth: _Truth) -> _MapScorer | _ObserverScorer:
    video = task.entry.video
    if scored.source is not None:
        return _MapScorer(scored.source.open())
    if scored.method == "center":
        return _MapScorer(read_center(task, scored.split, truth.fixations.size))
    if scored.method == "uniform":
        return _MapScorer(NoiseMaps(task.database, video))
    if scored.method == "train-mean":
        assert scored.split is not None
        return _MapScorer(FixedMap(task.train_means[scored.split]))
    if scored.method == "shuffled":
        return _MapScorer(_OtherDensity(task))
    return _ObserverScorer(read_video_gaze(Layout(task.data), task.database, video), truth)
