"""Scores of all frames of one video, of every method at once."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import cast

import numpy as np

from stavis import maps
from stavis.datasets.layout import Layout
from stavis.evaluation.baselines import FixedMap, InterObserver, NoiseMaps, read_center, read_video_gaze
from stavis.evaluation.ground_truth import read_density, read_fixations
from stavis.evaluation.other_videos import read_counts
from stavis.evaluation.plan import ScoredMaps, VideoTask
from stavis.evaluation.predictions import MapReader
from stavis.evaluation.results import METRICS, VideoScores, write_scores
from stavis.metrics import Protocol
from stavis.metrics.frame import FrameScores, score_pixels
from stavis.metrics.negatives import Negatives, OtherVideosNegatives, SameVideoNegatives, merge_scaled


class Tally:
    """The scores of one method's maps of a video, collected frame by frame."""

    def __init__(self, task: VideoTask, scored: ScoredMaps) -> None:
        self._task, self._scored = task, scored
        # Before the work: if maps change meanwhile, the scores are not taken for theirs.
        self._identity = task.identity(scored)
        self._frames: list[int] = []
        self._rows: list[Sequence[float]] = []
        self.missing: list[int] = []

    def takes(self, frame: int) -> bool:
        beyond_first = frame - self._task.settings.first_frame
        return beyond_first >= 0 and beyond_first % (self._task.settings.stride * self._scored.stride) == 0

    def add(self, frame: int, row: Sequence[float] | None) -> None:
        """Adds a frame's scores; None if it has no map."""
        if row is None:
            self.missing.append(frame)
        else:
            self._frames.append(frame)
            self._rows.append(row)

    def write(self, metrics: Sequence[str], num_frames: int, num_beyond: int, notes: Sequence[str]) -> None:
        """Stores the scores, whose rows are in the order of `metrics`."""
        task, scored = self._task, self._scored
        table = np.array(self._rows, dtype=np.float64).reshape(-1, len(metrics))
        video = VideoScores(
            method=scored.method,
            database=task.database,
            video=task.entry.video,
            split=scored.split,
            num_frames=num_frames,
            frame_rate=task.entry.frame_rate,
            frames=np.array(self._frames, dtype=np.int64),
            scores=dict(zip(metrics, table.T, strict=True)),
            missing=tuple(self.missing),
            num_beyond=num_beyond,
            source=str(scored.source.path) if scored.source is not None else scored.method,
            notes=(*notes, *scored.notes()),
        )
        write_scores(task.scores_path(scored), video, self._identity)


class _Truth:
    """A video's ground truth. What several methods need for a frame is read once."""

    def __init__(self, task: VideoTask, advance: Callable[[int], None]) -> None:
        layout, database, video = Layout(task.data), task.database, task.entry.video
        self.fixations = read_fixations(layout, database, task.entry, advance)
        size, frames = self.fixations.size, self.fixations.frames
        negatives: Negatives
        if task.settings.protocol == "stavis":
            negatives = SameVideoNegatives(self.fixations, task.settings.quirks)
        else:
            others = [read_counts(task, other) for other in task.others]
            negatives = OtherVideosNegatives(merge_scaled(others, size))
        self._protocol, self._source_of_negatives = cast(Protocol, task.settings.protocol), negatives
        self._density = lru_cache(1)(lambda frame: read_density(layout, database, video, frame, size))
        self._negatives = lru_cache(1)(lambda frame: negatives.of_frame(frames[frame]))

    def score(self, method: MapReader | InterObserver, frame: int) -> FrameScores[float] | None:
        """A method's scores of a frame; None if it has no map."""
        fixated = self.fixations.frames[frame]
        if isinstance(method, InterObserver):
            return method.score(frame, self._source_of_negatives, fixated, self._protocol)
        saliency = method.read(frame)
        if saliency is None:
            return None
        density, negatives = self._density(frame), self._negatives(frame)
        return score_pixels(saliency, density, fixated, negatives, protocol=self._protocol)


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
    tallies = [Tally(task, scored) for scored in task.scored]
    settings, num_frames = task.settings, task.entry.num_frames
    truth = _Truth(task, advance)
    methods = [_open_method(task, scored, truth) for scored in task.scored]
    advance(settings.first_frame * len(tallies))
    for frame in range(settings.first_frame, num_frames, settings.stride):
        for tally, method in zip(tallies, methods, strict=True):
            if tally.takes(frame):
                tally.add(frame, truth.score(method, frame))
            advance(min(settings.stride, num_frames - frame))
    for tally, method in zip(tallies, methods, strict=True):
        if isinstance(method, MapReader):
            tally.write(METRICS, num_frames, method.count_beyond(num_frames), method.notes)
        else:
            tally.write(METRICS, num_frames, 0, ())


def _open_method(task: VideoTask, scored: ScoredMaps, truth: _Truth) -> MapReader | InterObserver:
    if scored.source is not None:
        return scored.source.open()
    if scored.method == "center":
        return read_center(task, scored.split, truth.fixations.size)
    if scored.method == "uniform":
        return NoiseMaps(task.database, task.entry.video)
    if scored.method == "train-mean":
        assert scored.split is not None
        return FixedMap(task.train_means[scored.split])
    if scored.method == "shuffled":
        return _OtherDensity(task)
    gaze = read_video_gaze(Layout(task.data), task.database, task.entry.video)
    return InterObserver(gaze, truth.fixations.size)
