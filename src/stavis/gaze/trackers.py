"""Readers for DIEM and SMI text files: one file per observer, one row per sample."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stavis.errors import StavisError
from stavis.gaze.recording import Event, FloatArray, Recording
from stavis.gaze.tables import events_from_words
from stavis.gaze.text import parse_numbers, read_text

Eye = Literal["both", "left", "right"]

DIEM_SAMPLE_RATE = 30.0  # Hz, whatever the video's rate
DIEM_SCREEN = (1280, 960)
DIEM_EVENTS = {-1: Event.ERROR, 0: Event.BLINK, 1: Event.FIXATION, 2: Event.SACCADE}


@dataclass(frozen=True)
class EyeTrack:
    """One eye's samples: (N,) points and event codes."""

    x: FloatArray
    y: FloatArray
    event: NDArray[np.uint8]


def combine_eyes(tracks: list[EyeTrack]) -> EyeTrack:
    """Merges both eyes: the mean point of the eyes that fixate; if none does, of those with the better event."""
    event = np.min([track.event for track in tracks], axis=0)
    points = np.array([[track.x, track.y] for track in tracks])
    takes_part = np.array(
        [(track.event == event) & np.isfinite(track.x) & np.isfinite(track.y) for track in tracks]
    )
    num = takes_part.sum(axis=0)
    total = np.where(takes_part[:, None], points, 0).sum(axis=0)
    x, y = np.where(num > 0, total / np.maximum(num, 1), np.nan)
    return EyeTrack(x, y, event)


def observer_of_diem(path: Path) -> str:
    """The observer in a DIEM file's name, `diem2s1.asc_4_<video>.txt`; the whole stem of any other name."""
    return path.name.split(".asc_", 1)[0] if ".asc_" in path.name else path.stem


def observer_of_smi(path: Path) -> str:
    """The observer in the name of a DHF1K export, `P01_Trail002.txt`; the whole stem of any other name."""
    match = re.fullmatch(r"(.+?)_Tr(?:ai|ia)l\d+", path.stem)
    return match[1] if match else path.stem


def read_diem(path: Path, *, eye: Eye, origin: int, frame_origin: int) -> Recording:
    """Reads a DIEM file: rows of `frame lx ly ldil levent rx ry rdil revent`, 30 per second, in pixels of its screen.

    The time of a sample is the middle of its thirtieth of a second. "both" is the mean of the eyes that fixate.

    Raises StavisError if a row is not nine numbers, or an event is not -1, 0, 1 or 2.
    """
    rows = [line.split() for line in read_text(path).split("\n")]
    try:
        values = np.array([row for row in rows if row], np.float64)
        if values.ndim != 2 or values.shape[1] != 9:
            raise ValueError
    except ValueError:
        raise StavisError(f"{path}: not rows of 9 numbers (frame, then x y dilation event per eye)") from None
    tracks = []
    for begin in (1, 5):
        codes = values[:, begin + 3]
        if unknown := sorted(set(codes) - set(DIEM_EVENTS)):
            raise StavisError(
                f"{path}: event {unknown[0]:g}; allowed: -1 error, 0 blink, 1 fixation, 2 saccade"
            )
        event = np.array([DIEM_EVENTS[int(code)] for code in codes], np.uint8)
        tracks.append(EyeTrack(values[:, begin] - origin, values[:, begin + 1] - origin, event))
    track = {"left": tracks[0], "right": tracks[1]}[eye] if eye != "both" else combine_eyes(tracks)
    return Recording(
        observers=(observer_of_diem(path),),
        observer=np.zeros(len(values), np.int64),
        x=track.x,
        y=track.y,
        time_seconds=(values[:, 0] - frame_origin + 0.5) / DIEM_SAMPLE_RATE,
        event=track.event,
        coordinates="screen",
        size=DIEM_SCREEN,
        mode="center",
        named_by_file=True,
    )


def is_smi_header(line: str) -> bool:
    return line.startswith("Time\tType\t") and "POR X [px]" in line


def read_smi(path: Path, *, eye: Eye, origin: int) -> Recording:
    """Reads an SMI export (of BeGaze, IDF Converter, DHF1K): times in microseconds, points of regard in screen pixels.

    The video is taken to start with the first sample. A point of exactly (0, 0) marks a lost eye, even where the event
    is a fixation. Rows of a type other than SMP are messages. The screen's size is read from the line
    `## Calibration Area`, where the export has one. "both" is the mean of the eyes that fixate, or the recorded one.

    Raises StavisError if a column is missing or a cell is not a number.
    """
    screen = None
    names: list[str] = []
    rows: list[list[str]] = []
    for line in read_text(path).split("\n"):
        cells = line.split("\t")
        if line.startswith("##"):
            area = re.match(r"##\s*Calibration Area:\s*(\d+)\s+(\d+)", line)
            screen = (int(area[1]), int(area[2])) if area else screen
        elif not names:
            names = cells
        elif len(cells) > 1 and cells[1] == "SMP":
            rows.append(cells)
    sides = [side for side in "LR" if f"{side} POR X [px]" in names and f"{side} POR Y [px]" in names]
    wanted = [side for side in sides if eye in ("both", {"L": "left", "R": "right"}[side])]
    if "Time" not in names or "Type" not in names or not wanted:
        raise StavisError(
            f"{path}: an SMI export has columns Time, Type, 'L POR X [px]', 'L POR Y [px]' (R for the right eye); "
            f"there are: {', '.join(names) or 'none'}"
        )

    def cells_of(name: str) -> list[str]:
        column = names.index(name)
        return [row[column] if column < len(row) else "" for row in rows]

    def numbers(name: str) -> FloatArray:
        return parse_numbers(path, name, cells_of(name), range(len(rows)))

    tracks = []
    for side in wanted:
        x, y = numbers(f"{side} POR X [px]"), numbers(f"{side} POR Y [px]")
        lost = (x == 0) & (y == 0)
        event_name = next((f"{who} Event Info" for who in (side, "B") if f"{who} Event Info" in names), None)
        event = np.full(len(rows), Event.FIXATION, np.uint8)
        if event_name is not None:
            event = events_from_words(cells_of(event_name))
        tracks.append(EyeTrack(np.where(lost, np.nan, x - origin), np.where(lost, np.nan, y - origin), event))
    track = tracks[0] if len(tracks) == 1 else combine_eyes(tracks)
    time_microseconds = numbers("Time")
    return Recording(
        observers=(observer_of_smi(path),),
        observer=np.zeros(len(rows), np.int64),
        x=track.x,
        y=track.y,
        time_seconds=(time_microseconds - time_microseconds[:1]) * 1e-6,
        event=track.event,
        coordinates="screen",
        size=screen,
        named_by_file=True,
    )
