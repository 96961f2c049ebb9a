"""`stavis reframe`: a video in another shape that keeps what people look at."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError, counted

if TYPE_CHECKING:
    from stavis.model import STAViS


def reframe(
    inputs: shared.VideosArgument,
    aspect: Annotated[str, typer.Option(help="Shape of the new picture.", metavar="W:H")] = "9:16",
    output: shared.OutputOption = Path("stavis-output"),
    path: Annotated[
        Literal["json", "csv", "sendcmd"] | None,
        typer.Option(help="Write the window's path alone, in this format and as reframe.json, and no video."),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Also draw the window: preview.mp4.")] = False,
    zoom: Annotated[
        bool, typer.Option("--zoom", help="Move in slowly on what people look at, up to --max-zoom.")
    ] = False,
    max_zoom: Annotated[float, typer.Option(help="Largest magnification with --zoom, 1 to 8.")] = 1.5,
    smoothness: Annotated[
        float,
        typer.Option(help="Above 1 the window moves less, below 1 it follows closely; 3 suits maps of gaze."),
    ] = 1.0,
    max_speed: Annotated[float, typer.Option(help="Fastest motion, in picture widths per second.")] = 0.4,
    bounds: Annotated[
        str | None,
        typer.Option(
            help="Part of the picture that the window never leaves, in percent of its width and height.",
            metavar="LEFT,TOP,RIGHT,BOTTOM",
        ),
    ] = None,
    weights: shared.WeightsOption = shared.DEFAULT,
    maps: shared.MapsOption = None,
    stride: shared.StrideOption = 1,
    frame_rate: shared.FrameRateOption = None,
    device: shared.DeviceOption = "auto",
    overwrite: shared.OverwriteOption = False,
    quiet: shared.QuietOption = False,
    verbose: shared.VerboseOption = False,
) -> None:
    """Crop videos to another shape, following what people look at.

    Each video gets a folder below --output with reframed.mp4 (audio included) and reframe.json (the window per frame).
    When run again, the command skips what is finished.
    """
    from stavis.prediction.options import PredictOptions
    from stavis.reframing.camera import CameraSettings
    from stavis.reframing.reframe import reframe as reframe_video

    with shared.checked():
        options = PredictOptions(stride=stride, frame_rate=frame_rate)
        settings = CameraSettings(
            aspect=_parse_aspect(aspect),
            max_zoom=max_zoom if zoom else 1.0,
            smoothness=smoothness,
            max_speed=max_speed,
            bounds=_parse_bounds(bounds),
        )

    def work(video: Path, folder: Path, model: "STAViS | None", name: str) -> str:
        result = reframe_video(
            video,
            folder,
            model,
            settings=settings,
            options=options,
            maps=maps,
            path_format=path,
            preview=preview,
            weights=name,
            overwrite=overwrite,
            quiet=quiet,
        )
        if result.path is None:
            return f"{video}: already finished, in {folder}"
        (width, height), num_shots = result.path.output_size, len(result.path.shot_starts)
        num_frames = len(result.path.windows)
        counts = f"{counted(num_frames, 'frames')} in {counted(num_shots, 'shots')}"
        return f"{video}: {counts}, {width}x{height}, in {folder}"

    shared.work_on_videos(
        inputs, output, work, weights=weights, maps=maps, device=device, quiet=quiet, verbose=verbose
    )


def _parse_aspect(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)[:/x](\d+(?:\.\d+)?)", text.strip())
    if match is None or not float(match[1]) > 0 or not float(match[2]) > 0:
        raise StavisError(f"--aspect {text}: must be two positive numbers, such as 9:16 or 1:1")
    return float(match[1]) / float(match[2])


def _parse_bounds(text: str | None) -> tuple[float, float, float, float]:
    from stavis.reframing.camera import CameraSettings

    if text is None:
        return 0.0, 0.0, 1.0, 1.0
    try:
        left, top, right, bottom = (float(part) / 100 for part in text.split(","))
        CameraSettings(bounds=(left, top, right, bottom))  # its own message is in fractions
    except ValueError:
        raise StavisError(
            f"--bounds {text}: must be four percentages within 0..100, left < right, top < bottom, such as 0,0,100,90"
        ) from None
    return left, top, right, bottom
