"""`stavis export`: the network for other runtimes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stavis.cli import options as shared


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    weights: shared.WeightsOption = shared.DEFAULT,
    format_: Annotated[
        Literal["onnx", "openvino", "torch-export"], typer.Option("--format", help="Target runtime.")
    ] = "onnx",
    modality: shared.ModalityOption = None,
    overwrite: shared.OverwriteOption = False,
) -> None:
    """Write the network for ONNX, OpenVINO or torch.export, and check it against PyTorch."""
    from stavis.engine.export import export_model
    from stavis.weights.names import load_network

    network = load_network(weights, modality=modality, device="cpu")
    for warning in network.warnings:
        shared.say(f"warning: {warning}")
    report = export_model(network.model, folder, format_, overwrite=overwrite)
    versions = ", ".join(f"{package} {version}" for package, version in report.versions.items())
    typer.echo(f"{report.path}: largest difference to PyTorch {report.max_difference:.2g}; {versions}")
