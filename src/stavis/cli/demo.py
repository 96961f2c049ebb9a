"""`stavis demo`: see the whole thing work, without any data."""

from pathlib import Path
from typing import Annotated

import typer

CLIP_SEED = 11
CLIP_SECONDS = 6.0
CLIP_SIZE = (640, 360)


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the clip and what is made of it.")
    ] = Path("demo-output"),
    weights: Annotated[
        str,
        typer.Option(
            "--weights", "-w", help="A weights folder or a published .pth file, for maps that mean something."
        ),
    ] = "untrained",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors only.")] = False,
) -> None:
    """Generate a clip with sound and predict where people look in it."""
    from stavis.cli.network import UNTRAINED
    from stavis.cli.predict import run_predictions
    from stavis.outputs import OUTPUT_KINDS
    from stavis.predict import PredictOptions
    from stavis.prediction_folder import FolderSettings
    from stavis.render import OverlayStyle

    clip = output / "clip.mp4"
    untrained = weights == UNTRAINED
    if not clip.exists():
        from stavis.data.synthetic import render_clip

        _say(f"Generating {clip}: {CLIP_SECONDS:g} seconds of a made-up scene with sound.", quiet)
        render_clip(clip, seed=CLIP_SEED, seconds=CLIP_SECONDS, size=CLIP_SIZE)
    _say("Predicting where people look in it.", quiet)
    settings = FolderSettings(
        # Maps that mean nothing are not worth waiting for.
        options=PredictOptions(stride=5 if untrained else 1),
        kinds=OUTPUT_KINDS,
        style=OverlayStyle(contour=0.2, peak=True),
    )
    run_predictions(
        [(clip, output / "clip")], settings, weights=weights, modality=None, device=device, quiet=quiet
    )
    folder = output / "clip"
    _say(
        f"""
Done. Look at
  {folder / "overlay.mp4"}    the heat map over the clip, with its sound
  {folder / "timeline.png"}   the clip at a glance
  {folder / "frames.csv"}     peak, centre of mass, entropy of every frame
  {folder / "saliency.mp4"}   the maps as a grey video; maps/ has them as PNG, saliency.npz as numbers""",
        quiet,
    )
    if untrained:
        _say(
            """
These maps come from an UNTRAINED network (random weights): they show that everything works, not where people look.
For real ones fetch the published weights, where their host can be reached, and name them:
  stavis fetch weights --data data
  stavis demo --weights data/pretrained_models/stavis_audiovisual/audiovisual_split1_save_60.pth""",
            quiet,
        )
    _say(
        """
Your own video:
  stavis predict VIDEO --weights WEIGHTS --output results""",
        quiet,
    )


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text)
