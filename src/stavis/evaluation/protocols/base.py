"""Common part of the protocols of other data: what each defines, its plan, and the scoring of a video."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from stavis.datasets.layout import FoldEntry
from stavis.errors import StavisError, counted, some
from stavis.evaluation import plan
from stavis.evaluation.baselines import (
    OWN,
    REFERENCES,
    FixedMap,
    NoiseMaps,
    gaussian_map,
    read_center,
    reference_stride,
)
from stavis.evaluation.predictions import MapReader, MapSource, describe_content, source_in
from stavis.evaluation.results import PREDICTIONS
from stavis.evaluation.video import Tally
from stavis.maps import Array
from stavis.metrics import Float64, Indices
from stavis.metrics.challenge import expected_auc, nss_score, similarity_scores, stepwise_auc
from stavis.runtime.files import atomic_path

TRAINING_VIDEOS = 100  # at most, to which the center prior is fitted

T = TypeVar("T")


def evenly(items: Sequence[T], num: int) -> list[T]:
    """At most `num` of the items, evenly spaced."""
    positions = np.linspace(0, len(items) - 1, min(num, len(items))).round().astype(int)
    return [items[i] for i in np.unique(positions)]


@dataclass(frozen=True)
class Truth:
    """Ground truth of a frame."""

    density: Float64  # (H, W) as the protocol compares it
    fixated: Indices  # (n,) flat indices of the fixations, with repeats; empty if there are none
    num_positives: int  # what AUC-Judd subtracts from the number of pixels


class FieldData(ABC):
    """A data folder in the layout of a protocol, and the protocol's way of scoring."""

    metrics: ClassVar[tuple[str, ...]]  # keys of its scores
    baselines: ClassVar[tuple[str, ...]] = ("center", "uniform", "shuffled")  # baselines that it can score
    # Whether a prediction must have exactly as many maps as the ground truth.
    is_strict: ClassVar[bool] = False
    methods: ClassVar[tuple[str, ...]] = (PREDICTIONS,)

    def __init__(self, root: Path, settings: plan.EvaluationSettings) -> None:
        self.root = root
        self.settings = settings

    @abstractmethod
    def subsets(self) -> dict[str, list[str]]:
        """Subset -> its videos. Raises StavisError if the folder has another layout."""

    @abstractmethod
    def entry(self, subset: str, video: str) -> FoldEntry:
        """Name, number of frames and frame rate of a video."""

    @abstractmethod
    def truths(
        self, subset: str, video: str, notes: list[str], takes: Callable[[int], bool] = lambda frame: True
    ) -> Iterator[tuple[int, Truth | None]]:
        """The frames in order, from 0, with their ground truth; None if it is not taken or has no scores.

        Frames without ground truth can be left out. Adds remarks to `notes`.
        """

    @abstractmethod
    def score(self, saliency: Array, truth: Truth, task: plan.VideoTask, method: str) -> Sequence[float]:
        """The scores, in the order of `metrics`, of a map (h, w) or (h, w, channels), in whatever samples it has."""

    def challenge_scores(self, prediction: Float64, truth: Truth) -> tuple[float, float, float, float]:
        """CC, SIM, NSS and AUC-Judd by the formulas that the challenges and the MSU benchmark share."""
        cc, sim = similarity_scores(prediction, truth.density)
        if not truth.fixated.size:
            return cc, sim, math.nan, math.nan
        if self.settings.quirks == "reference":
            auc = stepwise_auc(prediction, truth.fixated, truth.num_positives)
        else:
            auc = expected_auc(prediction, truth.fixated)
        return cc, sim, nss_score(prediction, truth.fixated), auc

    @cached_property
    def training(self) -> str:
        """Tells these training videos from others; "" if there are none."""
        names = self.training_videos()
        return plan.digest_of(names) if names else ""

    def training_videos(self) -> list[str]:
        """Some of the training videos whose ground truth is there, to which the center prior is fitted."""
        return []

    def training_moments(self, video: str) -> Float64:
        """The (4,) `gaussian_map` moments of a training video's gaze; nan if it has none."""
        raise NotImplementedError

    def center(self) -> Float64 | None:
        """The data's own center prior (h, w); None if it has none."""
        return None

    def prepare(
        self, tasks: Sequence[plan.VideoTask], jobs: int, overwrite: bool, quiet: bool
    ) -> list[plan.VideoTask]:
        """Work that needs all videos, before they are scored one by one."""
        return list(tasks)


def make_field_plan(
    data: FieldData,
    predictions: Path | None,
    output: Path,
    *,
    databases: Sequence[str] | None,
    baselines: Sequence[str],
    references: bool,
    allow_missing: bool,
) -> plan.Plan:
    """Finds the videos of the subsets and their predictions. Arguments as of `evaluate`; databases are subsets."""
    subsets = data.subsets()
    for name in set(databases or ()) - subsets.keys():
        raise StavisError(f"{data.root}: no subset {name!r} there; allowed: {', '.join(subsets)}")
    if refused := set(baselines) - set(data.baselines):
        raise StavisError(
            f"baseline {min(refused)!r} is not available under protocol {data.settings.protocol!r}; allowed: "
            f"{', '.join(data.baselines)}"
        )
    found: dict[tuple[str, str], MapSource] = {}
    chosen = list(databases or subsets)
    if predictions is not None:
        found = _find_sources(predictions, subsets)
        if databases is None:
            chosen = [subset for subset in subsets if any(key[0] == subset for key in found)]
        if not any(key[0] in chosen for key in found):
            raise StavisError(
                f"{predictions}: no maps of any of the videos of {', '.join(subsets)} in {data.root}; "
                f"{describe_content(predictions)}"
            )
    listed = [(subset, name) for subset in chosen for name in subsets[subset]]
    lacking = [key for key in listed if predictions is not None and key not in found]
    if lacking and not allow_missing:
        raise StavisError(
            f"{predictions}: no maps of {len(lacking)} of {counted(len(listed), 'videos')}: "
            f"{some(name for _, name in lacking)}; allow_missing=True scores the others"
        )
    there = [key for key in listed if key not in lacking]
    videos = [plan.ListedVideo(subset, None, data.entry(subset, name)) for subset, name in there]
    for video in videos:
        if video.entry.num_frames:
            plan.check_length(video, data.settings)
    extra: dict[str, list[str]] = {}
    if references and predictions is not None:
        candidates = [name for name in REFERENCES if name in data.baselines and name not in baselines]
        for subset in chosen:
            has_partner = sum(video.database == subset for video in videos) > 1
            extra[subset] = [name for name in candidates if name != "shuffled" or has_partner]
    scored = {
        (video, one.method): one
        for video in videos
        for one in _scored_maps(data, video, found, baselines, extra.get(video.database, ()))
    }
    tasks = plan.make_tasks(data.root, output, videos, scored, data.settings)
    missing = [plan.ListedVideo(subset, None, FoldEntry(name, 0, 0.0)) for subset, name in lacking]
    unavailable = {s: ["no inter-observer row: these data do not tell observers apart"] for s in extra}
    return plan.Plan(videos, scored, tasks, missing, [], (), frozenset(), unavailable)


def _find_sources(predictions: Path, subsets: dict[str, list[str]]) -> dict[tuple[str, str], MapSource]:
    places = {
        (subset, name): source_in(predictions / subset, name) or source_in(predictions, name)
        for subset, names in subsets.items()
        for name in names
    }
    return {key: source for key, source in places.items() if source is not None}


def _scored_maps(
    data: FieldData,
    video: plan.ListedVideo,
    found: dict[tuple[str, str], MapSource],
    baselines: Sequence[str],
    references: Sequence[str],
) -> Iterator[plan.ScoredMaps]:
    source = found.get((video.database, video.entry.video))
    if source is not None:
        yield from (plan.ScoredMaps(method, None, source) for method in data.methods)
    num = data.settings.num_scored(video.entry)
    strides = {name: reference_stride(name, num) for name in references} | dict.fromkeys(baselines, 1)
    for name, stride in strides.items():
        yield plan.ScoredMaps(name, None, None, stride, data.training if name == "center" else "")


def with_center(data: FieldData, tasks: list[plan.VideoTask], overwrite: bool) -> list[plan.VideoTask]:
    """The tasks with a center prior that is fitted to the training videos, if there are any."""
    if not any(scored.method == "center" for task in tasks for scored in task.scored):
        return tasks
    path = tasks[0].output / "train-mean" / f"center_{data.training}.npy"
    if overwrite or not path.exists():
        moments = [data.training_moments(name) for name in data.training_videos()]
        known = [one for one in moments if not np.isnan(one).any()]
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, gaussian_map(np.mean(known, axis=0)) if known else np.empty(0))
    center = np.load(path, allow_pickle=False)
    return [replace(task, train_means={0: center}) for task in tasks] if center.size else tasks


def score_field_video(data: FieldData, task: plan.VideoTask, advance: Callable[[int], None]) -> None:
    """Scores every method's maps of a video and stores the scores. Memory does not grow with the video's length."""
    tallies = [Tally(task, scored) for scored in task.scored]
    notes: list[str] = []
    readers: list[MapReader] = []
    num_frames = 0

    def open_readers(size: tuple[int, int]) -> list[MapReader]:
        return [
            _open_reader(data, task, scored, size, tally.takes)
            for scored, tally in zip(task.scored, tallies, strict=True)
        ]

    def takes(frame: int) -> bool:
        return any(tally.takes(frame) for tally in tallies)

    for frame, truth in data.truths(task.database, task.entry.video, notes, takes):
        num_frames = frame + 1
        if truth is None:
            advance(len(task.scored))
            continue
        if not readers:
            readers = open_readers((truth.density.shape[0], truth.density.shape[1]))
        for tally, reader, scored in zip(tallies, readers, task.scored, strict=True):
            if tally.takes(frame):
                saliency = reader.read(frame)
                row = None if saliency is None else data.score(saliency, truth, task, scored.method)
                tally.add(frame, row)
        advance(len(task.scored))
    readers = readers or open_readers((1, 1))  # no frame is scored
    for tally, reader, scored in zip(tallies, readers, task.scored, strict=True):
        num_beyond = reader.count_beyond(num_frames)
        if data.is_strict and scored.source is not None and (tally.missing or num_beyond):
            num_maps = counted(num_frames - len(tally.missing) + num_beyond, "frames")
            raise StavisError(
                f"{scored.source.path}: {num_maps}, the ground truth has {num_frames}; one map per frame is needed"
            )
        tally.write(data.metrics, num_frames, num_beyond, (*notes, *reader.notes))


def _open_reader(
    data: FieldData,
    task: plan.VideoTask,
    scored: plan.ScoredMaps,
    size: tuple[int, int],
    takes: Callable[[int], bool],
) -> MapReader:
    video = task.entry.video
    if scored.source is not None:
        return scored.source.open(own_depth=True)
    if scored.method == "center":
        center = data.center()
        return read_center(task, None, size) if center is None else FixedMap(center, OWN)
    if scored.method == "uniform":
        return NoiseMaps(task.database, video)
    return _OtherTruth(data, task, takes)


class _OtherTruth(MapReader):
    """Reader of the baseline "shuffled": the density maps of another video, from its start again at its end."""

    def __init__(self, data: FieldData, task: plan.VideoTask, takes: Callable[[int], bool]) -> None:
        assert task.partner is not None
        self._open = partial(data.truths, task.database, task.partner.video, [])
        self._num_frames, self._takes = max(1, task.partner.num_frames), takes
        self._begin = -1  # frame of the scored video with which the other one starts
        self._truths: Iterator[tuple[int, Truth | None]] = iter(())

    def read(self, frame: int) -> Array | None:
        begin = frame - frame % self._num_frames
        if begin != self._begin:
            self._begin, self._truths = begin, self._open(lambda number: self._takes(begin + number))
        for number, truth in self._truths:
            if begin + number >= frame and truth is not None:
                return truth.density
        return None
