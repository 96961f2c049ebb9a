"""Score tables for the terminal, Markdown and LaTeX."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from stavis.errors import counted
from stavis.evaluation.plan import FIELD_PROTOCOLS
from stavis.evaluation.results import PREDICTIONS
from stavis.evaluation.summary import Evaluation, GroupScores, published_scores
from stavis.runtime.files import write_text
from stavis.runtime.progress import text_table

if TYPE_CHECKING:
    from stavis.evaluation.leaderboard import Entry

METRIC_ORDER = ("cc", "nss", "auc_judd", "auc_shuffled", "sim", "kldiv")
"""The order in which papers print them."""
METRIC_NAMES = {
    "cc": "CC",
    "nss": "NSS",
    "auc_judd": "AUC-J",
    "auc_shuffled": "sAUC",
    "sim": "SIM",
    "kldiv": "KL ↓",
}
_METHOD_NAMES = {
    PREDICTIONS: "these predictions",
    "published": "STAViS, published",
    "center": "center prior",
    "uniform": "noise (uniform)",
    "train-mean": "training mean",
    "inter-observer": "inter-observer",
    "shuffled": "another video's density",
    "unadapted": "without adaptation",
}
DASH = "–"
NARROW_COLUMNS = 90  # a terminal with fewer has no room for the whole table


@dataclass(frozen=True)
class Row:
    database: str  # its database
    method: str  # "predictions", "published" or a baseline
    values: tuple[float, ...]  # in the order of `ordered_metrics`; nan where undefined
    # None for published numbers.
    num_videos: int | None
    num_frames: int | None
    remarks: str  # what a reader must know about the numbers; may be empty

    def formatted(self, digits: int | None = None) -> list[str]:
        """The values with `digits` decimals; by default 4, and 3 for published ones."""
        digits = digits or (3 if self.method == "published" else 4)
        return [format_score(value, digits) for value in self.values]

    def numbers(self) -> list[str]:
        """The numbers of videos and frames, empty for published ones."""
        return ["" if n is None else str(n) for n in (self.num_videos, self.num_frames)]


def method_name(method: str) -> str:
    return _METHOD_NAMES.get(method, method)


def metric_names(metrics: Iterable[str]) -> list[str]:
    return [METRIC_NAMES[metric] for metric in metrics]


def ordered_metrics(metrics: Iterable[str]) -> list[str]:
    return sorted(metrics, key=METRIC_ORDER.index)


def score_rows(evaluation: Evaluation) -> list[Row]:
    """The rows of the score table, grouped by database, published numbers first."""
    rows = []
    metrics = ordered_metrics(evaluation.metrics)
    in_published_layout = evaluation.run["settings"]["protocol"] not in FIELD_PROTOCOLS
    for database in next(iter(evaluation.databases.values()), {}):
        published = published_scores(evaluation.data, database) if in_published_layout else None
        if published is not None:
            values = tuple(published[m] for m in metrics)
            rows.append(Row(database, "published", values, None, None, ""))
        for method in evaluation.methods:
            group = evaluation.databases[method].get(database)
            if group is None:
                continue
            undefined = {m: n for m, n in group.num_undefined.items() if n}
            remarks = []
            if undefined:
                names = ", ".join(f"{METRIC_NAMES[m]} {undefined[m]}" for m in metrics if m in undefined)
                remarks.append(f"undefined frames: {names}")
            if group.num_missing:
                remarks.append(f"{counted(group.num_missing, 'frames')} without a map")
            if evaluation.absent_splits:
                remarks.append(
                    f"without split {' and '.join(map(str, evaluation.absent_splits))}, not predicted"
                )
            absent = sum(v.database == database for v in evaluation.missing_videos)
            if absent and method == PREDICTIONS:
                remarks.append(f"{counted(absent, 'videos')} without maps left out")
            remarks += group.notes
            if method == PREDICTIONS:
                remarks += evaluation.unavailable.get(database, [])
            rows.append(_row(database, method, group, metrics, "; ".join(remarks)))
    return rows


def category_rows(evaluation: Evaluation) -> list[Row]:
    """The rows of the table of categories, if the data have some; `Row.database` is the category."""
    metrics = ordered_metrics(evaluation.metrics)
    categories = dict.fromkeys(name for groups in evaluation.categories.values() for name in groups)
    return [
        _row(category, method, group, metrics)
        for category in sorted(categories)
        for method, groups in evaluation.categories.items()
        if (group := groups.get(category)) is not None
    ]


def _row(name: str, method: str, group: GroupScores, metrics: Sequence[str], remarks: str = "") -> Row:
    means = tuple(group.means[m] for m in metrics)
    return Row(name, method, means, group.num_videos, group.num_frames, remarks)


def format_score(value: float, digits: int = 4) -> str:
    """A score with `digits` decimals, or a dash if it is undefined."""
    return DASH if math.isnan(value) else f"{value:.{digits}f}"


def terminal_table(rows: Sequence[Row], metrics: Sequence[str], width: int, group: str = "database") -> Table:
    """The table for a terminal of `width` columns; a narrow one omits the numbers of videos and frames."""
    wide = width >= NARROW_COLUMNS
    right = [*metric_names(metrics), *(["videos", "frames"] if wide else [])]
    table = text_table(group, "maps", right=right, header_style="bold", collapse_padding=not wide)
    for i, row in enumerate(rows):
        first = i == 0 or rows[i - 1].database != row.database
        style = "dim" if row.method == "published" else "bold" if row.method == PREDICTIONS else ""
        table.add_row(
            Text(row.database if first else ""),
            Text(method_name(row.method), style=style),
            *(Text(value, style=style) for value in row.formatted()),
            *(row.numbers() if wide else []),
            end_section=i + 1 == len(rows) or rows[i + 1].database != row.database,
        )
    return table


def leaderboard_table(database: str, entries: Sequence["Entry"], metrics: Sequence[str]) -> Table:
    """The rows of a leaderboard on one database: rank, mean and half the width of its interval."""
    table = text_table("model", right=metric_names(metrics), header_style="bold", title=database)
    for entry in entries:
        cells = []
        for metric in metrics:
            rank = f"{entry.ranks[metric]}. " if metric in entry.ranks else ""
            ends = entry.intervals.get(metric)
            width = "" if ends is None or math.isnan(ends.low) else f" ±{(ends.high - ends.low) / 2:.3f}"
            cells.append(rank + format_score(entry.means.get(metric, math.nan), 3) + width)
        table.add_row(Text(entry.name, style="" if entry.kind == "model" else "dim"), *map(Text, cells))
    return table


def remark_lines(rows: Sequence[Row]) -> list[str]:
    return [f"{row.database}, {method_name(row.method)}: {row.remarks}" for row in rows if row.remarks]


def markdown_table(rows: Sequence[Row], metrics: Sequence[str], group: str = "database") -> str:
    lines = markdown_head([group, "maps", *metric_names(metrics), "videos", "frames"])
    for row in rows:
        cells = [row.database, method_name(row.method), *row.formatted(), *row.numbers()]
        lines.append(markdown_line(cells))
    remarks = remark_lines(rows)
    return "\n".join([*lines, *([""] if remarks else []), *(f"- {line}" for line in remarks)]) + "\n"


def markdown_head(columns: Sequence[str]) -> list[str]:
    """The first two rows of a Markdown table of which all columns but two are right-aligned."""
    return [markdown_line(columns), markdown_line(["---", "---", *["---:"] * (len(columns) - 2)])]


def markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def latex_table(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """The table for the LaTeX package booktabs."""
    names = " & ".join(metric_names(metrics))
    lines = [r"\begin{tabular}{ll" + "r" * len(metrics) + "}", r"\toprule", rf"Database & Maps & {names} \\"]
    for i, row in enumerate(rows):
        first = i == 0 or rows[i - 1].database != row.database
        if first:
            lines.append(r"\midrule")
        cells = [escape_latex(row.database) if first else "", escape_latex(method_name(row.method))]
        cells += ["--" if math.isnan(value) else f"{value:.3f}" for value in row.values]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escape_latex(text: str) -> str:
    replacement: Callable[[re.Match[str]], str] = lambda match: {  # noqa: E731
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }.get(match[0], "\\" + match[0])
    return re.sub(r"[\\~^&%$#_{}]", replacement, text)


def write_tables(output: Path, evaluation: Evaluation) -> None:
    """Writes `scores.md` and `scores.tex`."""
    rows, metrics = score_rows(evaluation), ordered_metrics(evaluation.metrics)
    text = markdown_table(rows, metrics)
    if categories := category_rows(evaluation):
        text += "\n" + markdown_table(categories, metrics, "category")
    write_text(output / "scores.md", text)
    write_text(output / "scores.tex", latex_table(rows, metrics))
