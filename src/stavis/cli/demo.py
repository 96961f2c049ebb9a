"""`stavis demo`: the whole package on a generated clip, without any data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stavis.cli import options as shared

if TYPE_CHECKING:
    from stavis.experiments.demo import DemoResult


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the clip and the results.")
    ] = Path("demo-output"),
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help=shared.WEIGHTS_HELP, show_default=False)
    ] = None,
    device: shared.DeviceOption = "auto",
    quiet: shared.QuietOption = False,
) -> None:
    """Generate a clip in which sound matters, predict where people look, and score the prediction.

    The clip is in no training data: generated data sets never contain it. Its observers are simulated.
    """
    from stavis.experiments.demo import run_demo
    from stavis.runtime.allocator import use_one_arena
    from stavis.weights.sources import UNTRAINED, has_default_weights

    if weights is None:
        weights = shared.DEFAULT if has_default_weights() else UNTRAINED
    use_one_arena()
    result = run_demo(
        output, weights, device=device, quiet=quiet, say=lambda text: None if quiet else typer.echo(text)
    )
    for warning in result.network.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if not quiet:
        _show(result)
        typer.echo(_explain(result))


def _show(result: "DemoResult") -> None:
    from stavis.experiments.demo import MAPS, SHOWN
    from stavis.runtime.progress import text_table

    table = text_table("", right=SHOWN.values())
    for name, title in MAPS.items():
        values = (result.scores[name][metric] for metric in SHOWN)
        table.add_row(title, *("-" if value is None else f"{value:.3f}" for value in values))
    shared.table_console(100).print(table)


def _explain(result: "DemoResult") -> str:
    """Interprets the scores and lists the files to look at."""
    output = result.output
    with_sound, without_sound = (result.scores[name]["nss"] for name in ("with_sound", "without_sound"))
    if result.is_untrained:
        meaning = (
            "These maps come from an UNTRAINED network (random weights). They show that everything runs; their scores\n"
            "mean nothing. For meaningful maps, name some weights: stavis demo --weights ..."
        )
    elif result.network.model.config.modality == "visual":
        meaning = "This is a visual network: it ignores the sound, so its two rows are equal."
    else:
        meaning = (
            f"NSS is {with_sound:.2f} with the sound and {without_sound:.2f} without it (higher is better). A single "
            "short clip\nproves nothing; docs/synthetic.md reports the result over many clips with its uncertainty."
        )
    return f"""
{meaning}

Look at
  {output / "moments.png"}    frames, observers and predictions side by side; the white box marks the sounding object
  {output / "with-sound/overlay.mp4"}    the heat map over the clip, with its sound
  {output / "without-sound/overlay.mp4"}    the same, predicted without the sound
  {output / "with-sound/timeline.png"}   the clip at a glance
  {output / "with-sound/frames.csv"}     peak, center of mass and entropy of every frame
  {output / "scores.json"}    the numbers of the table

Your own video
  stavis predict VIDEO{" --weights WEIGHTS" if result.is_untrained else ""}"""
