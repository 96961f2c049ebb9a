"""`stavis convert`: .pth files to weights folders, and weights to 16 bits."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError

if TYPE_CHECKING:
    from stavis.model import STAViS


def convert(
    file: Annotated[
        Path,
        typer.Argument(
            help="A published checkpoint (visual_split1_save_60.pth) or initializer (resnet-50-kinetics.pth, "
            "soundnet8.pth, a torchvision ResNet). With --half also a weights folder.",
            metavar="FILE.pth",
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder for the weights.", metavar="DIR")],
    modality: shared.ModalityOption = None,
    resize_filter: Annotated[
        Literal["nearest", "bicubic"] | None,
        typer.Option(
            help="How frames were resized in training, which the file does not record. Pillow's default was nearest "
            "before version 7 and has been bicubic since. bicubic if not given."
        ),
    ] = None,
    inflate: Annotated[
        Literal["center", "mean"],
        typer.Option(
            help="How the kernels of a 2D ResNet (torchvision's 18, 34, 50) get a temporal axis: center gives exactly "
            "the 2D network on a still clip, mean averages over time."
        ),
    ] = "center",
    half: Annotated[
        bool,
        typer.Option("--half", help="Store 16-bit floats (half the size) and report how much maps change."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the weights in DIR.")] = False,
) -> None:
    """Convert a .pth file to a weights folder and report which of its entries are used.

    No code in the file is executed. DIR receives the entries of the chosen network as float32, or with --half as
    float16. Commands that load it compute in float32 either way.
    """
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise StavisError(f"{folder}: exists and is not empty; --overwrite replaces the weights in it")
    if file.is_dir() and not half:
        raise StavisError(f"{file}: is a folder; expected a .pth file, or --half")
    if file.resolve() == folder.resolve():
        raise StavisError(f"{folder}: is the input; name another folder for the output")

    import torch

    from stavis.weights import WEIGHTS_FILE, load_model_with_report, save_model

    torch.manual_seed(0)  # the part that an initializer lacks is random, but the same at every conversion
    model, report = load_model_with_report(
        file, modality=modality, resize_filter=resize_filter, inflation=inflate
    )
    origin = {"file": file.name, "sha256": report.sha256, "kind": report.kind, "epoch": report.epoch}
    metadata = {**report.metadata, "converted_from": origin, "warnings": list(report.warnings)}
    save_model(model, folder, metadata=metadata, half_precision=half)

    saved, _ = load_model_with_report(folder)
    original, read_back = model.state_dict(), saved.state_dict()
    # Half precision keeps 11 significant bits, and from 2**-14 down multiples of 2**-24.
    rtol, atol = (2**-11, 2**-25) if half else (0.0, 0.0)
    if saved.config != model.config or not all(
        torch.allclose(original[name], read_back[name], rtol, atol) for name in original
    ):
        raise StavisError(f"{folder}: the weights read back differ from those written; check the disk")

    same = f"maps change by up to {_largest_change(model, saved):.1g}" if half else "read back the same"
    is_assumed = resize_filter is None and report.kind != "weights folder"
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        ("file", f"{file}: {report.origin}"),
        ("sha256", report.sha256),
        ("network", f"{report.modality} ResNet-{report.depth}, shortcut {report.shortcut}"),
        ("resizing", model.config.preprocessing.resize_filter + (", assumed" if is_assumed else "")),
        ("used", _count_by_part(report.used)),
        ("dropped", _count_by_part(report.dropped)),
        ("initialized", _count_by_part(report.initialized)),
        (
            "written",
            f"{folder}: {num_parameters:,} parameters, {(folder / WEIGHTS_FILE).stat().st_size / 1e6:.1f} MB, {same}",
        ),
    ]
    for label, text in lines:
        typer.echo(f"{label:<12} {text}")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)


def _largest_change(model: "STAViS", other: "STAViS") -> float:
    """Largest difference between the maps of two networks for four clips of noise with noise as audio."""
    import torch

    p = model.config.preprocessing
    rng = torch.Generator().manual_seed(0)
    clips = torch.rand((4, 3, p.clip_length, *p.input_size), generator=rng) * 255
    clips -= torch.tensor(p.mean)[:, None, None, None]
    audio = torch.randn((4, p.num_audio_samples), generator=rng) * 40
    with torch.inference_mode():
        one, two = (network(clips, audio).logits.sigmoid() for network in (model, other))
    return float((one - two).abs().max())


def _count_by_part(names: tuple[str, ...]) -> str:
    """Counts entries per outermost module: "57 entries: fusion3 6, soundnet8 49, ..."."""
    parts = Counter(name.partition(".")[0] for name in names)
    listed = ", ".join(f"{part} {count}" for part, count in parts.items())
    return f"{len(names)} entries: {listed}" if names else "nothing"
