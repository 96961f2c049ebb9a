"""`stavis runs`: results of training runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError


def runs(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of training runs.")],
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="File for the curves of loss, CC and NSS. Default: curves.png, for a single run in its folder.",
        ),
    ] = None,
) -> None:
    """Print a table of training runs, and plot their curves. Folders that are none are passed over.

    Scores are means over clips at the network's resolution. Use them to compare runs; for scores comparable with the
    paper's table, use stavis evaluate.
    """
    from rich.console import Console

    from stavis.runtime.progress import text_table
    from stavis.training.display import format_duration
    from stavis.training.loop import read_run_recipe
    from stavis.training.runlog import METRICS_FILE, WEIGHTS_FOLDER, draw_curves, read_metrics

    others = [folder for folder in folders if not (folder / METRICS_FILE).is_file()]
    for folder in others:
        if len(others) == len(folders):
            raise StavisError(f"{folder}: not a training run: it has no {METRICS_FILE}")
        shared.say(f"{folder}: not a training run, passed over")
    folders = [folder for folder in folders if folder not in others]
    right = [f"{subset}\n{score}" for subset in ("training", "validation") for score in ("loss", "CC", "NSS")]
    table = text_table("run", "network", "split", "epochs", "state", "time", right=right, box=None)
    any_epochs = False
    for folder in folders:
        records = read_metrics(folder)
        recipe = read_run_recipe(folder)
        epochs = [record for record in records if record["kind"] == "epoch"]
        any_epochs = any_epochs or bool(epochs)
        last: dict[str, Any] = epochs[-1] if epochs else {}
        measured = next((one["validation"] for one in reversed(epochs) if one["validation"]), None)
        state = "finished" if (folder / WEIGHTS_FOLDER).is_dir() else "unfinished"
        if last.get("num_skipped"):
            state += f", {last['num_skipped']} steps skipped"
        table.add_row(
            str(folder),
            f"{recipe.model.modality} {recipe.model.depth}",
            str(recipe.data.split),
            f"{len(epochs)}/{recipe.epochs}",
            state,
            format_duration(sum(one["seconds"] for one in epochs)),
            *_format_scores(last.get("training")),
            *_format_scores(measured),
        )
    # A narrow terminal or pipe would cut off digits.
    Console(width=max(Console().width, 140)).print(table)
    if any_epochs:
        path = plot or (folders[0] / "curves.png" if len(folders) == 1 else Path("curves.png"))
        draw_curves(folders, path)
        typer.echo(f"curves: {path}")
    elif plot is not None:
        typer.echo("no epoch is finished yet, so there is nothing to plot", err=True)


def _format_scores(means: dict[str, float | None] | None) -> list[str]:
    if means is None:
        return ["-", "-", "-"]
    formats = {"loss": "{:.4g}", "cc": "{:.3f}", "nss": "{:.3f}"}
    return ["nan" if means[name] is None else form.format(means[name]) for name, form in formats.items()]
