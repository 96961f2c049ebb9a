"""Gaze tables, CSV or Parquet: one row per sample, columns for observer, frame or time, x, y and event."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stavis.errors import StavisError, some
from stavis.gaze.recording import Event, FloatArray, IntArray, Recording
from stavis.gaze.text import first_lines, names_video, parse_numbers, plain, read_text
from stavis.runtime.parquet import read_parquet

TimeUnit = Literal["s", "ms", "us", "ns"]
SECONDS_PER_UNIT: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNIT_WORDS: dict[str, TimeUnit] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "\u03bcs", "usec", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), "ns"),
}

COLUMNS = {
    "observer": ("observer", "subject", "participant"),
    "frame": ("frame",),
    "time": ("time", "time_seconds", "time_ms", "time_us", "time_ns", "timestamp"),
    "x": ("x", "gaze_x"),
    "y": ("y", "gaze_y"),
    "event": ("event",),
    "video": ("video",),
    "confidence": ("confidence",),
}
"""Meaning of a column -> the names looked for, in any case, unless another name is given for it."""

_EVENT_PREFIXES = (
    (("fix", "smooth", "pursuit"), Event.FIXATION),
    (("sac",), Event.SACCADE),
    (("blink",), Event.BLINK),
    (("err", "lost", "invalid", "missing", "eyesnotfound"), Event.ERROR),
)


def event_from_word(word: object) -> Event:
    """The event that an eye tracker's word means, by its beginning; pursuit counts as fixation.

    An unknown word, like an empty one, is `Event.UNCLASSIFIED`.
    """
    lowered = "" if word is None else str(word).strip().lower().replace(" ", "")
    return next(
        (event for prefixes, event in _EVENT_PREFIXES if lowered.startswith(prefixes)), Event.UNCLASSIFIED
    )


def events_from_words(words: Iterable[object]) -> NDArray[np.uint8]:
    return np.array([event_from_word(word) for word in words], np.uint8)


@dataclass(frozen=True)
class Table:
    """A table as it was read. Columns are found by name whatever its case, blanks and Unicode form."""

    path: Path  # its file, for messages
    names: tuple[str, ...]  # names of the columns; some may be the same
    columns: tuple[Sequence[object], ...]  # the cells of each column: text, or what a Parquet file holds

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def find(self, *candidates: str) -> str | None:
        """The first of the names that the table has. Raises StavisError if it has that name twice."""
        for candidate in candidates:
            same = [name for name in self.names if plain(name) == plain(candidate)]
            if len(same) > 1:
                counts = Counter(plain(name) for name in self.names if name)
                twice = [name for name in self.names if counts[plain(name)] > 1]
                raise StavisError(
                    f"{self.path}: columns of the same name: {', '.join(twice)}; rename them, so that it is clear "
                    "which ones to read"
                )
            if same:
                return same[0]
        return None

    def cells(self, name: str) -> Sequence[object]:
        return self.columns[self.names.index(name)]

    def words(self, name: str) -> list[str]:
        """A column as text without blanks around it; None gives ""."""
        return ["" if cell is None else str(cell).strip() for cell in self.cells(name)]

    def numbers(self, name: str, rows: Sequence[int] | None = None) -> FloatArray:
        """A column, or some rows of it, as numbers; nan for no value. Raises StavisError if a cell is not a number."""
        return parse_numbers(self.path, name, self.cells(name), range(len(self)) if rows is None else rows)

    def describe(self) -> str:
        return f"there are: {', '.join(self.names) or 'none'}"


def _parse_header(lines: Sequence[str]) -> tuple[str, list[str], int]:
    """The delimiter of a text table, its column names, and the number of lines down to its header.

    The delimiter is the one that Excel's line `sep=;` names, else the first of tab, semicolon and comma in the header.
    """
    separator = re.fullmatch(r'"?sep=(.|\\t)"?', lines[0].strip("\r\n")) if lines else None
    num_lines = 2 if separator else 1
    header = lines[num_lines - 1] if len(lines) >= num_lines else ""
    delimiter = next((candidate for candidate in "\t;," if candidate in header), ",")
    if separator:
        delimiter = separator[1].replace("\\t", "\t")
    names = next(csv.reader([header], delimiter=delimiter), [])
    return delimiter, [name.strip() for name in names], num_lines


def read_text_table(path: Path) -> Table:
    """Reads a text table: a header, then a row per sample, cells separated by commas, semicolons or tabs.

    Raises StavisError if it is not text, has no header, or a row has more or fewer cells than the header.
    """
    text = read_text(path)
    delimiter, names, num_skipped = _parse_header(text.split("\n", 2))
    if not any(names):
        raise StavisError(f"{path}: empty; a table begins with a header that names its columns")
    file = io.StringIO(text)
    for _ in range(num_skipped):
        file.readline()
    rows: list[list[str]] = []
    reader = csv.reader(file, delimiter=delimiter)
    try:
        for row in reader:
            if len(row) > len(names) and not any(cell.strip() for cell in row[len(names) :]):
                row = row[: len(names)]  # a delimiter at the end of every row
            if row and len(row) == len(names) - 1 and not names[-1]:
                row = [*row, ""]  # or at the end of the header alone
            if row and len(row) != len(names):
                raise StavisError(
                    f"{path}, line {reader.line_num + num_skipped}: {len(row)} cells, but the header has {len(names)}"
                )
            if row:
                rows.append(row)
    except csv.Error as error:
        raise StavisError(f"{path}: not a CSV file: {error}") from None
    return Table(path, tuple(names), tuple(zip(*rows, strict=True)) or ((),) * len(names))


def read_parquet_table(path: Path) -> Table:
    """Reads a Parquet file. Raises StavisError if pyarrow is not installed, or it cannot read the file."""
    table = read_parquet(path)
    return Table(path, tuple(table.column_names), tuple(column.to_pylist() for column in table.columns))


def read_column_names(path: Path, *, parquet: bool) -> list[str]:
    """The column names of a table, without reading its rows."""
    if parquet:
        return list(read_parquet(path, rows=False).column_names)
    return _parse_header(first_lines(path, 2))[1]


def recording_from_table(
    table: Table,
    *,
    columns: Mapping[str, str],
    fractions: bool,
    origin: int,
    frame_origin: int,
    time_unit: TimeUnit | None,
    video: str | None,
) -> Recording:
    """Finds the columns of a gaze table and converts them.

    Args:
        table: The table; its file's name is the observer where there is no such column.
        columns: Meaning (a key of `COLUMNS`) -> column name, for columns without the usual names.
        fractions: x and y are fractions of the screen or video, not pixels.
        origin: Coordinate of the first pixel, 0 or 1 (pixels only).
        frame_origin: Number of the first frame, 0 or 1.
        time_unit: Unit of the times; None takes it from the column's name (`time_ms`, `time [ms]`), else seconds.
        video: Read only the rows that name this video, if there is a column `video`.

    Raises:
        StavisError: A column is missing or named twice, a cell is not a number, or no row names the video.
    """
    path = table.path
    found = _find_columns(table, columns)
    rows: Sequence[int] = range(len(table))
    if "video" in found and video is not None:
        names = table.words(found["video"])
        rows = [i for i, name in enumerate(names) if names_video(name, video)]
        if not rows:
            raise StavisError(
                f"{path}: no row has {video!r} in column {found['video']!r}; there are: {some(set(names)) or 'none'}"
            )
    x, y = (table.numbers(found[meaning], rows) for meaning in "xy")
    if not fractions:
        check_pixels(path, x, y)
        x, y = x - origin, y - origin
    frame: IntArray | None = None
    time_seconds: FloatArray | None = None
    unit_assumed = False
    if "frame" in found:
        frame, missing = _whole_frames(path, table.numbers(found["frame"], rows), found["frame"], rows)
        frame = frame - frame_origin
        x = np.where(missing, np.nan, x)
    else:
        named_unit = unit_in_name(found["time"])
        unit_assumed = time_unit is None and named_unit is None
        time_seconds = table.numbers(found["time"], rows)
        time_seconds = time_seconds * SECONDS_PER_UNIT[time_unit or named_unit or "s"]
    observers: tuple[str, ...] = (path.stem,)
    observer = np.zeros(len(rows), np.int64)
    if "observer" in found:
        cells = table.words(found["observer"])
        observers, observer = number_names([cells[i] for i in rows])
    event = None
    if "event" in found:
        words = table.cells(found["event"])
        event = events_from_words(words[i] for i in rows)
    return Recording(
        observers,
        observer,
        x,
        y,
        frame=frame,
        time_seconds=time_seconds,
        event=event,
        confidence=table.numbers(found["confidence"], rows) if "confidence" in found else None,
        normalized=fractions,
        # Pupil Labs' normalized positions count from the bottom.
        origin="bottom-left" if plain(found["y"]) in ("norm_pos_y", "y_norm") else "top-left",
        named_by_file="observer" not in found,
        unit_assumed=unit_assumed,
    )


def number_names(names: Sequence[str]) -> tuple[tuple[str, ...], IntArray]:
    """The distinct names in order of appearance, and for each entry the index of its name."""
    distinct = tuple(dict.fromkeys(names))
    positions = {name: i for i, name in enumerate(distinct)}
    return distinct, np.array([positions[name] for name in names], np.int64)


def unit_in_name(name: str) -> TimeUnit | None:
    """The unit at the end of a column's name, as in `time_ms`, `Recording timestamp [us]`, `time (s)`."""
    match = re.search(r"[\s_\[(]([^\s_\[(\])]+)[\])]?$", plain(name))
    return _UNIT_WORDS.get(match[1]) if match else None


def _find_columns(table: Table, columns: Mapping[str, str]) -> dict[str, str]:
    if unknown := sorted(set(columns) - set(COLUMNS)):
        raise StavisError(f"{unknown[0]!r} is not a meaning of a gaze column; allowed: {', '.join(COLUMNS)}")
    names = {meaning: _find_column(table, meaning, columns.get(meaning)) for meaning in COLUMNS}
    if "time" in columns and "frame" not in columns:
        names["frame"] = None
    for meanings in (("x",), ("y",), ("frame", "time")):
        if all(names[meaning] is None for meaning in meanings):
            usual = ", ".join(name for meaning in meanings for name in COLUMNS[meaning])
            raise StavisError(
                f"{table.path}: no column for {' or '.join(meanings)} (looked for {usual}); {table.describe()}"
            )
    return {meaning: name for meaning, name in names.items() if name is not None}


def _find_column(table: Table, meaning: str, given: str | None) -> str | None:
    usual = COLUMNS[meaning]
    name = table.find(*(usual if given is None else (given,)))
    if name is None and meaning == "time" and given is None:  # `timestamp [ms]`
        bare = {re.sub(r" ?[\[(].*", "", plain(name)): name for name in table.names}
        name = next((bare[candidate] for candidate in usual if candidate in bare), None)
    if name is None and given is not None:
        raise StavisError(f"{table.path}: no column {given!r}; {table.describe()}")
    if meaning in "xy" and given is None:
        both = [one for candidate in usual if (one := table.find(candidate)) is not None]
        if len(both) > 1:
            raise StavisError(
                f"{table.path}: {' and '.join(both)} could both be {meaning}; name one of them in `columns`"
            )
    return name


def _whole_frames(
    path: Path, values: FloatArray, name: str, rows: Sequence[int]
) -> tuple[IntArray, NDArray[np.bool_]]:
    missing = ~np.isfinite(values)
    frame = np.where(missing, 0, values)
    broken = np.flatnonzero(frame != np.floor(frame))
    if len(broken):
        first = broken[0]
        raise StavisError(
            f"{path}, row {rows[first] + 1}: {values[first]:g} in column {name!r} is not a whole frame; "
            "name a column of times in `columns`"
        )
    return np.clip(frame, -(2**53), 2**53).astype(np.int64), missing


def check_pixels(path: Path, x: FloatArray, y: FloatArray) -> None:
    """Raises StavisError if ten samples or more all lie in the first pixel, where nobody looks: they are fractions."""
    finite = np.isfinite(x) & np.isfinite(y)
    if finite.sum() >= 10 and (np.abs(x[finite]) <= 1).all() and (np.abs(y[finite]) <= 1).all():
        raise StavisError(
            f"{path}: all {finite.sum()} samples have x and y in 0..1, the first ({x[finite][0]:g}, "
            f"{y[finite][0]:g}), which looks like fractions, not pixels: `unit=fractions`"
        )
