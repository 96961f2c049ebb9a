"""Reader for Pupil Labs exports: `gaze_positions.csv` of Pupil Player, `gaze.csv` of Pupil Cloud and Neon."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stavis.errors import StavisError
from stavis.gaze.recording import Event, Recording
from stavis.gaze.tables import SECONDS_PER_UNIT, Table, number_names, read_text_table, unit_in_name
from stavis.gaze.text import plain

MIN_CONFIDENCE = 0.6  # Pupil Player's own default
_WORLD_TIMES = "world_timestamps.csv"
_PAIRS = (("norm_pos_x", "norm_pos_y"), ("x_norm", "y_norm"), ("gaze x [px]", "gaze y [px]"))
_TIMES = ("gaze_timestamp", "timestamp [ns]", "timestamp")


def is_pupil(names: Sequence[str]) -> bool:
    plain_names = {plain(name) for name in names}
    return any({*pair} <= plain_names for pair in _PAIRS) and bool({*_TIMES} & plain_names)


def read_pupil(table: Table) -> Recording:
    """Reads gaze on the scene camera's video, or on a surface that is taken for the picture.

    Positions of Pupil Player are fractions of the picture with y counted from the bottom, and have a confidence; those
    of Pupil Cloud are pixels from the top left. The video starts at the first time in `world_timestamps.csv`, which is
    exported into the same folder; without that file times are taken as they are.

    Raises StavisError if a column is missing or a cell is not a number.
    """
    path = table.path
    x_name, y_name = next(pair for pair in _PAIRS if table.find(pair[0]) and table.find(pair[1]))
    time_name = table.find(*_TIMES)
    if time_name is None:
        raise StavisError(f"{path}: Pupil Labs export without times; {table.describe()}")
    unit = SECONDS_PER_UNIT[unit_in_name(time_name) or "s"]
    # Nanoseconds since 1970 have more digits than a float: the first is taken off before.
    zero = _first_world_time(path)
    time = table.numbers(time_name) - (zero or 0.0)
    x, y = table.numbers(x_name), table.numbers(y_name)
    in_pixels = "px" in x_name
    confidence, worn = table.find("confidence"), table.find("worn")
    recording_name = table.find("recording id")
    observers, observer = number_names(table.words(recording_name) if recording_name else [""] * len(table))
    named_by_file = recording_name is None or len(observers) <= 1
    if named_by_file:
        generic = path.stem.startswith("gaze")  # every export has the same name, in a folder of its own
        observers = (path.resolve().parent.name if generic and path.parent.name else path.stem,)
        observer = np.zeros(len(table), np.int64)
    event = _events(table)
    if worn is not None and event is not None:
        event[[word.lower() in ("false", "0", "0.0") for word in table.words(worn)]] = Event.ERROR
    return Recording(
        observers,
        observer,
        x,
        y,
        time_seconds=time * unit,
        event=event,
        coordinates="video",
        normalized=not in_pixels,
        origin="top-left" if in_pixels else "bottom-left",
        confidence=None if confidence is None else table.numbers(confidence),
        min_confidence=MIN_CONFIDENCE if confidence is not None else None,
        named_by_file=named_by_file,
    )


def _events(table: Table) -> np.ndarray | None:
    fixation, blink = table.find("fixation id"), table.find("blink id")
    if fixation is None and blink is None:
        return None
    event = np.full(len(table), Event.FIXATION, np.uint8)
    if fixation is not None and np.isfinite(table.numbers(fixation)).any():
        event[~np.isfinite(table.numbers(fixation))] = Event.UNCLASSIFIED
    if blink is not None:
        event[np.isfinite(table.numbers(blink))] = Event.BLINK
    return event


def _first_world_time(path: Path) -> float | None:
    world = path.with_name(_WORLD_TIMES)
    if not world.is_file():
        return None
    table = read_text_table(world)
    name = table.find("timestamp [ns]", "# timestamps [seconds]", "timestamps [seconds]", "# timestamps")
    if name is None or not len(table):
        raise StavisError(f"{world}: no times of the video's frames; {table.describe()}")
    return float(table.numbers(name, [0])[0])
