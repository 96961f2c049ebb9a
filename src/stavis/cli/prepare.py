"""`stavis prepare`: own videos, with or without gaze, into the layout that every other command reads."""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stavis.errors import StavisError

if TYPE_CHECKING:
    from stavis.preparation.options import Outcome

GAZE = "Gaze: how its files are read"
SCREEN = "Screen: where the video stood while gaze was recorded"
MAPS = "Maps: how gaze becomes fixation and density maps"
LISTS = "Fold lists"
VIDEOS = "Videos"


class GazeFormatName(StrEnum):
    AUTO = "auto"
    CSV = "csv"
    PARQUET = "parquet"
    MAT = "mat"
    COUTROT = "coutrot"
    DIEM = "diem"
    SMI = "smi"
    PNG = "png"
    JSON = "json"


class GazeUnit(StrEnum):
    PIXELS = "pixels"
    FRACTIONS = "fractions"


class TimeUnitName(StrEnum):
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"


class EventRule(StrEnum):
    FIXATIONS = "fixations"
    SAMPLES = "samples"


class EyeName(StrEnum):
    BOTH = "both"
    LEFT = "left"
    RIGHT = "right"


class SoundName(StrEnum):
    WITH = "with"
    WITHOUT = "without"


class CoordinatesName(StrEnum):
    AUTO = "auto"
    SCREEN = "screen"
    VIDEO = "video"


class MappingName(StrEnum):
    AUTO = "auto"
    LETTERBOX = "letterbox"
    STRETCH = "stretch"
    CENTER = "center"
    NONE = "none"


class SampleRule(StrEnum):
    AUTO = "auto"
    ALL = "all"
    ONE_PER_OBSERVER = "one-per-observer"


def prepare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders of videos or of numbered pictures, patterns, or a manifest: a .csv with columns "
            "video, name, gaze, gaze_format, clip (the first alone is needed).",
            metavar="INPUT",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Data folder, made where there is none; more can be added to one."
        ),
    ],
    database: Annotated[str, typer.Option("--database", "-d", help="Name of the database in it: any word.")],
    gaze: Annotated[
        list[str] | None,
        typer.Option(
            help="Gaze file, folder or pattern; can be given again. With several videos, a gaze file belongs to the "
            "one whose name its own contains. Without gaze, videos are prepared for prediction only.",
            rich_help_panel=GAZE,
        ),
    ] = None,
    gaze_format: Annotated[
        GazeFormatName, typer.Option(help="auto finds it from the file.", rich_help_panel=GAZE)
    ] = GazeFormatName.AUTO,
    gaze_columns: Annotated[
        str | None,
        typer.Option(
            help="Tables: names of columns, as in 'observer=Participant,time=Time_ms,x=GazeX,y=GazeY'. "
            "Also: frame, event, video.",
            rich_help_panel=GAZE,
        ),
    ] = None,
    gaze_unit: Annotated[
        GazeUnit,
        typer.Option(
            help="Tables: x and y in pixels, or as fractions 0..1 of the picture.", rich_help_panel=GAZE
        ),
    ] = GazeUnit.PIXELS,
    time_unit: Annotated[
        TimeUnitName | None,
        typer.Option(
            help="Tables: unit of times; seconds, if the column's name does not tell.", rich_help_panel=GAZE
        ),
    ] = None,
    time_offset: Annotated[
        float, typer.Option(help="Seconds added to the gaze's times.", rich_help_panel=GAZE)
    ] = 0.0,
    pixel_origin: Annotated[
        int | None,
        typer.Option(
            min=0, max=1, help="What the first pixel is called; the format's own.", rich_help_panel=GAZE
        ),
    ] = None,
    frame_origin: Annotated[
        int | None,
        typer.Option(
            min=0, max=1, help="What the first frame is called; the format's own.", rich_help_panel=GAZE
        ),
    ] = None,
    events: Annotated[
        EventRule,
        typer.Option(
            help="Where samples are marked: keep fixations, or saccades and unmarked samples, too.",
            rich_help_panel=GAZE,
        ),
    ] = EventRule.FIXATIONS,
    eye: Annotated[
        EyeName, typer.Option(help="DIEM, SMI: which eye; both averages.", rich_help_panel=GAZE)
    ] = EyeName.BOTH,
    mat_variable: Annotated[
        str | None, typer.Option(help="MATLAB cells: which variable of the file.", rich_help_panel=GAZE)
    ] = None,
    clip: Annotated[
        int | None, typer.Option(min=1, help="Coutrot: which clip of the file, from 1.", rich_help_panel=GAZE)
    ] = None,
    sound: Annotated[
        SoundName,
        typer.Option(help="Coutrot: recorded with or without the clip's sound.", rich_help_panel=GAZE),
    ] = SoundName.WITH,
    screen_resolution: Annotated[
        str | None,
        typer.Option(help="Of the screen, in pixels: 1440x900.", metavar="WxH", rich_help_panel=SCREEN),
    ] = None,
    mapping: Annotated[
        MappingName,
        typer.Option(
            help="How the video stood on the screen: as large as fits (letterbox), stretched to fill it, at its own "
            "size in the center, at its own size top left (none). auto: the format's own, else letterbox.",
            rich_help_panel=SCREEN,
        ),
    ] = MappingName.AUTO,
    gaze_coordinates: Annotated[
        CoordinatesName,
        typer.Option(
            help="Gaze in pixels of the screen or of the video. auto: the format's own; for tables the screen, if its "
            "resolution is given.",
            rich_help_panel=SCREEN,
        ),
    ] = CoordinatesName.AUTO,
    gaze_scale: Annotated[
        str | None,
        typer.Option(
            help="Instead of the mapping's: video pixels per screen pixel, one number or two.",
            metavar="SX,SY",
            rich_help_panel=SCREEN,
        ),
    ] = None,
    gaze_offset: Annotated[
        str | None,
        typer.Option(
            help="Instead of the mapping's: screen pixel where the picture begins.",
            metavar="X,Y",
            rich_help_panel=SCREEN,
        ),
    ] = None,
    screen_size: Annotated[
        str | None,
        typer.Option(help="Of the screen, in cm: 47.4x29.6.", metavar="WxH", rich_help_panel=SCREEN),
    ] = None,
    distance: Annotated[
        float | None, typer.Option(help="From the eyes to the screen, in cm.", rich_help_panel=SCREEN)
    ] = None,
    sigma_pixels: Annotated[
        float | None,
        typer.Option(
            help="Sigma of the density maps' Gaussian, in pixels of the video.", rich_help_panel=MAPS
        ),
    ] = None,
    sigma_degrees: Annotated[
        float | None,
        typer.Option(
            help="The same in degrees of visual angle, usually 1; needs the screen's resolution and size and the "
            "distance.",
            rich_help_panel=MAPS,
        ),
    ] = None,
    samples: Annotated[
        SampleRule,
        typer.Option(
            help="Samples of an observer in a frame that become fixations. auto: all of gaze recorded by frame, "
            "one (the median) of gaze recorded by time.",
            rich_help_panel=MAPS,
        ),
    ] = SampleRule.AUTO,
    folds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Folds made by chance: each video tests in one and trains in the others; 1 only tests. "
            "3 by default, 1 of fewer videos.",
            rich_help_panel=LISTS,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the chance.", rich_help_panel=LISTS)] = 0,
    fold_list: Annotated[
        Path | None,
        typer.Option(
            help="Instead: a text of lines 'video fold', the fold it tests in, from 1.", rich_help_panel=LISTS
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(help="Instead: a text of video names, the train list.", rich_help_panel=LISTS),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="With --train: the test list.", rich_help_panel=LISTS)
    ] = None,
    frame_rate: Annotated[
        float | None,
        typer.Option(
            help="Frames per second to write; of an image folder, those that it has. By default a video's own.",
            rich_help_panel=VIDEOS,
        ),
    ] = None,
    audio_stream: Annotated[
        int | None,
        typer.Option(min=0, help="Which of a video's sound streams, from 0.", rich_help_panel=VIDEOS),
    ] = None,
    quality: Annotated[
        int,
        typer.Option(min=1, max=100, help="JPEG quality of frames and density maps.", rich_help_panel=VIDEOS),
    ] = 95,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Videos worked on at once.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Prepare anew what is there, finished or not made here.")
    ] = False,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Draw gaze on frames: annotations/<database>/<video>/preview.png. Look at it."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only say what failed.")] = False,
) -> None:
    """Puts your own videos, with or without gaze, into the layout that all other commands read.

    Writes frames, sound (mono, 22050 Hz), fold lists, and with gaze the maps of every frame.
    What was read, dropped and chosen is kept in a JSON beside the maps.
    Run it again after an interruption and it goes on. Every gaze format: docs/own-data.md.

    Example: stavis prepare talk.mp4 --gaze talk.csv --sigma-pixels 40 -o data -d mine --preview
    """
    from stavis.datasets.layout import Layout
    from stavis.gaze import GazeOptions
    from stavis.preparation.folds import FoldChoice, choose_folds, listed_videos, write_folds
    from stavis.preparation.manifest import find_sources
    from stavis.preparation.options import PrepareOptions
    from stavis.preparation.prepare import prepare as prepare_videos
    from stavis.preparation.records import finished_videos, unfinished_videos

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", database):
        raise StavisError(f"--database {database!r}: letters, digits, '.', '_' and '-' are allowed")
    for name, value in (
        ("--sigma-pixels", sigma_pixels),
        ("--sigma-degrees", sigma_degrees),
        ("--distance", distance),
        ("--frame-rate", frame_rate),
    ):
        if value is not None and not 0 < value < float("inf"):
            raise StavisError(f"{name} {value}: must be above 0")
    resolution = _parse_pair("--screen-resolution", screen_resolution)
    if resolution is not None and not all(side == int(side) for side in resolution):
        raise StavisError(f"--screen-resolution {screen_resolution}: not whole pixels")
    options = PrepareOptions(
        sigma_pixels=sigma_pixels,
        sigma_degrees=sigma_degrees,
        screen_size_cm=_parse_pair("--screen-size", screen_size),
        distance_cm=distance,
        samples=samples.value,
        frame_rate=frame_rate,
        audio_stream=audio_stream,
        quality=quality,
        gaze=GazeOptions(
            format=gaze_format.value,
            columns=_parse_columns(gaze_columns),
            unit=gaze_unit.value,
            time_unit=time_unit.value if time_unit else None,
            time_offset_seconds=time_offset,
            pixel_origin=cast(Any, pixel_origin),
            frame_origin=cast(Any, frame_origin),
            events=events.value,
            eye=eye.value,
            variable=mat_variable,
            clip=clip,
            sound=sound.value,
            coordinates=gaze_coordinates.value,
            screen=(int(resolution[0]), int(resolution[1])) if resolution else None,
            mode=mapping.value,
            scale=_parse_pair("--gaze-scale", gaze_scale),
            offset=_parse_pair("--gaze-offset", gaze_offset, positive=False),
        ),
    )
    layout = Layout(output)
    sources = find_sources(inputs, gaze or [], options)
    choice = FoldChoice(folds, seed, fold_list, train, test)
    known = finished_videos(layout, database)
    if not overwrite:
        ours = {*known, *unfinished_videos(layout, database)}
        if foreign := sorted(listed_videos(layout, database) - ours):
            raise StavisError(
                f"{output}: the fold lists of {database} name videos that were not prepared here ({_some(foreign)}); "
                "choose another --database, or --overwrite to replace the lists"
            )
    choose_folds(
        choice, [*known, *(source.name for source in sources)]
    )  # mistakes in it are better told at once
    outcomes = prepare_videos(
        layout, database, sources, jobs=jobs, overwrite=overwrite, preview=preview, quiet=quiet
    )
    entries = finished_videos(layout, database)
    # A video that failed today keeps its place in the folds for when it is repaired.
    made, left_out = choose_folds(choice, [*entries, *(source.name for source in sources)])
    lists = write_folds(layout, database, made, entries) if entries else []
    if not quiet:
        for outcome in outcomes:
            if outcome.record is not None:
                typer.echo(describe(outcome))
        if lists:
            typer.echo(f"{lists[0].parent}: {len(lists)} lists of {len(entries)} videos, {len(made)} fold(s)")
        if left_out := left_out & set(entries):
            typer.echo(f"in no list, as the given ones do not name them: {_some(sorted(left_out))}")
    failed = [outcome for outcome in outcomes if outcome.record is None]
    if failed:
        typer.echo(f"stavis: {len(failed)} of {len(outcomes)} videos could not be prepared:", err=True)
        for outcome in failed:
            error = " ".join((outcome.error or "").split())
            known_by = "" if str(outcome.source.video) in error else f"{outcome.source.video}: "
            typer.echo(f"  {known_by}{error}", err=True)
        raise typer.Exit(1)


def describe(outcome: "Outcome") -> str:
    """What was made of a video, in a line."""
    record = outcome.record
    assert record is not None
    line = f"{record['video']}: {record['num_frames']} frames of {record['width']}x{record['height']}"
    line += f" at {record['frame_rate']:.3f} a second"
    if before := record["resampled_from"]:
        line += f" (out of {before['num_frames']})"
    if record["sound"].startswith("none"):
        line += ", no sound"
    if gaze := record["gaze"]:
        dropped = ", ".join(f"{num} {reason.replace('_', ' ')}" for reason, num in gaze["dropped"].items())
        observers = f" of {gaze['num_observers']} observers" if gaze["observers_known"] else ""
        line += f"; gaze: {gaze['num_read']} samples read{observers}, dropped: {dropped or 'none'}; "
        line += f"{gaze['num_fixations']} fixations in {gaze['num_frames_with_fixations']} frames, "
        line += f"sigma {gaze['sigma_pixels']:.1f} pixels"
    return line + (" (done before)" if outcome.was_finished else "")


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


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
