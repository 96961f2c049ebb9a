"""`stavis export`: the network for other runtimes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stavis.cli.options import DEFAULT, WEIGHTS_HELP, ModalityName


class FormatChoice(StrEnum):
    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCH_EXPORT = "torch-export"


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    weights: Annotated[str, typer.Option("--weights", "-w", help=WEIGHTS_HELP)] = DEFAULT,
    format_: Annotated[FormatChoice, typer.Option("--format", help="For which runtime.")] = FormatChoice.ONNX,
    modality: Annotated[
        ModalityName | None, typer.Option(help="Which network to take from a published .pth.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in DIR.")] = False,
) -> None:
    """Write the network for ONNX, OpenVINO or torch.export, and check it against PyTorch."""
    from stavis.engine.export import export_model
    from stavis.weights.names import load_network

    network = load_network(weights, modality=modality.value if modality else None, device="cpu")
    for warning in network.warnings:
        typer.echo(f"warning: {warning}", err=True)
    report = export_model(network.model, folder, format_.value, overwrite=overwrite)
    versions = ", ".join(f"{package} {version}" for package, version in report.versions.items())
    typer.echo(f"{report.path}: largest difference to PyTorch {report.max_difference:.2g}; {versions}")
