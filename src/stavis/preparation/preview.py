"""Contact sheet of a prepared video with its gaze, to see at a glance whether gaze lies where it should."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from stavis.datasets.layout import Layout
from stavis.gaze import read_observers
from stavis.maps import read_density_map
from stavis.runtime.files import atomic_path

NUM_PICTURES = 9
NUM_COLUMNS = 3
PICTURE_WIDTH = 480  # pixels
DENSITY_OPACITY = 0.5  # where the density map is at its maximum
POINT_RADIUS = 4  # pixels


def draw_preview(
    layout: Layout, database: str, video: str, *, num_frames: int, observers_path: Path, output: Path
) -> None:
    """Draws frames from all parts of a video, its density maps as a red glow, and each observer as colored dots."""
    observers = read_observers(observers_path)
    colors = (
        matplotlib.colormaps["hsv"](np.arange(len(observers.names)) / len(observers.names)) * 255
    ).astype(int)
    num = min(NUM_PICTURES, num_frames)
    frames = np.unique(((np.arange(num) + 0.5) * num_frames / num).astype(int))
    pictures = []
    for frame in frames.tolist():
        with Image.open(layout.frame(database, video, frame)) as image:
            scale = PICTURE_WIDTH / image.width
            size = (PICTURE_WIDTH, max(1, round(image.height * scale)))
            picture = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        glow = Image.fromarray(read_density_map(layout.density_map(database, video, frame))).resize(size)
        opacity = glow.point(lambda value: int(value * DENSITY_OPACITY))
        picture = Image.composite(Image.new("RGB", size, (255, 0, 0)), picture, opacity)
        draw = ImageDraw.Draw(picture)
        for i in np.flatnonzero(observers.frame == frame).tolist():
            # A pixel's middle lies half a pixel from where it begins.
            x, y = (np.floor(observers.x[i]) + 0.5) * scale, (np.floor(observers.y[i]) + 0.5) * scale
            box = (x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS)
            draw.ellipse(box, fill=tuple(colors[observers.observer[i]][:3].tolist()), outline=(0, 0, 0))
        draw.text((5, 5), f"frame {frame}", fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
        pictures.append(picture)
    width, height = size
    num_rows = -(-len(pictures) // NUM_COLUMNS)
    sheet = Image.new("RGB", (width * min(NUM_COLUMNS, len(pictures)), height * num_rows))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % NUM_COLUMNS * width, i // NUM_COLUMNS * height))
    with atomic_path(output) as temporary:
        sheet.save(temporary, format="PNG")
