"""What moves in a shot: people, strikers, players, machines, silent movers. Each is sprites posed per frame.

A body's own units: about 1 is half its size; y goes down. Poses for all frames come at once as an array; the parts
of one frame follow from one row of it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis.data.synthetic.performance import Performance
from stavis.data.synthetic.sprites import (
    Affine,
    Canvas,
    Sprite,
    ball_shading,
    blob_points,
    draw_sprite,
    place,
    shadow_sprite,
    shape_sprite,
    smooth_texture,
)
from stavis.data.synthetic.textures import Colour, draw_colour, fractal_noise, surface

Array = npt.NDArray[np.float64]

BLACK: Colour = np.zeros(3, dtype=np.float32)
WHITE: Colour = np.full(3, 245, dtype=np.float32)


class Part(NamedTuple):
    sprite: Sprite
    placement: Affine  # the part's units -> the body's units
    opacity: float = 1.0


class Body(Protocol):
    """The look of an object.

    Attributes:
        box: Left, top, right, bottom in the body's units: what counts as the object.
        focus: (x, y) where gaze lands: a face, the place of the blow.
        focus_radius: Standard deviation of where it lands.
    """

    box: tuple[float, float, float, float]
    focus: tuple[float, float]
    focus_radius: float

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """(T, P): the pose at each of `times`, seconds. Without a performance the object is idle."""
        ...

    def parts(self, pose: Array) -> Iterable[Part]:
        """What to draw, from back to front."""
        ...


@dataclass(frozen=True)
class Path:
    """Where a body is: a start, a drift and a sway in each axis. Units of the picture's height."""

    x: float
    y: float
    velocity_x: float = 0.0
    velocity_y: float = 0.0
    sway: tuple[tuple[float, float, float, float], ...] = ()  # (amplitude x, amplitude y, Hz, phase)

    def positions(self, times: Array) -> Array:
        """(T, 2) for (T,) seconds since the shot began."""
        x = self.x + self.velocity_x * times
        y = self.y + self.velocity_y * times
        for amplitude_x, amplitude_y, rate, phase in self.sway:
            x = x + amplitude_x * np.sin(2 * np.pi * rate * times + phase)
            y = y + amplitude_y * np.sin(2 * np.pi * rate * 1.3 * times + 2 * phase)
        return np.stack([x, y], axis=1)


@dataclass
class Actor:
    """A body on its way.

    Attributes:
        kind: "person", "striker", "player", "machine" or "mover".
        body: Its look.
        path: Its way, from the shot's beginning.
        scale: Size of one body unit, in picture heights.
        depth: Actors of larger depth are drawn later, in front.
        performance: What it does, seen whether or not it is heard; None while idle. Times count from the video's
            beginning.
        appeal: How much it is looked at for its own sake.
    """

    kind: str
    body: Body
    path: Path
    scale: float
    depth: float
    performance: Performance | None
    appeal: float

    def prepare(self, times: Array, start: float) -> None:
        """Computes poses and positions at `times` (seconds from the video's beginning) of a shot begun at `start`."""
        self.pose_rows = self.body.poses(times, self.performance)
        self.position_rows = self.path.positions(times - start)

    def placement(self, row: int) -> Affine:
        """Body units -> picture heights, in the prepared row."""
        x, y = self.position_rows[row]
        return place(float(x), float(y), scale_x=self.scale, scale_y=self.scale)

    def draw(self, frame: Image.Image, camera: Affine, row: int) -> None:
        """Draws the prepared row. `camera` maps picture heights to frame pixels."""
        base = camera @ self.placement(row)
        for part in self.body.parts(self.pose_rows[row]):
            draw_sprite(frame, part.sprite, base @ part.placement, part.opacity)

    def activity(self, times: Array) -> Array:
        """How strongly it acts at `times`, 0..1; what is heard of it while it sounds."""
        return np.zeros(len(times)) if self.performance is None else self.performance.envelope(times)


def _noise_walk(times: Array, phases: Array, rates: tuple[float, ...] = (0.31, 0.53, 0.87)) -> Array:
    """A slow smooth movement of unit size: the idle sway of a body."""
    waves = [np.sin(2 * np.pi * rate * times + phase) for rate, phase in zip(rates, phases, strict=True)]
    return np.asarray(np.sum(waves, axis=0) / len(rates))


def _smooth(performance: Performance | None, times: Array, delay: float) -> Array:
    """The envelope, slowed down: what a nod or a gesture makes of it."""
    if performance is None:
        return np.zeros(len(times))
    taps = np.linspace(0, delay, 5)
    return np.asarray(np.mean([performance.envelope(times - tap) for tap in taps], axis=0))


def _ease(phase: Array) -> Array:
    phase = np.clip(phase, 0, 1)
    return phase * phase * (3 - 2 * phase)


# --- People -------------------------------------------------------------------------------------------------------


class Person:
    """Head with eyes, brows, nose, hair and a mouth that opens with the voice; shoulders, arms, a gesturing hand.

    One unit is half the head's height; the head is centred on (0, 0).
    """

    box = (-0.85, -1.1, 0.85, 1.1)
    focus = (0.0, 0.1)
    focus_radius = 0.32

    def __init__(
        self, rng: np.random.Generator, pixels_per_unit: float, light: float, full_body: bool
    ) -> None:
        density = max(pixels_per_unit, 5.0)
        # Skin from very light to very dark: hue 10 to 30 degrees, saturation and value along one line.
        depth = rng.random()
        tone = (
            np.array([238, 200, 172], dtype=np.float32) * (1 - depth)
            + np.array([92, 58, 42], np.float32) * depth
        )
        self.skin: Colour = tone * rng.uniform(0.92, 1.06, 3).astype(np.float32)
        dark_hair = rng.random() < 0.7
        self.hair: Colour = (
            draw_colour(rng, (0.1, 0.7), (0.05, 0.3), (0.02, 0.12))
            if dark_hair
            else draw_colour(rng, (0.0, 0.7), (0.35, 0.9), (0.04, 0.15))
        )
        self.yaw = rng.uniform(-0.28, 0.28)  # the face's features move sideways on the head
        self.phases = rng.uniform(0, 2 * np.pi, 12)
        self.liveliness = rng.uniform(0.6, 1.6)
        self.tilt = rng.normal(0, 0.06)
        self.hand_side = float(rng.choice([-1, 1]))
        self.gestures = rng.random() < 0.5
        self.blink_times = np.cumsum(rng.uniform(1.0, 5.0, 40))
        cloth = draw_colour(rng, (0.0, 0.9), (0.1, 0.95))
        self.head = self._paint_head(rng, density, light)
        self.lids = self._paint_lids(density)
        self.mouth_closed, self.mouth_open = self._paint_mouth(rng, density)
        self.torso = self._paint_torso(rng, density, light, cloth, full_body)
        self.forearm = self._paint_forearm(rng, density, cloth)

    def _paint_head(self, rng: np.random.Generator, density: float, light: float) -> Sprite:
        canvas = Canvas(-1.15, -1.35, 1.15, 1.7, density)
        yaw, skin = self.yaw, self.skin
        long_hair = rng.random() < 0.4
        if long_hair:
            canvas.paint(canvas.ellipse(0, 0.1, 0.95, rng.uniform(1.15, 1.4)), self.hair * 0.85)
        canvas.paint(canvas.box(-0.36, 0.5, 0.36, 1.6, 0.2), skin * 0.8)  # neck
        for side in (-1, 1):
            canvas.paint(canvas.ellipse(side * 0.76 - 0.1 * yaw, 0.05, 0.12, 0.22), skin * 0.85)
        width = rng.uniform(0.7, 0.8)
        skull = np.maximum(
            canvas.ellipse(0, -0.18, width, 0.8), canvas.ellipse(yaw * 0.2, 0.28, width * 0.84, 0.74)
        )
        canvas.paint(skull, skin)
        shading = 1 + skull * (ball_shading(canvas, 0, 0, width * 1.1, 1.15, light) - 1)
        canvas.shade(shading)
        eye_y, nose_x = -0.08, yaw * 1.25
        iris = draw_colour(rng, (0.2, 0.7), (0.15, 0.45))
        brow_tilt = rng.normal(-0.01, 0.025)
        for side in (-1, 1):
            x = yaw + side * 0.31 * (1 - 0.35 * abs(yaw) * (side * yaw > 0))
            canvas.paint(canvas.ellipse(x, eye_y - 0.03, 0.2, 0.15, soft=0.6) * 0.45, skin * 0.62)  # socket
            canvas.paint(canvas.ellipse(x, eye_y, 0.14, 0.075), WHITE * 0.93)
            look = yaw * 0.12
            canvas.paint(canvas.ellipse(x + look, eye_y, 0.065, 0.068), iris)
            canvas.paint(canvas.ellipse(x + look, eye_y, 0.033, 0.035), BLACK)
            inner, outer = x - side * 0.15, x + side * 0.16
            brow = canvas.capsule(inner, eye_y - 0.2 + brow_tilt, outer, eye_y - 0.2 - 0.5 * brow_tilt, 0.033)
            canvas.paint(brow * 0.9, self.hair * 0.8)
        ridge = canvas.capsule(yaw * 1.05, eye_y, nose_x, 0.26, 0.07)
        canvas.paint(ridge * 0.35, np.minimum(skin * 1.22, 255))
        canvas.paint(canvas.ellipse(nose_x + 0.06, 0.3, 0.16, 0.09, soft=0.7) * 0.5, skin * 0.66)
        for side in (-1, 1):
            canvas.paint(canvas.ellipse(nose_x + side * 0.065, 0.31, 0.035, 0.028), skin * 0.38)
        for side in (-1, 1):
            blush = skin * np.array([1.08, 0.88, 0.86], dtype=np.float32)
            canvas.paint(canvas.ellipse(yaw + side * 0.42, 0.3, 0.2, 0.16, soft=0.8) * 0.35, blush)
        fringe = rng.uniform(-0.62, -0.34)
        top = canvas.ellipse(0, -0.35, width * 1.13, 0.85) * np.clip(
            (fringe - canvas.y) * density + 0.5, 0, 1
        )
        sides = canvas.ellipse(0, -0.3, width * 1.15, 0.9) * np.clip(
            (np.abs(canvas.x - yaw * 0.5) - 0.62) * density, 0, 1
        )
        combed = fractal_noise(rng, math.ceil(canvas.height / 7) + 1, canvas.width, 0.4)
        streaks = np.repeat(combed, 7, axis=0)[: canvas.height]
        strands = np.clip(1 + 0.13 * streaks, 0.6, 1.4)[..., None]
        if long_hair or rng.random() < 0.9:
            canvas.paint(top, self.hair * strands)
            canvas.paint(sides * (canvas.y < (0.6 if long_hair else 0.1)), self.hair * strands * 0.9)
        if rng.random() < 0.15:  # beard
            beard = (
                canvas.ellipse(yaw * 0.8, 0.55, 0.62, 0.5)
                * np.clip((canvas.y - 0.33) * density, 0, 1)
                * skull
            )
            canvas.paint(beard * 0.75, self.hair * strands)
        if rng.random() < 0.2:  # glasses
            rim = draw_colour(rng, (0, 0.5), (0.02, 0.4))
            for side in (-1, 1):
                x = yaw + side * 0.31
                ring = canvas.ellipse(x, eye_y, 0.24, 0.19) - canvas.ellipse(x, eye_y, 0.2, 0.15)
                canvas.paint(np.clip(ring, 0, 1), rim)
            canvas.paint(canvas.capsule(yaw - 0.1, eye_y, yaw + 0.1, eye_y, 0.025), rim)
        return canvas.sprite()

    def _paint_lids(self, density: float) -> Sprite:
        canvas = Canvas(-0.8, -0.2, 0.8, 0.2, density)
        for side in (-1, 1):
            canvas.paint(canvas.ellipse(self.yaw + side * 0.31, 0, 0.16, 0.1), self.skin * 0.85)
        return canvas.sprite()

    def _paint_mouth(self, rng: np.random.Generator, density: float) -> tuple[Sprite, Sprite]:
        lips = self.skin * np.array([0.9, 0.6, 0.6], dtype=np.float32)
        if rng.random() < 0.3:
            lips = lips * np.array([1.15, 0.6, 0.65], dtype=np.float32)
        closed = Canvas(-0.4, -0.15, 0.4, 0.15, density)
        closed.paint(closed.ellipse(0, 0, 0.3, 0.075), lips)
        closed.paint(closed.capsule(-0.25, 0, 0.25, 0, 0.014), lips * 0.45)
        opened = Canvas(-0.45, -0.4, 0.45, 0.4, density)
        opened.paint(opened.ellipse(0, 0, 0.3, 0.33), lips)
        hole = opened.ellipse(0, 0, 0.235, 0.25)
        opened.paint(hole, np.array([45, 12, 14], dtype=np.float32))
        opened.paint(hole * np.clip((-0.09 - opened.y) * density + 0.5, 0, 1), WHITE * 0.9)  # teeth
        opened.paint(
            hole * opened.ellipse(0, 0.2, 0.17, 0.11), np.array([170, 75, 80], dtype=np.float32)
        )  # tongue
        return closed.sprite(), opened.sprite()

    def _paint_torso(
        self, rng: np.random.Generator, density: float, light: float, cloth: Colour, full_body: bool
    ) -> Sprite:
        bottom = 12.6 if full_body else 7.5
        canvas = Canvas(-2.4, 1.0, 2.4, bottom, density)
        half = rng.uniform(1.45, 1.9)
        hip = half * rng.uniform(0.7, 0.9)
        weave = surface(rng, canvas.height, canvas.width, cloth, 0.7)
        if full_body:
            trousers = draw_colour(rng, (0.0, 0.6), (0.1, 0.6))
            for side in (-1, 1):
                canvas.paint(canvas.capsule(side * hip * 0.5, 6.4, side * hip * 0.6, 12.0, 0.55), trousers)
                canvas.paint(canvas.ellipse(side * hip * 0.75, 12.3, 0.55, 0.25), trousers * 0.3)
        for side in (-1, 1):  # upper arms
            canvas.paint(canvas.capsule(side * half * 0.86, 2.0, side * half * 1.05, 5.0, 0.42), weave * 0.85)
        chest = [(-0.5, 1.25), (0.5, 1.25), (half, 1.75), (half, 2.6), (hip, 4.6), (hip, 6.8)]
        chest += [(-hip, 6.8), (-hip, 4.6), (-half, 2.6), (-half, 1.75)]
        canvas.paint(canvas.polygon(chest), weave)
        if not full_body:
            canvas.paint(canvas.box(-hip, 5.5, hip, 7.5), weave)
        canvas.paint(
            canvas.polygon([(-0.42, 1.2), (0.42, 1.2), (0.0, 1.2 + rng.uniform(0.3, 1.0))]), self.skin * 0.85
        )
        canvas.shade(np.clip(1 + 0.3 * math.cos(light) * canvas.x / half - 0.02 * canvas.y, 0.4, 1.4))
        return canvas.sprite()

    def _paint_forearm(self, rng: np.random.Generator, density: float, cloth: Colour) -> Sprite:
        canvas = Canvas(-0.5, -2.9, 0.5, 0.5, density)
        canvas.paint(canvas.capsule(0, 0, 0, -1.7, 0.36), cloth * 0.9)
        canvas.paint(canvas.capsule(0, -1.8, 0, -2.05, 0.27), self.skin * 0.9)
        canvas.paint(canvas.ellipse(0, -2.35, 0.33, 0.42), self.skin)
        for finger in range(4):
            x = -0.22 + 0.14 * finger
            canvas.paint(canvas.capsule(x, -2.4, x * 1.2, -2.7, 0.06), self.skin * (0.95 - 0.04 * finger))
        return canvas.sprite()

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: mouth 0..1, head x, head y, head angle, blink 0..1, forearm angle."""
        mouth = np.zeros(len(times)) if performance is None else performance.envelope(times)
        slow = _smooth(performance, times, 0.25)
        head_x = 0.08 * self.liveliness * _noise_walk(times, self.phases[0:3])
        head_y = 0.04 * self.liveliness * _noise_walk(times, self.phases[3:6]) + 0.07 * self.liveliness * slow
        angle = self.tilt + 0.05 * self.liveliness * _noise_walk(times, self.phases[6:9])
        angle = angle + 0.08 * self.liveliness * (slow - 0.25) * np.sin(
            2 * np.pi * 0.7 * times + self.phases[9]
        )
        since_blink = times[:, None] - self.blink_times[None, :]
        blink = ((since_blink >= 0) & (since_blink < 0.13)).any(axis=1).astype(float)
        arm = 0.15 * _noise_walk(times, self.phases[9:12]) + (0.9 * slow if self.gestures else 0.0)
        return np.stack([mouth, head_x, head_y, angle, blink, arm], axis=1)

    def parts(self, pose: Array) -> Iterable[Part]:
        mouth, head_x, head_y, angle, blink, arm = (float(v) for v in pose)
        yield Part(self.torso, place(0.3 * head_x, 0.0))
        head = place(head_x, head_y, angle=angle)
        yield Part(self.head, head)
        if blink:
            yield Part(self.lids, head @ place(0, -0.08))
        # An open mouth hangs from the upper lip: the jaw goes down, the upper lip stays.
        x, y = self.yaw * 1.05, 0.56
        if mouth < 0.08:
            yield Part(self.mouth_closed, head @ place(x, y, scale_x=1 - 0.4 * abs(self.yaw)))
        else:
            opening = 0.25 + 0.85 * mouth
            shape = place(
                x, y + 0.2 * mouth, scale_x=(1 - 0.4 * abs(self.yaw)) * (1 - 0.15 * mouth), scale_y=opening
            )
            yield Part(self.mouth_open, head @ shape)
        side = self.hand_side
        yield Part(self.forearm, place(side * 1.7, 5.0 - 0.3 * arm, angle=-side * (0.75 + 0.5 * arm)))


# --- Strikers: blows ----------------------------------------------------------------------------------------------


def _raised(times: Array, performance: Performance | None) -> Array:
    """How far a stick or hammer is raised: 0 at each blow, up to 1 between them, in (T,)."""
    if performance is None or not len(performance.onsets):
        return np.full(len(times), 0.55)
    hits = np.concatenate([[-1e3], performance.onsets, [1e3]])
    following = np.searchsorted(hits, times, side="right")
    following = np.clip(following, 1, len(hits) - 1)
    since, until = times - hits[following - 1], hits[following] - times
    # Lifted within 0.2 s, rests half-way in long pauses, falls within the last 0.12 s.
    lift = _ease(since / 0.2) * (1 - 0.45 * _ease((until - 0.35) / 0.3))
    return np.asarray(np.minimum(lift, _ease(until / 0.12)))


class Drummer:
    """A stick or a hammer that comes down on a drum or a block."""

    box = (-1.1, -1.3, 1.3, 1.1)
    focus = (-0.1, -0.05)
    focus_radius = 0.4

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        self.drum = rng.random() < 0.6
        base = draw_colour(rng, (0.2, 1.0), (0.25, 0.95))
        canvas = Canvas(-1.1, -0.2, 1.1, 1.15, density)
        if self.drum:
            skin = draw_colour(rng, (0.0, 0.3), (0.6, 1.0))
            canvas.paint(canvas.box(-0.9, 0.15, 0.9, 0.85), surface(rng, canvas.height, canvas.width, base))
            canvas.paint(canvas.ellipse(0, 0.85, 0.9, 0.25), base * 0.8)
            canvas.shade(np.clip(1.15 - 0.5 * np.abs(canvas.x + 0.3 * math.cos(light)), 0.35, 1.3))
            canvas.paint(canvas.ellipse(0, 0.15, 0.95, 0.28), base * 0.55)
            canvas.paint(canvas.ellipse(0, 0.13, 0.85, 0.22), skin)
        else:
            canvas.paint(canvas.box(-0.6, 0.12, 0.6, 0.5, 0.05), base)
            canvas.paint(canvas.polygon([(-0.35, 0.5), (0.35, 0.5), (0.7, 1.1), (-0.7, 1.1)]), base * 0.7)
            canvas.paint(canvas.box(-0.6, 0.12, 0.6, 0.2, 0.03), np.minimum(base * 1.5, 255))
            canvas.shade(smooth_texture(rng, canvas, 0.08))
        self.block = canvas.sprite()
        glow = Canvas(-1.0, -0.3, 1.0, 0.3, density)
        glow.paint(glow.ellipse(0, 0, 0.85, 0.22, soft=0.5) * 0.8, WHITE)
        self.flash = glow.sprite()
        wood = draw_colour(rng, (0.3, 0.7), (0.3, 0.9), (0.05, 0.12))
        stick = Canvas(-1.6, -0.4, 0.3, 0.4, density)
        stick.paint(stick.capsule(-1.3, 0, 0.05, 0, 0.055), wood)
        if self.drum:
            stick.paint(stick.ellipse(-1.33, 0, 0.12, 0.1), draw_colour(rng, (0, 0.8), (0.3, 1.0)))
        else:
            steel = draw_colour(rng, (0.0, 0.15), (0.2, 0.8))
            stick.paint(stick.box(-1.5, -0.3, -1.15, 0.28, 0.04), steel)
        skin_tone = np.array([228, 188, 160], dtype=np.float32) * rng.uniform(0.4, 1.05)
        if rng.random() < 0.7:
            stick.paint(stick.ellipse(0.0, 0, 0.2, 0.17), skin_tone)  # a fist holds it
        self.stick = stick.sprite()

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: how far the stick is raised 0..1, how long ago it hit as brightness 0..1."""
        glow = np.zeros(len(times)) if performance is None else performance.envelope(times)
        return np.stack([_raised(times, performance), glow], axis=1)

    def parts(self, pose: Array) -> Iterable[Part]:
        raised, glow = float(pose[0]), float(pose[1])
        yield Part(self.block, place(0, 0.05 * glow, scale_y=1 - 0.05 * glow))
        if glow > 0.05:
            yield Part(self.flash, place(0, 0.14), 0.7 * glow)
        yield Part(self.stick, place(1.1, -0.25 - 0.15 * raised, angle=-0.28 + 1.15 * raised))


class BouncingBall:
    """A ball that hits the ground with each blow."""

    box = (-0.7, -1.5, 0.7, 1.0)
    focus = (0.0, 0.0)
    focus_radius = 0.45

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        canvas = Canvas(-0.5, -0.5, 0.5, 0.5, density)
        disk = canvas.ellipse(0, 0, 0.48, 0.48)
        canvas.paint(disk, surface(rng, canvas.height, canvas.width, draw_colour(rng, (0.4, 1), (0.4, 1))))
        if rng.random() < 0.6:
            canvas.paint(disk * canvas.box(-0.08, -1, 0.08, 1), draw_colour(rng))
        canvas.shade(ball_shading(canvas, 0, 0, 0.5, 0.5, light))
        self.ball = canvas.sprite()
        self.shadow = shadow_sprite(density)
        self.spin = rng.uniform(-3, 3)

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: height 0..1, squash 0..1, angle."""
        if performance is None or not len(performance.onsets):
            return np.zeros((len(times), 3))
        onsets = performance.onsets
        hits = np.concatenate([[onsets[0] - 0.5], onsets, [onsets[-1] + 0.5]])
        following = np.clip(np.searchsorted(hits, times, side="right"), 1, len(hits) - 1)
        since, until = times - hits[following - 1], hits[following] - times
        interval = since + until
        top = np.minimum(1.0, 4.0 * interval**2 + 0.15)
        height = np.clip(4 * top * since * until / interval**2, 0, 1)
        return np.stack([height, performance.envelope(times) ** 2, self.spin * times], axis=1)

    def parts(self, pose: Array) -> Iterable[Part]:
        height, squash, angle = (float(v) for v in pose)
        yield Part(self.shadow, place(0, 0.95, scale_x=0.7 - 0.3 * height, scale_y=0.8), 1 - 0.6 * height)
        y = 0.5 - 1.4 * height + 0.14 * squash
        yield Part(
            self.ball,
            place(0, y, scale_y=1 - 0.28 * squash, scale_x=1 + 0.2 * squash) @ place(0, 0, angle=angle),
        )


# --- Players: notes -----------------------------------------------------------------------------------------------


def _stroke(times: Array, performance: Performance | None) -> Array:
    """A bow's way, -1..1: with each note it goes to the other end, fast first, and waits there for the next."""
    if performance is None or not len(performance.onsets):
        return np.zeros(len(times))
    last = np.searchsorted(performance.onsets, times, side="right") - 1
    index = np.maximum(last, 0)
    phase = np.clip((times - performance.onsets[index]) / np.minimum(performance.durations[index], 0.5), 0, 1)
    direction = np.where(index % 2 == 0, 1.0, -1.0)
    way = -1 + 2 * (1 - (1 - phase) ** 2)
    return np.where(last < 0, -1.0, direction * way)


class Fiddle:
    """A stringed body and a bow that crosses it with each note."""

    box = (-1.1, -1.4, 1.1, 1.1)
    focus = (0.0, 0.1)
    focus_radius = 0.4

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        wood = (
            draw_colour(rng, (0.5, 0.95), (0.35, 0.85), (0.02, 0.12))
            if rng.random() < 0.7
            else draw_colour(rng)
        )
        canvas = Canvas(-0.9, -1.4, 0.9, 1.15, density)
        waist = rng.uniform(0.5, 0.7)
        canvas.paint(canvas.ellipse(0, 0.62, 0.72, 0.52), wood)
        canvas.paint(canvas.ellipse(0, -0.1, waist, 0.42), wood)
        canvas.paint(canvas.box(-0.45, -0.1, 0.45, 0.6), wood)
        canvas.shade(smooth_texture(rng, canvas, 0.07))
        canvas.shade(ball_shading(canvas, 0, 0.3, 0.9, 1.3, light))
        canvas.paint(canvas.box(-0.1, -1.3, 0.1, 0.2), wood * 0.35)
        canvas.paint(canvas.box(-0.18, -1.4, 0.18, -1.15, 0.08), wood * 0.5)
        if rng.random() < 0.5:
            canvas.paint(canvas.ellipse(0, 0.25, 0.2, 0.2), wood * 0.2)
        for string in range(4):
            x = -0.066 + 0.044 * string
            canvas.paint(canvas.capsule(x, -1.25, x * 1.4, 0.8, 0.012), WHITE * 0.8)
        canvas.paint(canvas.box(-0.22, 0.76, 0.22, 0.84), wood * 0.25)
        self.wood = canvas.sprite()
        bow = Canvas(-1.3, -0.15, 1.3, 0.15, density)
        bow.paint(bow.capsule(-1.2, 0, 1.2, 0, 0.035), draw_colour(rng, (0.2, 0.8), (0.15, 0.6), (0.03, 0.1)))
        bow.paint(bow.capsule(-1.15, 0.07, 1.15, 0.07, 0.02), WHITE * 0.95)
        bow.paint(bow.ellipse(1.15, 0.03, 0.12, 0.1), np.array([215, 170, 140], dtype=np.float32))
        self.bow = bow.sprite()
        self.lean = rng.uniform(-0.35, 0.35)

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: the bow's place -1..1, loudness 0..1."""
        level = np.zeros(len(times)) if performance is None else performance.envelope(times)
        return np.stack([_stroke(times, performance), level], axis=1)

    def parts(self, pose: Array) -> Iterable[Part]:
        stroke, level = float(pose[0]), float(pose[1])
        whole = place(0, -0.04 * level, angle=self.lean + 0.05 * stroke)
        yield Part(self.wood, whole)
        yield Part(self.bow, whole @ place(0.55 * stroke, 0.32, angle=-0.25 + 0.06 * stroke))


class Bellows:
    """A box with folds that is drawn out and pressed with each note."""

    box = (-1.25, -0.9, 1.25, 0.9)
    focus = (0.0, 0.0)
    focus_radius = 0.42

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        base, trim = draw_colour(rng, (0.4, 1.0), (0.3, 0.95)), draw_colour(rng, (0.0, 0.6), (0.5, 1.0))
        folds = Canvas(-1, -0.8, 1, 0.8, density)
        pleats = (np.sin(folds.x * np.pi * 7) > 0).astype(np.float32)[..., None]
        folds.paint(folds.box(-0.9, -0.68, 0.9, 0.68), base * (0.55 + 0.45 * pleats))
        folds.shade(np.clip(1.05 - 0.35 * folds.y * math.sin(-light), 0.5, 1.3))
        self.folds = folds.sprite()
        side = Canvas(-0.4, -0.9, 0.4, 0.9, density)
        side.paint(side.box(-0.28, -0.8, 0.28, 0.8, 0.1), trim)
        for key in range(6):
            colour = WHITE if key % 2 == 0 else BLACK
            side.paint(side.box(-0.16, -0.68 + 0.23 * key, 0.16, -0.52 + 0.23 * key, 0.03), colour)
        self.side = side.sprite()

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: how far it is drawn out -1..1, loudness 0..1."""
        level = np.zeros(len(times)) if performance is None else performance.envelope(times)
        return np.stack([_stroke(times, performance), level], axis=1)

    def parts(self, pose: Array) -> Iterable[Part]:
        stroke, level = float(pose[0]), float(pose[1])
        half = 0.72 + 0.22 * stroke
        yield Part(self.folds, place(0, 0, scale_x=half / 0.9, scale_y=1 + 0.04 * level))
        yield Part(self.side, place(-half - 0.1, 0, angle=0.1 * stroke))
        yield Part(self.side, place(half + 0.1, 0, angle=-0.1 * stroke))


# --- Machines: noise ----------------------------------------------------------------------------------------------


class Machine:
    """A box with a wheel that turns, shakes and puffs while it makes its noise."""

    box = (-1.1, -1.2, 1.1, 1.0)
    focus = (0.0, -0.1)
    focus_radius = 0.45

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        base = draw_colour(rng, (0.05, 0.9), (0.2, 0.85))
        canvas = Canvas(-1.1, -0.8, 1.1, 1.1, density)
        height = rng.uniform(-0.6, -0.3)
        canvas.paint(
            canvas.box(-1, height, 1, 0.75, 0.1), surface(rng, canvas.height, canvas.width, base, 0.6)
        )
        canvas.shade(np.clip(1.1 - 0.25 * canvas.y + 0.2 * canvas.x * math.cos(light), 0.5, 1.4))
        for _ in range(rng.integers(2, 6)):
            x, y = rng.uniform(-0.8, 0.6), rng.uniform(height + 0.05, 0.4)
            w, h = rng.uniform(0.1, 0.3), rng.uniform(0.08, 0.25)
            canvas.paint(canvas.box(x, y, x + w, y + h, 0.02), draw_colour(rng, (0, 1), (0.1, 1.0)))
        for x in (-0.65, 0.65):
            canvas.paint(canvas.box(x - 0.15, 0.7, x + 0.15, 1.0), base * 0.35)
        self.chimney_x = rng.uniform(-0.7, 0.7)
        canvas.paint(
            canvas.box(self.chimney_x - 0.12, height - 0.2, self.chimney_x + 0.12, height + 0.05), base * 0.4
        )
        self.chimney_y = height - 0.2
        self.case = canvas.sprite()
        wheel = Canvas(-0.5, -0.5, 0.5, 0.5, density)
        rim = draw_colour(rng, (0, 0.8), (0.1, 0.5))
        wheel.paint(wheel.ellipse(0, 0, 0.48, 0.48), rim)
        wheel.paint(wheel.ellipse(0, 0, 0.38, 0.38), np.minimum(rim * 2.2 + 30, 255))
        for spoke in range(int(rng.integers(2, 5))):
            dx, dy = 0.4 * math.cos(spoke * 1.1), 0.4 * math.sin(spoke * 1.1)
            wheel.paint(wheel.capsule(-dx, -dy, dx, dy, 0.06), rim)
        self.wheel = wheel.sprite()
        self.wheel_x, self.wheel_y = rng.uniform(-0.4, 0.4), rng.uniform(-0.05, 0.4)
        puff = Canvas(-0.5, -0.5, 0.5, 0.5, density)
        puff.paint(puff.ellipse(0, 0, 0.45, 0.45, soft=0.8) * 0.85, draw_colour(rng, (0, 0.15), (0.6, 1.0)))
        self.puff = puff.sprite()
        self.rate = rng.uniform(6.0, 9.5)  # Hz of the shaking
        self.speed = rng.uniform(6, 14) * rng.choice([-1, 1])  # radians per second at full noise
        self.puffs_per_row = 5

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: shake x, shake y, wheel angle, then age (0..1, -1 for none) of each puff."""
        rows = np.zeros((len(times), 3 + self.puffs_per_row))
        rows[:, 3:] = -1
        if performance is None or not len(performance.onsets):
            return rows
        level = performance.envelope(times)
        rows[:, 0] = 0.06 * level * np.sin(2 * np.pi * self.rate * times)
        rows[:, 1] = 0.05 * level * np.sin(2 * np.pi * self.rate * 1.37 * times + 1)
        fine = np.arange(times[0] - 1.0, times[-1] + 0.02, 0.01)
        turned = np.cumsum(performance.envelope(fine)) * 0.01 * self.speed
        rows[:, 2] = np.interp(times, fine, turned)
        births = (performance.onsets[:, None] + np.array([0.02, 0.16])[None, :]).ravel()
        births.sort()
        ages = (times[:, None] - births[None, :]) / 0.7
        ages[(ages < 0) | (ages > 1)] = -1
        youngest = -np.sort(-ages, axis=1)[:, : self.puffs_per_row]
        rows[:, 3 : 3 + youngest.shape[1]] = youngest
        return rows

    def parts(self, pose: Array) -> Iterable[Part]:
        shake = place(float(pose[0]), float(pose[1]))
        for age in pose[3:]:
            if age >= 0:
                size = 0.35 + 0.9 * float(age)
                where = place(
                    self.chimney_x + 0.25 * float(age),
                    self.chimney_y - 0.9 * float(age),
                    scale_x=size,
                    scale_y=size,
                )
                yield Part(self.puff, where, 0.8 * (1 - float(age)))
        yield Part(self.case, shake)
        yield Part(self.wheel, shake @ place(self.wheel_x, self.wheel_y, angle=float(pose[2])))


# --- Silent ones --------------------------------------------------------------------------------------------------


class Mover:
    """A shape that turns, or flaps, on its way; it never makes a sound."""

    box = (-0.95, -0.95, 0.95, 0.95)
    focus = (0.0, 0.0)
    focus_radius = 0.4

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        self.body = shape_sprite(rng, density, light)
        self.wings = rng.random() < 0.35
        wing = Canvas(0, -0.5, 1.2, 0.5, density)
        wing.paint(wing.ellipse(0.55, 0, 0.55, 0.3), surface(rng, wing.height, wing.width, draw_colour(rng)))
        self.wing = wing.sprite()
        self.spin = 0.0 if self.wings or rng.random() < 0.3 else rng.uniform(-4, 4)
        self.flap_rate = rng.uniform(2.5, 7.0)
        self.pulse = rng.uniform(0, 0.12)

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: angle, size, wing's lift -1..1."""
        angle = self.spin * times + 0.1 * np.sin(2.1 * times)
        size = 1 + self.pulse * np.sin(2 * np.pi * 0.9 * times)
        return np.stack([angle, size, np.sin(2 * np.pi * self.flap_rate * times)], axis=1)

    def parts(self, pose: Array) -> Iterable[Part]:
        angle, size, lift = (float(v) for v in pose)
        if not self.wings:
            yield Part(self.body, place(0, 0, angle=angle, scale_x=size, scale_y=size))
            return
        for side in (-1, 1):
            yield Part(
                self.wing, place(0, -0.1, scale_x=float(side)) @ place(0, 0, angle=-0.8 * lift, scale_y=0.9)
            )
        yield Part(self.body, place(0, 0, angle=angle, scale_x=0.45 * size, scale_y=0.6 * size))


class Occluder:
    """A dark, blurred thing in front of everything: a pole, a leaf, a shoulder."""

    box = (-1.0, -1.0, 1.0, 1.0)
    focus = (0.0, 0.0)
    focus_radius = 0.5

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float) -> None:
        colour = draw_colour(rng, (0, 0.5), (0.03, 0.35))
        if rng.random() < 0.5:
            canvas = Canvas(-0.25, -3, 0.25, 3, max(pixels_per_unit, 4.0))
            edge = np.clip((0.16 - np.abs(canvas.x)) / 0.06 + 0.5, 0, 1)
            canvas.paint(edge, colour)
        else:
            canvas = Canvas(-1.1, -1.1, 1.1, 1.1, max(pixels_per_unit, 4.0))
            canvas.paint(canvas.polygon([(0.8 * x, 0.8 * y) for x, y in blob_points(rng)]), colour)
        self.thing = canvas.sprite()

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """No columns."""
        return np.zeros((len(times), 0))

    def parts(self, pose: Array) -> Iterable[Part]:
        return [Part(self.thing, place(0, 0))]
