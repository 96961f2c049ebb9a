"""`stavis prepare`: your own videos, with or without gaze, in the layout that every other command reads."""

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError, counted, some

_option = partial(typer.Option, show_default=False)
_gaze = partial(_option, rich_help_panel="Gaze: how its files are read")
_screen = partial(_option, rich_help_panel="Screen: how the video was shown while gaze was recorded")
_maps = partial(_option, rich_help_panel="Maps: how gaze becomes fixation and density maps")
_lists = partial(_option, rich_help_panel="Fold lists")
_videos = partial(_option, rich_help_panel="Videos")

_Tables = Literal["csv", "parquet", "mat", "coutrot", "diem", "smi"]
Format = Literal["auto", _Tables, "eyelink", "tobii", "pupil", "bids", "png", "json"]


def prepare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders of videos or of numbered images, glob patterns, or a manifest: a .csv with columns "
            "video, name, gaze, gaze_format, clip (only the first is required).",
            metavar="INPUT",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Data folder; created, or added to.")],
    database: Annotated[str, typer.Option("--database", "-d", help="Name of the database: any word.")],
    gaze: Annotated[
        list[str] | None,
        _gaze(
            help="Gaze file, folder or pattern; repeat the option for several. With several videos, gaze belongs "
            "to the video whose name its own name contains. Without gaze, videos are prepared for prediction only."
        ),
    ] = None,
    gaze_format: Annotated[Format, _gaze(help="auto detects it from the file.")] = "auto",
    gaze_columns: Annotated[
        str | None,
        _gaze(
            help="Tables: column names, as in 'observer=Participant,time=Time_ms,x=GazeX,y=GazeY'. Also: frame, event, "
            "video, confidence."
        ),
    ] = None,
    gaze_unit: Annotated[
        Literal["pixels", "fractions"],
        _gaze(help="Tables: x and y in pixels, or as fractions 0..1 of the picture. Default: pixels."),
    ] = "pixels",
    gaze_origin: Annotated[
        Literal["top-left", "bottom-left", "center"] | None,
        _gaze(
            help="Where x and y are 0; y counts upward from bottom-left and center. Default: the format's own, usually "
            "top-left."
        ),
    ] = None,
    min_confidence: Annotated[
        float | None,
        _gaze(
            min=0, max=1, help="Drop samples of a lower confidence. Default: 0.6 for Pupil Labs, else none."
        ),
    ] = None,
    time_unit: Annotated[
        Literal["s", "ms", "us", "ns"] | None,
        _gaze(help="Tables, Tobii: unit of the times. Default: by the column's name, else seconds."),
    ] = None,
    time_offset: Annotated[
        float,
        _gaze(help="Seconds added to the gaze's times: negative if its clock started before the video."),
    ] = 0.0,
    start_message: Annotated[
        str | None,
        _gaze(help="EyeLink: text in the message that starts the video. Default: SYNCTIME or DISPLAY ON."),
    ] = None,
    stimulus: Annotated[str | None, _gaze(help="What gaze files call the video, if not its name.")] = None,
    pixel_origin: Annotated[
        int | None, _gaze(min=0, max=1, help="Coordinate of the first pixel. Default: the format's own.")
    ] = None,
    frame_origin: Annotated[
        int | None, _gaze(min=0, max=1, help="Number of the first frame. Default: the format's own.")
    ] = None,
    events: Annotated[
        Literal["fixations", "samples"],
        _gaze(
            help="Where samples are marked: keep fixations (default), or also saccades and unmarked samples."
        ),
    ] = "fixations",
    eye: Annotated[
        Literal["both", "left", "right"],
        _gaze(help="DIEM, SMI, EyeLink, Tobii, BIDS: the eye to read; both (default) averages."),
    ] = "both",
    mat_variable: Annotated[
        str | None, _gaze(help="MATLAB cells: name of the variable, if several could be gaze.")
    ] = None,
    clip: Annotated[
        int | None,
        _gaze(min=1, help="Coutrot: number of the clip in the file. EyeLink: number of the recording."),
    ] = None,
    sound: Annotated[
        Literal["with", "without"],
        _gaze(help="Coutrot: recorded with (default) or without the clip's audio."),
    ] = "with",
    screen_resolution: Annotated[str | None, _screen(help="In pixels: 1440x900.", metavar="WxH")] = None,
    mapping: Annotated[
        Literal["auto", "letterbox", "stretch", "center", "none"],
        _screen(
            help="How the video was shown: as large as fits (letterbox), stretched to fill the screen, at its own size "
            "in the center, or at its own size at the top left (none). auto: the format's own, else letterbox."
        ),
    ] = "auto",
    gaze_coordinates: Annotated[
        Literal["auto", "screen", "video"],
        _screen(
            help="Whether gaze is on the screen or on the video. auto: the format's own; for tables the screen, if its "
            "resolution is given."
        ),
    ] = "auto",
    gaze_scale: Annotated[
        str | None,
        _screen(
            help="Instead of the mapping's: video pixels per screen pixel, one or two numbers.",
            metavar="SX,SY",
        ),
    ] = None,
    gaze_offset: Annotated[
        str | None,
        _screen(help="Instead of the mapping's: screen pixel at the picture's top left.", metavar="X,Y"),
    ] = None,
    screen_size: Annotated[str | None, _screen(help="In cm: 47.4x29.6.", metavar="WxH")] = None,
    distance: Annotated[float | None, _screen(help="From the eyes to the screen, in cm.")] = None,
    sigma_pixels: Annotated[
        float | None, _maps(help="Sigma of the density maps' Gaussian, in pixels of the video.")
    ] = None,
    sigma_degrees: Annotated[
        float | None,
        _maps(
            help="The same in degrees of visual angle, usually 1; needs the screen's resolution and size and the "
            "distance."
        ),
    ] = None,
    samples: Annotated[
        Literal["auto", "all", "one-per-observer"],
        _maps(
            help="Samples of an observer in a frame that become fixations. auto: all if recorded by frame, one (the "
            "median) if recorded by time."
        ),
    ] = "auto",
    folds: Annotated[
        int | None,
        _lists(
            min=1,
            help="Number of random folds: each video tests in one and trains in the others; 1 only tests. Default: 3, "
            "or 1 for fewer videos.",
        ),
    ] = None,
    seed: Annotated[int, _lists(min=0, help="Seed of the random folds. Default: 0.")] = 0,
    fold_list: Annotated[
        Path | None, _lists(help="Instead: a text file of lines 'video fold', the fold it tests in, from 1.")
    ] = None,
    train: Annotated[Path | None, _lists(help="Instead: a text file of video names, the train list.")] = None,
    test: Annotated[Path | None, _lists(help="With --train: the test list.")] = None,
    frame_rate: Annotated[
        float | None,
        _videos(help="Frames per second to write, or of an image folder. Default: the video's own."),
    ] = None,
    audio_stream: Annotated[
        int | None, _videos(min=0, help="Audio stream of the video, from 0. Default: its default one.")
    ] = None,
    quality: Annotated[
        int, _videos(min=1, max=100, help="JPEG quality of frames and density maps. Default: 95.")
    ] = 95,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of processes.")] = 1,
    overwrite: shared.OverwriteOption = False,
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Draw gaze on frames: annotations/<database>/<video>/preview.png."),
    ] = False,
    quiet: shared.QuietOption = False,
) -> None:
    """Prepare your own videos, with or without gaze, for all other commands.

    Writes frames, audio (mono, 22050 Hz) and fold lists, and with gaze the maps of every frame. A JSON file beside the
    maps says what was read, dropped and chosen. After an interruption, the same command resumes. Gaze formats:
    docs/own-data.md.

    Example: stavis prepare talk.mp4 --gaze talk.csv --sigma-pixels 40 -o data -d mine --preview
    """
    from stavis.gaze import GazeOptions
    from stavis.preparation import FoldChoice, PrepareOptions
    from stavis.preparation.options import check_database
    from stavis.preparation.prepare import prepare as prepare_videos

    with shared.checked():
        options = PrepareOptions(
            sigma_pixels=sigma_pixels,
            sigma_degrees=sigma_degrees,
            screen_size_cm=_parse_pair("--screen-size", screen_size),
            distance_cm=distance,
            samples=samples,
            frame_rate=frame_rate,
            audio_stream=audio_stream,
            quality=quality,
            gaze=GazeOptions(
                format=gaze_format,
                columns=_parse_columns(gaze_columns),
                unit=gaze_unit,
                time_unit=time_unit,
                time_offset_seconds=time_offset,
                pixel_origin=cast(Any, pixel_origin),
                frame_origin=cast(Any, frame_origin),
                origin=gaze_origin,
                min_confidence=min_confidence,
                events=events,
                eye=eye,
                variable=mat_variable,
                clip=clip,
                sound=sound,
                start_message=start_message,
                stimulus=stimulus,
                coordinates=gaze_coordinates,
                screen=shared.parse_size("--screen-resolution", screen_resolution)
                if screen_resolution
                else None,
                mode=mapping,
                scale=_parse_pair("--gaze-scale", gaze_scale),
                offset=_parse_pair("--gaze-offset", gaze_offset, positive=False),
            ),
        )
        check_database(database)
    result = prepare_videos(
        inputs,
        output,
        database,
        gaze=gaze or (),
        options=options,
        folds=FoldChoice(folds, seed, fold_list, train, test),
        jobs=jobs,
        overwrite=overwrite,
        preview=preview,
        quiet=quiet,
    )
    for video in result.videos:
        if video.record is not None and not quiet:
            typer.echo(str(video))
        for warning in video.warnings:
            shared.say(f"stavis: warning: {video.source.name}: {warning}")
    if result.lists and not quiet:
        typer.echo(
            f"{result.lists[0].parent}: {counted(len(result.lists), 'lists')} of "
            f"{counted(result.num_listed, 'videos')}, {counted(result.num_folds, 'folds')}"
        )
    if result.unlisted and not quiet:
        typer.echo(f"not in the given lists, and so in none: {some(result.unlisted)}")
    if result.failed:
        shared.say(
            f"stavis: {len(result.failed)} of {counted(len(result.videos), 'videos')} could not be prepared:"
        )
        for video in result.failed:
            shared.say(f"  {video}")
        raise typer.Exit(1)


def _parse_pair(option: str, text: str | None, *, positive: bool = True) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in re.split("[x,]", text.lower())]
        if len(numbers) == 1 and option == "--gaze-scale":
            numbers *= 2
        first, second = numbers
        if not all(abs(number) < float("inf") and (number > 0 or not positive) for number in numbers):
            raise ValueError
    except ValueError:
        raise StavisError(f"{option} {text!r}: not two {'positive ' if positive else ''}numbers") from None
    return first, second


def _parse_columns(text: str | None) -> dict[str, str]:
    columns: dict[str, str] = {}
    for part in (text or "").split(","):
        meaning, equals, column = part.partition("=")
        if equals and column.strip():
            columns[meaning.strip()] = column.strip()
        elif part.strip():
            raise StavisError(f"--gaze-columns {part.strip()!r}: not meaning=column, as in x=GazeX")
    return columns
