"""Options that several commands share, declared once; and how flags and Python parameters are called alike."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stavis.errors import StavisError

if TYPE_CHECKING:
    from rich.console import Console

    from stavis.model import STAViS

DEFAULT = "default"  # stavis.weights.DEFAULT, whose module imports torch

WEIGHTS_HELP = (
    "default (included; not the paper's), a weights folder, a .pth file, hf://OWNER/NAME (Hugging Face), published-1 "
    "(-2, -3: the paper's, from the data folder) or untrained (random, only to try things out)."
)

# Literals of the library are repeated here where their modules import torch; tests/prediction/test_cli_options.py
# compares them.
Modality = Literal["audiovisual", "visual"]
Engine = Literal["auto", "plain", "torch", "openvino"]
Precision = Literal["float32", "bf16", "fp16", "int8"]
Edges = Literal["repeat", "reference"]
Quirks = Literal["fixed", "reference"]

MANY = "Many videos, many machines"  # panel of help

running = partial(typer.Option, rich_help_panel="Running")

WeightsOption = Annotated[str, typer.Option("--weights", "-w", help=WEIGHTS_HELP)]
ModalityOption = Annotated[
    Modality | None,
    typer.Option(help="Network to load from a published .pth file. Default: as its name says."),
]
DeviceOption = Annotated[str, running(help="auto, cpu, cuda or cuda:N.")]
EngineOption = Annotated[
    Engine,
    running(
        help="What runs the network; all give the same maps. auto uses OpenVINO where it is installed and pays off."
    ),
]
PrecisionOption = Annotated[
    Precision,
    running(
        help="float32 is exact. Faster approximations: bf16 and int8 on CPUs with such instructions, bf16 and fp16 on "
        "GPUs. docs/performance.md shows how close they come."
    ),
]
BatchSizeOption = Annotated[
    int | None,
    running(min=1, help="Clips per forward pass. Default: 1 on a CPU (more do not help), 8 on a GPU."),
]
OverwriteOption = Annotated[bool, running("--overwrite", help="Redo finished work.")]
QuietOption = Annotated[bool, running("--quiet", "-q", help="No progress; warnings and errors only.")]
RayOption = Annotated[
    str | None,
    typer.Option(
        help="Run on a Ray cluster: its address, auto (the one that Ray finds, else a new one here) or local.",
        metavar="ADDRESS",
        rich_help_panel=MANY,
    ),
]
RayGpusOption = Annotated[
    float, typer.Option(min=0, help="GPUs per worker on Ray; 0.5 lets two share one.", rich_help_panel=MANY)
]
VideosArgument = Annotated[
    list[str],
    typer.Argument(help="Videos, folders of videos or numbered images, or glob patterns.", metavar="VIDEO"),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the results, one folder per video.")
]
MapsOption = Annotated[
    Path | None,
    running(help="Use these maps, an .npz file of `stavis predict --outputs npz`, instead of predicting."),
]
StrideOption = Annotated[
    int, running(min=1, help="Compute every N-th frame only and interpolate the maps in between.")
]
FrameRateOption = Annotated[
    float | None,
    typer.Option(help="Frames per second of images.", metavar="FPS", show_default=False),
]
VerboseOption = Annotated[bool, running("--verbose", help="Show the traceback of unexpected errors.")]
JobsOption = Annotated[
    int | None, running("--jobs", "-j", min=1, help="Number of processes. Default: one per processor.")
]
DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="Data folder in the published layout (docs/data.md).")
]
DataOption = Annotated[Path, typer.Option("--data", help="Data folder in the published layout.")]
DatabasesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Only these databases; several with commas, or by repeating the option. Default: all that have fold "
        "lists.",
    ),
]
SplitOption = Annotated[
    str, typer.Option(metavar="[1|2|3|...|all]", help="Split whose lists are used, or all.")
]
EdgesOption = Annotated[
    Edges,
    typer.Option(
        help="First and last frames: repeat gives all frames a map; reference leaves some out as published."
    ),
]
QuirksOption = Annotated[
    Quirks,
    typer.Option(help="reference reproduces the published code with its quirks (docs/reproduction.md)."),
]


def split_names(databases: list[str] | None) -> list[str] | None:
    """Database names given with commas, by repeating the option, or both."""
    return databases and [name.strip() for text in databases for name in text.split(",") if name.strip()]


def split_number(split: str) -> int | None:
    if split == "all":
        return None
    if not split.isdecimal() or int(split) < 1:
        raise StavisError(f"--split {split}: a number from 1, or all, is allowed")
    return int(split)


def parse_size(option: str, text: str) -> tuple[int, int]:
    """Width and height in pixels, as in 1280x1024."""
    match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text.strip())
    if match is None:
        raise StavisError(f"{option} {text}: must be a width and a height in pixels, such as 1280x1024")
    return int(match[1]), int(match[2])


def say(line: str) -> None:
    """Prints a line of the library to standard error."""
    typer.echo(name_flags(line), err=True)


def table_console(width: int) -> "Console":
    """A console for tables: in a pipe, whose width is unknown, they get `width` columns."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=width, highlight=False)


def work_on_videos(
    inputs: list[str],
    output: Path,
    work: "Callable[[Path, Path, STAViS | None, str], str]",
    *,
    weights: str,
    maps: Path | None,
    device: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Calls `work(video, folder, model, weights' name)` for each video and prints the line that it returns."""
    from stavis.media.inputs import find_videos, name_folders
    from stavis.prediction.map_source import load_source
    from stavis.runtime.jobs import for_each

    videos = name_folders(find_videos(inputs), output)
    model, name = load_source(weights, maps, num_videos=len(videos), device=device)
    tasks = [(video, output / folder) for video, folder in videos.items()]
    with each_warning_once():
        for_each(
            tasks, lambda video, folder: work(video, folder, model, name), say, quiet=quiet, verbose=verbose
        )


@contextlib.contextmanager
def each_warning_once() -> Iterator[None]:
    """Shows each warning of the library once while the block runs, in which a video may be opened several times."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        is_known = text in seen
        seen.add(text)
        return not is_known

    logger = logging.getLogger("stavis")
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


# Names ----------------------------------------------------------------------------------------------------------

# British spellings of flags, accepted for those who have them in scripts.
ALIASES = {"--colour-bar": "--color-bar", "--no-colour-bar": "--no-color-bar"}

# Parameters whose flag is not their name with dashes.
_FLAGS = {
    "audio_path": "--audio",
    "bit_rate": "--bitrate",
    "start_seconds": "--start",
    "end_seconds": "--end",
    "path": "INPUT",
    "export_format": "--format",
    "columns": "--gaze-columns",
    "distance_cm": "--distance",
    "origin": "--gaze-origin",
    "screen": "--screen-resolution",
    "screen_size_cm": "--screen-size",
    "time_offset_seconds": "--time-offset",
    "unit": "--gaze-unit",
    "path_format": "--path",
    "target": "--for",
    # Columns and arrays of files, which are no parameters.
    "name": "`name`",
    "saliency": "`saliency`",
}
_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


@contextlib.contextmanager
def checked() -> Iterator[None]:
    """Turns the library's ValueErrors about wrong arguments into errors of the user; for code that only checks them."""
    try:
        yield
    except ValueError as error:
        raise StavisError(str(error)) from None


def use_current_names(arguments: list[str]) -> list[str]:
    """Arguments of the command line with old spellings of flags replaced by their present names."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parts = [argument.partition("=") for argument in arguments[:end]]
    return ["".join((ALIASES.get(flag, flag), *rest)) for flag, *rest in parts] + arguments[end:]


def name_flags(message: str) -> str:
    """A message of the library with its parameters as flags: `overwrite=True` becomes --overwrite.

    The library puts parameters in backticks, with or without a value.
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        shown = _FLAGS.get(name, "--" + name.replace("_", "-"))
        return shown if value in (None, "True") else f"{shown} {value}"

    return _PARAMETER.sub(flag, message)
