"""`stavis demo`: see the whole thing work, without any data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stavis.cli.options import WEIGHTS_HELP

if TYPE_CHECKING:
    from stavis.synthetic import Truth
    from stavis.weights.names import LoadedNetwork

CLIP_SEED = 11
CLIP_PRESET = "sound-decides"
CLIP_SECONDS = 8.0
CLIP_SIZE = (512, 384)


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the clip and what is made of it.")
    ] = Path("demo-output"),
    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", help=WEIGHTS_HELP, show_default="default"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors only.")] = False,
) -> None:
    """Generate a clip whose sound matters, predict where people look in it, and score that.

    The clip is in no training data: generated databases never hold it. Its observers are simulated.
    """
    from stavis.cli.options import DEFAULT
    from stavis.experiments.demo import draw_moments, read_saliency, score
    from stavis.runtime.allocator import use_one_arena
    from stavis.weights import has_default_weights
    from stavis.weights.names import UNTRAINED, load_network

    if weights is None:
        weights = DEFAULT if has_default_weights() else UNTRAINED
    use_one_arena()
    network = load_network(weights, modality=None, device=device)
    _say(f"weights: {network.name}", quiet)
    for warning in network.warnings:
        typer.echo(f"warning: {warning}", err=True)
    clip = output / "clip.mp4"
    truth = _make_clip(clip, quiet)
    untrained = weights == UNTRAINED
    for folder, silent in (("with-sound", False), ("without-sound", True)):
        _predict(network, clip, output / folder, silent=silent, rough=untrained, quiet=quiet)
    _say("Scoring the maps against the clip's observers.", quiet)
    with_sound, without_sound = (
        read_saliency(output / name / "saliency.npz") for name in ("with-sound", "without-sound")
    )
    scores = score(truth, with_sound, without_sound)
    draw_moments(clip, truth, with_sound, without_sound, output / "moments.png")
    _write_record(output / "scores.json", network, scores)
    if quiet:
        return
    _show(scores)
    _say(_explain(output, network, scores, untrained), quiet)


def _make_clip(clip: Path, quiet: bool) -> "Truth":
    """The clip's truth; it is generated if it is not there."""
    from stavis.synthetic import read_truth, render_clip

    path = clip.with_name("truth")
    wanted = (CLIP_SEED, CLIP_PRESET, *CLIP_SIZE)
    if clip.exists() and path.with_suffix(".json").exists():
        truth = read_truth(path)
        if (truth.seed, truth.preset, truth.width, truth.height) == wanted:
            return truth
    _say(f"Generating {clip}: {CLIP_SECONDS:g} seconds of a made-up scene with sound.", quiet)
    truth = render_clip(clip, seed=CLIP_SEED, preset=CLIP_PRESET, seconds=CLIP_SECONDS, size=CLIP_SIZE)
    truth.save(path)
    return truth


def _predict(
    network: "LoadedNetwork", clip: Path, folder: Path, *, silent: bool, rough: bool, quiet: bool
) -> None:
    from stavis.engine import EngineFactory
    from stavis.maps.overlay import OverlayStyle
    from stavis.prediction.folder import FolderSettings, predict_to_folder
    from stavis.prediction.options import PredictOptions
    from stavis.prediction.outputs import OUTPUT_KINDS

    _say(f"Predicting where people look in it, {'without its sound' if silent else 'with its sound'}.", quiet)
    settings = FolderSettings(
        # Maps that mean nothing are not worth waiting for.
        options=PredictOptions(stride=8 if rough else 1, silent=silent),
        kinds=("npz", "overlay") if silent else OUTPUT_KINDS,
        style=OverlayStyle(contour=0.2, peak=True),
        weights=network.name,
        weights_sha256=network.sha256,
    )
    make_engine = EngineFactory(network.model, settings.options.engine)
    predict_to_folder(
        network.model, clip, folder, settings, overwrite=True, quiet=quiet, make_engine=make_engine
    )


def _write_record(path: Path, network: "LoadedNetwork", scores: dict[str, Any]) -> None:
    import json

    from stavis.runtime.files import write_text
    from stavis.version import __version__

    record = {
        "stavis": __version__,
        "weights": network.name,
        "weights_sha256": network.sha256,
        "clip": {"seed": CLIP_SEED, "preset": CLIP_PRESET, "seconds": CLIP_SECONDS, "size": CLIP_SIZE},
        "scores": scores,
    }
    write_text(path, json.dumps(record, indent=1) + "\n")


def _show(scores: dict[str, dict[str, float | None]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from stavis.experiments.demo import MAPS, SHOWN

    table = Table("", *SHOWN.values(), box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, title in MAPS.items():
        values = (scores[name][metric] for metric in SHOWN)
        table.add_row(title, *("-" if value is None else f"{value:.3f}" for value in values))
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)


def _explain(output: Path, network: "LoadedNetwork", scores: dict[str, Any], untrained: bool) -> str:
    """What the numbers say, and where to look next."""
    paragraphs = []
    if untrained:
        paragraphs.append(
            "These maps come from an UNTRAINED network (random weights): they show that everything works, and nothing\n"
            "can be concluded from their scores. Name weights for maps that mean something: stavis demo --weights ..."
        )
    elif network.model.config.modality == "visual":
        paragraphs.append("This network is a visual one: it hears nothing, so its two rows are the same.")
    else:
        with_sound, without_sound = (scores[name]["nss"] for name in ("with_sound", "without_sound"))
        paragraphs.append(
            f"With the sound NSS is {with_sound:.2f}, without it {without_sound:.2f} (higher is better). One clip of "
            f"{CLIP_SECONDS:g} s proves\nnothing; docs/synthetic.md tells what many come to, and how sure that is."
        )
    folder = output / "with-sound"
    paragraphs.append(
        f"""Look at
  {output / "moments.png"}    frames, observers and predictions side by side; the white box is what is heard
  {folder / "overlay.mp4"}    the heat map over the clip, with its sound
  {output / "without-sound/overlay.mp4"}    the same, predicted as if there were no sound
  {folder / "timeline.png"}   the clip at a glance
  {folder / "frames.csv"}     peak, center of mass, entropy of every frame
  {output / "scores.json"}    the table's numbers"""
    )
    more = " --weights WEIGHTS" if untrained else ""
    paragraphs.append(f"Your own video\n  stavis predict VIDEO{more}")
    return "\n" + "\n\n".join(paragraphs)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text)
