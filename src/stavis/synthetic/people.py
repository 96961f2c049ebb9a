"""Talking people."""

import math
from collections.abc import Iterable

import numpy as np

from stavis.synthetic.actors import BLACK, WHITE, Array, Part, noise_walk, smooth
from stavis.synthetic.performance import Performance
from stavis.synthetic.sprites import Canvas, Sprite, ball_shading, place
from stavis.synthetic.textures import Color, draw_color, fractal_noise, surface


class Person:
    """Head with eyes, brows, nose, hair and a mouth that opens with the voice; shoulders, arms and a gesturing hand.

    One unit is half the height of the head; the head is centered on (0, 0).
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
        self.skin: Color = tone * rng.uniform(0.92, 1.06, 3).astype(np.float32)
        dark_hair = rng.random() < 0.7
        self.hair: Color = (
            draw_color(rng, (0.1, 0.7), (0.05, 0.3), (0.02, 0.12))
            if dark_hair
            else draw_color(rng, (0.0, 0.7), (0.35, 0.9), (0.04, 0.15))
        )
        self.yaw = rng.uniform(-0.28, 0.28)  # the face's features move sideways on the head
        self.phases = rng.uniform(0, 2 * np.pi, 12)
        self.liveliness = rng.uniform(0.6, 1.6)
        self.tilt = rng.normal(0, 0.06)
        self.hand_side = float(rng.choice([-1, 1]))
        self.gestures = rng.random() < 0.5
        self.blink_times = np.cumsum(rng.uniform(1.0, 5.0, 40))
        cloth = draw_color(rng, (0.0, 0.9), (0.1, 0.95))
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
        iris = draw_color(rng, (0.2, 0.7), (0.15, 0.45))
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
            below = np.clip((canvas.y - 0.33) * density, 0, 1)
            beard = canvas.ellipse(yaw * 0.8, 0.55, 0.62, 0.5) * below * skull
            canvas.paint(beard * 0.75, self.hair * strands)
        if rng.random() < 0.2:  # glasses
            rim = draw_color(rng, (0, 0.5), (0.02, 0.4))
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
        tongue = hole * opened.ellipse(0, 0.2, 0.17, 0.11)
        opened.paint(tongue, np.array([170, 75, 80], dtype=np.float32))
        return closed.sprite(), opened.sprite()

    def _paint_torso(
        self, rng: np.random.Generator, density: float, light: float, cloth: Color, full_body: bool
    ) -> Sprite:
        bottom = 12.6 if full_body else 7.5
        canvas = Canvas(-2.4, 1.0, 2.4, bottom, density)
        half = rng.uniform(1.45, 1.9)
        hip = half * rng.uniform(0.7, 0.9)
        weave = surface(rng, canvas.height, canvas.width, cloth, 0.7)
        if full_body:
            trousers = draw_color(rng, (0.0, 0.6), (0.1, 0.6))
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

    def _paint_forearm(self, rng: np.random.Generator, density: float, cloth: Color) -> Sprite:
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
        slow = smooth(performance, times, 0.25)
        head_x = 0.08 * self.liveliness * noise_walk(times, self.phases[0:3])
        head_y = 0.04 * self.liveliness * noise_walk(times, self.phases[3:6]) + 0.07 * self.liveliness * slow
        angle = self.tilt + 0.05 * self.liveliness * noise_walk(times, self.phases[6:9])
        angle = angle + 0.08 * self.liveliness * (slow - 0.25) * np.sin(
            2 * np.pi * 0.7 * times + self.phases[9]
        )
        since_blink = times[:, None] - self.blink_times[None, :]
        blink = ((since_blink >= 0) & (since_blink < 0.13)).any(axis=1).astype(float)
        arm = 0.15 * noise_walk(times, self.phases[9:12]) + (0.9 * slow if self.gestures else 0.0)
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
