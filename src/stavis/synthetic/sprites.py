"""Sprites that objects are built from: painted once with soft edges, then placed by an affine map per frame."""

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from stavis.synthetic.textures import Color, draw_color, fractal_noise, surface

Array = npt.NDArray[np.float32]


class Affine(NamedTuple):
    """x' = a x + b y + c, y' = d x + e y + f."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def __matmul__(self, other: "Affine") -> "Affine":
        """Returns the composition: first `other`, then this."""
        return Affine(
            self.a * other.a + self.b * other.d,
            self.a * other.b + self.b * other.e,
            self.a * other.c + self.b * other.f + self.c,
            self.d * other.a + self.e * other.d,
            self.d * other.b + self.e * other.e,
            self.d * other.c + self.e * other.f + self.f,
        )

    def apply(self, x: float, y: float) -> tuple[float, float]:
        return self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f

    def inverse(self) -> "Affine":
        determinant = self.a * self.e - self.b * self.d
        a, b, d, e = self.e / determinant, -self.b / determinant, -self.d / determinant, self.a / determinant
        return Affine(a, b, -(a * self.c + b * self.f), d, e, -(d * self.c + e * self.f))


def place(x: float, y: float, *, angle: float = 0.0, scale_x: float = 1.0, scale_y: float = 1.0) -> Affine:
    """Returns the map that scales, rotates by `angle` radians (clockwise on screen), then moves to (x, y)."""
    cos, sin = math.cos(angle), math.sin(angle)
    return Affine(cos * scale_x, -sin * scale_y, x, sin * scale_x, cos * scale_y, y)


@dataclass(frozen=True)
class Sprite:
    colors: Image.Image  # RGB picture; colors extend beyond the soft edge, so that no fringe shows
    cover: Image.Image  # grayscale picture of the same size: 255 where the part is opaque
    to_local: Affine  # sprite pixels -> units of the object

    def corners(self) -> list[tuple[float, float]]:
        """Returns the four corners in units of the object."""
        width, height = self.colors.size
        return [self.to_local.apply(x, y) for x, y in ((0, 0), (width, 0), (width, height), (0, height))]


@functools.lru_cache(maxsize=65)
def _opacity_table(opacity_64ths: int) -> list[int]:
    return [level * opacity_64ths // 64 for level in range(256)]


def draw_sprite(frame: Image.Image, sprite: Sprite, to_frame: Affine, opacity: float = 1.0) -> None:
    """Draws a sprite into a picture, in place; `to_frame` maps units of the object to its pixels."""
    matrix = to_frame @ sprite.to_local
    if abs(matrix.a * matrix.e - matrix.b * matrix.d) < 1e-9:
        return
    width, height = sprite.colors.size
    corners = [matrix.apply(x, y) for x, y in ((0, 0), (width, 0), (width, height), (0, height))]
    left = max(0, math.floor(min(x for x, _ in corners)))
    top = max(0, math.floor(min(y for _, y in corners)))
    right = min(frame.width, math.ceil(max(x for x, _ in corners)))
    bottom = min(frame.height, math.ceil(max(y for _, y in corners)))
    if right <= left or bottom <= top:
        return
    data = matrix.inverse() @ Affine(1, 0, left, 0, 1, top)
    size = (right - left, bottom - top)
    bilinear = Image.Resampling.BILINEAR
    cover = sprite.cover.transform(size, Image.Transform.AFFINE, data, bilinear)
    if opacity < 1:
        cover = cover.point(_opacity_table(round(opacity * 64)))
    colors = sprite.colors.transform(size, Image.Transform.AFFINE, data, bilinear)
    frame.paste(colors, (left, top), cover)


def _float32(values: npt.NDArray[Any]) -> Array:
    return np.asarray(values, dtype=np.float32)


class Canvas:
    """Painter of one sprite, in units of the object."""

    def __init__(self, left: float, top: float, right: float, bottom: float, pixels_per_unit: float) -> None:
        self.density = pixels_per_unit
        margin = 2 / pixels_per_unit  # two clear pixels around, so that bilinear sampling fades out
        self.left, self.top = left - margin, top - margin
        self.width = max(6, math.ceil((right - left + 2 * margin) * pixels_per_unit))
        self.height = max(6, math.ceil((bottom - top + 2 * margin) * pixels_per_unit))
        self.y, self.x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        self.x = self.left + (self.x + 0.5) / pixels_per_unit
        self.y = self.top + (self.y + 0.5) / pixels_per_unit
        self.colors: Array = np.zeros((self.height, self.width, 3), dtype=np.float32)
        self.cover: Array = np.zeros((self.height, self.width), dtype=np.float32)

    def ellipse(
        self, x: float, y: float, radius_x: float, radius_y: float, angle: float = 0.0, soft: float = 0.0
    ) -> Array:
        """Returns the coverage of each pixel by an ellipse, 0..1; `soft` widens the edge, as a share of the radius."""
        cos, sin = math.cos(angle), math.sin(angle)
        u = ((self.x - x) * cos + (self.y - y) * sin) / radius_x
        v = (-(self.x - x) * sin + (self.y - y) * cos) / radius_y
        edge = max(1 / (min(radius_x, radius_y) * self.density), soft)
        return _float32(np.clip((1 - np.hypot(u, v)) / edge + 0.5, 0, 1))

    def capsule(self, x0: float, y0: float, x1: float, y1: float, radius: float) -> Array:
        """Returns the coverage of each pixel by a line with round ends."""
        dx, dy = x1 - x0, y1 - y0
        length = max(dx * dx + dy * dy, 1e-12)
        along = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / length, 0, 1)
        distance = np.hypot(self.x - x0 - along * dx, self.y - y0 - along * dy)
        return _float32(np.clip((radius - distance) * self.density + 0.5, 0, 1))

    def box(self, left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> Array:
        """Returns the coverage of each pixel by a rectangle with rounded corners."""
        dx = np.abs(self.x - (left + right) / 2) - (right - left) / 2 + radius
        dy = np.abs(self.y - (top + bottom) / 2) - (bottom - top) / 2 + radius
        outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - radius
        return _float32(np.clip(0.5 - outside * self.density, 0, 1))

    def polygon(self, points: list[tuple[float, float]]) -> Array:
        fine = 3
        mask = Image.new("L", (self.width * fine, self.height * fine))
        scaled = [
            ((x - self.left) * self.density * fine, (y - self.top) * self.density * fine) for x, y in points
        ]
        ImageDraw.Draw(mask).polygon(scaled, fill=255)
        return _float32(np.asarray(mask.reduce(fine)) / 255)

    def paint(self, cover: Array, color: Color | Array) -> None:
        """Paints a color (3,) or (height, width, 3) where `cover` is."""
        if not self.cover.any():
            self.colors[:] = color
        self.colors += (color - self.colors) * cover[..., None]
        self.cover = np.maximum(self.cover, cover)

    def shade(self, factor: Array | float) -> None:
        """Multiplies all colors by one factor or by (height, width) factors."""
        self.colors *= factor[..., None] if isinstance(factor, np.ndarray) else factor

    def sprite(self) -> Sprite:
        scale = 1 / self.density
        return Sprite(
            Image.fromarray(np.clip(self.colors, 0, 255).astype(np.uint8)),
            Image.fromarray((self.cover * 255 + 0.5).astype(np.uint8)),
            Affine(scale, 0, self.left, 0, scale, self.top),
        )


def ball_shading(canvas: Canvas, x: float, y: float, radius_x: float, radius_y: float, light: float) -> Array:
    """Returns the shading of a round body: factors (height, width) around 1, for light from `light` radians."""
    u, v = (canvas.x - x) / radius_x, (canvas.y - y) / radius_y
    depth = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    lambert = 0.55 * (u * math.cos(light) + v * math.sin(light)) + 0.8 * depth
    return np.asarray(np.clip(0.5 + 0.65 * lambert, 0.3, 1.35), dtype=np.float32)


def shadow_sprite(pixels_per_unit: float) -> Sprite:
    """Paints a soft dark ellipse with half-axes 1 and 0.25."""
    canvas = Canvas(-1, -0.25, 1, 0.25, pixels_per_unit)
    canvas.paint(canvas.ellipse(0, 0, 0.8, 0.18, soft=0.8) * 0.55, np.zeros(3, dtype=np.float32))
    return canvas.sprite()


def blob_points(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Draws the outline of a random shape of about unit radius: a blob, star, flower, polygon or leaf."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    choice = rng.random()
    if choice < 0.35:  # blob
        radius = np.ones_like(angles)
        for harmonic in range(2, 6):
            radius += rng.normal(0, 0.22 / harmonic) * np.cos(harmonic * angles + rng.uniform(0, 6.28))
    elif choice < 0.55:  # polygon
        sides = int(rng.integers(3, 7))
        radius = np.cos(np.pi / sides) / np.cos((angles % (2 * np.pi / sides)) - np.pi / sides)
    elif choice < 0.85:  # petals, points
        num = int(rng.integers(3, 10))
        radius = 0.72 + 0.28 * np.cos(num * angles) ** int(rng.choice([1, 3]))
    else:
        radius = np.ones_like(angles)
    stretch = rng.uniform(0.5, 1.0)
    return [
        (float(r * math.cos(a)), float(r * math.sin(a) * stretch))
        for r, a in zip(radius, angles, strict=True)
    ]


def shape_sprite(rng: np.random.Generator, pixels_per_unit: float, light: float) -> Sprite:
    """Paints a shaded, textured random shape of about unit radius."""
    canvas = Canvas(-1.3, -1.3, 1.3, 1.3, pixels_per_unit)
    outline = canvas.polygon(blob_points(rng))
    base = draw_color(rng, (0.2, 1.0), (0.25, 1.0))
    canvas.paint(outline, surface(rng, canvas.height, canvas.width, base))
    if rng.random() < 0.4:  # a heart or eye in the middle
        canvas.paint(canvas.ellipse(0, 0, 0.3, 0.25), draw_color(rng, (0.2, 1.0), (0.1, 1.0)))
    canvas.shade(ball_shading(canvas, 0, 0, 1.15, 1.15, light))
    return canvas.sprite()


def smooth_texture(rng: np.random.Generator, canvas: Canvas, strength: float) -> Array:
    """(height, width) factors around 1."""
    noise = fractal_noise(rng, canvas.height, canvas.width, 1.2)
    return np.asarray(1 + strength * noise, dtype=np.float32)
