"""Musical instruments: a fiddle and bellows."""

import math
from collections.abc import Iterable

import numpy as np

from stavis.synthetic.actors import BLACK, WHITE, Array, Part
from stavis.synthetic.performance import Performance
from stavis.synthetic.sprites import Canvas, ball_shading, place, smooth_texture
from stavis.synthetic.textures import draw_color


def _stroke(times: Array, performance: Performance | None) -> Array:
    """Returns the position of a bow, -1..1: with each note it moves to the other end and waits there for the next."""
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
            draw_color(rng, (0.5, 0.95), (0.35, 0.85), (0.02, 0.12))
            if rng.random() < 0.7
            else draw_color(rng)
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
        bow.paint(bow.capsule(-1.2, 0, 1.2, 0, 0.035), draw_color(rng, (0.2, 0.8), (0.15, 0.6), (0.03, 0.1)))
        bow.paint(bow.capsule(-1.15, 0.07, 1.15, 0.07, 0.02), WHITE * 0.95)
        bow.paint(bow.ellipse(1.15, 0.03, 0.12, 0.1), np.array([215, 170, 140], dtype=np.float32))
        self.bow = bow.sprite()
        self.lean = rng.uniform(-0.35, 0.35)

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: position of the bow -1..1, loudness 0..1."""
        level = np.zeros(len(times)) if performance is None else performance.envelope(times)
        return np.stack([_stroke(times, performance), level], axis=1)

    def parts(self, pose: Array) -> Iterable[Part]:
        stroke, level = float(pose[0]), float(pose[1])
        whole = place(0, -0.04 * level, angle=self.lean + 0.05 * stroke)
        yield Part(self.wood, whole)
        yield Part(self.bow, whole @ place(0.55 * stroke, 0.32, angle=-0.25 + 0.06 * stroke))


class Bellows:
    """A box with folds that is pulled and pressed with each note."""

    box = (-1.25, -0.9, 1.25, 0.9)
    focus = (0.0, 0.0)
    focus_radius = 0.42

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        base, trim = draw_color(rng, (0.4, 1.0), (0.3, 0.95)), draw_color(rng, (0.0, 0.6), (0.5, 1.0))
        folds = Canvas(-1, -0.8, 1, 0.8, density)
        pleats = (np.sin(folds.x * np.pi * 7) > 0).astype(np.float32)[..., None]
        folds.paint(folds.box(-0.9, -0.68, 0.9, 0.68), base * (0.55 + 0.45 * pleats))
        folds.shade(np.clip(1.05 - 0.35 * folds.y * math.sin(-light), 0.5, 1.3))
        self.folds = folds.sprite()
        side = Canvas(-0.4, -0.9, 0.4, 0.9, density)
        side.paint(side.box(-0.28, -0.8, 0.28, 0.8, 0.1), trim)
        for key in range(6):
            color = WHITE if key % 2 == 0 else BLACK
            side.paint(side.box(-0.16, -0.68 + 0.23 * key, 0.16, -0.52 + 0.23 * key, 0.03), color)
        self.side = side.sprite()

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: extension -1..1, loudness 0..1."""
        level = np.zeros(len(times)) if performance is None else performance.envelope(times)
        return np.stack([_stroke(times, performance), level], axis=1)

    def parts(self, pose: Array) -> Iterable[Part]:
        stroke, level = float(pose[0]), float(pose[1])
        half = 0.72 + 0.22 * stroke
        yield Part(self.folds, place(0, 0, scale_x=half / 0.9, scale_y=1 + 0.04 * level))
        yield Part(self.side, place(-half - 0.1, 0, angle=0.1 * stroke))
        yield Part(self.side, place(half + 0.1, 0, angle=-0.1 * stroke))
