"""Plan of an evaluation: which videos are scored, with which maps."""

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from stavis import maps
from stavis.datasets.fold_lists import choose_databases, read_fold_list, read_test_lists
from stavis.datasets.layout import FoldEntry, Layout
from stavis.errors import StavisError, counted
from stavis.evaluation.baselines import Baseline, has_training_maps, read_video_gaze, reference_stride
from stavis.evaluation.ground_truth import check_annotations
from stavis.evaluation.predictions import MapSource, describe_content, find_absent_splits, find_source
from stavis.evaluation.results import PREDICTIONS
from stavis.metrics.negatives import Quirks

Protocol = Literal["stavis", "cross-video", "tuebingen", "challenge", "dhf1k", "msu"]
FIELD_PROTOCOLS = ("challenge", "dhf1k", "msu")
"""Protocols of data in layouts of their own; the others score data in the published layout."""
FIRST_FRAME = 8  # from 0: the published predictions begin with the ninth frame


@dataclass(frozen=True)
class EvaluationSettings:
    # For data in the published layout, where the shuffled AUC's negatives come from (`stavis.metrics.auc_shuffled`); or
    # one of `FIELD_PROTOCOLS`.
    protocol: Protocol = "stavis"
    # "reference" scores as the published code does, "fixed" as it is meant to. In the published layout, "reference"
    # excludes only pixels that equal 1 from a frame's negatives, "fixed" all that are fixated. For fixation maps of 0
    # and 1, both are the same.
    quirks: Quirks = "reference"
    first_frame: int = FIRST_FRAME  # the first frame that is scored, from 0
    stride: int = 1  # from there on every `stride`-th frame is scored

    def __post_init__(self) -> None:
        if self.protocol not in get_args(Protocol):
            raise ValueError(f"protocol is {self.protocol!r}; allowed: {', '.join(get_args(Protocol))}")
        if self.quirks not in get_args(Quirks):
            raise ValueError(f"quirks is {self.quirks!r}; allowed: {', '.join(get_args(Quirks))}")
        if self.first_frame < 0 or self.stride < 1:
            raise ValueError(
                f"first_frame is {self.first_frame} and stride {self.stride}; >= 0 and >= 1 are allowed"
            )

    def num_scored(self, entry: FoldEntry) -> int:
        return -(-(entry.num_frames - self.first_frame) // self.stride)


@dataclass(frozen=True)
class ListedVideo:
    """An entry of a test list. Data without splits have split None."""

    database: str
    split: int | None
    entry: FoldEntry


@dataclass(frozen=True)
class ScoredMaps:
    """One method's maps of a video, and the name of the file that stores their scores."""

    method: str  # `PREDICTIONS` or a baseline
    split: int | None  # the split that the maps belong to; None if they are the same in all
    source: MapSource | None  # the maps that were given; None for a baseline
    stride: int = 1  # of the frames to be scored, every `stride`-th is
    training: str = ""  # tells the training videos to which a baseline is fitted from others

    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores must know."""
        return ("evenly spaced frames only",) if self.stride > 1 else ()

    def file_name(self) -> str:
        return f"{self.method}_split{self.split}.json" if self.split is not None else f"{self.method}.json"


@dataclass(frozen=True)
class VideoTask:
    data: Path  # the data folder
    output: Path  # the evaluation's folder
    database: str  # the video's database
    entry: FoldEntry  # its entry in the test lists
    scored: tuple[ScoredMaps, ...]  # the maps to be scored
    settings: EvaluationSettings  # settings that determine the scores
    # Split -> the mean of the training videos; split 0 for data without splits.
    train_means: dict[int, maps.Float64Map]
    # The database's other videos, for the protocols that take negatives from them.
    others: tuple[FoldEntry, ...]
    partner: FoldEntry | None = None  # the video whose density maps are the baseline "shuffled"
    adaptation: Path | None = None  # file of the domain adaptation of the predictions (protocol "msu")

    def scores_path(self, scored: ScoredMaps) -> Path:
        return self.output / "videos" / self.database / self.entry.video / scored.file_name()

    def identity(self, scored: ScoredMaps) -> dict[str, Any]:
        """What the scores depend on: earlier ones of the same identity are current."""
        adapted = {} if self.adaptation is None else {"adaptation": self.adaptation.stem}
        strided = {} if scored.stride == 1 else {"stride": scored.stride}
        return {
            **adapted,
            **strided,
            "settings": asdict(self.settings),
            "maps": self._describe(scored),
            "num_frames": self.entry.num_frames,
            "others": sorted(entry.video for entry in self.others),
        }

    def _describe(self, scored: ScoredMaps) -> str:
        if scored.source is not None:
            return scored.source.fingerprint()
        detail = f" {self.partner.video}" if scored.method == "shuffled" and self.partner else ""
        if scored.training:
            detail = f" fitted to {scored.training}"
        return f"baseline {scored.method}{detail}"


@dataclass(frozen=True)
class Plan:
    # The evaluated entries of the test lists, in the order of databases, splits and lists.
    videos: list[ListedVideo]
    scored: dict[tuple[ListedVideo, str], ScoredMaps]  # the scored maps of each of them and each method
    tasks: list[VideoTask]  # the same without repetitions: the work to do
    missing: list[ListedVideo]  # entries without predictions, left out with `allow_missing`
    skipped: list[str]  # databases without any predictions
    absent_splits: tuple[int, ...]  # splits without a folder of results, left out
    one_list: frozenset[str]  # databases with the same test list in every split, as DIEM
    unavailable: dict[str, list[str]]  # database -> why it lacks reference rows


def make_plan(
    data: Path,
    predictions: Path | None,
    output: Path,
    settings: EvaluationSettings,
    *,
    databases: Sequence[str] | None = None,
    split: int | None = None,
    baselines: Sequence[Baseline] = (),
    references: bool = False,
    allow_missing: bool = False,
) -> Plan:
    """Finds what there is to evaluate. Folders are listed; only the fold lists are opened. Arguments as of `evaluate`.

    Raises StavisError if predictions of a video, annotations or a list are missing.
    """
    layout = Layout(data)
    chosen = choose_databases(layout, databases)
    listed = {
        database: [
            ListedVideo(database, number, entry)
            for number, entries in read_test_lists(layout, database, split)
            for entry in entries
        ]
        for database in chosen
    }
    absent_splits: tuple[int, ...] = ()
    if predictions is not None and split is None:
        absent_splits = find_absent_splits(
            predictions, {v.split for videos in listed.values() for v in videos if v.split is not None}
        )
        listed = {n: [v for v in videos if v.split not in absent_splits] for n, videos in listed.items()}
    found: dict[ListedVideo, tuple[MapSource, bool]] = {}
    if predictions is not None:
        for video in [video for videos in listed.values() for video in videos]:
            place = find_source(predictions, video.database, video.entry.video, video.split or 1)
            if place is not None:
                found[video] = place
        if not found:
            num = sum(len({v.entry.video for v in videos}) for videos in listed.values())
            raise StavisError(
                f"{predictions}: no maps of any of the {num} test videos of {', '.join(listed)} in {data}; "
                f"{describe_content(predictions)}"
            )
    all_wanted = predictions is None or databases is not None
    skipped = [n for n, videos in listed.items() if not (all_wanted or any(v in found for v in videos))]
    listed = {name: videos for name, videos in listed.items() if name not in skipped}
    one_list = frozenset(name for name in listed if _has_one_list(layout, name, "test"))
    for name in one_list:
        # The same maps on the same list in every split: once is enough.
        of_split = any(found[video][1] for video in listed[name] if video in found)
        if not of_split and ("train-mean" not in baselines or _has_one_list(layout, name, "train")):
            listed[name] = [video for video in listed[name] if video.split == listed[name][0].split]
    for name in (name for name, of_database in listed.items() if not of_database):
        raise StavisError(f"{predictions}: no split of {name}'s test lists has predictions")
    videos = [video for videos in listed.values() for video in videos]
    missing = [video for video in videos if predictions is not None and video not in found]
    if missing and not allow_missing:
        assert predictions is not None
        raise StavisError(_describe_missing(predictions, missing, videos))
    videos = [video for video in videos if video not in missing]
    for database in listed:
        check_annotations(layout, database, [v.entry for v in videos if v.database == database])
    _check_entries(videos, settings)
    with_references = references and predictions is not None
    extra, unavailable = _references(layout, videos, baselines) if with_references else ({}, {})
    scored = _scored_maps(layout, videos, found, baselines, extra, settings)
    tasks = make_tasks(data, output, videos, scored, settings)
    return Plan(videos, scored, tasks, missing, skipped, absent_splits, one_list, unavailable)


def _scored_maps(
    layout: Layout,
    videos: Sequence[ListedVideo],
    found: Mapping[ListedVideo, tuple[MapSource, bool]],
    baselines: Sequence[Baseline],
    references: Mapping[str, Mapping[Baseline, Mapping[str, int]]],
    settings: EvaluationSettings,
) -> dict[tuple[ListedVideo, str], ScoredMaps]:
    scored = {}
    has_fit = functools.cache(functools.partial(has_training_maps, layout))
    training = functools.cache(functools.partial(_training_videos, layout))
    for video in videos:
        if video in found:
            source, of_split = found[video]
            scored[video, PREDICTIONS] = ScoredMaps(PREDICTIONS, video.split if of_split else None, source)
        for baseline in (*baselines, *references.get(video.database, ())):
            is_fitted = baseline == "center" and video.split and has_fit(video.database, video.split)
            own_split = video.split if baseline == "train-mean" or is_fitted else None
            fitted_to = training(video.database, own_split) if own_split else ""
            stride = 1
            if baseline not in baselines:
                observers = references[video.database][baseline].get(video.entry.video, 1)
                stride = reference_stride(baseline, settings.num_scored(video.entry), observers)
            scored[video, baseline] = ScoredMaps(baseline, own_split, None, stride, fitted_to)
    return scored


def _training_videos(layout: Layout, database: str, split: int) -> str:
    entries = read_fold_list(layout.fold_list(database, "train", split))
    return digest_of(f"{entry.video} {entry.num_frames}" for entry in entries)


def digest_of(names: Iterable[str]) -> str:
    """A short hash that tells a list of names from others."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _references(
    layout: Layout, videos: Sequence[ListedVideo], baselines: Sequence[Baseline]
) -> tuple[dict[str, dict[Baseline, dict[str, int]]], dict[str, list[str]]]:
    """Database -> its reference rows -> video -> number of observers; and why others are left out."""
    found: dict[str, dict[Baseline, dict[str, int]]] = {}
    unavailable: dict[str, list[str]] = {}
    for database in dict.fromkeys(video.database for video in videos):
        names = list(dict.fromkeys(v.entry.video for v in videos if v.database == database))
        rows: dict[Baseline, dict[str, int]] = {"center": {}}
        reasons = unavailable.setdefault(database, [])
        if len(names) > 1:
            rows["shuffled"] = {}
        else:
            reasons.append("no row of another video's density: there is one video")
        try:
            observers = {n: len(read_video_gaze(layout, database, n).observers.names) for n in names}
            rows["inter-observer"] = observers
        except StavisError:
            reasons.append("no inter-observer row: not every video has gaze by observer")
        found[database] = {name: row for name, row in rows.items() if name not in baselines}
    return found, unavailable


def _has_one_list(layout: Layout, database: str, subset: str) -> bool:
    return layout.fold_list(database, subset, 1) == layout.fold_list(database, subset, 2)


def _describe_missing(
    predictions: Path, missing: Sequence[ListedVideo], videos: Sequence[ListedVideo]
) -> str:
    first = missing[0]
    message = (
        f"{predictions}: no maps of {len(missing)} of {counted(len(videos), 'videos')} of the test lists, the first "
        f"of them {first.entry.video} ({first.database}, split {first.split})"
    )
    there = sorted({v.split or 1 for v in videos} - {v.split or 1 for v in missing})
    if there and len(there) < len({v.split for v in videos}):
        return f"{message}; complete splits: {', '.join(map(str, there))} (split=...)"
    return f"{message}; allow_missing=True scores the others"


def _check_entries(videos: Sequence[ListedVideo], settings: EvaluationSettings) -> None:
    seen: dict[tuple[str, str], FoldEntry] = {}
    for video in videos:
        entry = video.entry
        before = seen.setdefault((video.database, entry.video), entry)
        if before != entry:
            raise StavisError(
                f"the test lists of {video.database} name {entry.video} with {counted(before.num_frames, 'frames')} at "
                f"{before.frame_rate} and with {entry.num_frames} at {entry.frame_rate} fps; they must agree"
            )
        check_length(video, settings)


def check_length(video: ListedVideo, settings: EvaluationSettings) -> None:
    """Raises StavisError if a video ends before the first frame that is scored."""
    num_frames = video.entry.num_frames
    if num_frames <= settings.first_frame:
        raise StavisError(
            f"{video.database}: {video.entry.video} has {counted(num_frames, 'frames')}, and scoring starts at frame "
            f"{settings.first_frame + 1} (from 1)"
        )


def make_tasks(
    data: Path,
    output: Path,
    videos: Sequence[ListedVideo],
    scored: dict[tuple[ListedVideo, str], ScoredMaps],
    settings: EvaluationSettings,
) -> list[VideoTask]:
    of_video: dict[tuple[str, FoldEntry], dict[ScoredMaps, None]] = {}
    for (video, _), maps_of_method in scored.items():
        of_video.setdefault((video.database, video.entry), {})[maps_of_method] = None
    entries: dict[str, dict[FoldEntry, None]] = {}
    for video in videos:
        entries.setdefault(video.database, {})[video.entry] = None
    tasks = []
    for (database, entry), those in of_video.items():
        others: tuple[FoldEntry, ...] = ()
        if settings.protocol != "stavis":
            others = tuple(other for other in entries[database] if other != entry)
            if not others and settings.protocol not in FIELD_PROTOCOLS:
                raise StavisError(
                    f"protocol {settings.protocol!r} takes negatives from other videos, but {database} has only "
                    f"{entry.video} in its test lists"
                )
        # The next in circular alphabetical order, so that each video is once another's partner.
        ordered = sorted(entries[database], key=lambda e: e.video)
        partner = ordered[(ordered.index(entry) + 1) % len(ordered)] if len(ordered) > 1 else None
        if partner is None and any(s.method == "shuffled" for s in those):
            raise StavisError(
                f"{data}: the baseline 'shuffled' needs two videos; {database} has only {entry.video}"
            )
        tasks.append(VideoTask(data, output, database, entry, tuple(those), settings, {}, others, partner))
    return tasks
