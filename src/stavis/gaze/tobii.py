"""Reader for Tobii exports (Pro Lab and Studio): tables with a row per sample, many recordings and stimuli in one."""

import re
from collections.abc import Sequence

import numpy as np

from stavis.errors import StavisError, some
from stavis.gaze import tables
from stavis.gaze.recording import Coordinates, Recording
from stavis.gaze.text import names_video, plain
from stavis.gaze.trackers import Eye

# Position on the display ("DACS", "ADCS") or on the stimulus ("MCS"), in pixels or, of the stimulus, in fractions.
_GAZE = re.compile(r"gaze ?point ?(left|right)? ?([xy])(?: ?[\[(](adcs|dacs|mcs) ?(px|norm)[\])])?")
_STIMULUS = ("Presented Stimulus name", "Presented Media name", "MediaName", "Recording media name")
_TIME = ("Recording timestamp", "RecordingTimestamp")


def is_tobii(names: Sequence[str]) -> bool:
    return any(_GAZE.fullmatch(plain(name)) for name in names) and _time_column(names) is not None


def _time_column(names: Sequence[str]) -> str | None:
    wanted = {plain(name) for name in _TIME}
    return next((name for name in names if re.sub(r" ?[\[(].*", "", plain(name)) in wanted), None)


def read_tobii(
    table: tables.Table, *, eye: Eye, origin: int, time_unit: tables.TimeUnit | None, video: str
) -> Recording:
    """Reads the rows of a Tobii export that belong to a video.

    If the export names the presented stimulus, these are the rows in which it is the video; otherwise all. The video
    starts at the event `VideoStimulusStart` of each recording, or else at its first such row. Positions on the stimulus
    ("MCS") are preferred to those on the display. "both" is Tobii's own combination of the eyes. Times are in the unit
    given, else in that of the column's name, else in milliseconds.

    Raises StavisError if a column is missing or no row presents the video.
    """
    path = table.path
    x_name, y_name, coordinates, normalized = _position_columns(table, eye)
    time_name = _time_column(table.names)
    assert time_name is not None
    unit = time_unit or tables.unit_in_name(time_name) or "ms"
    time = table.numbers(time_name) * tables.SECONDS_PER_UNIT[unit]

    def words(*names: str) -> list[str] | None:
        name = table.find(*names)
        return None if name is None else table.words(name)

    stimulus, event = words(*_STIMULUS), words("Event", "StudioEvent")
    recording = words("Recording name", "RecordingName") or [""] * len(table)
    participant = words("Participant name", "ParticipantName") or [path.stem] * len(table)
    sensor = words("Sensor") or [""] * len(table)
    presented = [True] * len(table)
    if stimulus is not None and any(stimulus):
        presented = [names_video(cell, video) for cell in stimulus]
        if not any(presented):
            raise StavisError(
                f"{path}: Tobii export in which no row presents {video!r}; presented are: "
                f"{some({cell for cell in stimulus if cell})} (`stimulus` names another)"
            )
    starts: dict[tuple[str, str], float] = {}
    marked: dict[tuple[str, str], float] = {}
    for row in range(len(table)):
        key = (participant[row], recording[row])
        if presented[row] and np.isfinite(time[row]):
            if stimulus is not None and any(stimulus):
                starts.setdefault(key, float(time[row]))
            if event is not None and plain(event[row]) == "videostimulusstart":
                marked.setdefault(key, float(time[row]))
    rows = [
        row
        for row in range(len(table))
        if presented[row] and "mouse" not in sensor[row].lower() and not (event is not None and event[row])
    ]
    keys = [(participant[row], recording[row]) for row in rows]
    zero = np.array([marked.get(key, starts.get(key, 0.0)) for key in keys])
    x, y = table.numbers(x_name, rows), table.numbers(y_name, rows)
    size = _display_size(table)
    if not normalized:
        x, y = x - origin, y - origin
    observers, observer = tables.number_names([participant[row] for row in rows])
    types = words("Eye movement type", "GazeEventType")
    return Recording(
        observers,
        observer,
        x,
        y,
        time_seconds=time[rows] - zero,
        event=None if types is None else tables.events_from_words(types[row] for row in rows),
        coordinates=coordinates,
        size=size if coordinates == "screen" else None,
        normalized=normalized,
        named_by_file=table.find("Participant name", "ParticipantName") is None,
    )


def _position_columns(table: tables.Table, eye: Eye) -> tuple[str, str, Coordinates, bool]:
    """The columns of x and y, whether they are on the display or on the stimulus, and whether in fractions."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in table.names:
        if match := _GAZE.fullmatch(plain(name)):
            side, axis, system, scale = match.groups()
            system = {None: "dacs", "adcs": "dacs"}.get(system, system)
            found.setdefault((side or "both", system, scale or "px"), {})[axis] = name
    for system, scale in (("mcs", "px"), ("mcs", "norm"), ("dacs", "px")):
        pair = found.get((eye, system, scale), {})
        if len(pair) == 2 and np.isfinite(table.numbers(pair["x"])).any():
            return pair["x"], pair["y"], "video" if system == "mcs" else "screen", scale == "norm"
    raise StavisError(
        f"{table.path}: Tobii export without gaze of `eye={eye}` in pixels (columns 'Gaze point X [DACS px]' and 'Y', "
        f"or with 'left' or 'right'); {table.describe()}"
    )


def _display_size(table: tables.Table) -> tuple[int, int] | None:
    width, height = table.find("Recording resolution width"), table.find("Recording resolution height")
    if width is not None and height is not None:
        sizes = [table.numbers(name) for name in (width, height)]
        known = [size[np.isfinite(size)] for size in sizes]
        if all(len(size) for size in known):
            return int(known[0][0]), int(known[1][0])
    both = table.find("Recording resolution", "RecordingResolution")
    cells = [cell for cell in table.words(both) if cell] if both is not None else []
    match = re.fullmatch(r"(\d+)\s*[x\u00d7]\s*(\d+)", cells[0]) if cells else None
    return (int(match[1]), int(match[2])) if match else None
