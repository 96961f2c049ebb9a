"""`stavis areas`: how much attention each area of a video gets."""

from pathlib import Path
from typing import Annotated

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError, counted


def areas(
    video: Annotated[Path, typer.Argument(help="A video, or a folder of numbered images.", metavar="VIDEO")],
    areas_file: Annotated[
        Path, typer.Option("--areas", help="Areas: CSV, COCO JSON, VIA JSON or CVAT for video XML.")
    ],
    gaze: Annotated[
        list[Path] | None, typer.Option(help="Real gaze on the video: a file or folder; may be repeated.")
    ] = None,
    screen: Annotated[
        str | None,
        typer.Option(help="Screen whose pixels the gaze is in, if not the video's.", metavar="WIDTHxHEIGHT"),
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write areas.mp4: the video with areas and shares.")] = True,
    output: shared.OutputOption = Path("stavis-output"),
    weights: shared.WeightsOption = shared.DEFAULT,
    maps: shared.MapsOption = None,
    stride: shared.StrideOption = 1,
    frame_rate: shared.FrameRateOption = None,
    device: shared.DeviceOption = "auto",
    quiet: shared.QuietOption = False,
) -> None:
    """Measure how much attention each area of a video gets.

    The video gets a folder below --output with areas.csv (per frame), areas_summary.csv, areas.png and areas.mp4.
    """
    from stavis import media
    from stavis.areas.output import write_areas
    from stavis.areas.read import read_areas
    from stavis.gaze import GazeOptions, read_gaze
    from stavis.media.inputs import find_videos, name_folders
    from stavis.prediction.map_source import load_source
    from stavis.prediction.options import PredictOptions
    from stavis.runtime.folders import check_folder

    names = name_folders(find_videos([str(video)]), output)
    if len(names) != 1:
        raise StavisError(f"{video}: stands for {len(names)} videos; areas belong to one")
    ((path, name),) = names.items()
    check_folder(output / name)
    with shared.checked():
        options = PredictOptions(stride=stride, frame_rate=frame_rate)
    with shared.each_warning_once():
        info = media.probe(path, frame_rate=frame_rate)
        chosen = read_areas(areas_file, (info.width, info.height))
        recorded = None
        if gaze:
            gaze_options = GazeOptions(screen=shared.parse_size("--screen", screen) if screen else None)
            recorded, _ = read_gaze(
                gaze, video=name, width=info.width, height=info.height, options=gaze_options
            )
        model, _ = load_source(weights, maps, device=device)
        attention = write_areas(
            path,
            chosen,
            output / name,
            model,
            gaze=recorded,
            options=options,
            maps=maps,
            overlay=overlay,
            quiet=quiet,
        )
    if not quiet:
        shared.say(f"{path}: {counted(len(chosen), 'areas')}, in {output / name}")
        width = max(len(area.name) for area in chosen)
        for row in sorted(attention.summary, key=lambda row: -row.share):
            real = "" if recorded is None else f", of real gaze {row.gaze_share:6.1%}"
            typer.echo(
                f"{row.area:{width}}  {row.share:6.1%} of attention ({row.ratio:.1f} times its size){real}"
            )
