"""Rendering of a shot: a painted backdrop with moving actors and a moving camera."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis.synthetic.actors import Actor, Body, Path
from stavis.synthetic.machines import Machine
from stavis.synthetic.movers import Mover, Occluder
from stavis.synthetic.people import Person
from stavis.synthetic.players import Bellows, Fiddle
from stavis.synthetic.presets import Preset
from stavis.synthetic.randomness import generator
from stavis.synthetic.script import Role, Shot
from stavis.synthetic.sprites import Affine, Canvas, Sprite, draw_sprite, place
from stavis.synthetic.strikers import BouncingBall, Drummer
from stavis.synthetic.textures import BACKDROPS, draw_color, fractal_noise, paint_backdrop, surface

Array = npt.NDArray[np.float64]

MARGIN = 0.22
"""How far the backdrop goes on beyond the picture, in picture heights: room for the camera."""

_APPEAL = {"person": 2.0, "striker": 1.0, "player": 1.0, "machine": 1.0, "mover": 1.0}
_LOOKS: Mapping[str, tuple[Callable[[np.random.Generator, float, float], Body], ...]] = {
    "striker": (Drummer, BouncingBall),
    "player": (Fiddle, Bellows),
    "machine": (Machine,),
}
_HALF_WIDTH = {"person": 1.75, "striker": 1.35, "player": 1.3, "machine": 1.2}


class Camera:
    """Camera that pans, zooms and shakes smoothly over time."""

    def __init__(self, rng: np.random.Generator, aspect: float, height: int, strength: float) -> None:
        self.aspect, self.height = aspect, height
        moves = strength * (rng.random() < 0.7)
        self.pan = rng.uniform(-0.035, 0.035, 2) * moves  # picture heights per second
        self.sway = rng.uniform(0, 0.02, 2) * moves
        self.zoom = 1.0 + rng.uniform(0, 0.06) * (moves > 0)
        self.zoom_speed = rng.uniform(-0.015, 0.03) * moves
        self.shake = rng.uniform(0.0005, 0.006) * strength * (rng.random() < 0.35)
        self.roll = rng.normal(0, 0.012) * moves * (rng.random() < 0.4)
        self.phases = rng.uniform(0, 2 * np.pi, 6)

    def view(self, time: float, parallax: float = 1.0) -> Affine:
        """Returns the map from picture heights to pixels at `time` seconds; parallax < 1 for distant layers."""
        phases = self.phases
        jitter_x = math.sin(2 * math.pi * 4.1 * time + phases[0]) + 0.6 * math.sin(
            2 * math.pi * 7.3 * time + phases[1]
        )
        jitter_y = math.sin(2 * math.pi * 5.2 * time + phases[2]) + 0.6 * math.sin(
            2 * math.pi * 8.7 * time + phases[3]
        )
        x = self.pan[0] * time + self.sway[0] * math.sin(1.9 * time + phases[4]) + self.shake * jitter_x
        y = self.pan[1] * 0.4 * time + self.sway[1] * math.sin(1.5 * time + phases[5]) + self.shake * jitter_y
        limit = MARGIN * 0.5
        x, y = max(-limit, min(limit, x)), max(-limit, min(limit, y))
        zoom = max(1.0, self.zoom + self.zoom_speed * time)
        zoom = 1 + (zoom - 1) * parallax
        scale = zoom * self.height
        center = Affine(1, 0, -self.aspect / 2 - parallax * x, 0, 1, -0.5 - parallax * y)
        x, y = self.aspect / 2 * self.height, self.height / 2
        return place(x, y, angle=self.roll, scale_x=scale, scale_y=scale) @ center


class Stage:
    """Renderer of one shot.

    Attributes:
        actors: Objects of the shot, in the order of its roles.
        times: (T,) times of its frames in seconds, from the beginning of the video.
    """

    def __init__(
        self,
        seed: int,
        key: tuple[int | str, ...],
        preset: Preset,
        shot: Shot,
        roles: list[Role],
        size: tuple[int, int],
        frame_rate: float,
    ) -> None:
        width, height = size
        self.size = size
        self.aspect = width / height
        self.times = np.arange(shot.start_frame, shot.stop_frame) / frame_rate
        self.start = shot.start_frame / frame_rate
        rng = generator(seed, *key, "stage")
        self.camera = Camera(rng, self.aspect, height, preset.camera_motion)
        self.horizon = rng.uniform(0.5, 0.8)
        self.light = rng.uniform(-np.pi, 0)
        self._paint_set(rng)
        self._place_actors(rng, roles, max(preset.shot_seconds))
        for actor in [*self.actors, *self.extras]:
            actor.prepare(self.times, self.start)
        self._grade(rng)

    def _paint_set(self, rng: np.random.Generator) -> None:
        height = self.size[1]
        kind = str(rng.choice(BACKDROPS, p=[0.3, 0.18, 0.18, 0.09, 0.25]))
        world = (self.aspect + 2 * MARGIN, 1 + 2 * MARGIN)
        canvas_size = math.ceil(world[0] * height), math.ceil(world[1] * height)
        horizon = (self.horizon + MARGIN) / world[1]
        self.backdrop = paint_backdrop(rng, kind, canvas_size[1], canvas_size[0], horizon)
        self._backdrop_view: tuple[Affine, Image.Image] | None = None
        self.backdrop_to_world = Affine(1 / height, 0, -MARGIN, 0, 1 / height, -MARGIN)
        self.table: Sprite | None = None
        if rng.random() < 0.25:
            top = rng.uniform(0.76, 0.9)
            canvas = Canvas(-MARGIN, top, self.aspect + MARGIN, 1 + MARGIN, height)
            plank = surface(rng, canvas.height, canvas.width, draw_color(rng, (0.1, 0.7), (0.15, 0.8)), 0.5)
            canvas.paint(np.clip((canvas.y - top) * height, 0, 1), plank)
            canvas.shade(np.clip(1.15 - 0.6 * (canvas.y - top), 0.5, 1.2))
            self.table = canvas.sprite()
        self.drift: Image.Image | None = None
        if rng.random() < 0.3:  # clouds, leaves or their shadows drift across the picture
            noise = fractal_noise(rng, canvas_size[1], canvas_size[0], rng.uniform(1.0, 1.8))
            cover = np.clip(noise * 60 + rng.uniform(-30, 20), 0, 110)
            self.drift = Image.fromarray(cover.astype(np.uint8))
            self.drift_color = tuple(int(v) for v in draw_color(rng, (0, 0.3), (0.0, 0.9)))
            self.drift_velocity = rng.uniform(-0.04, 0.04, 2)

    def _place_actors(self, rng: np.random.Generator, roles: list[Role], longest: float) -> None:
        num = sum(role.candidate for role in roles)
        order = rng.permutation(num)
        border = 0.06 * self.aspect  # they must stay visible when the camera pans
        slot_width = (self.aspect - 2 * border) / max(num, 1)
        shot_scale = rng.uniform(0.07, 0.24)
        self.actors: list[Actor] = []
        for role in roles:
            if role.candidate:
                left = border + slot_width * float(order[len(self.actors)])
                self.actors.append(self._candidate(rng, role, left, slot_width, shot_scale))
            else:
                self.actors.append(self._mover(rng, role, longest))
        self.extras: list[Actor] = []
        if rng.random() < 0.15:
            scale = rng.uniform(0.1, 0.3)
            path = Path(
                rng.uniform(-0.1, 1.1) * self.aspect,
                rng.choice([rng.uniform(-0.1, 0.1), rng.uniform(0.9, 1.1)]),
            )
            body = Occluder(rng, scale * self.size[1])
            self.extras.append(Actor("occluder", body, path, scale, 4.0, None, 0.0))

    def _candidate(
        self, rng: np.random.Generator, role: Role, left: float, slot_width: float, shot_scale: float
    ) -> Actor:
        widest = slot_width * 0.5 / _HALF_WIDTH[role.kind]
        scale = min(widest, shot_scale * rng.uniform(0.8, 1.2))
        density = scale * self.size[1] * 1.1
        half = scale * _HALF_WIDTH[role.kind]
        spare = max(0.0, slot_width - 2 * half)
        x = left + half + rng.beta(2.5, 2.5) * spare  # camera operators center their subjects
        body: Body
        if role.kind == "person":
            y = rng.uniform(0.25, 0.5)
            standing = y + 7.0 * scale < 1.05  # otherwise the frame ends above the knees
            body = Person(rng, density, self.light, standing)
            if standing and 12.4 * scale < 0.75:  # the feet are visible, so they stand on the ground
                y = max(0.12, min(0.55, self.horizon + rng.uniform(0.05, 0.25) - 12.4 * scale))
            scale_depth = 0.0
        else:
            looks = _LOOKS[role.kind]
            look = looks[int(rng.integers(len(looks)))]
            body = look(rng, density, self.light)
            y = rng.uniform(max(0.3, 1.5 * scale), min(0.75, 1 - 1.1 * scale))
            scale_depth = 1.0
        sway = tuple(
            (rng.uniform(0, 0.05) * spare, rng.uniform(0, 0.008), rng.uniform(0.1, 0.5), rng.uniform(0, 6.28))
            for _ in range(2)
        )
        path = Path(x, y, sway=sway)
        return Actor(role.kind, body, path, scale, scale_depth + y, role.performance, _APPEAL[role.kind])

    def _mover(self, rng: np.random.Generator, role: Role, longest: float) -> Actor:
        scale = rng.uniform(0.03, 0.11)
        direction = float(rng.choice([-1, 1]))
        crossing = rng.uniform(0.6, 1.3) * longest  # seconds to cross the frame
        velocity = direction * (self.aspect + 2 * scale) / crossing
        start = -scale if direction > 0 else self.aspect + scale
        x = start + velocity * rng.uniform(0, 0.4) * crossing
        sway = ((rng.uniform(0, 0.04), rng.uniform(0, 0.06), rng.uniform(0.2, 1.0), rng.uniform(0, 6.28)),)
        path = Path(x, rng.uniform(0.1, 0.9), velocity, rng.uniform(-0.02, 0.02), sway)
        body = Mover(rng, scale * self.size[1] * 1.1, self.light)
        return Actor(role.kind, body, path, scale, rng.uniform(-0.5, 3.0), None, _APPEAL["mover"])

    def _grade(self, rng: np.random.Generator) -> None:
        """Draws exposure, contrast and tint (as one lookup table), grain and vignette of the shot."""
        level = np.arange(256) / 255
        gamma, contrast, lift = rng.uniform(0.75, 1.35), rng.uniform(0.75, 1.15), rng.uniform(-0.04, 0.06)
        table = np.concatenate(
            [((level**gamma - 0.5) * contrast + 0.5 + lift) * rng.uniform(0.9, 1.07) for _ in "RGB"]
        )
        self.table_lookup = [int(v) for v in np.clip(table * 255, 0, 255)]
        width, height = self.size
        amount = rng.uniform(0.0, 6.0)
        self.grain = np.rint(rng.normal(0, amount, (height + 64, width + 64, 1))).astype(np.int16)
        self.grain_offsets = rng.integers(0, 64, (len(self.times), 2))
        self.vignette: Image.Image | None = None
        if rng.random() < 0.3:
            y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            self.vignette = Image.fromarray(
                np.clip(255 * rng.uniform(0.2, 0.7) * (x * x + y * y - 0.5) / 1.5, 0, 255).astype(np.uint8)
            )

    def render(self, row: int) -> npt.NDArray[np.uint8]:
        """Renders frame `row` of the shot as RGB (H, W, 3)."""
        time = float(self.times[row] - self.start)
        frame = self._view_backdrop(time)
        camera = self.camera.view(time)
        table_drawn = self.table is None
        for actor in sorted([*self.actors, *self.extras], key=lambda actor: actor.depth):
            if not table_drawn and actor.depth >= 1.0 and self.table is not None:
                draw_sprite(frame, self.table, camera)
                table_drawn = True
            actor.draw(frame, camera, row)
        if not table_drawn and self.table is not None:
            draw_sprite(frame, self.table, camera)
        if self.drift is not None:
            moved = place(self.drift_velocity[0] * time, self.drift_velocity[1] * time)
            matrix = (camera @ moved @ self.backdrop_to_world).inverse()
            cover = self.drift.transform(self.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
            frame.paste(self.drift_color, (0, 0), cover)
        if self.vignette is not None:
            frame.paste((0, 0, 0), (0, 0), self.vignette)
        pixels = np.asarray(frame.point(self.table_lookup)).astype(np.int16)
        top, left = self.grain_offsets[row]
        width, height = self.size
        pixels += self.grain[top : top + height, left : left + width]
        return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)

    def _view_backdrop(self, time: float) -> Image.Image:
        matrix = (self.camera.view(time, parallax=0.7) @ self.backdrop_to_world).inverse()
        if self._backdrop_view is not None and matrix == self._backdrop_view[0]:
            return self._backdrop_view[1].copy()  # static camera
        bilinear = Image.Resampling.BILINEAR
        if self.camera.roll == 0:
            # Equal to the affine resampling, in less than half the time.
            right, bottom = matrix.apply(*self.size)
            width, height = self.backdrop.size
            box = (max(0, matrix.c), max(0, matrix.f), min(width, right), min(height, bottom))
            view = self.backdrop.resize(self.size, bilinear, box=box)
        else:
            view = self.backdrop.transform(self.size, Image.Transform.AFFINE, matrix, bilinear)
        self._backdrop_view = matrix, view
        return view.copy()

    def targets(self, row: int) -> Array:
        """Returns where gaze lands on each actor: (A, 3), x, y and standard deviation in pixels."""
        camera = self.camera.view(float(self.times[row] - self.start))
        result = np.zeros((len(self.actors), 3))
        for index, actor in enumerate(self.actors):
            matrix = camera @ actor.placement(row)
            result[index] = (
                *matrix.apply(*actor.body.focus),
                actor.body.focus_radius * math.hypot(matrix.a, matrix.d),
            )
        return result

    def boxes(self, row: int) -> Array:
        """Returns left, top, right, bottom of each actor in pixels, (A, 4), not clipped; of people, the head."""
        camera = self.camera.view(float(self.times[row] - self.start))
        result = np.zeros((len(self.actors), 4))
        for index, actor in enumerate(self.actors):
            matrix = camera @ actor.placement(row)
            left, top, right, bottom = actor.body.box
            corners = [
                matrix.apply(x, y) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))
            ]
            xs, ys = zip(*corners, strict=True)
            result[index] = (min(xs), min(ys), max(xs), max(ys))
        return result
