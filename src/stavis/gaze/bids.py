"""Reader for eye tracking in BIDS 1.11: `*_physio.tsv.gz` with its JSON, events and screen."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stavis.errors import StavisError, some
from stavis.gaze.fixations import read_json
from stavis.gaze.recording import Event, FloatArray, Origin, Recording
from stavis.gaze.tables import SECONDS_PER_UNIT, Table, event_from_word, read_text_table, unit_in_name
from stavis.gaze.text import names_video, read_text
from stavis.gaze.trackers import Eye

_PIXELS = ("pixel", "pixels", "px")
_FRACTIONS = ("normalized", "ratio", "fraction", "proportion", "arbitrary", "a.u.", "")


def is_bids(path: Path) -> bool:
    return re.search(r"_physio\.tsv(\.gz)?$", path.name) is not None


def read_bids(path: Path, *, eye: Eye, origin: int, video: str) -> Recording:
    """Reads one eye of a BIDS eye-tracking recording, `*_physio.tsv.gz` or `.tsv`.

    The first sample is `StartTime` seconds after the start of the task. The video starts at the onset of the event that
    names it in `stim_file` (`*_events.tsv`), or else with the task. Samples are classified by the fixations, saccades
    and blinks of `*_physioevents.tsv.gz`, where there are such. Metadata are inherited from the folders above. "left"
    or "right" reads no sample of a file of the other eye; "both" reads every file.

    Raises StavisError if metadata are missing, it is not gaze in pixels or fractions, or a cell is not a number.
    """
    metadata = _metadata(path, "physio")
    table = _read_headless(path, metadata)
    if metadata.get("PhysioType", "eyetrack") != "eyetrack" or not {"x_coordinate", "y_coordinate"} <= set(
        table.names
    ):
        raise StavisError(
            f"{path}: not eye tracking; its JSON needs PhysioType 'eyetrack' and Columns with timestamp, "
            f"x_coordinate and y_coordinate, and has {metadata.get('PhysioType')!r} and {', '.join(table.names)}"
        )
    system = metadata.get("SampleCoordinateSystem", "gaze-on-screen")
    if system not in ("gaze-on-screen", "gaze-in-world"):
        raise StavisError(
            f"{path}: SampleCoordinateSystem {system!r}; allowed: gaze-on-screen, gaze-in-world"
        )
    screen, screen_origin = _screen(path)
    x, y = table.numbers("x_coordinate"), table.numbers("y_coordinate")
    units = _units(metadata, "x_coordinate") or str(metadata.get("SampleCoordinateUnits", "pixel")).lower()
    if units in _PIXELS:
        x, y = x - origin, y - origin
    elif units not in _FRACTIONS:
        raise StavisError(f"{path}: coordinates in {units!r}; allowed are pixels and fractions (normalized)")
    clock, seconds_per_tick = _clock(path, table, metadata)
    first = clock[:1] if len(clock) else np.zeros(1)
    start = _start(path, metadata) - _onset(path, video)
    event = _events(path, clock, seconds_per_tick)
    if metadata.get("RecordedEye") in ("left", "right") and eye not in ("both", metadata["RecordedEye"]):
        x = np.full_like(x, np.nan)
    subject = re.match(r"(sub-[A-Za-z0-9]+(?:_ses-[A-Za-z0-9]+)?)", path.name)
    return Recording(
        observers=(subject[1] if subject else path.name.split("_physio")[0],),
        observer=np.zeros(len(x), np.int64),
        x=x,
        y=y,
        time_seconds=(clock - first) * seconds_per_tick + start,
        event=event,
        coordinates="screen" if system == "gaze-on-screen" else "video",
        size=screen if system == "gaze-on-screen" else None,
        normalized=units in _FRACTIONS,
        origin=screen_origin,
    )


def _start(path: Path, metadata: dict[str, Any]) -> float:
    """Seconds from the start of the task to the first sample."""
    start = metadata.get("StartTime") or 0.0
    try:
        return float(start)
    except (TypeError, ValueError):
        raise StavisError(
            f"{path}: StartTime {start!r} in its JSON; a number of seconds is allowed"
        ) from None


def _entities(name: str) -> set[str]:
    return {part for part in name.split(".")[0].split("_")[:-1] if "-" in part}


def _metadata(path: Path, suffix: str) -> dict[str, Any]:
    """The JSON files of `suffix` that apply to a file, merged: those of outer folders and fewer entities first."""
    found: list[tuple[int, int, Path]] = []
    for depth, folder in enumerate(path.absolute().parents):
        for candidate in folder.glob(f"*{suffix}.json"):
            if re.search(rf"(^|_){suffix}\.json$", candidate.name) and _entities(candidate.name) <= _entities(
                path.name
            ):
                found.append((-depth, len(_entities(candidate.name)), candidate))
        if depth == 4 or (folder / "dataset_description.json").exists():
            break
    merged: dict[str, Any] = {}
    for *_, candidate in sorted(found):
        content = read_json(candidate)
        if not isinstance(content, dict):
            raise StavisError(f"{candidate}: not a JSON object with metadata")
        merged |= content
    return merged


def _read_headless(path: Path, metadata: dict[str, Any]) -> Table:
    columns = metadata.get("Columns")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        sidecar = re.sub(r"\.tsv(\.gz)?$", ".json", path.name)
        raise StavisError(
            f"{path}: no JSON beside it with Columns; BIDS keeps the names of columns in {sidecar}"
        )
    rows = [line.split("\t") for line in read_text(path).split("\n") if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise StavisError(
                f"{path}, line {number}: {len(row)} cells, but Columns in its JSON has {len(columns)}"
            )
    return Table(path, tuple(columns), tuple(zip(*rows, strict=True)) or ((),) * len(columns))


def _units(metadata: dict[str, Any], column: str) -> str:
    described = metadata.get(column)
    return str(described.get("Units", "")).lower() if isinstance(described, dict) else ""


def _clock(path: Path, table: Table, metadata: dict[str, Any]) -> tuple[FloatArray, float]:
    """Each sample's time stamp, and the seconds of a tick."""
    try:
        rate = float(metadata.get("SamplingFrequency", "nan"))
    except (TypeError, ValueError):
        rate = float("nan")
    name = table.find("timestamp")
    if name is None:
        if not rate > 0:
            raise StavisError(f"{path}: neither a column timestamp nor SamplingFrequency in its JSON")
        return np.arange(len(table)) / rate, 1.0
    clock = table.numbers(name)
    unit = unit_in_name(f"time [{_units(metadata, name)}]")
    if unit is not None:
        return clock, SECONDS_PER_UNIT[unit]
    step = float(np.median(np.diff(clock))) if len(clock) > 1 else 1.0
    if not (rate > 0 and step > 0):
        raise StavisError(f"{path}: its JSON gives neither timestamp's Units nor a SamplingFrequency")
    return clock, 1 / (rate * step)


def _screen(path: Path) -> tuple[tuple[int, int] | None, Origin]:
    presentation = _metadata(path, "events").get("StimulusPresentation")
    presentation = presentation if isinstance(presentation, dict) else {}
    resolution = presentation.get("ScreenResolution")
    corner = presentation.get("ScreenOrigin") or ["top", "left"]
    words = {str(word).lower() for word in (corner if isinstance(corner, list) else [corner])}
    origins: tuple[Origin, ...] = ("top-left", "bottom-left", "center")
    origin = next((one for one in origins if set(one.split("-")) == words), None)
    if origin is None:
        raise StavisError(f"{path}: ScreenOrigin {corner!r}; allowed: top left, bottom left, center")
    try:
        width, height = (int(side) for side in resolution or ())
    except (TypeError, ValueError):
        return None, origin
    return (width, height), origin


def _events(path: Path, clock: FloatArray, seconds_per_tick: float) -> NDArray[np.uint8] | None:
    events_path = path.with_name(path.name.replace("_physio.", "_physioevents."))
    if not events_path.is_file():
        return None
    metadata = _metadata(events_path, "physioevents")
    table = _read_headless(events_path, metadata)
    if not {"onset", "duration"} <= set(table.names):
        return None
    onset, duration = table.numbers("onset"), table.numbers("duration")
    if not len(clock):
        return None
    if metadata.get("ForeignIndexColumn") is None:  # then in seconds, not in the clock's ticks
        onset, duration = clock[0] + onset / seconds_per_tick, duration / seconds_per_tick
    kinds = table.words("trial_type") if "trial_type" in table.names else ["fixation"] * len(table)
    blinks = table.words("blink") if "blink" in table.names else [""] * len(table)
    event = np.full(len(clock), Event.UNCLASSIFIED, np.uint8)
    intervals = [
        (Event.BLINK if blink in ("1", "1.0") else event_from_word(kind), start, start + length)
        for kind, blink, start, length in zip(kinds, blinks, onset, duration, strict=True)
        if np.isfinite(start + length)
    ]
    if not intervals:
        return None
    for code, start, end in sorted(intervals):
        begin, stop = np.searchsorted(clock, (start, end))
        event[begin : max(stop, begin + 1)] = code
    return event


def names_stimuli(path: Path) -> bool:
    return bool(_stimuli(path))


def _stimuli(path: Path) -> list[tuple[str, float]]:
    """What the events of a recording present (`stim_file`), and when, in seconds from the start of the task."""
    wanted = {entity for entity in _entities(path.name) if not entity.startswith("recording-")}
    found: list[tuple[str, float]] = []
    for candidate in sorted(path.parent.glob("*_events.tsv")):
        if _entities(candidate.name) <= wanted:
            table = read_text_table(candidate)
            stimulus, onset = table.find("stim_file"), table.find("onset")
            if stimulus is not None and onset is not None:
                cells = zip(table.words(stimulus), table.numbers(onset).tolist(), strict=True)
                found += [(cell, time) for cell, time in cells if cell and cell != "n/a"]
    return found


def _onset(path: Path, video: str) -> float:
    """Seconds from the start of the task to the event that presents the video; 0 if events name nothing."""
    stimuli = _stimuli(path)
    onset = next((time for cell, time in stimuli if names_video(cell, video)), None)
    if onset is None and stimuli:
        raise StavisError(
            f"{path}: no event presents {video!r}; stim_file names: {some({cell for cell, _ in stimuli})} (`stimulus` "
            "names another)"
        )
    return onset or 0.0
