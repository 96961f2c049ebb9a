"""Textures and backdrops, painted once per shot."""

import colorsys

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from scipy import fft

Array = npt.NDArray[np.float32]
Color = npt.NDArray[np.float32]  # (3,) RGB in 0..255

BACKDROPS = ("room", "street", "nature", "abstract", "defocused")


def fractal_noise(rng: np.random.Generator, height: int, width: int, slope: float = 1.0) -> Array:
    """Generates (height, width) noise with mean 0 and standard deviation 1.

    Its amplitude falls with spatial frequency to the power `slope` (1 in natural images).
    """
    white = rng.standard_normal((height, width), dtype=np.float32)
    spectrum = fft.rfft2(white)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]).astype(np.float32)
    radius[0, 0] = 1.0
    spectrum *= radius**-slope
    spectrum[0, 0] = 0.0
    noise = fft.irfft2(spectrum, (height, width))
    return np.asarray(noise / (noise.std() + 1e-9), dtype=np.float32)


def draw_color(
    rng: np.random.Generator,
    saturation: tuple[float, float] = (0.0, 1.0),
    value: tuple[float, float] = (0.15, 1.0),
    hue: tuple[float, float] = (0.0, 1.0),
) -> Color:
    """Draws a color with uniform hue, saturation and value within the given ranges."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value))
    return np.array(rgb, dtype=np.float32) * 255


def surface(rng: np.random.Generator, height: int, width: int, base: Color, strength: float = 1.0) -> Array:
    """Paints a surface (height, width, 3) around a base color: noise, stripes, checks, dots or plain."""
    second = base * rng.uniform(0.45, 0.9) if rng.random() < 0.5 else draw_color(rng)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    period = rng.uniform(0.06, 0.25) * max(height, width)
    along = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)
    across = (-x * np.sin(angle) + y * np.cos(angle)) * (2 * np.pi / period)
    choice = rng.random()
    if choice < 0.35:
        mix = np.zeros((height, width), dtype=np.float32)
    elif choice < 0.55:
        mix = np.clip(np.sin(along) * 3 + 0.5, 0, 1)
    elif choice < 0.68:
        mix = np.clip(np.sin(along) * np.sin(across) * 6 + 0.5, 0, 1)
    elif choice < 0.8:
        mix = np.clip((np.cos(along) + np.cos(across) - 0.8) * 4, 0, 1)
    else:
        mix = np.clip(fractal_noise(rng, height, width, 1.3) + 0.5, 0, 1)
    mix = mix * rng.uniform(0.3, 1.0) * strength
    grain = fractal_noise(rng, height, width, rng.uniform(0.6, 1.4)) * rng.uniform(0.0, 0.1) * strength
    return np.asarray((base * (1 - mix[..., None]) + second * mix[..., None]) * (1 + grain[..., None]))


def paint_backdrop(
    rng: np.random.Generator, kind: str, height: int, width: int, horizon: float
) -> Image.Image:
    """Paints the backdrop of a shot, one of `BACKDROPS`; the ground starts at `horizon`, 0..1 from the top."""
    painters = {"room": _room, "street": _street, "nature": _nature, "abstract": _abstract}
    blur = rng.uniform(0.0, 0.006)
    if kind == "defocused":
        inner = str(rng.choice(list(painters)))
        pixels = painters[inner](rng, height, width, horizon)
        blur = rng.uniform(0.02, 0.05)
    else:
        pixels = painters[kind](rng, height, width, horizon)
    pixels = _light(rng, pixels)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if blur * height > 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(blur * height))
    if kind == "defocused" and rng.random() < 0.5:
        picture = _lights_out_of_focus(rng, picture)
    return picture


def _to_array(picture: Image.Image) -> Array:
    return np.asarray(picture, dtype=np.float32)


def _color_tuple(color: Color) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in np.clip(color, 0, 255))
    return red, green, blue


def _vertical_gradient(top: Color, bottom: Color, height: int, width: int) -> Array:
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3)).copy()


def _light(rng: np.random.Generator, pixels: Array) -> Array:
    """Returns uneven lighting: brighter to one side, with large soft variations."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = 1 + rng.uniform(0, 0.35) * (x * np.cos(angle) + y * np.sin(angle))
    cx, cy, spread = rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.4), rng.uniform(0.4, 1.2)
    glow = 1 + rng.uniform(0, 0.5) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * spread**2))
    soft = 1 + 0.08 * fractal_noise(rng, height, width, 2.0)
    return np.asarray(pixels * (ramp * glow * soft * rng.uniform(0.6, 1.1))[..., None])


def _room(rng: np.random.Generator, height: int, width: int, horizon: float) -> Array:
    wall = surface(rng, height, width, draw_color(rng, (0.0, 0.5), (0.25, 0.9)), rng.uniform(0.0, 0.4))
    floor_row = int(horizon * height)
    floor = surface(rng, height - floor_row, width, draw_color(rng, (0.1, 0.6), (0.15, 0.7)), 0.7)
    wall[floor_row:] = floor
    picture = Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8)).resize((2 * width, 2 * height))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 7)):  # windows, pictures, shelves, doors
        w, h = rng.uniform(0.08, 0.4) * width, rng.uniform(0.08, 0.5) * height
        left, top = rng.uniform(-0.1, 1.0) * width, rng.uniform(0.0, max(0.05, horizon - 0.15)) * height
        bottom = min(top + h, horizon * height)
        if bottom <= top + 4:
            continue
        frame = draw_color(rng, (0.0, 0.6), (0.1, 0.9))
        draw.rectangle((2 * left, 2 * top, 2 * (left + w), 2 * bottom), fill=_color_tuple(frame))
        inset = rng.uniform(0.03, 0.12) * min(w, bottom - top)
        inner = draw_color(rng, (0.0, 0.8), (0.2, 1.0))
        box = (2 * (left + inset), 2 * (top + inset), 2 * (left + w - inset), 2 * (bottom - inset))
        draw.rectangle(box, fill=_color_tuple(inner))
        for part in range(1, int(rng.integers(1, 5))):
            if rng.random() < 0.5:
                x = box[0] + (box[2] - box[0]) * part / 4
                draw.line((x, box[1], x, box[3]), fill=_color_tuple(frame), width=max(2, int(inset)))
            else:
                y = box[1] + (box[3] - box[1]) * part / 4
                draw.line((box[0], y, box[2], y), fill=_color_tuple(frame), width=max(2, int(inset)))
    draw.rectangle(
        (0, 2 * floor_row - int(rng.integers(1, 10)), 2 * width, 2 * floor_row),
        fill=_color_tuple(draw_color(rng, (0, 0.5))),
    )
    return _to_array(picture.reduce(2))


def _street(rng: np.random.Generator, height: int, width: int, horizon: float) -> Array:
    sky_top = draw_color(rng, (0.1, 0.7), (0.5, 1.0), (0.5, 0.7))
    pixels = _vertical_gradient(sky_top, draw_color(rng, (0.0, 0.3), (0.7, 1.0)), height, width)
    clouds = np.clip(fractal_noise(rng, height, width, 1.6), 0, 2)[..., None] * rng.uniform(0, 0.4)
    pixels = pixels * (1 - 0.5 * clouds) + 250 * 0.5 * clouds
    ground_row = int(horizon * height)
    pixels[ground_row:] = surface(
        rng, height - ground_row, width, draw_color(rng, (0, 0.25), (0.2, 0.6)), 0.4
    )
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize((2 * width, 2 * height))
    draw = ImageDraw.Draw(picture)
    left = -rng.uniform(0, 0.1) * width
    while left < width:  # a row of houses with windows
        w = rng.uniform(0.08, 0.3) * width
        top = horizon * height * rng.uniform(0.05, 0.8)
        facade = draw_color(rng, (0.0, 0.5), (0.25, 0.9))
        draw.rectangle((2 * left, 2 * top, 2 * (left + w), 2 * ground_row), fill=_color_tuple(facade))
        columns = int(rng.integers(2, 6))
        step = w / columns
        pane = draw_color(rng, (0.0, 0.5), (0.1, 1.0))
        y = top + step * 0.3
        while y + step * 0.6 < ground_row:
            for column in range(columns):
                x = left + step * (column + 0.25)
                tone = _color_tuple(pane * rng.uniform(0.6, 1.3))
                draw.rectangle((2 * x, 2 * y, 2 * (x + step * 0.5), 2 * (y + step * 0.55)), fill=tone)
            y += step * rng.uniform(0.85, 0.95)
        left += w + (rng.uniform(0, 0.1) * width if rng.random() < 0.3 else 0)
    if rng.random() < 0.5:  # lane marks
        for start in np.arange(-0.1, 1.1, 0.12):
            y = (ground_row + (height - ground_row) * 0.45) * 2
            draw.rectangle((2 * start * width, y, 2 * (start + 0.06) * width, y + 5), fill=(210, 210, 200))
    return _to_array(picture.reduce(2))


def _nature(rng: np.random.Generator, height: int, width: int, horizon: float) -> Array:
    far = draw_color(rng, (0.2, 0.7), (0.4, 1.0), (0.2, 0.65))
    pixels = _vertical_gradient(draw_color(rng, (0.1, 0.6), (0.5, 1.0), (0.45, 0.7)), far, height, width)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    for layer in range(int(rng.integers(1, 4))):  # hills or hedges, one before the other
        ridge = horizon - 0.25 + 0.12 * layer
        line = fractal_noise(rng, 2, width, 1.4)[0] * 0.05 + ridge
        leaf = draw_color(rng, (0.3, 0.9), (0.15, 0.6), (0.15, 0.42))
        leaves = leaf * (1 + 0.35 * fractal_noise(rng, height, width, rng.uniform(0.5, 1.1)))[..., None]
        cover = np.clip((y - line[None, :]) * height, 0, 1)[..., None]
        pixels = pixels * (1 - cover) + leaves * cover
    ground = draw_color(rng, (0.2, 0.8), (0.2, 0.7), (0.08, 0.4))
    stretch = int(rng.integers(1, 5))
    grass = fractal_noise(rng, height, width, rng.uniform(0.4, 1.0))
    if stretch > 1:  # water and mown grass lie in horizontal streaks
        grass = np.repeat(grass[:, ::stretch], stretch, axis=1)[:, :width]
    cover = np.clip((y - horizon) * height, 0, 1)[..., None]
    pixels = pixels * (1 - cover) + ground * (1 + 0.3 * grass)[..., None] * cover
    for _ in range(rng.integers(0, 6)):  # trunks
        center, half = rng.uniform(0, 1), rng.uniform(0.004, 0.03)
        bark = draw_color(rng, (0.1, 0.5), (0.1, 0.5), (0.03, 0.12))
        edge = np.clip((half - np.abs(x - center - 0.02 * np.sin(y * rng.uniform(2, 8)))) * width, 0, 1)
        edge = (edge * (y < horizon + rng.uniform(0, 0.15)))[..., None]
        tone = bark * (1 + 0.5 * (x - center) / half)[..., None]
        pixels = pixels * (1 - edge) + tone * edge
    return np.asarray(pixels, dtype=np.float32)


def _abstract(rng: np.random.Generator, height: int, width: int, horizon: float) -> Array:
    first, second, third = (draw_color(rng) for _ in range(3))
    mix = np.clip(0.5 + 0.3 * fractal_noise(rng, height, width, rng.uniform(0.8, 2.2)), 0, 1)[..., None]
    pixels = first * mix + second * (1 - mix)
    mask = np.clip(fractal_noise(rng, height, width, 1.6) * rng.uniform(1, 8), 0, 1)[..., None] * rng.random()
    pixels = pixels * (1 - mask) + third * mask
    if rng.random() < 0.5:
        row = int(horizon * height)
        pixels[row:] = surface(rng, height - row, width, draw_color(rng), 1.0)
    return np.asarray(pixels, dtype=np.float32)


def _lights_out_of_focus(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    width, height = picture.size
    glow = Image.new("RGB", (2 * width, 2 * height))
    draw = ImageDraw.Draw(glow)
    for _ in range(rng.integers(3, 16)):
        radius = rng.uniform(0.01, 0.05) * height * 2
        x, y = rng.uniform(0, 2 * width), rng.uniform(0, 1.5 * height)
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=_color_tuple(draw_color(rng) * 0.4)
        )
    blurred = _to_array(glow.reduce(2).filter(ImageFilter.GaussianBlur(1)))
    return Image.fromarray(np.clip(_to_array(picture) + blurred, 0, 255).astype(np.uint8))
