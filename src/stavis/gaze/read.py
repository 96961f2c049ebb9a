"""Gaze on a video, read from files of any known format."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from stavis.errors import StavisError, counted, some
from stavis.gaze import bids, checks, eyelink, fixations, matlab, pupil, tables, tobii, trackers
from stavis.gaze.recording import (
    Coordinates,
    Event,
    Gaze,
    MappingMode,
    Origin,
    Recording,
    ScreenMapping,
    from_top_left,
    gaze_on_video,
    merge_gaze,
)
from stavis.gaze.text import first_lines, parse_number
from stavis.maps.matfile import read_variables

GazeFormat = Literal[
    "csv", "parquet", "mat", "coutrot", "diem", "smi", "eyelink", "tobii", "pupil", "bids", "png", "json"
]
FORMATS: tuple[GazeFormat, ...] = get_args(GazeFormat)

PIXEL_ORIGINS: dict[GazeFormat, int] = {"mat": 1, "coutrot": 1}
"""Formats, made in MATLAB, whose first pixel is 1; it is 0 in the others."""

FRAME_ORIGINS: dict[GazeFormat, int] = {"diem": 1, "png": 1}
"""Formats whose first frame is 1; it is 0 in the others (or has no number)."""

_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
GAZE_SUFFIXES = frozenset({*_TABLE_SUFFIXES, ".gz", ".parquet", ".pq", ".json", ".mat", ".asc"})
_FORMAT_OF_SUFFIX: dict[str, GazeFormat] = {".parquet": "parquet", ".pq": "parquet", ".json": "json"}
_OTHER_FILES = {
    ".edf": "EyeLink's binary file; convert it to text: edf2asc FILE.edf",
    ".idf": "SMI's binary file; convert it to text with IDF Converter",
    ".xlsx": "an Excel workbook; save or export it as a text file (.tsv or .csv)",
    ".xls": "an Excel workbook; save or export it as a text file (.tsv or .csv)",
    ".pldata": "Pupil Capture's own file; export it with Pupil Player",
}


@dataclass(frozen=True)
class GazeOptions:
    """What a gaze file does not say about itself, and which of its samples count. The defaults suit most files.

    Attributes:
        format: "auto" detects it from the file. A file whose `columns` are given is read as a table.
        columns: Tables: meaning (observer, frame, time, x, y, event, video, confidence) -> column name.
        unit: Tables: x and y in pixels, or as fractions of the screen (of the video, where no screen is given).
        time_unit: Tables, Tobii: unit of the times; None takes it from the column's name, else seconds.
        time_offset_seconds: Added to every time: negative where the recording's clock started before the video.
        pixel_origin: Coordinate of the first pixel, 0 or 1; None takes the format's own.
        frame_origin: Number of the first frame, 0 or 1; None takes the format's own.
        origin: Where x and y are 0: "top-left", or "bottom-left" or "center" with y counted upward; None takes the
            format's own, which is "top-left" for all but Pupil Labs' normalized positions and where BIDS says so.
        min_confidence: Drop samples of a lower confidence, 0..1; None takes the format's own limit (Pupil Labs: 0.6).
        events: "fixations" keeps the samples marked as such; "samples" also saccades and unmarked ones, where the
            format has marks. Blinks and errors are never kept.
        eye: DIEM, SMI, EyeLink, Tobii, BIDS: the eye to read; "both" averages the eyes that fixate.
        variable: MATLAB cells: name of the variable.
        clip: Coutrot: number of the clip, from 1. EyeLink: number of the recording.
        sound: Coutrot: the recording with or without the clip's own sound.
        start_message: EyeLink: text in the message at which the video starts.
        stimulus: What the gaze files call the video, if not by its name.
        coordinates: Whether x and y are on the screen or on the video; "auto" is the format's own, and for tables the
            screen if anything about it is given here, else the video.
        screen: Width and height in pixels of the screen on which the video was shown; None takes the file's own.
        mode: How the video was shown on the screen; "auto" is the format's own, else letterbox.
        scale: Replaces the mode's scale: video pixels per screen pixel.
        offset: Replaces the mode's offset: the screen pixel at the picture's top left corner.
    """

    format: Literal["auto"] | GazeFormat = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    unit: Literal["pixels", "fractions"] = "pixels"
    time_unit: tables.TimeUnit | None = None
    time_offset_seconds: float = 0.0
    pixel_origin: Literal[0, 1] | None = None
    frame_origin: Literal[0, 1] | None = None
    origin: Origin | None = None
    min_confidence: float | None = None
    events: Literal["fixations", "samples"] = "fixations"
    eye: trackers.Eye = "both"
    variable: str | None = None
    clip: int | None = None
    sound: matlab.Sound = "with"
    start_message: str | None = None
    stimulus: str | None = None
    coordinates: Literal["auto"] | Coordinates = "auto"
    screen: tuple[int, int] | None = None
    mode: Literal["auto"] | MappingMode = "auto"
    scale: tuple[float, float] | None = None
    offset: tuple[float, float] | None = None


def detect_format(path: str | os.PathLike[str]) -> GazeFormat:
    """Detects the format of a gaze file, by its suffix and by what is in it.

    Args:
        path: A file, or a folder of fixation maps.

    Raises:
        StavisError: The format is not known.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        if fixations.numbered_images(path) or fixations.numbered_images(path / "fixation"):
            return "png"
        raise StavisError(
            f"{path}: no fixation maps (0001.png, ...) and no gaze file in this folder (docs/own-data.md)"
        )
    if bids.is_bids(path):
        return "bids"
    if suffix in _FORMAT_OF_SUFFIX:
        return _FORMAT_OF_SUFFIX[suffix]
    if suffix == ".mat":
        return "coutrot" if matlab.find_coutrot(read_variables(path)) is not None else "mat"
    if suffix in _OTHER_FILES:
        raise StavisError(f"{path}: {_OTHER_FILES[suffix]}")
    format = _detect_text_format(path)
    if format is None and suffix in (".csv", ".tsv"):
        return "csv"  # columns of other names, empty, or not text: its reader says so
    if format is None:
        raise StavisError(
            f"{path}: not a gaze file of a known format; known are {', '.join(FORMATS)} (docs/own-data.md)"
        )
    return format


def _detect_text_format(path: Path) -> GazeFormat | None:
    lines = first_lines(path)
    if not lines:
        return None
    if eyelink.is_eyelink(lines[:20]):
        return "eyelink"
    first = next((line for line in lines if not line.startswith("##")), "")
    if trackers.is_smi_header(first):
        return "smi"
    if _is_diem(first):
        return "diem"
    names = tables.read_column_names(path, parquet=False)
    if tobii.is_tobii(names):
        return "tobii"
    if pupil.is_pupil(names):
        return "pupil"
    lowered = {name.lower() for name in names}
    return "csv" if all(lowered & set(tables.COLUMNS[axis]) for axis in "xy") else None


def _is_diem(line: str) -> bool:
    cells = line.split()
    try:
        return len(cells) == 9 and all(parse_number(cell) is not None for cell in cells)
    except ValueError:
        return False


def gaze_files(path: Path, format: str = "auto") -> list[Path]:
    """The gaze files at `path`: itself, or the files in a folder of one file per observer.

    A folder of fixation maps is returned itself, and for a folder with `fixations.json` that file. Other files in a
    folder (videos, notes, metadata, dot files) are passed over.

    Raises:
        StavisError: There is nothing at `path`, or no gaze in the folder.
    """
    if not path.exists():
        raise StavisError(f"{path}: no such gaze file or folder")
    if not path.is_dir() or format == "png":
        return [path]
    if (path / "fixations.json").is_file() and format in ("auto", "json"):
        return [path / "fixations.json"]
    files = [entry for entry in sorted(path.iterdir()) if _may_be_gaze(entry)]
    if recordings := [entry for entry in files if bids.is_bids(entry)]:
        return recordings  # other tables beside them are events and participants
    if format == "auto":
        files = [entry for entry in files if not is_note(entry)]
    if not files or (format == "auto" and (path / "fixation").is_dir()):
        detect_format(path)
        return [path]
    return files


def _may_be_gaze(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in GAZE_SUFFIXES and not path.name.startswith(".")


def is_note(path: Path) -> bool:
    """Whether a file in a folder is text or a JSON, but not gaze: a README, a license, a description."""
    if path.name in ("world_timestamps.csv", "export_info.csv"):  # of Pupil Labs
        return True
    if path.suffix.lower() == ".json":
        return not fixations.is_challenge_json(path)
    if path.suffix.lower() not in (".txt", ".gz"):
        return False
    try:
        detect_format(path)
    except StavisError:
        return True
    return False


def read_gaze(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    video: str,
    width: int,
    height: int,
    options: GazeOptions | None = None,
) -> tuple[Gaze, ScreenMapping | None]:
    """Reads the gaze on one video.

    Args:
        paths: A file or folder as in `gaze_files`, or several, whose samples are joined.
        video: The video's name without suffix: selects its part of files that contain several.
        width, height: Size of the video in pixels, as displayed.
        options: What the files do not say.

    Returns:
        The gaze in pixels of the video; and how the video was shown on the screen, None where no screen is known.

    Raises:
        StavisError: A file cannot be read, its screen is not known, or no sample lies in the picture.
    """
    places = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    options = options or GazeOptions()
    kept = {Event.FIXATION, *((Event.SACCADE, Event.UNCLASSIFIED) if options.events == "samples" else ())}
    parts: list[Gaze] = []
    display: ScreenMapping | None = None
    files = [file for path in places for file in gaze_files(path, options.format)]
    recordings = [_read_recording(file, options.stimulus or video, options) for file in files]
    for file, recording in zip(files, _distinguish_observers(files, recordings), strict=True):
        display = _display(recording, width, height, options)
        mapping = _mapping(file, recording, display, width, height, options)
        size = (round(mapping.screen_width), round(mapping.screen_height))
        recording = from_top_left(recording, options.origin, size)
        if options.min_confidence is not None:
            checks.check_confidence(file, recording)
        if recording.frame is not None and (options.time_offset_seconds or options.time_unit):
            raise StavisError(
                f"{file}: its gaze is by video frames, which `time_offset_seconds` and `time_unit` do not change; "
                "leave these out, or the column of frames"
            )
        gaze = gaze_on_video(recording, mapping, keep=frozenset(kept), min_confidence=options.min_confidence)
        if gaze.time_seconds is not None and options.time_offset_seconds:
            gaze = replace(gaze, time_seconds=gaze.time_seconds + options.time_offset_seconds)
        parts.append(checks.doubt_positions(file, recording, gaze, mapping))
    if len({part.frame is None for part in parts}) > 1:
        raise StavisError(f"{video}: some of its gaze files have frames and some have times; they must agree")
    gaze = merge_gaze(parts)
    folders = [path for path in places if path.is_dir() and path not in files]
    beside = [entry for folder in folders for entry in sorted(folder.iterdir()) if entry not in files]
    if skipped := [entry.name for entry in beside if _may_be_gaze(entry)]:
        gaze = replace(gaze, warnings=(*gaze.warnings, f"not gaze, and passed over: {some(skipped)}"))
    if not len(gaze):
        raise StavisError(
            f"{files[0]}: no gaze on the picture of {video} ({width}x{height}): {describe_counts(gaze)}"
        )
    return gaze, display


def describe_counts(gaze: Gaze) -> str:
    """What was read and dropped, in a line: `6774 samples read; dropped: 869 blink, 1972 saccade`."""
    return f"{counted(gaze.num_read, 'samples')} read; dropped: {describe_dropped(gaze.dropped)}"


def describe_dropped(dropped: dict[str, int]) -> str:
    """The reasons for which samples were dropped: `869 blink, 1972 saccade`."""
    return ", ".join(f"{num} {reason.replace('_', ' ')}" for reason, num in dropped.items() if num) or "none"


def _distinguish_observers(files: Sequence[Path], recordings: Sequence[Recording]) -> list[Recording]:
    """Names observers by folder, too, where several files have the same name: they are not one observer."""
    alike: dict[tuple[str, ...], list[Path]] = {}
    for file, recording in zip(files, recordings, strict=True):
        if recording.named_by_file:
            alike.setdefault(recording.observers, []).append(file)
    folders = {file: folder for group in alike.values() for file, folder in _telling_folders(group).items()}
    return [
        replace(recording, observers=(f"{folders[file]}/{recording.observers[0]}",))
        if recording.named_by_file and file in folders
        else recording
        for file, recording in zip(files, recordings, strict=True)
    ]


def _telling_folders(files: Sequence[Path]) -> dict[Path, str]:
    """The closest folders above the files that tell their folders apart; none if all are in one folder."""
    above = {file: [folder.name for folder in file.resolve().parents] for file in files}
    num_folders = len({tuple(names) for names in above.values()})
    if num_folders < 2:
        return {}
    for names in itertools.zip_longest(*above.values(), fillvalue=""):
        if len(set(names)) == num_folders:
            return dict(zip(above, names, strict=True))
    return {file: "/".join(reversed(names)) for file, names in above.items()}


def _read_recording(path: Path, video: str, options: GazeOptions) -> Recording:
    format = options.format
    if format == "auto":
        format = detect_format(path)
        if options.columns and format in ("tobii", "pupil"):
            format = "csv"
    origin = PIXEL_ORIGINS.get(format, 0) if options.pixel_origin is None else options.pixel_origin
    frame_origin = FRAME_ORIGINS.get(format, 0) if options.frame_origin is None else options.frame_origin
    eye, clip = options.eye, options.clip

    def from_table(table: tables.Table) -> Recording:
        return tables.recording_from_table(
            table,
            columns=options.columns,
            fractions=options.unit == "fractions",
            origin=origin,
            frame_origin=frame_origin,
            time_unit=options.time_unit,
            video=video,
        )

    readers: dict[str, Callable[[], Recording]] = {
        "csv": lambda: from_table(tables.read_text_table(path)),
        "parquet": lambda: from_table(tables.read_parquet_table(path)),
        "mat": lambda: matlab.read_mat_cells(path, variable=options.variable, origin=origin),
        "coutrot": lambda: matlab.read_coutrot(path, clip=clip, sound=options.sound, origin=origin),
        "diem": lambda: trackers.read_diem(path, eye=eye, origin=origin, frame_origin=frame_origin),
        "smi": lambda: trackers.read_smi(path, eye=eye, origin=origin),
        "eyelink": lambda: eyelink.read_eyelink(
            path, eye=eye, origin=origin, clip=clip, start_message=options.start_message, video=video
        ),
        "tobii": lambda: tobii.read_tobii(
            tables.read_text_table(path), eye=eye, origin=origin, time_unit=options.time_unit, video=video
        ),
        "pupil": lambda: pupil.read_pupil(tables.read_text_table(path)),
        "bids": lambda: bids.read_bids(path, eye=eye, origin=origin, video=video),
        "png": lambda: fixations.read_fixation_images(path, frame_origin=frame_origin),
        "json": lambda: fixations.read_challenge_json(path, video=video),
    }
    return readers[format]()


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
    from_corner = (options.origin or recording.origin) == "top-left" and not recording.normalized
    if options.scale is not None and options.offset is not None and from_corner:
        return ScreenMapping(width, height, width, height, "none", options.scale, options.offset)
    what = "fractions" if recording.normalized else "pixels"
    raise StavisError(
        f"{path}: gaze is in {what} of a screen whose size the file does not say; give the screen's resolution, "
        "`screen`"
    )


def holds_several_videos(path: Path, options: GazeOptions) -> bool:
    """Whether a gaze file can contain several videos: several recordings, stimuli by name, or a JSON by video."""
    try:
        format = detect_format(path) if options.format == "auto" else options.format
    except StavisError:
        return False
    if format == "json":
        return fixations.is_challenge_json(path, by_video=True)
    if format == "tobii":
        return True
    if format == "eyelink":
        return eyelink.holds_several(path)
    if format == "bids":
        return bids.names_stimuli(path)
    if format not in ("csv", "parquet"):
        return False
    names = tables.read_column_names(path, parquet=format == "parquet")
    wanted = (options.columns["video"],) if "video" in options.columns else tables.COLUMNS["video"]
    return bool({name.lower() for name in names} & {name.lower() for name in wanted})
