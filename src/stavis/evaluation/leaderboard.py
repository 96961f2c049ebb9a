"""Leaderboard: one HTML page over several evaluations of the same videos."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stavis.errors import StavisError, counted
from stavis.evaluation.baselines import BASELINES
from stavis.evaluation.compare import MethodScores, check_settings, read_evaluation
from stavis.evaluation.inference import Float64, Interval, holm, interval_of_mean, sign_flip_test
from stavis.evaluation.plan import FIELD_PROTOCOLS
from stavis.evaluation.report import render
from stavis.evaluation.results import mean_of_defined
from stavis.evaluation.summary import published_scores
from stavis.evaluation.tables import METRIC_NAMES, method_name, ordered_metrics
from stavis.runtime.files import write_text
from stavis.version import __version__

SOUND_TESTS = {"silent": "silent", "shuffled": "exchanged", "time-shifted": "shifted"}
"""Sound of a test run -> its column."""
LOWER_IS_BETTER = frozenset({"kldiv"})


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard on one database."""

    name: str  # name of the model or baseline
    kind: str  # "model", "baseline", or "published" for numbers from a paper, which have no intervals and no ranks
    means: dict[str, float]  # metric -> mean over the videos that all models share
    intervals: dict[str, Interval] = field(default_factory=dict)  # metric -> 95 % interval of the mean
    # Metric -> 1 plus the number of models that are significantly better.
    ranks: dict[str, int] = field(default_factory=dict)
    # Column ("silent", "exchanged", "shifted") -> metric -> change against normal sound, with its interval.
    sound: dict[str, dict[str, tuple[float, Interval]]] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """The rows of every database, best first, and the scores of the videos.

    Attributes:
        databases: Database -> rows.
        videos: Database -> video -> row's name -> metric -> mean over the video's frames.
        metrics: Keys of the metrics.
        protocol: Protocol of all evaluations.
    """

    databases: dict[str, list[Entry]]
    videos: dict[str, dict[str, dict[str, dict[str, float]]]]
    metrics: list[str]
    protocol: str

    def save(self, path: str | Path) -> None:
        """Writes the HTML page, a single file without external resources."""
        num = max(sum(e.kind == "model" for e in entries) for entries in self.databases.values())
        text = render(
            "leaderboard.html",
            title="Leaderboard",
            subtitle=f"{counted(num, 'models')} on {', '.join(self.databases)}; protocol {self.protocol}; "
            f"stavis {__version__}",
            data=self._to_json(),
        )
        write_text(Path(path), text)

    def _to_json(self) -> dict[str, Any]:
        return {
            "metrics": [
                {"key": m, "name": METRIC_NAMES[m], "lower": m in LOWER_IS_BETTER} for m in self.metrics
            ],
            "databases": [
                {
                    "name": name,
                    "entries": [_entry_to_json(entry) for entry in entries],
                    "videos": [
                        {"name": video, "scores": {n: _rounded(by_metric) for n, by_metric in rows.items()}}
                        for video, rows in self.videos[name].items()
                    ],
                }
                for name, entries in self.databases.items()
            ],
        }

    def __repr__(self) -> str:
        return f"Leaderboard({', '.join(self.databases)})"


def make_leaderboard(folders: Sequence[str | Path] | str | Path) -> Leaderboard:
    """Ranks the models of one or several evaluations.

    Only videos that all models have count, each once. Of two models, one is better on a metric where a paired
    permutation test over videos is significant at 5 %, adjusted by Holm's method for all pairs. An evaluation of a
    `stavis test` run with wrong sound becomes a column of the run with the same weights and normal sound. Baselines
    that were scored with the first evaluation are rows too, and published scores where there are some.

    Raises:
        StavisError: A folder contains no evaluation, settings differ, or models have no video in common.
    """
    if isinstance(folders, str | Path):
        folders = [folders]
    if not folders:
        raise ValueError("a leaderboard needs at least one evaluation")
    evaluations = [read_evaluation(Path(folder)) for folder in folders]
    for other in evaluations[1:]:
        check_settings(evaluations[0], other)
    tests = {i: _sound_of(e) for i, e in enumerate(evaluations)}
    models = [e for i, e in enumerate(evaluations) if not (tests[i] in SOUND_TESTS and _base(e, evaluations))]
    names = _distinct_names(models)
    of_tests = {
        (names[models.index(base)], SOUND_TESTS[sound]): evaluation
        for i, evaluation in enumerate(evaluations)
        if (sound := tests[i]) in SOUND_TESTS and (base := _base(evaluation, evaluations)) in models
    }
    rows = dict(zip(names, map(_means_of_videos, models), strict=True))
    baselines = {
        method_name(method): _means_of_videos(read_evaluation(evaluations[0].folder, method))
        for method in BASELINES
        if any((evaluations[0].folder / "videos").glob(f"*/*/{method}*.json"))
    }
    protocol = str(evaluations[0].run["settings"]["protocol"])
    first = next(iter(rows.values()))
    metrics = ordered_metrics(next(iter(first.values())))
    databases, videos = {}, {}
    for database in dict.fromkeys(database for database, _ in first):
        shared = [key for key in first if key[0] == database and all(key in r for r in rows.values())]
        if not shared:
            continue
        entries = _ranked(rows, shared, metrics)
        for entry, column in itertools.product(entries, SOUND_TESTS.values()):
            if (entry.name, column) in of_tests:
                changed = _means_of_videos(of_tests[entry.name, column])
                entry.sound[column] = _changes(rows[entry.name], changed, shared, metrics)
        complete = {n: scores for n, scores in baselines.items() if all(key in scores for key in shared)}
        entries += [_entry(n, "baseline", _columns(s, shared, metrics)) for n, s in complete.items()]
        published = published_scores(Path(evaluations[0].run["data"]), database)
        if protocol not in FIELD_PROTOCOLS and published is not None:
            entries.append(Entry("STAViS, as published", "published", dict(published)))
        databases[database] = entries
        videos[database] = {
            key[1]: {name: scores[key] for name, scores in (rows | complete).items()} for key in shared
        }
    if not databases:
        raise StavisError(f"{evaluations[0].folder}: the evaluations have no video in common")
    return Leaderboard(databases, videos, metrics, protocol)


def _sound_of(evaluation: MethodScores) -> str | None:
    test_run = evaluation.run["test_run"]
    settings = test_run.get("settings") if isinstance(test_run, dict) else None
    return settings.get("audio") if isinstance(settings, dict) else None


def _base(evaluation: MethodScores, evaluations: Sequence[MethodScores]) -> MethodScores | None:
    """The evaluation of the same weights with normal sound."""

    def digests(one: MethodScores) -> list[Any]:
        weights = one.run["test_run"].get("weights", {})
        return [weights[split].get("sha256") for split in sorted(weights)]

    for other in evaluations:
        if _sound_of(other) == "normal" and digests(other) == digests(evaluation):
            return other
    return None


def _distinct_names(models: Sequence[MethodScores]) -> list[str]:
    """Names of the folders, with their parents' where two are equal."""
    names = [model.name for model in models]
    paths = [str(model.folder) for model in models]
    return [name if names.count(name) == 1 else path for name, path in zip(names, paths, strict=True)]


Means = dict[tuple[str, str], dict[str, float]]


def _means_of_videos(model: MethodScores) -> Means:
    """(database, video) -> metric -> mean; splits of a video are weighted equally."""
    means = {}
    for key, splits in model.videos.items():
        scores = list(splits.values())
        means[key] = {m: float(np.mean([one.mean(m) for one in scores])) for m in scores[0].scores}
    return means


def _columns(scores: Means, shared: Sequence[tuple[str, str]], metrics: Sequence[str]) -> dict[str, Float64]:
    return {m: np.array([scores[key][m] for key in shared]) for m in metrics}


def _entry(name: str, kind: str, columns: dict[str, Float64]) -> Entry:
    means = {m: mean_of_defined(values) for m, values in columns.items()}
    return Entry(name, kind, means, {m: interval_of_mean(values) for m, values in columns.items()})


def _ranked(rows: dict[str, Means], shared: Sequence[tuple[str, str]], metrics: Sequence[str]) -> list[Entry]:
    columns = {name: _columns(scores, shared, metrics) for name, scores in rows.items()}
    pairs = list(itertools.combinations(rows, 2))
    ranks: dict[str, dict[str, int]] = {name: dict.fromkeys(metrics, 1) for name in rows}
    for metric in metrics:
        sign = -1 if metric in LOWER_IS_BETTER else 1
        differences = [sign * (columns[a][metric] - columns[b][metric]) for a, b in pairs]
        p_values = holm([sign_flip_test(d) for d in differences])
        for (a, b), difference, p in zip(pairs, differences, p_values, strict=True):
            if p < 0.05:
                ranks[b if mean_of_defined(difference) > 0 else a][metric] += 1
    entries = []
    for name in rows:
        entry = _entry(name, "model", columns[name])
        entries.append(
            replace(entry, ranks={m: r for m, r in ranks[name].items() if not math.isnan(entry.means[m])})
        )

    def place(entry: Entry) -> tuple[int, float]:
        """An undefined score is last."""
        score = entry.means[metrics[0]]
        return sum(entry.ranks.get(m, len(rows)) for m in metrics), math.inf if math.isnan(score) else -score

    return sorted(entries, key=place)


def _changes(
    own: Means, other: Means, shared: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> dict[str, tuple[float, Interval]]:
    keys = [key for key in shared if key in other]
    changes = {m: np.array([other[key][m] - own[key][m] for key in keys]) for m in metrics}
    return {m: (mean_of_defined(d), interval_of_mean(d)) for m, d in changes.items()}


def _rounded(values: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else round(value, 4) for key, value in values.items()}


def _with_ends(mean: float, interval: Interval | None) -> list[float | None]:
    ends = (mean, *(interval or (math.nan, math.nan)))
    return [None if math.isnan(value) else round(value, 4) for value in ends]


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "scores": {m: _with_ends(mean, entry.intervals.get(m)) for m, mean in entry.means.items()},
        "ranks": entry.ranks,
        "sound": {
            column: {m: _with_ends(mean, ends) for m, (mean, ends) in by_metric.items()}
            for column, by_metric in entry.sound.items()
        },
    }
