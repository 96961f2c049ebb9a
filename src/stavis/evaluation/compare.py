"""Paired comparison of evaluations of the same videos."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from stavis.errors import StavisError
from stavis.evaluation.inference import (
    Float64,
    Interval,
    effect_size,
    holm,
    interval_of_mean,
    interval_of_video,
    sign_flip_test,
)
from stavis.evaluation.record import read_run
from stavis.evaluation.results import PREDICTIONS, VideoScores, mean_of_defined, none_if_nan, read_scores
from stavis.evaluation.tables import format_score, markdown_head, markdown_line, metric_names, ordered_metrics
from stavis.runtime.files import write_csv, write_text
from stavis.runtime.progress import text_table


@dataclass(frozen=True)
class MethodScores:
    """The scores of an evaluation's predictions, or of one of its baselines."""

    name: str  # its name in tables
    folder: Path  # the evaluation's folder
    run: dict[str, Any]  # the record of the evaluation
    # (database, video) -> split, or None where maps are the same in all -> scores.
    videos: dict[tuple[str, str], dict[int | None, VideoScores]]


@dataclass(frozen=True)
class Difference:
    """A score of the second evaluation minus that of the first."""

    before: float  # the first's score
    after: float  # the second's
    mean: float  # the difference
    interval: Interval  # its 95 % interval
    p_value: float = math.nan  # of a paired permutation test over videos; nan for a single video
    # The p value adjusted by Holm's method for all metrics and evaluations that are compared on the database.
    adjusted_p: float = math.nan
    effect_size: float = math.nan  # Cohen's d of the paired differences of videos
    num_higher: int = 0  # number of videos with a higher score in the second evaluation

    @property
    def is_clear(self) -> bool:
        """Whether the difference is significant at 5 %; of a single video, whether the interval excludes 0."""
        if not math.isnan(self.adjusted_p):
            return self.adjusted_p < 0.05
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class Comparison:
    before: MethodScores  # the reference
    after: MethodScores  # the evaluation that is compared with it
    # (database, video) -> metric -> difference, with an interval from the variation between seconds.
    videos: dict[tuple[str, str], dict[str, Difference]]
    # Database -> metric -> difference, videos weighted equally, with an interval from the variation between videos.
    databases: dict[str, dict[str, Difference]]
    only_in_one: list[tuple[str, str]]  # videos that only one of the two has


def read_evaluation(folder: Path, method: str = PREDICTIONS) -> MethodScores:
    """Reads the scores of "predictions" or of a baseline from an evaluation's folder.

    Raises StavisError if the folder contains no evaluation, or none of that method.
    """
    run = read_run(folder)
    videos: dict[tuple[str, str], dict[int | None, VideoScores]] = {}
    for path in sorted((folder / "videos").glob(f"*/*/{method}*.json")):
        found = read_scores(path)
        if found is not None:
            scores, _ = found
            videos.setdefault((scores.database, scores.video), {})[scores.split] = scores
    if not videos:
        raise StavisError(f"{folder}: an evaluation without {method}, so there is nothing to compare")
    return MethodScores(_name(folder, run) if method == PREDICTIONS else method, folder, run, videos)


def _name(folder: Path, run: dict[str, Any]) -> str:
    test_run = run["test_run"]
    sound = test_run.get("settings", {}).get("audio") if isinstance(test_run, dict) else None
    name = folder.resolve().name
    return name if sound is None or sound in name else f"{name} (sound {sound})"


def check_settings(before: MethodScores, after: MethodScores) -> None:
    """Raises StavisError if two evaluations were made under different settings."""
    for key, value in before.run["settings"].items():
        if after.run["settings"].get(key) != value:
            raise StavisError(
                f"{after.folder}: evaluated with {key} {after.run['settings'].get(key)!r}, {before.folder} with "
                f"{value!r}; only scores under the same settings can be compared"
            )


def compare(before: MethodScores, after: MethodScores) -> Comparison:
    """Compares two evaluations frame by frame.

    Only videos that both have count, and of them only frames in which a metric is defined in both.

    Raises StavisError if their settings differ, or they have no video in common.
    """
    check_settings(before, after)
    common = [video for video in before.videos if video in after.videos]
    if not common:
        raise StavisError(f"{before.folder} and {after.folder} have no video in common")
    videos = {video: _compare_video(before.videos[video], after.videos[video]) for video in common}
    videos = {video: differences for video, differences in videos.items() if differences}
    if not videos:
        raise StavisError(f"{before.folder} and {after.folder} have no video of the same split in common")
    databases: dict[str, dict[str, Difference]] = {}
    for database in dict.fromkeys(database for database, _ in videos):
        of_database = [differences for (name, _), differences in videos.items() if name == database]
        databases[database] = {m: _average([of_video[m] for of_video in of_database]) for m in of_database[0]}
    only_in_one = sorted(before.videos.keys() ^ after.videos.keys() | set(common) - videos.keys())
    return _adjust([Comparison(before, after, videos, databases, only_in_one)])[0]


def compare_all(evaluations: Sequence[MethodScores]) -> list[Comparison]:
    """Compares every other evaluation with the first; p values are adjusted for all of them."""
    return _adjust([compare(evaluations[0], other) for other in evaluations[1:]])


def _adjust(comparisons: list[Comparison]) -> list[Comparison]:
    """The comparisons with p values adjusted within each database, across metrics and evaluations."""
    keys = [(i, d, m) for i, c in enumerate(comparisons) for d, of in c.databases.items() for m in of]
    adjusted: dict[tuple[int, str, str], float] = {}
    for database in {d for _, d, _ in keys}:
        family = [key for key in keys if key[1] == database]
        p_values = holm([comparisons[i].databases[d][m].p_value for i, d, m in family])
        adjusted.update(zip(family, p_values, strict=True))
    return [
        replace(
            comparison,
            databases={
                d: {m: replace(diff, adjusted_p=adjusted[i, d, m]) for m, diff in by_metric.items()}
                for d, by_metric in comparison.databases.items()
            },
        )
        for i, comparison in enumerate(comparisons)
    ]


def _compare_video(
    before: dict[int | None, VideoScores], after: dict[int | None, VideoScores]
) -> dict[str, Difference]:
    """The differences of a video, its splits weighted equally; empty if no split is in both."""
    splits = set(before) | set(after)
    pairs = [(before.get(split, before.get(None)), after.get(split, after.get(None))) for split in splits]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    differences = {}
    for metric in both[0][0].scores if both else ():
        parts = [_paired(a, b, metric) for a, b in both]
        # The mean over the splits first, as their scores of a frame are correlated.
        first, second = (_mean_of_rows([part[i] for part in parts]) for i in (0, 1))
        difference = second - first
        differences[metric] = Difference(
            mean_of_defined(first),
            mean_of_defined(second),
            mean_of_defined(difference),
            interval_of_video(difference, both[0][0].frame_rate),
        )
    return differences


def _paired(before: VideoScores, after: VideoScores, metric: str) -> tuple[Float64, Float64]:
    """(num_frames,) scores of both, nan in both where either is undefined."""
    columns = []
    for scores in (before, after):
        column = np.full(max(before.num_frames, after.num_frames), np.nan)
        column[scores.frames] = scores.scores[metric]
        columns.append(column)
    undefined = np.isnan(columns[0]) | np.isnan(columns[1])
    columns[0][undefined] = columns[1][undefined] = np.nan
    return columns[0], columns[1]


def _mean_of_rows(rows: Sequence[Float64]) -> Float64:
    """Elementwise mean without nan."""
    values = np.stack(rows)
    counts = (~np.isnan(values)).sum(axis=0)
    sums = np.nansum(values, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _average(differences: Sequence[Difference]) -> Difference:
    means = np.array([d.mean for d in differences])
    return Difference(
        mean_of_defined(np.array([d.before for d in differences])),
        mean_of_defined(np.array([d.after for d in differences])),
        mean_of_defined(means),
        interval_of_mean(means),
        p_value=sign_flip_test(means),
        effect_size=effect_size(means),
        num_higher=int((means > 0).sum()),
    )


# --- Tables and files -------------------------------------------------------------------------------------------------


def _metrics(comparisons: Sequence[Comparison]) -> list[str]:
    return ordered_metrics(next(iter(comparisons[0].databases.values())))


def database_table(comparisons: Sequence[Comparison]) -> Table:
    """Per database, the scores of the first evaluation and the differences of the others from it."""
    right = [*metric_names(_metrics(comparisons)), "videos"]
    table = text_table("database", "evaluation", right=right, header_style="bold")
    for row in _database_rows(comparisons):
        table.add_row(*map(Text, row))
    return table


def video_table(comparison: Comparison) -> Table:
    title = f"{comparison.after.name} - {comparison.before.name}"
    metrics = _metrics([comparison])
    table = text_table("database", "video", right=metric_names(metrics), header_style="bold", title=title)
    for (database, video), differences in comparison.videos.items():
        table.add_row(Text(database), Text(video), *(_signed(differences[m]) for m in metrics))
    return table


def _database_rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    rows = []
    metrics = _metrics(comparisons)
    databases = dict.fromkeys(database for comparison in comparisons for database in comparison.databases)
    for database in databases:
        for i, comparison in enumerate(comparisons):
            differences = comparison.databases.get(database)
            if differences is None:
                continue
            num = str(sum(name == database for name, _ in comparison.videos))
            if i == 0:
                scores = [format_score(differences[m].before) for m in metrics]
                rows.append([database, comparison.before.name, *scores, num])
            rows.append(["", comparison.after.name, *(_in_full(differences[m]) for m in metrics), num])
    return rows


def _in_full(difference: Difference) -> str:
    low, high = difference.interval
    return f"{_signed(difference)} [{_plus(low)}, {_plus(high)}]"


def _signed(difference: Difference) -> str:
    return _plus(difference.mean, 4) + ("*" if difference.is_clear else " ")


def _plus(value: float, digits: int = 3) -> str:
    return format_score(math.nan) if math.isnan(value) else f"{value:+.{digits}f}"


LEGEND = (
    "First row: scores of the first evaluation. Below: differences from it, with bootstrap 95 % intervals over videos; "
    "* where a paired permutation test over videos gives p < 0.05, adjusted by Holm's method for all metrics and "
    "evaluations on the database (with fewer than six videos it never does). For single videos, * where the 95 % "
    "interval over seconds excludes 0. Videos are weighted equally; only frames in which the metric is defined in both "
    "count."
)


def write_comparison(output: Path, comparisons: Sequence[Comparison]) -> None:
    """Writes `comparison.json`, `comparison.csv` (one row per video) and `comparison.md`."""
    write_text(output / "comparison.json", json.dumps(to_json(comparisons), indent=2, allow_nan=False) + "\n")
    suffixes = ("_before", "_after", "_difference", "_low", "_high")
    columns = [f"{metric}{suffix}" for metric in _metrics(comparisons) for suffix in suffixes]
    head = ["before", "after", "database", "video", *columns]
    write_csv(output / "comparison.csv", head, _video_rows(comparisons))
    lines = markdown_head(["database", "evaluation", *metric_names(_metrics(comparisons)), "videos"])
    lines += [markdown_line([cell.strip() for cell in row]) for row in _database_rows(comparisons)]
    write_text(output / "comparison.md", "\n".join([*lines, "", LEGEND]) + "\n")


def to_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The content of `comparison.json`."""

    def tested(d: Difference) -> dict[str, Any]:
        effect = d.effect_size if math.isfinite(d.effect_size) else None
        numbers = {"p_value": d.p_value, "adjusted_p": none_if_nan(d.adjusted_p), "effect_size": effect}
        return numbers | {"num_higher": d.num_higher}

    def of_metrics(differences: dict[str, Difference]) -> dict[str, Any]:
        return {
            metric: {
                "before": none_if_nan(d.before),
                "after": none_if_nan(d.after),
                "difference": none_if_nan(d.mean),
                "interval": [none_if_nan(end) for end in d.interval],
                **(tested(d) if not math.isnan(d.p_value) else {}),
            }
            for metric, d in differences.items()
        }

    return {
        "before": str(comparisons[0].before.folder),
        "comparisons": [
            {
                "after": str(comparison.after.folder),
                "databases": {name: of_metrics(d) for name, d in comparison.databases.items()},
                "videos": [
                    {"database": database, "video": video, **of_metrics(differences)}
                    for (database, video), differences in comparison.videos.items()
                ],
                "only_in_one": [{"database": d, "video": v} for d, v in comparison.only_in_one],
            }
            for comparison in comparisons
        ],
    }


def _video_rows(comparisons: Sequence[Comparison]) -> Iterator[list[Any]]:
    for comparison in comparisons:
        for (database, video), differences in comparison.videos.items():
            found = [differences[m] for m in _metrics(comparisons)]
            values = [v for d in found for v in (d.before, d.after, d.mean, *d.interval)]
            yield [comparison.before.folder, comparison.after.folder, database, video, *values]
