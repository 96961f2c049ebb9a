"""From gaze files of any known format to gaze on a video."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from stavis.errors import StavisError
from stavis.gaze import fixations, matlab, tables, trackers
from stavis.gaze.recording import (
    Coordinates,
    Event,
    Gaze,
    MappingMode,
    Recording,
    ScreenMapping,
    gaze_on_video,
    merge_gaze,
)
from stavis.maps.matfile import read_variables

GazeFormat = Literal["csv", "parquet", "mat", "coutrot", "diem", "smi", "png", "json"]
FORMATS: tuple[GazeFormat, ...] = get_args(GazeFormat)

PIXEL_ORIGINS: dict[GazeFormat, int] = {"mat": 1, "coutrot": 1}
"""Formats, made in MATLAB, that call the first pixel 1; it is 0 in the others."""

FRAME_ORIGINS: dict[GazeFormat, int] = {"diem": 1, "png": 1}
"""Formats that call the first frame 1; it is 0 in the others (or not named at all)."""

_SUFFIXES: dict[str, GazeFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
}
GAZE_SUFFIXES = frozenset({*_SUFFIXES, ".mat", ".txt"})


@dataclass(frozen=True)
class GazeOptions:
    """What a gaze file does not tell about itself, and what of it counts. The defaults suit most files.

    Attributes:
        format: "auto" finds it from the file.
        columns: Tables: meaning (observer, frame, time, x, y, event, video) -> column name.
        unit: Tables: x and y in pixels, or as fractions of the screen (of the video, where no screen is given).
        time_unit: Tables: of the column of times; None takes it from the column's name, else seconds.
        time_offset_seconds: Added to every time: positive where the recording's clock began after the video.
        pixel_origin: What the first pixel is called, 0 or 1; None takes the format's own.
        frame_origin: What the first frame is called, 0 or 1; None takes the format's own.
        events: "fixations" keeps the samples marked as such; "samples" also saccades and unmarked ones, where the
            format has marks. Blinks and errors are never kept.
        eye: DIEM, SMI: which eye; "both" averages the eyes that fixate.
        variable: MATLAB cells: which variable of the file.
        clip: Coutrot: which clip, from 1.
        sound: Coutrot: the recording with or without the clip's own sound.
        coordinates: Whether x and y are pixels of the screen or of the video; "auto" is the format's own, and for
            tables the screen if anything about it is given here, else the video.
        screen: Width and height in pixels of the screen that the video was shown on; None takes the file's own.
        mode: How the video stood on the screen; "auto" is the format's own, else letterbox.
        scale: Replaces the mode's scale: video pixels per screen pixel.
        offset: Replaces the mode's offset: the screen pixel at which the picture begins.
    """

    format: Literal["auto"] | GazeFormat = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    unit: Literal["pixels", "fractions"] = "pixels"
    time_unit: tables.TimeUnit | None = None
    time_offset_seconds: float = 0.0
    pixel_origin: Literal[0, 1] | None = None
    frame_origin: Literal[0, 1] | None = None
    events: Literal["fixations", "samples"] = "fixations"
    eye: trackers.Eye = "both"
    variable: str | None = None
    clip: int | None = None
    sound: matlab.Sound = "with"
    coordinates: Literal["auto"] | Coordinates = "auto"
    screen: tuple[int, int] | None = None
    mode: Literal["auto"] | MappingMode = "auto"
    scale: tuple[float, float] | None = None
    offset: tuple[float, float] | None = None


def detect_format(path: Path) -> GazeFormat:
    """Finds a gaze file's format: by suffix, and for `.mat` and text by what is in it.

    Args:
        path: A file, or a folder of fixation maps.

    Raises:
        StavisError: It is of no known format.
    """
    if path.is_dir():
        if fixations.numbered_images(path) or fixations.numbered_images(path / "fixation"):
            return "png"
        raise StavisError(f"{path}: no fixation maps (0001.png, ...) and no gaze file in this folder")
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix == ".mat":
        return "coutrot" if matlab.find_coutrot(read_variables(path)) is not None else "mat"
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [line for line in (file.readline() for _ in range(200)) if line.strip()]
    except UnicodeDecodeError:
        lines = []
    if lines:
        first = next((line for line in lines if not line.startswith("##")), "")
        if trackers.is_smi_header(first):
            return "smi"
        if re.fullmatch(r"\s*([-+.\deE]+\s+){8}[-+.\deE]+\s*", first):
            return "diem"
        names = {name.lower() for name in tables.split_header(first.strip())[1]}
        if names & set(tables.COLUMNS["x"]) and names & set(tables.COLUMNS["y"]):
            return "csv"
    raise StavisError(f"{path}: not a gaze file of a known format; known are {', '.join(FORMATS)}")


def gaze_files(path: Path, format: str = "auto") -> list[Path]:
    """The gaze files that `path` stands for: itself, or those in a folder of one file an observer.

    A folder of fixation maps stands for itself, and so does a folder that holds `fixations.json` for that file.

    Raises:
        StavisError: There is nothing at `path`, or no gaze in the folder.
    """
    if not path.exists():
        raise StavisError(f"{path}: no such gaze file or folder")
    if not path.is_dir() or format == "png":
        return [path]
    if (path / "fixations.json").is_file() and format in ("auto", "json"):
        return [path / "fixations.json"]
    files = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in GAZE_SUFFIXES and not entry.name.startswith(".")
    )
    if not files or (format == "auto" and (path / "fixation").is_dir()):
        detect_format(path)
        return [path]
    return files


def read_gaze(
    paths: Sequence[Path], *, video: str, width: int, height: int, options: GazeOptions | None = None
) -> tuple[Gaze, ScreenMapping | None]:
    """Reads the gaze on one video.

    Args:
        paths: Files, or folders as in `gaze_files`; their samples are joined.
        video: The video's name without suffix: picks its rows of a table with a column `video`, its entry of a
            challenge's JSON.
        width: Of the video in pixels, as displayed.
        height: As `width`.
        options: What the files do not tell.

    Returns:
        The gaze in pixels of the video; and how the video stood on the screen, None where no screen is known.

    Raises:
        StavisError: A file cannot be read, its screen is not known, or no sample lies in the picture.
    """
    options = options or GazeOptions()
    parts: list[Gaze] = []
    display: ScreenMapping | None = None
    files = [file for path in paths for file in gaze_files(path, options.format)]
    for file in files:
        format = detect_format(file) if options.format == "auto" else options.format
        recording = _read_recording(file, format, video, (width, height), options)
        display = _display(recording, width, height, options)
        mapping = _mapping(file, recording, display, width, height, options)
        gaze = gaze_on_video(recording, mapping, keep=_kept_events(options))
        if gaze.time_seconds is not None and options.time_offset_seconds:
            gaze = replace(gaze, time_seconds=gaze.time_seconds + options.time_offset_seconds)
        parts.append(gaze)
    if len({part.frame is None for part in parts}) > 1:
        raise StavisError(f"{video}: some of its gaze files are by frame and some by time; they must agree")
    gaze = merge_gaze(parts)
    if not len(gaze):
        raise StavisError(
            f"{files[0]}: no gaze on the picture of {video} ({width}x{height}): {describe_counts(gaze)}"
        )
    return gaze, display


def describe_counts(gaze: Gaze) -> str:
    """What was read and dropped, in a line: `6774 samples read; dropped: 869 blink, 1972 saccade`."""
    dropped = ", ".join(f"{num} {reason.replace('_', ' ')}" for reason, num in gaze.dropped.items() if num)
    return f"{gaze.num_read} samples read; dropped: {dropped or 'none'}"


def _kept_events(options: GazeOptions) -> frozenset[Event]:
    if options.events == "fixations":
        return frozenset({Event.FIXATION})
    return frozenset({Event.FIXATION, Event.SACCADE, Event.UNCLASSIFIED})


def _read_recording(
    path: Path, format: GazeFormat, video: str, video_size: tuple[int, int], options: GazeOptions
) -> Recording:
    origin = PIXEL_ORIGINS.get(format, 0) if options.pixel_origin is None else options.pixel_origin
    frame_origin = FRAME_ORIGINS.get(format, 0) if options.frame_origin is None else options.frame_origin
    if format in ("csv", "parquet"):
        read_table = tables.read_csv_table if format == "csv" else tables.read_parquet_table
        return tables.recording_from_table(
            path,
            read_table(path),
            columns=options.columns,
            fractions_of=_fractions_of(path, video_size, options),
            origin=origin,
            frame_origin=frame_origin,
            time_unit=options.time_unit,
            video=video,
        )
    readers = {
        "mat": functools.partial(matlab.read_mat_cells, variable=options.variable, origin=origin),
        "coutrot": functools.partial(
            matlab.read_coutrot, clip=options.clip, sound=options.sound, origin=origin
        ),
        "diem": functools.partial(
            trackers.read_diem, eye=options.eye, origin=origin, frame_origin=frame_origin
        ),
        "smi": functools.partial(trackers.read_smi, eye=options.eye, origin=origin),
        "png": functools.partial(fixations.read_fixation_images, frame_origin=frame_origin),
        "json": functools.partial(fixations.read_challenge_json, video=video),
    }
    return readers[format](path)


def _fractions_of(path: Path, video_size: tuple[int, int], options: GazeOptions) -> tuple[int, int] | None:
    if options.unit == "pixels":
        return None
    if _coordinates(None, options) == "video":
        return video_size
    if options.screen is None:
        raise StavisError(f"{path}: gaze is in fractions of a screen; give the screen's resolution")
    return options.screen


def _display(recording: Recording, width: int, height: int, options: GazeOptions) -> ScreenMapping | None:
    screen = options.screen or (recording.size if recording.coordinates == "screen" else None)
    if screen is None:
        return None
    mode = (recording.mode or "letterbox") if options.mode == "auto" else options.mode
    return ScreenMapping(*screen, width, height, mode, options.scale, options.offset)


def _coordinates(recorded: Coordinates | None, options: GazeOptions) -> Coordinates:
    if options.coordinates != "auto":
        return options.coordinates
    about_screen = (options.screen, options.scale, options.offset)
    told = options.mode != "auto" or any(value is not None for value in about_screen)
    return recorded or ("screen" if told else "video")


def _mapping(
    path: Path,
    recording: Recording,
    display: ScreenMapping | None,
    width: int,
    height: int,
    options: GazeOptions,
) -> ScreenMapping:
    if _coordinates(recording.coordinates, options) == "video":
        return ScreenMapping(*(recording.size or (width, height)), width, height, "stretch")
    if display is not None:
        return display
    if options.scale is not None and options.offset is not None:
        return ScreenMapping(width, height, width, height, "none", options.scale, options.offset)
    raise StavisError(
        f"{path}: gaze is in pixels of a screen whose size the file does not tell; give the screen's resolution"
    )


def holds_several_videos(path: Path, options: GazeOptions) -> bool:
    """Whether a gaze file can hold several videos: a table with a column for the video, or JSON by video."""
    format = detect_format(path) if options.format == "auto" else options.format
    if format == "json":
        return path.read_text(encoding="utf-8-sig", errors="replace").lstrip().startswith("{")
    if format not in ("csv", "parquet"):
        return False
    names = tables.read_column_names(path, parquet=format == "parquet")
    wanted = (options.columns["video"],) if "video" in options.columns else tables.COLUMNS["video"]
    return bool({name.lower() for name in names} & {name.lower() for name in wanted})
