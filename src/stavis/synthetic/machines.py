"""Machines that hum."""

import math
from collections.abc import Iterable

import numpy as np

from stavis.synthetic.actors import Array, Part
from stavis.synthetic.performance import Performance
from stavis.synthetic.sprites import Canvas, place
from stavis.synthetic.textures import draw_color, surface


class Machine:
    """A box with a wheel that turns, shakes and puffs while it hums."""

    box = (-1.1, -1.2, 1.1, 1.0)
    focus = (0.0, -0.1)
    focus_radius = 0.45

    def __init__(self, rng: np.random.Generator, pixels_per_unit: float, light: float) -> None:
        density = max(pixels_per_unit, 5.0)
        base = draw_color(rng, (0.05, 0.9), (0.2, 0.85))
        canvas = Canvas(-1.1, -0.8, 1.1, 1.1, density)
        height = rng.uniform(-0.6, -0.3)
        canvas.paint(
            canvas.box(-1, height, 1, 0.75, 0.1), surface(rng, canvas.height, canvas.width, base, 0.6)
        )
        canvas.shade(np.clip(1.1 - 0.25 * canvas.y + 0.2 * canvas.x * math.cos(light), 0.5, 1.4))
        for _ in range(rng.integers(2, 6)):
            x, y = rng.uniform(-0.8, 0.6), rng.uniform(height + 0.05, 0.4)
            w, h = rng.uniform(0.1, 0.3), rng.uniform(0.08, 0.25)
            canvas.paint(canvas.box(x, y, x + w, y + h, 0.02), draw_color(rng, (0, 1), (0.1, 1.0)))
        for x in (-0.65, 0.65):
            canvas.paint(canvas.box(x - 0.15, 0.7, x + 0.15, 1.0), base * 0.35)
        self.chimney_x = rng.uniform(-0.7, 0.7)
        canvas.paint(
            canvas.box(self.chimney_x - 0.12, height - 0.2, self.chimney_x + 0.12, height + 0.05), base * 0.4
        )
        self.chimney_y = height - 0.2
        self.case = canvas.sprite()
        wheel = Canvas(-0.5, -0.5, 0.5, 0.5, density)
        rim = draw_color(rng, (0, 0.8), (0.1, 0.5))
        wheel.paint(wheel.ellipse(0, 0, 0.48, 0.48), rim)
        wheel.paint(wheel.ellipse(0, 0, 0.38, 0.38), np.minimum(rim * 2.2 + 30, 255))
        for spoke in range(int(rng.integers(2, 5))):
            dx, dy = 0.4 * math.cos(spoke * 1.1), 0.4 * math.sin(spoke * 1.1)
            wheel.paint(wheel.capsule(-dx, -dy, dx, dy, 0.06), rim)
        self.wheel = wheel.sprite()
        self.wheel_x, self.wheel_y = rng.uniform(-0.4, 0.4), rng.uniform(-0.05, 0.4)
        puff = Canvas(-0.5, -0.5, 0.5, 0.5, density)
        puff.paint(puff.ellipse(0, 0, 0.45, 0.45, soft=0.8) * 0.85, draw_color(rng, (0, 0.15), (0.6, 1.0)))
        self.puff = puff.sprite()
        self.rate = rng.uniform(6.0, 9.5)  # Hz of the shaking
        self.speed = rng.uniform(6, 14) * rng.choice([-1, 1])  # radians per second at full noise
        self.puffs_per_row = 5

    def poses(self, times: Array, performance: Performance | None) -> Array:
        """Columns: shake x, shake y, wheel angle, then the age (0..1, -1 for none) of each puff."""
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
                x, y = self.chimney_x + 0.25 * float(age), self.chimney_y - 0.9 * float(age)
                where = place(x, y, scale_x=size, scale_y=size)
                yield Part(self.puff, where, 0.8 * (1 - float(age)))
        yield Part(self.case, shake)
        yield Part(self.wheel, shake @ place(self.wheel_x, self.wheel_y, angle=float(pose[2])))
