"""Evaluates predictions of the test videos: which are to be scored, by whom, and what an earlier run has done."""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import stavis
from stavis import maps
from stavis.datasets.fold_lists import choose_databases, read_fold_list
from stavis.datasets.layout import SPLITS, FoldEntry, Layout
from stavis.errors import StavisError
from stavis.evaluation.baselines import (
    Baseline,
    FixedMap,
    InterObserver,
    NoiseMaps,
    VideoGaze,
    center_map,
    read_video_gaze,
    train_mean_map,
)
from stavis.evaluation.ground_truth import (
    Negatives,
    OtherVideosNegatives,
    Quirks,
    SameVideoNegatives,
    VideoFixations,
    check_annotations,
    count_fixations,
    merge_scaled,
    read_density,
    read_fixations,
)
from stavis.evaluation.predictions import (
    MapReader,
    MapSource,
    describe_content,
    find_absent_splits,
    find_source,
)
from stavis.evaluation.results import METRICS, PREDICTIONS, VideoScores, read_scores, write_scores
from stavis.metrics import Protocol
from stavis.metrics.frame import FrameScores, Pixels, score_frame
from stavis.runtime.files import atomic_path, write_text
from stavis.runtime.workers import run_parallel

RUN_FILE = "evaluation.json"
FIRST_FRAME = 8  # from 0: the published predictions begin with the ninth frame


@dataclass(frozen=True)
class EvaluationSettings:
    """What decides the scores, besides maps and data.

    Attributes:
        protocol: Where the shuffled AUC's negatives come from (`stavis.metrics.auc_shuffled`).
        quirks: "reference" takes only pixels that equal 1 out of a frame's negatives, as published; "fixed" all that
            are fixated. Where fixation maps hold 0 and 1, both are the same.
        first_frame: The first frame that is scored, from 0.
        stride: From there on every `stride`-th frame is scored.
    """

    protocol: Protocol = "stavis"
    quirks: Quirks = "reference"
    first_frame: int = FIRST_FRAME
    stride: int = 1


@dataclass(frozen=True)
class ListedVideo:
    """A line of a test list."""

    database: str
    split: int
    entry: FoldEntry


@dataclass(frozen=True)
class ScoredMaps:
    """One method's maps of a video, and where its scores are kept.

    Attributes:
        method: `PREDICTIONS` or a baseline.
        split: Of which split the maps are; None if they are the same in all.
        source: The maps that were given; None for a baseline.
    """

    method: str
    split: int | None
    source: MapSource | None

    def file_name(self) -> str:
        return f"{self.method}_split{self.split}.json" if self.split is not None else f"{self.method}.json"


@dataclass(frozen=True)
class VideoTask:
    """All that is to be scored on one video.

    Attributes:
        data: The data folder.
        output: The evaluation's folder.
        database: The video's database.
        entry: Its line.
        scored: Whose maps.
        settings: How.
        train_means: Split -> the map of the baseline "train-mean".
        others: The database's other videos, for the protocols that take negatives from them.
    """

    data: Path
    output: Path
    database: str
    entry: FoldEntry
    scored: tuple[ScoredMaps, ...]
    settings: EvaluationSettings
    train_means: dict[int, maps.Float64Map]
    others: tuple[FoldEntry, ...]

    def scores_path(self, scored: ScoredMaps) -> Path:
        return self.output / "videos" / self.database / self.entry.video / scored.file_name()


@dataclass(frozen=True)
class Plan:
    """What an evaluation comes to.

    Attributes:
        videos: The lines of the test lists that are evaluated, those of databases in order, then splits, then lists.
        scored: For each of them and each method, whose scores are its.
        tasks: The same without repetitions: what there is to compute.
        missing: Lines without predictions, which `allow_missing` let pass.
        skipped: Databases without any predictions.
        absent_splits: Splits whose folder of results is not there, which were left out.
        one_list: Databases with the same test list in every split, as DIEM.
    """

    videos: list[ListedVideo]
    scored: dict[tuple[ListedVideo, str], ScoredMaps]
    tasks: list[VideoTask]
    missing: list[ListedVideo]
    skipped: list[str]
    absent_splits: tuple[int, ...]
    one_list: frozenset[str]


def make_plan(
    data: Path,
    predictions: Path | None,
    output: Path,
    settings: EvaluationSettings,
    *,
    databases: Sequence[str] | None = None,
    split: int | None = None,
    baselines: Sequence[Baseline] = (),
    allow_missing: bool = False,
) -> Plan:
    """Finds what there is to evaluate. Folders are listed, nothing is opened but the fold lists.

    Args:
        data: The data folder.
        predictions: The folder of maps; None to score baselines alone.
        output: The evaluation's folder.
        settings: How it is scored.
        databases: Which; None for all that there are predictions of.
        split: Whose test lists; None for all that there are predictions of.
        baselines: What is scored besides.
        allow_missing: Leave out videos without predictions instead of refusing.

    Raises:
        StavisError: There are no predictions of a video, or annotations are missing, or a list is.
    """
    layout = Layout(data)
    if predictions is not None and not predictions.is_dir():
        raise StavisError(f"{predictions}: no such folder of predictions")
    if predictions is None and not baselines:
        raise StavisError("nothing to score: give --predictions, --baseline or both")
    chosen = choose_databases(layout, databases)
    listed = {database: _read_test_lists(layout, database, split) for database in chosen}
    absent_splits: tuple[int, ...] = ()
    if predictions is not None and split is None:
        absent_splits = find_absent_splits(predictions)
        listed = {
            name: [v for v in videos if v.split not in absent_splits] for name, videos in listed.items()
        }
    found: dict[ListedVideo, tuple[MapSource, bool]] = {}
    if predictions is not None:
        for video in [video for videos in listed.values() for video in videos]:
            place = find_source(predictions, video.database, video.entry.video, video.split)
            if place is not None:
                found[video] = place
        if not found:
            num = sum(len({v.entry.video for v in videos}) for videos in listed.values())
            raise StavisError(
                f"{predictions}: no maps of any of the {num} test videos of {', '.join(listed)} in {data}; "
                f"{describe_content(predictions)}"
            )
    skipped = []
    if predictions is not None and databases is None:
        skipped = [name for name, videos in listed.items() if not any(v in found for v in videos)]
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
    scored = {}
    for video in videos:
        if predictions is not None:
            source, of_split = found[video]
            scored[video, PREDICTIONS] = ScoredMaps(PREDICTIONS, video.split if of_split else None, source)
        for baseline in baselines:
            own_split = video.split if baseline == "train-mean" else None
            scored[video, baseline] = ScoredMaps(baseline, own_split, None)
    tasks = _group(data, output, videos, scored, settings)
    return Plan(videos, scored, tasks, missing, skipped, absent_splits, one_list)


def _read_test_lists(layout: Layout, database: str, split: int | None) -> list[ListedVideo]:
    videos = []
    for number in SPLITS if split is None else (split,):
        path = layout.fold_list(database, "test", number)
        if split is None and not path.exists() and layout.splits(database):
            continue
        entries = read_fold_list(path)
        if not entries:
            raise StavisError(f"{path}: no video in it")
        videos += [ListedVideo(database, number, entry) for entry in entries]
    return videos


def _has_one_list(layout: Layout, database: str, subset: str) -> bool:
    return layout.fold_list(database, subset, 1) == layout.fold_list(database, subset, 2)


def _describe_missing(
    predictions: Path, missing: Sequence[ListedVideo], videos: Sequence[ListedVideo]
) -> str:
    first = missing[0]
    message = (
        f"{predictions}: no maps of {len(missing)} of {len(videos)} videos of the test lists, the first is "
        f"{first.entry.video} ({first.database}, split {first.split})"
    )
    there = sorted({v.split for v in videos} - {v.split for v in missing})
    if there and len(there) < len({v.split for v in videos}):
        return f"{message}; splits that are whole: {', '.join(map(str, there))} (--split)"
    return f"{message}; --allow-missing scores the others"


def _check_entries(videos: Sequence[ListedVideo], settings: EvaluationSettings) -> None:
    seen: dict[tuple[str, str], FoldEntry] = {}
    for video in videos:
        entry = video.entry
        before = seen.setdefault((video.database, entry.video), entry)
        if before != entry:
            raise StavisError(
                f"the test lists of {video.database} name {entry.video} with {before.num_frames} frames at "
                f"{before.frame_rate} and with {entry.num_frames} at {entry.frame_rate} fps; they must agree"
            )
        if entry.num_frames <= settings.first_frame:
            raise StavisError(
                f"{video.database}: {entry.video} has {entry.num_frames} frames, and scoring begins with frame "
                f"{settings.first_frame + 1} (--first-frame)"
            )


def _group(
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
            if not others:
                raise StavisError(
                    f"protocol {settings.protocol!r} takes negatives from other videos, but {database} has only "
                    f"{entry.video} in its test lists"
                )
        tasks.append(VideoTask(data, output, database, entry, tuple(those), settings, {}, others))
    return tasks


# --- Running ----------------------------------------------------------------------------------------------------------


def run(
    plan: Plan,
    *,
    jobs: int = 1,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Scores what has not been scored. Each video's scores are a file, which a later run finds.

    Args:
        plan: From `make_plan`.
        jobs: Processes; each takes a video.
        shard: (i, n): the i-th of n shares of the videos, from 1.
        overwrite: Score anew what is there.
        quiet: Show no progress.

    Returns:
        How many videos were scored now.

    Raises:
        StavisError: A map, density map or fixation map is unreadable.
    """
    mine = _share(plan.tasks, *shard)
    todo = []
    for task in mine:
        left = tuple(s for s in task.scored if overwrite or _read_current(task, s) is None)
        if left:
            todo.append(replace(task, scored=left))
    if not todo:
        return 0
    todo = _with_train_means(todo, jobs, overwrite, quiet)
    if any(task.others for task in todo):
        _count_other_videos(todo, jobs, overwrite, quiet)
    # The longest first, so that no process is left alone with it at the end.
    todo.sort(key=lambda task: -task.entry.num_frames * len(task.scored))
    name = "scores" if shard[1] == 1 else f"scores, share {shard[0]} of {shard[1]}"
    total = sum(task.entry.num_frames * len(task.scored) for task in todo)
    run_parallel(_score_video, todo, jobs=jobs, description=name, total=total, unit="frames", quiet=quiet)
    return len(todo)


def collect(plan: Plan) -> dict[tuple[ListedVideo, str], VideoScores]:
    """The scores of every line of the test lists and every method.

    Raises:
        StavisError: Some have not been computed, or their maps have changed since.
    """
    tasks = {(task.database, task.entry): task for task in plan.tasks}
    results = {}
    read: dict[Path, VideoScores | None] = {}
    lacking = []
    for (video, method), scored in plan.scored.items():
        task = tasks[video.database, video.entry]
        path = task.scores_path(scored)
        if path not in read:
            read[path] = _read_current(task, scored)
        scores = read[path]
        if scores is None:
            lacking.append(path)
        else:
            results[video, method] = scores
    if lacking:
        num = len(set(lacking))
        raise StavisError(
            f"{lacking[0]}: not there or of other maps, and so are {num - 1} more of {len(read)}; run all shares first"
        )
    return results


def _share(tasks: Sequence[VideoTask], number: int, num_shares: int) -> list[VideoTask]:
    """The longest videos first go to whoever has least, so that all shares take about the same time."""
    loads = [0] * num_shares
    mine = []
    for task in sorted(tasks, key=lambda t: -t.entry.num_frames * len(t.scored)):
        taker = loads.index(min(loads))
        loads[taker] += task.entry.num_frames * len(task.scored)
        if taker == number - 1:
            mine.append(task)
    return mine


def _read_current(task: VideoTask, scored: ScoredMaps) -> VideoScores | None:
    """Scores from an earlier run, if they are of the same maps under the same settings."""
    found = read_scores(task.scores_path(scored))
    if found is None or found[1] != _identity(task, scored):
        return None
    return found[0]


def _identity(task: VideoTask, scored: ScoredMaps) -> dict[str, Any]:
    return {
        "settings": asdict(task.settings),
        "maps": scored.source.fingerprint() if scored.source is not None else f"baseline {scored.method}",
        "num_frames": task.entry.num_frames,
        "others": sorted(entry.video for entry in task.others),
    }


def _with_train_means(tasks: Sequence[VideoTask], jobs: int, overwrite: bool, quiet: bool) -> list[VideoTask]:
    wanted = dict.fromkeys(
        (task.database, scored.split)
        for task in tasks
        for scored in task.scored
        if scored.method == "train-mean" and scored.split is not None
    )
    means = {
        (database, split): train_mean_map(
            Layout(tasks[0].data),
            database,
            split,
            tasks[0].output / "train-mean",
            jobs=jobs,
            overwrite=overwrite,
            quiet=quiet,
        )
        for database, split in wanted
    }
    return [
        replace(
            task,
            train_means={
                split: mean for (database, split), mean in means.items() if database == task.database
            },
        )
        for task in tasks
    ]


# --- One video --------------------------------------------------------------------------------------------------------


class _MapScorer:
    """Scores maps that can be read."""

    def __init__(self, reader: MapReader) -> None:
        self.reader = reader

    def score(self, frame: int, truth: "_Truth", fixated: Pixels, protocol: Protocol) -> FrameScores | None:
        saliency_map = self.reader.read(frame)
        if saliency_map is None:
            return None
        return score_frame(
            saliency_map, truth.density(frame), fixated, truth.negatives(frame), protocol=protocol
        )

    def finish(self) -> int:
        num_beyond = self.reader.count_beyond()
        self.reader.close()
        return num_beyond


class _ObserverScorer:
    """Scores observers by one another."""

    def __init__(self, gaze: VideoGaze, truth: "_Truth") -> None:
        self._inter_observer = InterObserver(gaze, truth.fixations.size)

    def score(self, frame: int, truth: "_Truth", fixated: Pixels, protocol: Protocol) -> FrameScores | None:
        return self._inter_observer.score(frame, truth.source_of_negatives, fixated, protocol)

    def finish(self) -> int:
        return 0


class _Truth:
    """A video's ground truth. What several methods need of a frame is read once."""

    def __init__(self, task: VideoTask, advance: Callable[[int], None]) -> None:
        self._layout = Layout(task.data)
        self._task = task
        self.fixations: VideoFixations = read_fixations(self._layout, task.database, task.entry, advance)
        self.source_of_negatives: Negatives
        if task.settings.protocol == "stavis":
            self.source_of_negatives = SameVideoNegatives(self.fixations, task.settings.quirks)
        else:
            others = [_read_counts(task, other) for other in task.others]
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


def _score_video(task: VideoTask, advance: Callable[[int], None]) -> None:
    # Before the work: if maps change meanwhile, the scores are not taken for theirs.
    identities = [_identity(task, scored) for scored in task.scored]
    settings, num_frames = task.settings, task.entry.num_frames
    truth = _Truth(task, advance)
    scorers = [_make_scorer(task, scored, truth) for scored in task.scored]
    frames: list[list[int]] = [[] for _ in scorers]
    scores: list[list[FrameScores]] = [[] for _ in scorers]
    missing: list[list[int]] = [[] for _ in scorers]
    advance(settings.first_frame * len(scorers))
    for frame in range(settings.first_frame, num_frames, settings.stride):
        fixated = truth.fixations.frames[frame]
        for i, scorer in enumerate(scorers):
            result = scorer.score(frame, truth, fixated, settings.protocol)
            if result is None:
                missing[i].append(frame)
            else:
                frames[i].append(frame)
                scores[i].append(result)
            advance(min(settings.stride, num_frames - frame))
    for i, (scored, scorer) in enumerate(zip(task.scored, scorers, strict=True)):
        video = VideoScores(
            method=scored.method,
            database=task.database,
            video=task.entry.video,
            split=scored.split,
            num_frames=num_frames,
            frame_rate=task.entry.frame_rate,
            frames=np.array(frames[i], dtype=np.int64),
            scores=np.array(scores[i], dtype=np.float64).reshape(-1, len(METRICS)),
            missing=tuple(missing[i]),
            num_beyond=scorer.finish(),
            source=str(scored.source.path) if scored.source is not None else scored.method,
        )
        write_scores(task.scores_path(scored), video, identities[i])


def _make_scorer(task: VideoTask, scored: ScoredMaps, truth: _Truth) -> _MapScorer | _ObserverScorer:
    video = task.entry.video
    if scored.source is not None:
        return _MapScorer(scored.source.open(task.entry.num_frames))
    if scored.method == "center":
        return _MapScorer(FixedMap(center_map(truth.fixations.size)))
    if scored.method == "uniform":
        return _MapScorer(NoiseMaps(task.database, video))
    if scored.method == "train-mean":
        assert scored.split is not None
        return _MapScorer(FixedMap(task.train_means[scored.split]))
    return _ObserverScorer(read_video_gaze(Layout(task.data), task.database, video), truth)


# --- Fixations of other videos ----------------------------------------------------------------------------------------


def _counts_path(output: Path, database: str, entry: FoldEntry) -> Path:
    return output / "fixations" / database / f"{entry.video}_{entry.num_frames}.npz"


def _count_other_videos(tasks: Sequence[VideoTask], jobs: int, overwrite: bool, quiet: bool) -> None:
    data, output = tasks[0].data, tasks[0].output
    wanted = dict.fromkeys((task.database, other) for task in tasks for other in task.others)
    todo = [
        (data, output, database, entry)
        for database, entry in wanted
        if overwrite or not _counts_path(output, database, entry).exists()
    ]
    total = sum(entry.num_frames for *_, entry in todo)
    run_parallel(
        _count_video,
        todo,
        jobs=jobs,
        description="fixations of other videos",
        total=total,
        unit="frames",
        quiet=quiet,
    )


def _count_video(task: tuple[Path, Path, str, FoldEntry], advance: Callable[[int], None]) -> None:
    data, output, database, entry = task
    fixations = read_fixations(Layout(data), database, entry, advance)
    pixels = count_fixations(fixations)
    with atomic_path(_counts_path(output, database, entry)) as temporary:
        np.savez(temporary, size=np.array(fixations.size), positions=pixels.positions, counts=pixels.counts)
    advance(entry.num_frames)


def _read_counts(task: VideoTask, other: FoldEntry) -> tuple[tuple[int, int], Pixels]:
    with np.load(_counts_path(task.output, task.database, other), allow_pickle=False) as arrays:
        height, width = arrays["size"].tolist()
        return (height, width), Pixels(arrays["positions"], arrays["counts"])


# --- What was run -----------------------------------------------------------------------------------------------------


def claim(
    output: Path,
    data: Path,
    predictions: Path | None,
    settings: EvaluationSettings,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Records what the folder `output` is for, or finds that it is for this evaluation.

    Returns:
        The record, which is in `evaluation.json`.

    Raises:
        StavisError: The folder holds an evaluation of other predictions, data or settings.
    """
    path = output / RUN_FILE
    record = {
        "stavis": stavis.__version__,
        "settings": asdict(settings),
        "data": str(data.resolve()),
        "predictions": None if predictions is None else str(predictions.resolve()),
        "test_run": _read_test_run(predictions),
        "versions": _versions(),
    }
    before = read_run(output) if path.exists() else None
    if before is not None and not overwrite:
        for key in ("settings", "data", "predictions"):
            if before[key] != record[key] and not (key == "predictions" and before[key] is None):
                raise StavisError(
                    f"{output}: holds an evaluation with other {key} ({before[key]}, now {record[key]}); give another "
                    "--output, or --overwrite"
                )
    write_text(path, json.dumps(record, indent=2) + "\n")
    return record


def read_run(output: Path) -> dict[str, Any]:
    """The record of the evaluation in a folder.

    Raises:
        StavisError: There is none.
    """
    path = output / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {
            key: record[key] for key in ("stavis", "settings", "data", "predictions", "test_run", "versions")
        }
    except FileNotFoundError:
        raise StavisError(f"{output}: no evaluation in it; `stavis evaluate` writes {RUN_FILE}") from None
    except (ValueError, KeyError, TypeError):
        raise StavisError(f"{path}: not the record of an evaluation") from None


def _read_test_run(predictions: Path | None) -> Any:
    """What `stavis test` recorded of the run that made the maps; None if it was not that."""
    if predictions is None:
        return None
    try:
        return json.loads((predictions / "testrun.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("numpy", "scipy", "Pillow", "av"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
