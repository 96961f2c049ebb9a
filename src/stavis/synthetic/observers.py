"""Simulated observers: a mixture of drives, executed by eyes with realistic timing."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stavis.synthetic.presets import DRIVES
from stavis.synthetic.truth import SimulatedGaze, Truth, share_of_drives

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Eyes:
    # Mean and standard deviation of the time from a stimulus to the start of a saccade.
    latency_seconds: tuple[float, float] = (0.2, 0.03)
    latency_limits: tuple[float, float] = (0.12, 0.35)  # minimum and maximum, in seconds
    # Median duration of a fixation, and standard deviation of its logarithm.
    fixation_seconds: tuple[float, float] = (0.3, 0.4)
    # Minimum and maximum of an uninterrupted fixation, in seconds.
    fixation_limits: tuple[float, float] = (0.08, 1.5)
    degrees_across: float = 36.0  # visual angle of the width of the picture
    cut_capture: float = 0.8  # probability that a cut ends a fixation early, one latency after it
    turn_capture: float = 0.5  # the same for a new sound source
    # Standard deviation of the drive "center", in widths and heights.
    center_sigma: tuple[float, float] = (0.12, 0.12)
    inhibition_strength: float = 0.7  # how strongly a location just left is avoided, 0 to 1
    inhibition_seconds: float = 0.8  # time to 1/e
    inhibition_sigma: float = 0.05  # its spatial extent, in widths
    # Concentration of the Dirichlet distribution of individual shares; higher is more similar.
    concentration: float = 40.0
    calibration_sigma: float = 0.006  # standard deviation of each observer's constant error, in widths
    jitter_sigma: float = 0.003  # error of each sample, in widths
    blinks_per_second: float = 0.25  # blink rate
    blink_seconds: tuple[float, float] = (0.1, 0.2)  # minimum and maximum duration


EYES = Eyes()


class Sight:
    """The part of a video's ground truth that gaze depends on, per frame."""

    def __init__(self, truth: Truth) -> None:
        self.width, self.height = truth.width, truth.height
        self.frame_rate = truth.frame_rate
        self.num_frames = truth.num_frames
        self.drives = truth.drives
        self.sounding = truth.sounding
        self.targets = truth.targets.astype(np.float64)
        self.appeal_cumulated = np.cumsum(truth.appeal.astype(np.float64), axis=1)
        flat = truth.contrast_map.reshape(self.num_frames, -1).astype(np.float64)
        flat[flat.sum(axis=1) == 0] = 1.0
        self.contrast_cumulated = np.cumsum(flat, axis=1) / flat.sum(axis=1, keepdims=True)
        self.grid = truth.contrast_map.shape[1:]
        self.cuts = np.flatnonzero(np.diff(truth.shot_index)) + 1
        changes = np.flatnonzero(np.diff(self.sounding)) + 1
        self.new_sounds = np.array([frame for frame in changes if self.sounding[frame] >= 0], dtype=int)

    def propose(
        self, rng: np.random.Generator, drive: str, frame: int, eyes: Eyes
    ) -> tuple[float, float, int]:
        """Draws a target of a drive at a frame: x, y in pixels, and the actor looked at or -1."""
        if drive == "center":
            x = rng.normal(self.width / 2, eyes.center_sigma[0] * self.width)
            y = rng.normal(self.height / 2, eyes.center_sigma[1] * self.height)
            return x, y, -1
        if drive == "contrast":
            cell = int(np.searchsorted(self.contrast_cumulated[frame], rng.random()))
            row, column = divmod(min(cell, self.contrast_cumulated.shape[1] - 1), self.grid[1])
            x = (column + rng.random()) * self.width / self.grid[1]
            y = (row + rng.random()) * self.height / self.grid[0]
            return x, y, -1
        actor = -1
        if drive == "source":
            actor = int(self.sounding[frame])
        elif drive == "objects" and self.appeal_cumulated[frame, -1:].any():
            cumulated = self.appeal_cumulated[frame]
            actor = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
        if actor >= 0:
            x, y, sigma = self.targets[frame, actor]
            return rng.normal(x, sigma), rng.normal(y, sigma), actor
        return rng.uniform(0, self.width), rng.uniform(0, self.height), -1


def simulate_observers(
    rng: np.random.Generator, truth: Truth, num_observers: int, eyes: Eyes = EYES
) -> SimulatedGaze:
    """Simulates the gaze of observers who watch a video; samples are ordered by observer, then frame.

    An observer fixates for a log-normal time, then looks where one of the drives, drawn by its share, led one latency
    earlier. Cuts and new sound sources end fixations early. Recently fixated locations attract less. Objects are
    pursued while they are looked at. The gaze in `truth` does not matter.
    """
    sight = Sight(truth)
    parts = [_watch(rng, sight, eyes, observer) for observer in range(num_observers)]
    types = (np.int32, np.int32, np.float32, np.float32, np.int8, np.int32)
    columns = zip(*parts, strict=True) if parts else [([],)] * 6
    return SimulatedGaze(
        *(np.concatenate(column).astype(type) for column, type in zip(columns, types, strict=True))
    )


def _watch(rng: np.random.Generator, sight: Sight, eyes: Eyes, observer: int) -> tuple[npt.NDArray[Any], ...]:
    width, height, rate, num_frames = sight.width, sight.height, sight.frame_rate, sight.num_frames
    shares = {heard: np.cumsum(_own_shares(rng, sight.drives, heard, eyes)) for heard in (False, True)}
    tempo = float(rng.lognormal(0, 0.12))
    offset = rng.normal(0, eyes.calibration_sigma * width, 2)
    events = sorted(
        [(float(frame) / rate, eyes.cut_capture) for frame in sight.cuts]
        + [(float(frame) / rate, eyes.turn_capture) for frame in sight.new_sounds]
    )
    gaze_x = np.full(num_frames, np.nan)
    gaze_y = np.full(num_frames, np.nan)
    drive_of = np.full(num_frames, -1)
    fixation_of = np.full(num_frames, -1)
    # A trial starts with a fixation cross in the center.
    x, y, actor, drive = width / 2, height / 2, -1, -1
    onset, seen_frame, number = 0.0, 0, 0
    visited: list[tuple[float, float, float]] = []  # x, y, time of leaving
    total = num_frames / rate
    while onset < total:
        duration = eyes.fixation_seconds[0] * tempo * rng.lognormal(0, eyes.fixation_seconds[1])
        duration = _clipped(duration, *eyes.fixation_limits)
        latency = _clipped(rng.normal(*eyes.latency_seconds), *eyes.latency_limits)
        end = _interrupted(rng, events, onset, onset + duration, latency, eyes.fixation_limits[0])
        first, last = math.ceil(onset * rate - 1e-9), min(math.ceil(end * rate - 1e-9), num_frames)
        if last > first:
            xs, ys = _follow(sight, x, y, actor, seen_frame, first, last)
            gaze_x[first:last], gaze_y[first:last] = xs, ys
            drive_of[first:last], fixation_of[first:last] = drive, number
            x, y = float(xs[-1]), float(ys[-1])
        visited = [*visited[-3:], (x, y, end)]
        # The next target was chosen one latency before the saccade starts.
        seen_frame = int(_clipped((end - latency) * rate + 0.5, 0, num_frames - 1))
        cumulated = shares[bool(sight.sounding[seen_frame] >= 0)]
        drive = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
        new_x, new_y, actor = _choose(rng, sight, eyes, DRIVES[drive], seen_frame, visited, end)
        degrees = math.hypot(new_x - x, new_y - y) * eyes.degrees_across / width
        # Main sequence: the duration of a saccade grows with its amplitude.
        onset = end + 0.021 + 0.0022 * degrees
        x, y = new_x, new_y
        number += 1
    for begin in np.cumsum(rng.exponential(1 / eyes.blinks_per_second, 4 + int(total))):
        first = int(begin * rate)
        gaze_x[first : first + max(1, round(rng.uniform(*eyes.blink_seconds) * rate))] = np.nan
    gaze_x += offset[0] + rng.normal(0, eyes.jitter_sigma * width, num_frames)
    gaze_y += offset[1] + rng.normal(0, eyes.jitter_sigma * width, num_frames)
    seen = (gaze_x >= 0) & (gaze_x < width) & (gaze_y >= 0) & (gaze_y < height)
    frames = np.flatnonzero(seen)
    return (
        np.full(len(frames), observer),
        frames,
        gaze_x[frames],
        gaze_y[frames],
        drive_of[frames],
        fixation_of[frames],
    )


def _own_shares(rng: np.random.Generator, drives: dict[str, float], sounding: bool, eyes: Eyes) -> Array:
    """Draws an observer's own shares, whose mean over observers is the designed one."""
    shares = share_of_drives(drives, sounding=sounding)
    own = np.zeros(len(shares))
    own[shares > 0] = rng.dirichlet(shares[shares > 0] * eyes.concentration)
    return own


def _interrupted(
    rng: np.random.Generator,
    events: list[tuple[float, float]],
    onset: float,
    end: float,
    latency: float,
    shortest: float,
) -> float:
    """Draws when a fixation ends, which a cut or a new sound may end early."""
    for time, capture in events:
        # An event shortly before the onset can still end the fixation: the eye was moving then.
        if time + latency > onset + shortest and time + latency < end and rng.random() < capture:
            return time + latency
    return end


def _choose(
    rng: np.random.Generator,
    sight: Sight,
    eyes: Eyes,
    drive: str,
    frame: int,
    visited: list[tuple[float, float, float]],
    now: float,
) -> tuple[float, float, int]:
    """Draws a target, and redraws it if it was just fixated (inhibition of return) or lies outside the picture."""
    scale = 2 * (eyes.inhibition_sigma * sight.width) ** 2
    for _ in range(8):
        x, y, actor = sight.propose(rng, drive, frame, eyes)
        if not (0 <= x < sight.width and 0 <= y < sight.height):
            continue
        repelled = 0.0
        for old_x, old_y, left in visited:
            age, distance = (now - left) / eyes.inhibition_seconds, (x - old_x) ** 2 + (y - old_y) ** 2
            repelled = max(repelled, eyes.inhibition_strength * math.exp(-age - distance / scale))
        if rng.random() >= repelled:
            break
    return _clipped(x, 0, sight.width - 1), _clipped(y, 0, sight.height - 1), actor


def _clipped(value: float, lowest: float, highest: float) -> float:
    return min(max(float(value), lowest), highest)


def _follow(
    sight: Sight, x: float, y: float, actor: int, seen_frame: int, first: int, last: int
) -> tuple[Array, Array]:
    """Returns gaze in frames `first` to `last`: static, or following the target actor while it is in the shot."""
    xs, ys = np.full(last - first, x), np.full(last - first, y)
    if actor < 0:
        return xs, ys
    moved = sight.targets[first:last, actor, :2] - sight.targets[seen_frame, actor, :2]
    gone = np.isnan(moved[:, 0])
    if gone.any():  # the shot is over, so the eye stays
        begin = int(np.argmax(gone))
        moved[begin:] = moved[begin - 1] if begin else 0.0
    return xs + moved[:, 0], ys + moved[:, 1]
