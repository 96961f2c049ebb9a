"""Gaze as a table, CSV or Parquet: a row a sample, columns for observer, frame or time, x, y, and what the eye did."""

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stavis.errors import StavisError
from stavis.gaze.recording import Event, FloatArray, IntArray, Recording

Table = Mapping[str, Sequence[object]]

TimeUnit = Literal["s", "ms", "us"]
SECONDS_PER_UNIT: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6}

COLUMNS = {
    "observer": ("observer", "subject", "participant"),
    "frame": ("frame",),
    "time": ("time", "time_seconds", "time_ms", "time_us", "timestamp"),
    "x": ("x", "gaze_x"),
    "y": ("y", "gaze_y"),
    "event": ("event",),
    "video": ("video",),
}
"""What a column means -> the names looked for, whatever their case, where no other name is given for it."""

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", ".", "-", "--"})
"""Cells that stand for no value, in lower case."""

_EVENT_PREFIXES = (
    ("fix", Event.FIXATION),
    ("smooth", Event.FIXATION),
    ("pursuit", Event.FIXATION),
    ("sac", Event.SACCADE),
    ("blink", Event.BLINK),
    ("err", Event.ERROR),
    ("lost", Event.ERROR),
    ("invalid", Event.ERROR),
    ("missing", Event.ERROR),
)


def event_from_word(word: str) -> Event:
    """The event that an eye tracker's word means, by how it begins; pursuit counts as fixation.

    A word that is not known, as an empty one, is `Event.UNCLASSIFIED`.
    """
    lowered = word.strip().lower()
    return next(
        (event for prefix, event in _EVENT_PREFIXES if lowered.startswith(prefix)), Event.UNCLASSIFIED
    )


def split_header(line: str) -> tuple[str, list[str]]:
    """The delimiter of a table of text (tab, semicolon or comma, whichever its header has) and its column names."""
    delimiter = next((candidate for candidate in "\t;," if candidate in line), ",")
    return delimiter, [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]


def read_csv_table(path: Path) -> Table:
    """Reads a table of text: a header, then a row a sample; commas, semicolons or tabs between the cells.

    Where semicolons stand between the cells, a comma in a number is a decimal point.

    Raises:
        StavisError: It is no text, has no header, or a row has more or fewer cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            delimiter, names = split_header(header.rstrip("\r\n"))
            rows: list[list[str]] = []
            reader = csv.reader(file, delimiter=delimiter)
            for row in reader:
                if row and len(row) != len(names):
                    raise StavisError(
                        f"{path}, line {reader.line_num + 1}: {len(row)} cells, but the header has {len(names)}"
                    )
                if row:
                    rows.append(row)
    except UnicodeDecodeError:
        raise StavisError(f"{path}: not a text file in UTF-8; allowed: CSV in UTF-8, Parquet") from None
    except csv.Error as error:
        raise StavisError(f"{path}: not a CSV file: {error}") from None
    if not header.strip():
        raise StavisError(f"{path}: empty; a gaze table begins with a header that names its columns")
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    if delimiter == ";":
        columns = [tuple(cell.replace(",", ".") for cell in column) for column in columns]
    return dict(zip(names, columns, strict=True))


def read_parquet_table(path: Path) -> Table:
    """Reads a Parquet file.

    Raises:
        StavisError: pyarrow is not installed, or it cannot read the file.
    """
    table = _open_parquet(path).read()
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _open_parquet(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise StavisError(f"{path}: reading Parquet needs pyarrow: pip install 'stavis[parquet]'") from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise StavisError(f"{path}: not a Parquet file: {error}") from None


def read_column_names(path: Path, *, parquet: bool) -> list[str]:
    """The names of a table's columns, without reading its rows."""
    if parquet:
        return list(_open_parquet(path).schema_arrow.names)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return split_header(file.readline().rstrip("\r\n"))[1]


def recording_from_table(
    path: Path,
    table: Table,
    *,
    columns: Mapping[str, str],
    fractions_of: tuple[int, int] | None,
    origin: int,
    frame_origin: int,
    time_unit: TimeUnit | None,
    video: str | None,
) -> Recording:
    """Finds the columns of a gaze table and reads them.

    Args:
        path: The table's file, for messages; its name is the observer's where there is no such column.
        table: Column name -> cells.
        columns: Meaning (a key of `COLUMNS`) -> column name, where the usual names are not used.
        fractions_of: x and y are fractions of a picture this wide and high; None if they are pixels.
        origin: What the first pixel is called, 0 or 1 (pixels only).
        frame_origin: What the first frame is called, 0 or 1.
        time_unit: Of the column of times; None takes it from the column's name (`_ms`, `_us`), else seconds.
        video: Only the rows that name this video, with or without its suffix, if there is a column `video`.

    Raises:
        StavisError: A column is missing, a cell is no number, or no row names the video.
    """
    found = _find_columns(path, table, columns)
    lines = list(range(len(table[found["x"]])))
    if "video" in found and video is not None:
        names = [str(cell) for cell in table[found["video"]]]
        lines = [i for i, name in enumerate(names) if video in (name, Path(name).stem)]
        if not lines:
            raise StavisError(f"{path}: no row has {video!r} in column {found['video']!r}")

    def numbers(meaning: str) -> FloatArray:
        return _numbers(path, table, found[meaning], lines)

    x, y = numbers("x"), numbers("y")
    if fractions_of is not None:
        x, y = x * fractions_of[0], y * fractions_of[1]
    else:
        _check_pixels(path, x, y)
        x, y = x - origin, y - origin
    frame: IntArray | None = None
    time_seconds: FloatArray | None = None
    if "frame" in found:
        frame, missing = _whole_frames(path, numbers("frame"), found["frame"], lines)
        frame = frame - frame_origin
        x = np.where(missing, np.nan, x)
    else:
        time_seconds = numbers("time") * SECONDS_PER_UNIT[time_unit or _unit_from_name(found["time"])]
    observers: tuple[str, ...] = (path.stem,)
    observer = np.zeros(len(lines), np.int64)
    if "observer" in found:
        cells = [str(table[found["observer"]][i]).strip() for i in lines]
        observers = tuple(dict.fromkeys(cells))
        positions = {name: i for i, name in enumerate(observers)}
        observer = np.array([positions[cell] for cell in cells], np.int64)
    event = None
    if "event" in found:
        words = (table[found["event"]][i] for i in lines)
        event = np.array([event_from_word("" if word is None else str(word)) for word in words], np.uint8)
    return Recording(observers, observer, x, y, frame=frame, time_seconds=time_seconds, event=event)


def _find_columns(path: Path, table: Table, columns: Mapping[str, str]) -> dict[str, str]:
    if unknown := sorted(set(columns) - set(COLUMNS)):
        raise StavisError(f"{unknown[0]!r} is no meaning of a gaze column; allowed: {', '.join(COLUMNS)}")
    lowered = {name.lower(): name for name in table}
    found: dict[str, str] = {}
    for meaning, usual in COLUMNS.items():
        wanted = (columns[meaning],) if meaning in columns else usual
        name = next(
            (lowered[candidate.lower()] for candidate in wanted if candidate.lower() in lowered), None
        )
        if name is not None:
            found[meaning] = name
        elif meaning in columns:
            raise StavisError(f"{path}: no column {columns[meaning]!r}; there are: {', '.join(table)}")
    if "time" in columns and "frame" not in columns:
        found.pop("frame", None)
    for meaning in ("x", "y"):
        if meaning not in found:
            raise StavisError(
                f"{path}: no column for {meaning} (looked for {', '.join(COLUMNS[meaning])}); "
                f"there are: {', '.join(table)}"
            )
    if "frame" not in found and "time" not in found:
        raise StavisError(
            f"{path}: no column for frame or time (looked for {', '.join(COLUMNS['frame'] + COLUMNS['time'])}); "
            f"there are: {', '.join(table)}"
        )
    return found


def _numbers(path: Path, table: Table, name: str, lines: Sequence[int]) -> FloatArray:
    cells = table[name]
    values = np.empty(len(lines))
    for position, line in enumerate(lines):
        cell = cells[line]
        if cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING):
            values[position] = math.nan
            continue
        try:
            values[position] = float(cell)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise StavisError(
                f"{path}, row {line + 1}: {cell!r} in column {name!r} is not a number"
            ) from None
    return values


def _whole_frames(
    path: Path, values: FloatArray, name: str, lines: Sequence[int]
) -> tuple[IntArray, np.ndarray]:
    missing = ~np.isfinite(values)
    frame = np.where(missing, 0, values)
    broken = np.flatnonzero(frame != np.floor(frame))
    if len(broken):
        first = broken[0]
        raise StavisError(
            f"{path}, row {lines[first] + 1}: {values[first]:g} in column {name!r} is not a whole frame; "
            "a column of times is named with time=COLUMN"
        )
    return frame.astype(np.int64), missing


def _check_pixels(path: Path, x: FloatArray, y: FloatArray) -> None:
    finite = np.isfinite(x) & np.isfinite(y)
    # Ten samples that all lie in the first pixel: nobody looks there, these are fractions.
    if finite.sum() >= 10 and (np.abs(x[finite]) <= 1).all() and (np.abs(y[finite]) <= 1).all():
        raise StavisError(
            f"{path}: every x and y lies in 0..1, which looks like fractions, not pixels; say which they are"
        )


def _unit_from_name(name: str) -> TimeUnit:
    return next(
        (unit for unit in itertools.islice(SECONDS_PER_UNIT, 1, None) if name.lower().endswith(f"_{unit}")),
        "s",
    )
