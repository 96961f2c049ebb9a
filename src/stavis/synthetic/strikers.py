"""Objects that sound on impact: a drummer and a bouncing ball."""

import math
from collections.abc import Iterable

import numpy as np

from stavis.synthetic.actors import WHITE, Array, Part, ease
from stavis.synthetic.performance import Performance
from stavis.synthetic.sprites import Canvas, ball_shading, place, shadow_sprite, smooth_texture
from stavis.synthetic.textures import draw_color, surface


def _raised(times: Array, performance: Performance | None) -> Array:
    """Returns the height of a stick or hammer (T,): 0 at each blow, up to 1 in between."""
    if performance is None or not len(performance.onsets):
        return np.full(len(times), 0.55)
    hits = np.concatenate([[-1e3], performance.onsets, [1e3]])
    following = np.searchsorted(hits, times, side="right")
    following = np.clip(following, 1, len(hits) - 1)
    since, until = times - hits[following - 1], hits[following] - times
    # Lifted within 0.2 s, rests half-way in long pauses, falls within the last 0.12 s.
    lift = ease(since / 0.2) * (1 - 0.45 * ease((until - 0.35) / 0.3))
    return np.asarray(np.minimum(lift, ease(until / 0.12)))


class Drummer:
    """A stick or hammer that hits a drum or a block."""

    box = (-1.1, -1.3, 1.3, 1.1)
    focus = (-0.1, -0.05)
    focus_radius = 0.4

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        self.drum = rng.random() < 0.6
        base = draw_color(rng, (0.2, 1.0), (0.25, 0.95))
        canvas = Canvas(-1.1, -0.2, 1.1, 1.15, density)
        if self.drum:
            skin = draw_color(rng, (0.0, 0.3), (0.6, 1.0))
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
        wood = draw_color(rng, (0.3, 0.7), (0.3, 0.9), (0.05, 0.12))
        stick = Canvas(-1.6, -0.4, 0.3, 0.4, density)
        stick.paint(stick.capsule(-1.3, 0, 0.05, 0, 0.055), wood)
        if self.drum:
            stick.paint(stick.ellipse(-1.33, 0, 0.12, 0.1), draw_color(rng, (0, 0.8), (0.3, 1.0)))
        else:
            steel = draw_color(rng, (0.0, 0.15), (0.2, 0.8))
            stick.paint(stick.box(-1.5, -0.3, -1.15, 0.28, 0.04), steel)
        skin_tone = np.array([228, 188, 160], dtype=np.float32) * rng.uniform(0.4, 1.05)
        if rng.random() < 0.7:
            stick.paint(stick.ellipse(0.0, 0, 0.2, 0.17), skin_tone)  # a fist holds it
        self.stick = stick.sprite()

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: height of the stick 0..1, brightness 0..1 that fades after each hit."""
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
        canvas.paint(disk, surface(rng, canvas.height, canvas.width, draw_color(rng, (0.4, 1), (0.4, 1))))
        if rng.random() < 0.6:
            canvas.paint(disk * canvas.box(-0.08, -1, 0.08, 1), draw_color(rng))
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
