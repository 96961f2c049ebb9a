"""Silent objects that move or occlude others."""

from collections.abc import Iterable

import numpy as np

from stavis.synthetic.actors import Array, Part
from stavis.synthetic.performance import Performance
from stavis.synthetic.sprites import Canvas, blob_points, place, shape_sprite
from stavis.synthetic.textures import draw_color, surface


class Mover:
    """A silent shape that rotates or flaps along its path."""

    box = (-0.95, -0.95, 0.95, 0.95)
    focus = (0.0, 0.0)
    focus_radius = 0.4

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        self.body = shape_sprite(rng, density, light)
        self.wings = rng.random() < 0.35
        wing = Canvas(0, -0.5, 1.2, 0.5, density)
        wing.paint(wing.ellipse(0.55, 0, 0.55, 0.3), surface(rng, wing.height, wing.width, draw_color(rng)))
        self.wing = wing.sprite()
        self.spin = 0.0 if self.wings or rng.random() < 0.3 else rng.uniform(-4, 4)
        self.flap_rate = rng.uniform(2.5, 7.0)
        self.pulse = rng.uniform(0, 0.12)

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: angle, size, wing lift -1..1."""
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
    """A dark blurred occluder in front of everything: a pole, a leaf, a shoulder."""

    box = (-1.0, -1.0, 1.0, 1.0)
    focus = (0.0, 0.0)
    focus_radius = 0.5

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float) -> None:
        color = draw_color(rng, (0, 0.5), (0.03, 0.35))
        if rng.random() < 0.5:
            canvas = Canvas(-0.25, -3, 0.25, 3, max(pixels_per_unit, 4.0))
            edge = np.clip((0.16 - np.abs(canvas.x)) / 0.06 + 0.5, 0, 1)
            canvas.paint(edge, color)
        else:
            canvas = Canvas(-1.1, -1.1, 1.1, 1.1, max(pixels_per_unit, 4.0))
            canvas.paint(canvas.polygon([(0.8 * x, 0.8 * y) for x, y in blob_points(rng)]), color)
        self.thing = canvas.sprite()

    def poses(self, times: Array, performance: Performance | None) -> Array:
        return np.zeros((len(times), 0))

    def parts(self, pose: Array) -> Iterable[Part]:
        return [Part(self.thing, place(0, 0))]
