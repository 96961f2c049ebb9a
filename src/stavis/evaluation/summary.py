"""Result of an evaluation: means of videos, splits and databases, averaged as in the published evaluation."""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stavis.errors import StavisError, counted
from stavis.evaluation.categories import read_categories
from stavis.evaluation.inference import Interval, interval_of_mean, interval_of_video
from stavis.evaluation.plan import FIELD_PROTOCOLS, ListedVideo, Plan
from stavis.evaluation.results import METRICS, PREDICTIONS, VideoScores, none_if_nan
from stavis.runtime.files import write_csv, write_text
from stavis.runtime.parquet import write_parquet

if TYPE_CHECKING:
    import pandas as pd

SCORES_FILE = "scores.json"
MOST_NAMES = 3  # videos that are named with the same note

PUBLISHED: dict[str, dict[str, float]] = {
    "AVAD": {"cc": 0.608, "nss": 3.18, "auc_judd": 0.919, "auc_shuffled": 0.593, "sim": 0.457},
    "Coutrot_db1": {"cc": 0.472, "nss": 2.11, "auc_judd": 0.868, "auc_shuffled": 0.584, "sim": 0.393},
    "Coutrot_db2": {"cc": 0.734, "nss": 5.28, "auc_judd": 0.958, "auc_shuffled": 0.710, "sim": 0.511},
    "DIEM": {"cc": 0.579, "nss": 2.26, "auc_judd": 0.883, "auc_shuffled": 0.674, "sim": 0.482},
    "ETMD_av": {"cc": 0.569, "nss": 2.94, "auc_judd": 0.931, "auc_shuffled": 0.731, "sim": 0.425},
    "SumMe": {"cc": 0.422, "nss": 2.04, "auc_judd": 0.888, "auc_shuffled": 0.656, "sim": 0.337},
}
"""Database -> scores of the audiovisual STAViS (Tsiami, Koutras and Maragos, CVPR 2020)."""


def published_scores(data: Path, database: str) -> dict[str, float] | None:
    """What STAViS reached on a database; None where no paper says, or the database in the data folder is generated."""
    is_generated = (data / "truth" / database / "settings.json").exists()
    return None if is_generated else PUBLISHED.get(database)


@dataclass(frozen=True)
class ListedScores:
    """The scores of one entry of a test list: a video under one split's maps."""

    listed: ListedVideo
    scores: VideoScores


@dataclass(frozen=True)
class GroupScores:
    """Mean scores of several entries of test lists."""

    # Metric -> mean; nan if a video of the group has no frame in which the metric is defined.
    means: dict[str, float]
    # Metric -> bootstrap 95 % interval of the mean over videos, each video counting once.
    intervals: dict[str, Interval]
    num_videos: int  # number of entries; a video that is listed twice counts twice
    num_frames: int  # number of scored frames of these entries
    # Metric -> number of frames in which it is undefined, which are excluded from its means.
    num_undefined: dict[str, int]
    num_missing: int  # number of frames that should have a map and have none
    num_beyond: int  # number of maps beyond their video's end
    notes: tuple[str, ...]  # what a reader of the scores must know, with the video's name


@dataclass(frozen=True, repr=False)
class Evaluation:
    """All scores of an evaluation, as `stavis.evaluate` returns them.

    Attributes:
        data: The data folder.
        run: The record of the evaluation, as in `evaluation.json`.
        listed: Method -> its scores of every entry of the test lists.
        databases: Method -> database -> mean scores.
        splits: Method -> database -> split -> mean scores.
        categories: Method -> category -> mean scores, where the data folder has `categories.csv`.
        missing_videos: Entries that were left out because they have no maps.
        skipped_databases: Databases without any predictions.
        unavailable: Database -> why it lacks reference rows.
        absent_splits: Splits without any predictions, left out too.
    """

    data: Path
    run: dict[str, Any]
    listed: dict[str, list[ListedScores]]
    databases: dict[str, dict[str, GroupScores]]
    splits: dict[str, dict[str, dict[int, GroupScores]]]
    categories: dict[str, dict[str, GroupScores]]
    missing_videos: list[ListedVideo]
    skipped_databases: list[str]
    unavailable: dict[str, list[str]]
    absent_splits: tuple[int, ...]

    @property
    def methods(self) -> list[str]:
        """ "predictions" and the baselines."""
        return list(self.listed)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics' keys."""
        first = next(iter(self.listed.values()), [])
        return tuple(first[0].scores.scores) if first else METRICS

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Database -> metric -> mean of the predictions, nan where undefined; `baselines` has the others."""
        return self.means(PREDICTIONS) if PREDICTIONS in self.databases else {}

    @property
    def baselines(self) -> dict[str, dict[str, dict[str, float]]]:
        """Baseline -> database -> metric -> mean."""
        return {method: self.means(method) for method in self.methods if method != PREDICTIONS}

    def means(self, method: str) -> dict[str, dict[str, float]]:
        """Database -> metric -> mean of one of `methods`."""
        return {name: dict(group.means) for name, group in self.databases[method].items()}

    def to_pandas(self) -> "pd.DataFrame":
        """The scores of all frames, with the columns of `frames.csv`. Raises StavisError if pandas is not installed."""
        try:
            import pandas as pd
        except ImportError:
            raise StavisError("to_pandas() needs pandas: pip install pandas") from None
        return pd.DataFrame(list(frame_rows(self)), columns=list(frame_columns(self)))

    def report(self, path: str | Path) -> None:
        """Writes the HTML report, a single file without external resources."""
        from stavis.evaluation.report import write_report

        write_report(Path(path), self)

    def __repr__(self) -> str:
        groups = next(iter(self.databases.values()), {})
        num = sum(group.num_frames for group in groups.values())
        return f"Evaluation({', '.join(self.methods)} on {', '.join(self.scores or groups)}, {counted(num, 'frames')})"

    def _repr_html_(self) -> str:
        from stavis.evaluation.report import score_table

        return score_table(self)


def summarize(
    plan: Plan, results: dict[tuple[ListedVideo, str], VideoScores], run: dict[str, Any], data: Path
) -> Evaluation:
    """Averages the scores of all entries of the test lists and all methods."""
    methods = list(dict.fromkeys(method for _, method in plan.scored))
    databases = list(dict.fromkeys(video.database for video in plan.videos))
    # By entry: a video that is listed twice counts twice.
    listed = {m: [ListedScores(v, results[v, m]) for v in plan.videos if (v, m) in results] for m in methods}
    of_databases: dict[str, dict[str, GroupScores]] = {}
    of_splits: dict[str, dict[str, dict[int, GroupScores]]] = {}
    for method in methods:
        of_databases[method], of_splits[method] = {}, {}
        for database in databases:
            lines = [line for line in listed[method] if line.listed.database == database]
            if not lines:
                continue
            splits = {
                split: average([line for line in lines if line.listed.split == split])
                for split in sorted({line.listed.split or 0 for line in lines} - {0})
            }
            whole = average(lines)
            if database in plan.one_list:
                # The mean of the splits' means, which differ from that of all entries where videos are missing.
                groups = splits.values()
                means = {m: float(np.mean([group.means[m] for group in groups])) for m in whole.means}
                whole = replace(whole, means=means)
            of_databases[method][database], of_splits[method][database] = whole, splits
    return Evaluation(
        data=data,
        run=run,
        listed=listed,
        databases=of_databases,
        splits=of_splits,
        categories=_of_categories(listed, read_categories(data)),
        missing_videos=plan.missing,
        skipped_databases=plan.skipped,
        unavailable=plan.unavailable,
        absent_splits=plan.absent_splits,
    )


def _of_categories(
    listed: dict[str, list[ListedScores]], categories: dict[str, list[tuple[str | None, str]]]
) -> dict[str, dict[str, GroupScores]]:
    """Method -> category -> mean scores."""
    result: dict[str, dict[str, GroupScores]] = {}
    for method, lines in listed.items():
        groups: dict[str, list[ListedScores]] = {}
        for line in lines:
            pairs = categories.get(unicodedata.normalize("NFC", line.scores.video), ())
            of_video = {category for name, category in pairs if name in (None, line.scores.database)}
            for category in of_video:
                groups.setdefault(category, []).append(line)
        result[method] = {category: average(groups[category]) for category in sorted(groups)}
    return result if any(result.values()) else {}


def average(lines: Sequence[ListedScores]) -> GroupScores:
    """Means over videos. A frame counts only in its video's mean, and only where the metric is defined."""
    scores = [line.scores for line in lines]
    metrics = tuple(scores[0].scores)
    of_videos: dict[tuple[str, str], list[VideoScores]] = {}
    for one in scores:
        of_videos.setdefault((one.database, one.video), []).append(one)
    return GroupScores(
        means={metric: float(np.mean([s.mean(metric) for s in scores])) for metric in metrics},
        intervals={
            m: interval_of_mean(np.array([np.mean([s.mean(m) for s in same]) for same in of_videos.values()]))
            for m in metrics
        },
        num_videos=len(scores),
        num_frames=sum(s.frames.size for s in scores),
        num_undefined={metric: sum(s.num_undefined(metric) for s in scores) for metric in metrics},
        num_missing=sum(len(s.missing) for s in scores),
        num_beyond=sum(s.num_beyond for s in scores),
        notes=_merge_notes({s.video: s.notes for s in scores}),
    )


def _merge_notes(notes: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The notes with the names of their videos, but one line for what is said of all, or of many."""
    videos: dict[str, list[str]] = {}
    for video, of_video in notes.items():
        for note in of_video:
            videos.setdefault(note, []).append(video)
    lines = []
    for note, names in videos.items():
        if 1 < len(names) == len(notes):
            lines.append(note)
        elif len(names) > MOST_NAMES:
            lines.append(f"{len(names)} videos: {note}")
        else:
            lines += [f"{name}: {note}" for name in names]
    return tuple(lines)


# --- Files ------------------------------------------------------------------------------------------------------------


def write_summary(output: Path, evaluation: Evaluation, *, parquet: bool = False) -> None:
    """Writes `scores.json`, `videos.csv` and `frames.csv`, and with `parquet` `frames.parquet`.

    Raises StavisError if `parquet` is set and pyarrow is not installed.
    """
    if parquet:
        names = frame_columns(evaluation)
        columns = list(zip(*frame_rows(evaluation), strict=True)) or [()] * len(names)
        write_parquet(output / "frames.parquet", dict(zip(names, map(list, columns), strict=True)))
    write_text(output / SCORES_FILE, json.dumps(to_json(evaluation), indent=2, allow_nan=False) + "\n")
    write_csv(output / "videos.csv", *_videos_table(evaluation))
    write_csv(output / "frames.csv", frame_columns(evaluation), frame_rows(evaluation))


def frame_columns(evaluation: Evaluation) -> tuple[str, ...]:
    return ("method", "database", "split", "video", "frame", *evaluation.metrics)


def frame_rows(evaluation: Evaluation) -> Iterator[tuple[Any, ...]]:
    """Rows of the table of frames. Frames are numbered from 1, like their files."""
    for method, lines in evaluation.listed.items():
        # A video that is listed twice has one set of scores.
        for listed, scores in {line.listed: line.scores for line in lines}.items():
            columns = [scores.scores[metric].tolist() for metric in evaluation.metrics]
            for frame, *values in zip(scores.frames.tolist(), *columns, strict=True):
                yield (method, listed.database, listed.split, listed.entry.video, frame + 1, *values)


def _videos_table(evaluation: Evaluation) -> tuple[list[str], list[list[Any]]]:
    head = ["method", "database", "split", "video", "num_frames", "num_scored", "num_missing", "num_beyond"]
    for metric in evaluation.metrics:
        head += [metric, f"{metric}_low", f"{metric}_high", f"{metric}_num_undefined"]
    rows = []
    for method, lines in evaluation.listed.items():
        for line in lines:
            scores = line.scores
            row: list[Any] = [method, scores.database, line.listed.split, scores.video, scores.num_frames]
            row += [scores.frames.size, len(scores.missing), scores.num_beyond]
            for metric in evaluation.metrics:
                row += [scores.mean(metric), *interval(scores, metric), scores.num_undefined(metric)]
            rows.append(row)
    return head, rows


def interval(scores: VideoScores, metric: str) -> Interval:
    """95 % interval of a video's mean, from the variation between its seconds."""
    return interval_of_video(scores.scores[metric], scores.frame_rate)


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """The content of `scores.json`. Undefined scores are null."""

    def group(scores: GroupScores) -> dict[str, Any]:
        return {
            **{metric: none_if_nan(value) for metric, value in scores.means.items()},
            "intervals": {m: [none_if_nan(end) for end in ends] for m, ends in scores.intervals.items()},
            "num_videos": scores.num_videos,
            "num_frames": scores.num_frames,
            "num_undefined": scores.num_undefined,
            "num_missing_frames": scores.num_missing,
            "num_maps_beyond": scores.num_beyond,
            "notes": list(scores.notes),
        }

    def of_method(method: str) -> dict[str, Any]:
        return {
            database: {
                **group(scores),
                "splits": {str(k): group(g) for k, g in evaluation.splits[method][database].items()},
            }
            for database, scores in evaluation.databases[method].items()
        }

    is_field = evaluation.run["settings"]["protocol"] in FIELD_PROTOCOLS
    by_category: dict[str, dict[str, Any]] = {}
    for method, groups in evaluation.categories.items():
        for category, scores in groups.items():
            by_category.setdefault(category, {})[method] = group(scores)
    return {
        **({"categories": by_category} if by_category else {}),
        **(_of_videos(evaluation) if is_field and PREDICTIONS in evaluation.methods else {}),
        "databases": of_method(PREDICTIONS) if PREDICTIONS in evaluation.methods else {},
        "baselines": {method: of_method(method) for method in evaluation.methods if method != PREDICTIONS},
        "published": {
            database: published
            for database in next(iter(evaluation.databases.values()), {})
            if (published := published_scores(evaluation.data, database)) is not None
        },
        "missing_videos": [
            {"database": v.database, "split": v.split, "video": v.entry.video}
            for v in evaluation.missing_videos
        ],
        "skipped_databases": evaluation.skipped_databases,
        "absent_splits": list(evaluation.absent_splits),
        "run": evaluation.run,
    }


def _of_videos(evaluation: Evaluation) -> dict[str, Any]:
    """For data without splits: the scores of each video by name, and their mean over all subsets."""
    lines = evaluation.listed[PREDICTIONS]
    return {
        "mean": {m: none_if_nan(value) for m, value in average(lines).means.items()},
        "videos": {
            line.scores.video: {m: none_if_nan(line.scores.mean(m)) for m in line.scores.scores}
            for line in lines
        },
    }
