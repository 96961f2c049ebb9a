"""Scores of frames become those of videos, splits and databases, averaged as the published evaluation does."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stavis.errors import StavisError
from stavis.evaluation.bootstrap import Interval, interval_of_video
from stavis.evaluation.evaluate import collect
from stavis.evaluation.plan import ListedVideo, Plan
from stavis.evaluation.results import METRICS, PREDICTIONS, VideoScores
from stavis.runtime.files import atomic_path, write_text

SCORES_FILE = "scores.json"

PUBLISHED: dict[str, dict[str, float]] = {
    "AVAD": {"cc": 0.608, "nss": 3.18, "auc_judd": 0.919, "auc_shuffled": 0.593, "sim": 0.457},
    "Coutrot_db1": {"cc": 0.472, "nss": 2.11, "auc_judd": 0.868, "auc_shuffled": 0.584, "sim": 0.393},
    "Coutrot_db2": {"cc": 0.734, "nss": 5.28, "auc_judd": 0.958, "auc_shuffled": 0.710, "sim": 0.511},
    "DIEM": {"cc": 0.579, "nss": 2.26, "auc_judd": 0.883, "auc_shuffled": 0.674, "sim": 0.482},
    "ETMD_av": {"cc": 0.569, "nss": 2.94, "auc_judd": 0.931, "auc_shuffled": 0.731, "sim": 0.425},
    "SumMe": {"cc": 0.422, "nss": 2.04, "auc_judd": 0.888, "auc_shuffled": 0.656, "sim": 0.337},
}
"""Database -> scores of the audiovisual STAViS (Tsiami, Koutras and Maragos, CVPR 2020)."""


@dataclass(frozen=True)
class ListedScores:
    """The scores of one line of a test list: a video under one split's maps."""

    listed: ListedVideo
    scores: VideoScores


@dataclass(frozen=True)
class GroupScores:
    """Mean scores of some lines of test lists.

    Attributes:
        means: Metric -> mean; nan where a video of them has no frame in which the metric is defined.
        num_videos: Lines, a video that is listed twice counted twice.
        num_frames: Frames with a score, summed over these lines.
        num_undefined: Metric -> frames of them in which it is undefined, which means leave out.
        num_missing: Frames that should have a map and have none.
        num_beyond: Maps beyond their video's end.
    """

    means: dict[str, float]
    num_videos: int
    num_frames: int
    num_undefined: dict[str, int]
    num_missing: int
    num_beyond: int


@dataclass(frozen=True)
class Summary:
    """All scores of an evaluation.

    Attributes:
        run: What was run: the record in `evaluation.json`.
        listed: Method -> its scores of every line of the test lists.
        databases: Method -> database -> mean scores.
        splits: Method -> database -> split -> mean scores.
        missing_videos: Lines that were left out for want of maps.
        skipped_databases: Databases without any predictions.
        absent_splits: Splits without any, which were left out too.
    """

    run: dict[str, Any]
    listed: dict[str, list[ListedScores]]
    databases: dict[str, dict[str, GroupScores]]
    splits: dict[str, dict[str, dict[int, GroupScores]]]
    missing_videos: list[ListedVideo]
    skipped_databases: list[str]
    absent_splits: tuple[int, ...]

    @property
    def methods(self) -> list[str]:
        return list(self.listed)


def summarize(plan: Plan, run: dict[str, Any]) -> Summary:
    """Averages the scores that an evaluation has left.

    Raises:
        StavisError: Some are not there.
    """
    results = collect(plan)
    methods = list(dict.fromkeys(method for _, method in plan.scored))
    databases = list(dict.fromkeys(video.database for video in plan.videos))
    # By line: one that stands twice in a list counts twice.
    listed = {m: [ListedScores(v, results[v, m]) for v in plan.videos] for m in methods}
    of_databases: dict[str, dict[str, GroupScores]] = {}
    of_splits: dict[str, dict[str, dict[int, GroupScores]]] = {}
    for method in methods:
        of_databases[method], of_splits[method] = {}, {}
        for database in databases:
            lines = [line for line in listed[method] if line.listed.database == database]
            splits = {
                split: average([line for line in lines if line.listed.split == split])
                for split in sorted({line.listed.split for line in lines})
            }
            whole = average(lines)
            if database in plan.one_list:
                # The mean of the splits' means. With all videos in every split it is that of all lines.
                means = {m: float(np.mean([group.means[m] for group in splits.values()])) for m in METRICS}
                whole = replace(whole, means=means)
            of_databases[method][database], of_splits[method][database] = whole, splits
    return Summary(run, listed, of_databases, of_splits, plan.missing, plan.skipped, plan.absent_splits)


def average(lines: Sequence[ListedScores]) -> GroupScores:
    """Means over videos. A frame counts in its video's mean, where the metric is defined, and nowhere else."""
    scores = [line.scores for line in lines]
    return GroupScores(
        means={metric: float(np.mean([s.mean(metric) for s in scores])) for metric in METRICS},
        num_videos=len(scores),
        num_frames=sum(s.frames.size for s in scores),
        num_undefined={metric: sum(s.num_undefined(metric) for s in scores) for metric in METRICS},
        num_missing=sum(len(s.missing) for s in scores),
        num_beyond=sum(s.num_beyond for s in scores),
    )


# --- Files ------------------------------------------------------------------------------------------------------------


def write_summary(output: Path, summary: Summary, *, parquet: bool = False) -> None:
    """Writes `scores.json`, `videos.csv` and `frames.csv`, and with `parquet` `frames.parquet`.

    Raises:
        StavisError: Parquet is asked for and pyarrow is not installed.
    """
    if parquet:
        _write_parquet(output / "frames.parquet", summary)
    write_text(output / SCORES_FILE, json.dumps(to_json(summary), indent=2, allow_nan=False) + "\n")
    write_text(output / "videos.csv", _videos_csv(summary))
    with (
        atomic_path(output / "frames.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FRAME_COLUMNS)
        writer.writerows([_csv_value(value) for value in row] for row in frame_rows(summary))


FRAME_COLUMNS = ("method", "database", "split", "video", "frame", *METRICS)


def frame_rows(summary: Summary) -> Iterator[tuple[Any, ...]]:
    """All frames' scores in the order of `FRAME_COLUMNS`. Frames count from 1, as their files do."""
    for method, lines in summary.listed.items():
        # A video that stands twice in a list has one set of scores.
        for listed, scores in {line.listed: line.scores for line in lines}.items():
            for frame, values in zip(scores.frames.tolist(), scores.scores.tolist(), strict=True):
                yield (method, listed.database, listed.split, listed.entry.video, frame + 1, *values)


def _write_parquet(path: Path, summary: Summary) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise StavisError("Parquet needs pyarrow: pip install 'stavis[parquet]', or --format csv") from None
    columns = list(zip(*frame_rows(summary), strict=True)) or [()] * len(FRAME_COLUMNS)
    table = pa.table(dict(zip(FRAME_COLUMNS, map(list, columns), strict=True)))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def _videos_csv(summary: Summary) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["method", "database", "split", "video", "num_frames", "num_scored", "num_missing", "num_beyond"]
    for metric in METRICS:
        head += [metric, f"{metric}_low", f"{metric}_high", f"{metric}_num_undefined"]
    writer.writerow(head)
    for method, lines in summary.listed.items():
        for line in lines:
            scores = line.scores
            row: list[Any] = [method, scores.database, line.listed.split, scores.video, scores.num_frames]
            row += [scores.frames.size, len(scores.missing), scores.num_beyond]
            for metric in METRICS:
                row += [scores.mean(metric), *interval(scores, metric), scores.num_undefined(metric)]
            writer.writerow([_csv_value(value) for value in row])
    return text.getvalue()


def interval(scores: VideoScores, metric: str) -> Interval:
    """95 % interval of a video's mean, from how its seconds differ."""
    return interval_of_video(scores.of_metric(metric), scores.frame_rate)


def _csv_value(value: Any) -> Any:
    """Undefined scores are empty fields."""
    return "" if isinstance(value, float) and math.isnan(value) else value


def to_json(summary: Summary) -> dict[str, Any]:
    """What `scores.json` holds. Undefined scores are null."""

    def group(scores: GroupScores) -> dict[str, Any]:
        return {
            **{metric: none_if_nan(value) for metric, value in scores.means.items()},
            "num_videos": scores.num_videos,
            "num_frames": scores.num_frames,
            "num_undefined": scores.num_undefined,
            "num_missing_frames": scores.num_missing,
            "num_maps_beyond": scores.num_beyond,
        }

    def of_method(method: str) -> dict[str, Any]:
        return {
            database: {
                **group(scores),
                "splits": {str(k): group(g) for k, g in summary.splits[method][database].items()},
            }
            for database, scores in summary.databases[method].items()
        }

    return {
        "databases": of_method(PREDICTIONS) if PREDICTIONS in summary.methods else {},
        "baselines": {method: of_method(method) for method in summary.methods if method != PREDICTIONS},
        "published": {
            database: PUBLISHED[database]
            for database in next(iter(summary.databases.values()), {})
            if database in PUBLISHED
        },
        "missing_videos": [
            {"database": v.database, "split": v.split, "video": v.entry.video} for v in summary.missing_videos
        ],
        "skipped_databases": summary.skipped_databases,
        "absent_splits": list(summary.absent_splits),
        "run": summary.run,
    }


def none_if_nan(value: float) -> float | None:
    """JSON has no nan."""
    return None if math.isnan(value) else value
