"""Results of areas on disk: tables, a plot over time, and the video with areas and shares drawn on it."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from stavis import media
from stavis.areas.area import Area
from stavis.areas.measure import AreaAttention, AreaFrame, AreaSummary, measure_areas
from stavis.areas.read import read_areas
from stavis.errors import legend_text, printable
from stavis.gaze import Gaze
from stavis.maps.overlay import OverlayStyle, draw_overlay
from stavis.model import STAViS
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import FrameSaliency
from stavis.runtime.files import atomic_path, write_csv
from stavis.storage.remote import as_path

TABLE_NAME, SUMMARY_NAME, PLOT_NAME, VIDEO_NAME = "areas.csv", "areas_summary.csv", "areas.png", "areas.mp4"
PLOT_WINDOW_SECONDS = 1.0  # of the running mean that smooths real gaze in the plot


def write_areas(
    video: str | Path,
    areas: str | Path | Sequence[Area],
    output: str | Path,
    model: STAViS | None = None,
    *,
    gaze: Gaze | None = None,
    options: PredictOptions | None = None,
    maps: Path | npt.NDArray[np.floating] | None = None,
    overlay: bool = True,
    quiet: bool = True,
) -> AreaAttention:
    """Measures a video's areas and writes `areas.csv`, `areas_summary.csv` and `areas.png` to the folder `output`.

    With `overlay` also `areas.mp4`, the video with its heat map, areas and shares. Other arguments and errors as for
    `measure_areas`; StavisError as well if a file cannot be written.
    """
    video, output, options = as_path(video), Path(output), options or PredictOptions()
    info = media.probe(video, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    chosen = read_areas(areas, (info.width, info.height)) if isinstance(areas, str | Path) else list(areas)
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        on_frame: Callable[[FrameSaliency, list[AreaFrame]], None] | None = None
        if overlay:
            writer = stack.enter_context(
                media.VideoWriter(
                    output / VIDEO_NAME,
                    width=info.width,
                    height=info.height,
                    frame_rate=info.frame_rate,
                    audio_from=None if info.audio is None else info.path,
                    audio_stream=options.audio_stream,
                )
            )

            def draw(frame: FrameSaliency, rows: list[AreaFrame]) -> None:
                assert frame.image is not None
                heat = draw_overlay(frame.image, frame.saliency, OverlayStyle(color_bar=False))
                writer.write(draw_areas(heat, chosen, rows), frame.time_seconds)

            on_frame = draw

        attention = measure_areas(
            video, chosen, model, gaze=gaze, options=options, maps=maps, on_frame=on_frame, quiet=quiet
        )
    _write_table(output / TABLE_NAME, attention.rows, AreaFrame)
    _write_table(output / SUMMARY_NAME, attention.summary, AreaSummary)
    draw_shares(output / PLOT_NAME, attention, video.name)
    return attention


def _write_table(path: Path, rows: Sequence[Any], kind: type) -> None:
    rounded = ([round(v, 6) if isinstance(v, float) else v for v in astuple(row)] for row in rows)
    write_csv(path, [field.name for field in fields(kind)], rounded)


def draw_areas(
    image: npt.NDArray[np.uint8], areas: Sequence[Area], rows: Sequence[AreaFrame]
) -> npt.NDArray[np.uint8]:
    """Draws the outlines of areas with their names and shares on an (H, W, 3) picture."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    line_width = max(1, round(min(picture.size) / 240))
    font = ImageFont.load_default(size=max(10, round(min(picture.size) / 30)))
    for number, (area, row) in enumerate(zip(areas, rows, strict=True)):
        points = area.polygon(row.frame, row.time_seconds)
        if points is None or not row.visible:
            continue
        color = _color(number)
        outline = [(float(x), float(y)) for x, y in [*points, points[0]]]
        draw.line(outline, fill=(0, 0, 0), width=line_width + 2, joint="curve")
        draw.line(outline, fill=color, width=line_width, joint="curve")
        label = f"{area.name} {row.share:.0%}"
        box = draw.textbbox((0, 0), label, font=font)
        x = min(max(0.0, float(points[:, 0].min())), picture.width - box[2])
        y = min(max(0.0, float(points[:, 1].min()) - box[3] - line_width), picture.height - box[3])
        draw.text((x, y), label, font=font, fill=color, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture)


def draw_shares(path: Path, attention: AreaAttention, title: str) -> None:
    """Draws each area's share of attention over time as a PNG; real gaze, where there is any, dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots()
    num = len(attention.areas)
    times = np.array([row.time_seconds for row in attention.rows[::num]])
    for number, area in enumerate(attention.areas):
        rows = attention.rows[number::num]
        color = tuple(part / 255 for part in _color(number))
        shares = [row.share if row.visible else np.nan for row in rows]
        axes.plot(times, shares, color=color, label=legend_text(area.name))
        gaze = np.array([row.gaze_share for row in rows])
        if np.isfinite(gaze).any():
            axes.plot(times, _running_mean(gaze, times), "--", color=color, linewidth=1)
    if any(row.num_gaze for row in attention.rows):
        axes.plot([], [], "--", color="0.4", linewidth=1, label=f"real gaze, {PLOT_WINDOW_SECONDS:g} s means")
    axes.set(xlabel="time (s)", ylabel="share of attention", title=printable(title))
    axes.title.set_parse_math(False)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _running_mean(values: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    begins = np.searchsorted(times, times - PLOT_WINDOW_SECONDS / 2)
    ends = np.searchsorted(times, times + PLOT_WINDOW_SECONDS / 2, side="right")
    sums = np.concatenate([[0.0], np.nancumsum(values)])
    counts = np.concatenate([[0], np.cumsum(np.isfinite(values))])
    num = counts[ends] - counts[begins]
    return np.asarray(np.where(num > 0, (sums[ends] - sums[begins]) / np.maximum(num, 1), np.nan))


def _color(number: int) -> tuple[int, int, int]:
    from matplotlib import colormaps

    red, green, blue, _ = colormaps["tab10"](number % 10)
    return round(255 * red), round(255 * green), round(255 * blue)
