"""Options that several commands share, declared once; and how flags and Python parameters are called alike."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

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
Split = Literal["1", "2", "3", "all"]

RUNNING = "Running"

WeightsOption = Annotated[str, typer.Option("--weights", "-w", help=WEIGHTS_HELP)]
ModalityOption = Annotated[
    Modality | None,
    typer.Option(help="Network to load from a published .pth file. Default: as its name says."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=RUNNING)]
EngineOption = Annotated[
    Engine,
    typer.Option(
        help="What runs the network; all give the same maps. auto uses OpenVINO where it is installed and pays off.",
        rich_help_panel=RUNNING,
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        help="float32 is exact. Faster approximations: bf16 and int8 on CPUs with such instructions, bf16 and fp16 on "
        "GPUs. docs/performance.md shows how close they come.",
        rich_help_panel=RUNNING,
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Clips per forward pass. Default: 1 on a CPU, where more do not help, and 8 on a GPU.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Redo finished work.", rich_help_panel=RUNNING)
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress; warnings and errors only.", rich_help_panel=RUNNING),
]
VideosArgument = Annotated[
    list[str],
    typer.Argument(
        help="Videos, folders of videos or of numbered images, or glob patterns.", metavar="VIDEO"
    ),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the results, one folder per video.")
]
MapsOption = Annotated[
    Path | None,
    typer.Option(
        help="Use these maps, an .npz file of `stavis predict --outputs npz`, instead of predicting.",
        rich_help_panel=RUNNING,
    ),
]
StrideOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="Compute every N-th frame only and interpolate the maps in between.",
        rich_help_panel=RUNNING,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Number of processes. Default: one per processor.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
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
        show_default=False,
    ),
]
SplitOption = Annotated[Split, typer.Option(help="Split whose lists are used, or all.")]
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
    if databases is None:
        return None
    return [name.strip() for text in databases for name in text.split(",") if name.strip()]


def split_number(split: Split) -> int | None:
    """The number of a split; None for all."""
    return None if split == "all" else int(split)


def say(line: str) -> None:
    """Prints a line of the library to standard error."""
    typer.echo(name_flags(line), err=True)


# Names ----------------------------------------------------------------------------------------------------------

# British spellings of flags, accepted for those who have them in scripts.
ALIASES = {
    "--colour-bar": "--color-bar",
    "--no-colour-bar": "--no-color-bar",
}

# Parameters whose flag is not their name with dashes.
_FLAGS = {
    "audio_path": "--audio",
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
}
_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


@contextlib.contextmanager
def checked() -> Iterator[None]:
    """Turns the library's ValueErrors about wrong arguments into errors of the user; for code that only checks them."""
    from stavis.errors import StavisError

    try:
        yield
    except ValueError as error:
        raise StavisError(str(error)) from None


def use_current_names(arguments: list[str]) -> list[str]:
    """Arguments of the command line with old spellings of flags replaced by their present names."""
    replaced: list[str] = []
    for number, argument in enumerate(arguments):
        if argument == "--":
            return [*replaced, *arguments[number:]]
        flag, equals, value = argument.partition("=")
        replaced.append(ALIASES.get(flag, flag) + equals + value)
    return replaced


def name_flags(message: str) -> str:
    """A message of the library with its parameters as flags: `overwrite=True` becomes --overwrite.

    The library puts parameters in backticks, with or without a value.
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        shown = _FLAGS.get(name, "--" + name.replace("_", "-"))
        return shown if value in (None, "True") else f"{shown} {value}"

    return _PARAMETER.sub(flag, message)
