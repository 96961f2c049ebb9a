"""Overlay of a saliency map on its frame."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator
from PIL import Image, ImageDraw, ImageFont

COLOR_MAP = "turbo"
BAND_HEIGHT = 64  # rows colored at a time
MOST_OPAQUE = 0.65  # of the heat map, where saliency is highest


@dataclass(frozen=True)
class OverlayStyle:
    """What an overlay shows besides the heat map.

    Attributes:
        color_bar: Whether to draw a labeled color bar at the right.
        contour: Outlines the most salient part of the image: its share of the area, from 0 (no outline) to below 1.
        peak: Whether to ring the most salient point.

    Raises:
        ValueError: `contour` is out of range.
    """

    color_bar: bool = True
    contour: float = 0.0
    peak: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.contour < 1:
            raise ValueError(f"`contour={self.contour}`: must be at least 0 (no outline) and below 1")


def normalize(saliency: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Stretches a map to 0..1, as the published code does for each frame; a constant map becomes zeros."""
    low, high = float(saliency.min()), float(saliency.max())
    if not high > low:
        return np.zeros_like(saliency)
    stretched: npt.NDArray[np.float32] = (saliency - np.float32(low)) / np.float32(high - low)
    return stretched


def resize_smoothly(saliency: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Enlarges an (h, w) map to `size` = (width, height) in pixels, bicubic, clipped to 0..1."""
    height, width = saliency.shape
    # Two matrix products: five times faster than resizing floats with Pillow.
    enlarged = np.empty((size[1], size[0]), dtype=np.float32)
    np.matmul(_bicubic_weights(height, size[1]).T @ saliency, _bicubic_weights(width, size[0]), out=enlarged)
    return enlarged.clip(0.0, 1.0, out=enlarged)


@functools.lru_cache(maxsize=8)
def _bicubic_weights(num: int, size: int) -> npt.NDArray[np.float32]:
    """(num, size) weights of the `num` pixels of a row in each of the `size` pixels it is resized to."""
    rows = Image.fromarray(np.eye(num, dtype=np.float32))
    return np.array(rows.resize((size, num), Image.Resampling.BICUBIC), dtype=np.float32)


def draw_overlay(
    image: npt.NDArray[np.uint8], saliency: npt.NDArray[np.float32], style: OverlayStyle | None = None
) -> npt.NDArray[np.uint8]:
    """Draws a saliency map (h, w) over its frame as a heat map that is transparent where saliency is low.

    `image` is (H, W, 3) uint8 RGB, and so is the result. The map may have any range; it is stretched to 0..1 first.
    `style` says what else is shown.
    """
    style = style or OverlayStyle()
    picture = Image.fromarray(image)
    scaled = normalize(saliency)
    # The map is enlarged in 8 bits before colors are looked up: no visible difference, and a 1280x720 frame takes
    # milliseconds.
    levels = Image.fromarray((scaled * 255).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    levels.putpalette(_palette(), "RGBA")
    for top in range(0, picture.height, BAND_HEIGHT):  # in bands that stay in the processor's caches
        band = levels.crop((0, top, picture.width, min(top + BAND_HEIGHT, picture.height)))
        heat = band.convert("RGBA")
        picture.paste(heat, (0, top), heat)
    draw = ImageDraw.Draw(picture)
    line_width = max(1, round(min(picture.size) / 240))
    if style.contour > 0:
        _draw_contour(draw, picture.size, scaled, style.contour, line_width)
    if style.peak:
        _draw_peak(draw, picture.size, scaled, line_width)
    if style.color_bar:
        _paste_color_bar(picture)
    return np.asarray(picture)


def peak_position(saliency: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Position of a map's maximum: (x, y) as fractions 0..1 of width and height, at the center of the cell."""
    row, column = np.unravel_index(int(np.argmax(saliency)), saliency.shape)
    height, width = saliency.shape
    return (float(column) + 0.5) / width, (float(row) + 0.5) / height


def top_threshold(saliency: npt.NDArray[np.float32], share: float) -> float:
    """The value reached or exceeded by `share` (0..1) of a map's cells."""
    return float(np.quantile(saliency, 1 - share))


@functools.cache
def _color_tables() -> tuple[list[int], list[int], list[int]]:
    from matplotlib import colormaps

    table = (colormaps[COLOR_MAP](np.arange(256))[:, :3] * 255).round().astype(int)
    return table[:, 0].tolist(), table[:, 1].tolist(), table[:, 2].tolist()


@functools.cache
def _palette() -> bytes:
    """Color and opacity of each level, four bytes each."""
    # Concave, to bring out medium saliency, with a finite slope at 0, where 8-bit steps would be visible.
    opacity = [round(255 * MOST_OPAQUE * (1 - (1 - level / 255) ** 2)) for level in range(256)]
    return np.array([*_color_tables(), opacity], np.uint8).T.tobytes()


def _draw_contour(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    scaled: npt.NDArray[np.float32],
    share: float,
    line_width: int,
) -> None:
    height, width = scaled.shape
    xs = (np.arange(width) + 0.5) / width * size[0]
    ys = (np.arange(height) + 0.5) / height * size[1]
    for line in contour_generator(xs, ys, scaled).lines(top_threshold(scaled, share)):
        points = [(float(x), float(y)) for x, y in np.asarray(line)]
        if len(points) > 1:
            draw.line(points, fill=(0, 0, 0), width=line_width + 2, joint="curve")
            draw.line(points, fill=(255, 255, 255), width=line_width, joint="curve")


def _draw_peak(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], scaled: npt.NDArray[np.float32], line_width: int
) -> None:
    x, y = peak_position(scaled)
    radius = max(3.0, min(size) / 40)
    for color, grow in (((0, 0, 0), line_width), ((255, 255, 255), 0)):
        draw.ellipse(
            [
                x * size[0] - radius - grow,
                y * size[1] - radius - grow,
                x * size[0] + radius + grow,
                y * size[1] + radius + grow,
            ],
            outline=color,
            width=line_width + (2 * grow if grow else 0),
        )


def _paste_color_bar(picture: Image.Image) -> None:
    width, height = picture.size
    if width < 96 or height < 96:  # too small to be readable
        return
    bar, mask = _color_bar(height)
    picture.paste(bar, (width - bar.width - max(4, height // 60), (height - bar.height) // 2), mask)


@functools.lru_cache(maxsize=8)
def _color_bar(height: int) -> tuple[Image.Image, Image.Image]:
    """The color bar for images of this height, labeled "high" and "low", and its opacity."""
    length, breadth = height // 3, max(6, height // 45)
    font = ImageFont.load_default(size=max(9, height // 36))
    label_height = round(font.getbbox("high")[3]) + 4
    label_width = round(font.getlength("high")) + 4
    bar = Image.new("RGB", (max(label_width, breadth + 2), length + 2 * label_height))
    mask = Image.new("L", bar.size, 0)
    column = np.linspace(255, 0, length).astype(np.uint8)[:, None].repeat(breadth, axis=1)
    levels = Image.fromarray(column)
    left = (bar.width - breadth) // 2
    bar.paste(Image.merge("RGB", [levels.point(t) for t in _color_tables()]), (left, label_height))
    mask.paste(230, (left, label_height, left + breadth, label_height + length))
    for drawing, ink, outline in (
        (ImageDraw.Draw(bar), (255, 255, 255), (0, 0, 0)),
        (ImageDraw.Draw(mask), 255, 255),
    ):
        for text, y in (("high", 0), ("low", label_height + length)):
            x = (bar.width - font.getlength(text)) / 2
            drawing.text((x, y), text, font=font, fill=ink, stroke_width=1, stroke_fill=outline)
    return bar, mask
