"""`stavis convert`: a published .pth file to a weights folder."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stavis.cli.network import ModalityName


class ResizeFilterName(StrEnum):
    NEAREST = "nearest"
    BICUBIC = "bicubic"


def convert(
    file: Annotated[
        Path,
        typer.Argument(
            help="A published checkpoint (visual_split1_save_60.pth) or initialiser (resnet-50-kinetics.pth, "
            "soundnet8.pth).",
            metavar="FILE.pth",
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(help="Folder for model.safetensors and config.json.", metavar="DIR")
    ],
    modality: Annotated[
        ModalityName | None,
        typer.Option(
            help="Which network to take: a published checkpoint holds the parameters of both. By default what the "
            "file's name says, else audiovisual."
        ),
    ] = None,
    resize_filter: Annotated[
        ResizeFilterName | None,
        typer.Option(
            help="How pictures were resized when the network was trained, which the file does not say: Pillow's "
            "default was nearest before version 7 and has been bicubic since. By default bicubic."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the weights in DIR.")] = False,
) -> None:
    """Convert a published .pth file to a weights folder, and say what of it is used.

    Nothing in the file is executed. DIR gets what the chosen network has, in float32.
    """
    from stavis.errors import StavisError

    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise StavisError(f"{folder}: exists and is not empty; --overwrite replaces the weights in it")
    if file.is_dir():
        raise StavisError(f"{file}: is a folder; expected a published .pth file")

    import torch

    from stavis.weights import WEIGHTS_FILE, load_model_with_report, save_model

    torch.manual_seed(0)  # an initialiser's missing part is drawn: the same at every conversion
    model, report = load_model_with_report(
        file,
        modality=modality.value if modality else None,
        resize_filter=resize_filter.value if resize_filter else None,
    )
    origin = {"file": file.name, "sha256": report.sha256, "kind": report.kind, "epoch": report.epoch}
    save_model(model, folder, metadata={"converted_from": origin, "warnings": list(report.warnings)})

    saved, _ = load_model_with_report(folder)
    original, read_back = model.state_dict(), saved.state_dict()
    if saved.config != model.config or not all(
        torch.equal(original[name], read_back[name]) for name in original
    ):
        raise StavisError(f"{folder}: what was written does not read back the same; is the disk at fault?")

    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        ("file", f"{file}: {report.kind}" + (f", epoch {report.epoch}" if report.epoch is not None else "")),
        ("sha256", report.sha256),
        ("network", f"{report.modality} ResNet-{report.depth}, shortcut {report.shortcut}"),
        ("resizing", model.config.preprocessing.resize_filter + ("" if resize_filter else ", assumed")),
        ("used", _count_by_part(report.used)),
        ("dropped", _count_by_part(report.dropped)),
        ("initialised", _count_by_part(report.initialised)),
        (
            "written",
            f"{folder}: {num_parameters:,} parameters, {_megabytes(folder / WEIGHTS_FILE)}, read back the same",
        ),
    ]
    for label, text in lines:
        typer.echo(f"{label:<12} {text}")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)


def _count_by_part(names: tuple[str, ...]) -> str:
    """Counts entries by the network's outermost modules: "57 entries: fusion3 6, soundnet8 49, ..."."""
    parts = Counter(name.partition(".")[0] for name in names)
    listed = ", ".join(f"{part} {count}" for part, count in parts.items())
    return f"{len(names)} entries: {listed}" if names else "nothing"


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
