"""Actors of a shot: people, strikers, players, machines and silent movers, made of sprites posed per frame.

Body units: 1 is about half the size of a body; y points down. Poses of all frames are computed at once as an array; one
row of it places the parts of one frame.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis.synthetic.performance import Performance
from stavis.synthetic.sprites import Affine, Sprite, draw_sprite, place
from stavis.synthetic.textures import Color

Array = npt.NDArray[np.float64]

BLACK: Color = np.zeros(3, dtype=np.float32)
WHITE: Color = np.full(3, 245, dtype=np.float32)


class Part(NamedTuple):
    sprite: Sprite
    placement: Affine  # the part's units -> the body's units
    opacity: float = 1.0


class Body(Protocol):
    """Appearance of an object."""

    box: tuple[float, float, float, float]  # left, top, right, bottom of the object in body units
    focus: tuple[float, float]  # (x, y) where gaze lands, such as a face or the point of impact
    focus_radius: float  # standard deviation of where gaze lands

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Returns the poses (T, P) at `times` in seconds. Without a performance the object is idle."""
        ...

    def parts(self, pose: Array) -> Iterable[Part]:
        """Returns the parts to draw, from back to front."""
        ...


@dataclass(frozen=True)
class Path:
    """Path of a body: start, drift and sway in each axis, in picture heights."""

    x: float
    y: float
    velocity_x: float = 0.0
    velocity_y: float = 0.0
    sway: tuple[tuple[float, float, float, float], ...] = ()  # (amplitude x, amplitude y, Hz, phase)

    def positions(self, times: Array) -> Array:
        """Returns positions (T, 2) for times (T,) in seconds from the start of the shot."""
        x = self.x + self.velocity_x * times
        y = self.y + self.velocity_y * times
        for amplitude_x, amplitude_y, rate, phase in self.sway:
            x = x + amplitude_x * np.sin(2 * np.pi * rate * times + phase)
            y = y + amplitude_y * np.sin(2 * np.pi * rate * 1.3 * times + 2 * phase)
        return np.stack([x, y], axis=1)


@dataclass
class Actor:
    kind: str  # "person", "striker", "player", "machine" or "mover"
    body: Body  # its appearance
    path: Path  # its path from the start of the shot
    scale: float  # size of one body unit, in picture heights
    depth: float  # actors with larger depth are drawn later, in front
    # What it does, visible whether or not it is heard; None if idle. Times count from the start of the video.
    performance: Performance | None
    appeal: float  # how strongly it attracts gaze by itself

    def prepare(self, times: Array, start: float) -> None:
        """Computes poses and positions at `times` (seconds of the video) in a shot that starts at `start`."""
        self.pose_rows = self.body.poses(times, self.performance)
        self.position_rows = self.path.positions(times - start)

    def placement(self, row: int) -> Affine:
        """Returns the map from body units to picture heights in the prepared row."""
        x, y = self.position_rows[row]
        return place(float(x), float(y), scale_x=self.scale, scale_y=self.scale)

    def draw(self, frame: Image.Image, camera: Affine, row: int) -> None:
        """Draws the prepared row. `camera` maps picture heights to frame pixels."""
        base = camera @ self.placement(row)
        for part in self.body.parts(self.pose_rows[row]):
            draw_sprite(frame, part.sprite, base @ part.placement, part.opacity)

    def activity(self, times: Array) -> Array:
        """Returns the strength of its action at `times`, in 0..1."""
        return np.zeros(len(times)) if self.performance is None else self.performance.envelope(times)


def noise_walk(times: Array, phases: Array, rates: tuple[float, ...] = (0.31, 0.53, 0.87)) -> Array:
    """Returns a slow smooth motion of unit amplitude: the idle sway of a body."""
    waves = [np.sin(2 * np.pi * rate * times + phase) for rate, phase in zip(rates, phases, strict=True)]
    return np.asarray(np.sum(waves, axis=0) / len(rates))


def smooth(performance: Performance | None, times: Array, delay: float) -> Array:
    """Smooths an envelope, for nods and gestures."""
    if performance is None:
        return np.zeros(len(times))
    taps = np.linspace(0, delay, 5)
    return np.asarray(np.mean([performance.envelope(times - tap) for tap in taps], axis=0))


def ease(phase: Array) -> Array:
    phase = np.clip(phase, 0, 1)
    return phase * phase * (3 - 2 * phase)
