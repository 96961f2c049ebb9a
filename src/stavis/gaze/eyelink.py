"""Reader for EyeLink ASC files, the text form of EyeLink recordings (`edf2asc`): samples, events and messages."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stavis.errors import StavisError
from stavis.gaze.matlab import choose_clip
from stavis.gaze.recording import Event, FloatArray, Recording
from stavis.gaze.text import names_video, plain, read_text
from stavis.gaze.trackers import Eye, EyeTrack, combine_eyes

_ENDS = {"EFIX": Event.FIXATION, "ESACC": Event.SACCADE, "EBLINK": Event.BLINK}
_SIDES = {"L": "left", "R": "right"}
_START_MESSAGES = ("SYNCTIME", "DISPLAY ON", "DISPLAY_ON")
STEP_MS = 4.0
"""Fixations of a file without samples become samples this far apart."""


@dataclass
class _Block:
    """What stands between START and END, with the messages since the last END."""

    start_ms: float | None = None
    eyes: tuple[str, ...] = ()
    samples: list[list[str]] = field(default_factory=list)
    events: list[tuple[str, Event, float, float, float, float]] = field(default_factory=list)
    messages: list[tuple[float, str]] = field(default_factory=list)
    screen: tuple[int, int] | None = None  # of the last message that gives its size

    @property
    def has_gaze(self) -> bool:
        return bool(self.samples or self.events)

    def add(self, words: list[str]) -> None:
        """Takes in a line. Raises IndexError, KeyError or ValueError if it is damaged."""
        head = words[0]
        if head[0].isdigit():
            self.samples.append(words)
        elif head == "MSG":
            self.messages.append(_read_message(words))
            self.screen = _screen_in(self.messages[-1][1]) or self.screen
        elif head == "START":
            self.start_ms, self.eyes = float(words[1]), _eyes_in(words)
        elif head in ("SAMPLES", "EVENTS"):
            self.eyes = self.eyes or _eyes_in(words)
        elif head in _ENDS:
            start, end = float(words[2]), float(words[3])
            x, y = (_coordinate(words[i]) if head == "EFIX" else math.nan for i in (5, 6))
            self.events.append((_SIDES[words[1]], _ENDS[head], start, end, x, y))


def is_eyelink(lines: Sequence[str]) -> bool:
    """Whether the first lines of a file are those of an ASC file, perhaps without its header."""
    if any(
        re.match(r"\*\* (CONVERTED FROM|.*EYELINK|EyeLink)|(MSG|START|SFIX|SSACC|INPUT)\s+\S", line)
        for line in lines
    ):
        return True
    return bool(lines) and all(
        re.fullmatch(r"\d+(\s+(-?[\d.]+(e[+-]?\d+)?|\.))+\s+[.A-Z]{3,}", line.strip()) for line in lines
    )


def holds_several(path: Path) -> bool:
    return sum(line.startswith("START") for line in read_text(path).split("\n")) > 1


def read_eyelink(
    path: Path, *, eye: Eye, origin: int, clip: int | None, start_message: str | None, video: str
) -> Recording:
    """Reads one recording (START to END) of an EyeLink ASC file: gaze in pixels of the screen, times in milliseconds.

    Samples are classified by the file's fixations, saccades and blinks. A file without samples gives its fixations. Of
    several recordings, those are read that name the video in a message (`TRIALID`, `!V TRIAL_VAR`, `!V VFRAME`), or
    else number `clip`, from 1. The video starts at the message that contains `start_message`; or else at its first `!V
    VFRAME`, at a message `SYNCTIME` or `DISPLAY ON`, or at the start of the recording. "both" is the mean of the eyes
    that fixate.

    Raises StavisError if there is no such recording or message, or the file has no gaze in pixels.
    """
    screen, blocks = _parse(path)
    if clip is None and len(blocks) > 1:
        naming = [b for b in blocks if any(_names(message, video) for _, message in b.messages)]
        if naming:
            blocks = naming
        else:
            choose_clip(path, None, len(blocks))
    else:
        blocks = [blocks[choose_clip(path, clip, len(blocks)) - 1]]
    tracks = [_read_block(path, block, eye, origin, start_message, video) for block in blocks]
    time = np.concatenate([time for time, _ in tracks])
    return Recording(
        observers=(path.stem,),
        observer=np.zeros(len(time), np.int64),
        x=np.concatenate([track.x for _, track in tracks]),
        y=np.concatenate([track.y for _, track in tracks]),
        time_seconds=time,
        event=np.concatenate([track.event for _, track in tracks]),
        coordinates="screen",
        size=screen,
        named_by_file=True,
    )


def _names(message: str, video: str) -> bool:
    """Whether a message names the video: one of its words, or all behind its first word or two."""
    words = message.split()
    return any(names_video(text, video) for text in (*words, *(" ".join(words[i:]) for i in (1, 2, 3))))


def _parse(path: Path) -> tuple[tuple[int, int] | None, list[_Block]]:
    blocks = [_Block()]
    for number, line in enumerate(read_text(path).split("\n"), 1):
        words = line.split()
        if not words or line.startswith(("**", "#", "/", ";")):
            continue
        if words[0] in ("SAMPLES", "EVENTS") and words[1:2] in (["HREF"], ["PUPIL"]):
            raise StavisError(
                f"{path}: EyeLink ASC with {words[1]} positions; convert it with gaze in pixels: edf2asc -sg"
            )
        was_cut_off = words[0] == "START" and blocks[-1].has_gaze
        if words[0] == "END" or was_cut_off:
            blocks.append(_Block())
        try:
            blocks[-1].add(words)
        except (IndexError, KeyError, ValueError):
            raise StavisError(
                f"{path}, line {number}: not a line of an EyeLink ASC file: {line[:60]!r}"
            ) from None
    screens = [block.screen for block in blocks if block.screen is not None]
    blocks = [block for block in blocks if block.has_gaze]
    if not blocks:
        raise StavisError(f"{path}: EyeLink ASC without samples or events; convert it with edf2asc")
    return screens[-1] if screens else None, blocks


def _eyes_in(words: list[str]) -> tuple[str, ...]:
    return tuple(word.lower() for word in words if word in ("LEFT", "RIGHT"))


def _read_message(words: list[str]) -> tuple[float, str]:
    """The time of a message's event, and its text."""
    time, text = float(words[1]), " ".join(words[2:])
    # An integer before the text is how much earlier than the message its event was.
    if offset := re.match(r"(-?\d+)\s+(?=\S)", text):
        return time - int(offset[1]), text[offset.end() :]
    return time, text


def _screen_in(message: str) -> tuple[int, int] | None:
    """The width and height of the screen, if a message gives its corners."""
    corners = r"\s*=?\s*([\d.]+)[\s,]+([\d.]+)[\s,]+([\d.]+)[\s,]+([\d.]+)"
    area = re.search(f"(?:DISPLAY_COORDS|GAZE_COORDS){corners}", message)
    if area is None:
        return None
    left, top, right, bottom = (float(value) for value in area.groups())
    return round(right - left) + 1, round(bottom - top) + 1


def _coordinate(word: str) -> float:
    return math.nan if word == "." else float(word)


def _read_block(
    path: Path, block: _Block, eye: Eye, origin: int, start_message: str | None, video: str
) -> tuple[FloatArray, EyeTrack]:
    eyes = block.eyes or _guess_eyes(block)
    wanted = [side for side in eyes if eye in ("both", side)]
    if not wanted:
        raise StavisError(f"{path}: the {eye} eye was not recorded, only the {eyes[0]} one")
    tracks = []
    times = _sample_times(path, block.samples) if block.samples else _fixation_times(path, block, wanted)
    for side in wanted:
        events = [event for event in block.events if event[0] == side]
        if block.samples:
            first = 1 + 3 * eyes.index(side)
            x, y = (_column(path, block.samples, first + i) for i in (0, 1))
            parsed = any(kind is not Event.BLINK for _, kind, *_ in events)
            codes = Event.UNCLASSIFIED if parsed else Event.FIXATION
        else:
            x, y = np.full(len(times), np.nan), np.full(len(times), np.nan)
            codes = Event.UNCLASSIFIED
        event = np.full(len(times), codes, np.uint8)
        # A blink lies within a saccade, and counts.
        for _, code, start, end, fix_x, fix_y in sorted(events, key=lambda e: e[1]):
            begin, stop = np.searchsorted(times, (start, end + 1))
            event[begin:stop] = code
            if not block.samples and code is Event.FIXATION:
                x[begin:stop], y[begin:stop] = fix_x, fix_y
        tracks.append(EyeTrack(x - origin, y - origin, event))
    start = _start(path, block, times, start_message, video)
    return (times - start) / 1000, tracks[0] if len(tracks) == 1 else combine_eyes(tracks)


def _guess_eyes(block: _Block) -> tuple[str, ...]:
    """The eyes of a recording whose START is missing: in samples, both eyes end with flags of 5 characters, not 3."""
    if not block.samples:
        return tuple(dict.fromkeys(event[0] for event in block.events))
    numbers = [word for word in block.samples[0] if not re.fullmatch(r"[.A-Z]{3,}", word)]
    flags = block.samples[0][-1]
    both = len(flags) == 5 if len(numbers) < len(block.samples[0]) and len(flags) <= 5 else len(numbers) >= 7
    return ("left", "right") if both else ("left",)


def _column(path: Path, samples: list[list[str]], column: int) -> FloatArray:
    try:
        return np.array([_coordinate(words[column]) for words in samples])
    except (IndexError, ValueError):
        raise StavisError(f"{path}: EyeLink ASC: a sample has no number in column {column + 1}") from None


def _sample_times(path: Path, samples: list[list[str]]) -> FloatArray:
    times = _column(path, samples, 0)
    if (np.diff(times) < 0).any():
        raise StavisError(f"{path}: EyeLink ASC whose samples are not in the order of time")
    # At 2000 Hz two samples have one stamp, the second half a millisecond later.
    return times + 0.5 * np.concatenate([[False], np.diff(times) == 0])


def _fixation_times(path: Path, block: _Block, wanted: list[str]) -> FloatArray:
    steps = [np.zeros(0)]
    for side, code, start, end, _, _ in block.events:
        if side in wanted and code is Event.FIXATION:
            if end - start > 3_600_000:
                raise StavisError(f"{path}: EyeLink ASC with a fixation of {(end - start) / 1000:.0f} s")
            steps.append(np.arange(math.ceil(start / STEP_MS) * STEP_MS, end + 1, STEP_MS))
    return np.unique(np.concatenate(steps))


def _start(path: Path, block: _Block, times: FloatArray, start_message: str | None, video: str) -> float:
    if start_message is not None:
        found = [time for time, text in block.messages if plain(start_message) in plain(text)]
        if not found:
            raise StavisError(
                f"{path}: no message with {start_message!r}; there are: "
                f"{'; '.join(text[:40] for _, text in block.messages[:8]) or 'none'}"
            )
        return found[0]
    frames = [time for time, text in block.messages if text.startswith("!V VFRAME") and _names(text, video)]
    named = [time for time, text in block.messages if text.startswith(_START_MESSAGES)]
    first = float(times[0]) if len(times) else 0.0
    return next(iter([*frames[:1], *named[:1]]), first if block.start_ms is None else block.start_ms)
