"""`stavis train`: a training run, or the whole published experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError

if TYPE_CHECKING:
    from stavis.training.recipe import Recipe

DEFAULT_RUNS = Path("runs")


def train(
    configs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[CONFIG]",
            help="Recipe: a TOML file such as configs/visual.toml, or the name of a published recipe, visual or"
            " audiovisual. --all-splits takes two recipes, or none for the published ones.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="Change a setting of the recipe, for example --set data.split=2. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="RUN",
            help="Folder of the run; runs/<config>_split<k> by default. With --all-splits, folder of all runs.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Resume the interrupted run in this folder with its own recipe. Repeating the original command also"
            " resumes it.",
        ),
    ] = None,
    all_splits: Annotated[
        bool,
        typer.Option(
            "--all-splits",
            help="The paper's experiment: both stages on splits 1, 2 and 3, then test runs and evaluation.",
        ),
    ] = False,
    on_nan: Annotated[
        Literal["stop", "skip"] | None,
        typer.Option(help="Stop, or skip the step, if the loss is not finite (--set runtime.on_nan=...)."),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the complete recipe as TOML and exit.")
    ] = False,
    quiet: shared.QuietOption = False,
) -> None:
    """Train a network from the published initial weights, from scratch, or from any other weights.

    Several GPUs: torchrun --nproc-per-node N -m stavis train ... (docs/training.md). Ctrl-C or SIGTERM ends training
    after the current step, with a checkpoint. The same command resumes it.
    """
    from stavis.runtime.allocator import keep_freed_memory
    from stavis.training.loop import load_recipe, read_run_recipe
    from stavis.training.loop import train as train_network
    from stavis.training.recipe_file import format_recipe

    keep_freed_memory()
    changes = [*(settings or ()), *([f"runtime.on_nan={on_nan}"] if on_nan else [])]
    if all_splits:
        from stavis.experiments.published import STAGES, run_published

        if resume is not None:
            raise StavisError("--all-splits resumes by itself; leave --resume out")
        if any(change.partition("=")[0].strip() == "data.split" for change in changes):
            raise StavisError("--all-splits trains on splits 1, 2 and 3; leave data.split out")
        recipes = _load_recipes(configs or [Path(stage) for stage in STAGES], changes)
        if print_config:
            for name, recipe in recipes.items():
                typer.echo(f"# {name}\n{format_recipe(recipe)}")
            return
        signal = run_published(recipes, output or DEFAULT_RUNS, quiet=quiet)
    else:
        if resume is not None:
            if configs or output is not None:
                raise StavisError(f"--resume {resume} has its recipe; leave CONFIG and --output out")
            run, recipe = resume, read_run_recipe(resume, changes)
        elif configs is None or len(configs) != 1:
            raise StavisError(
                "give one CONFIG (a TOML file, visual or audiovisual), or --resume RUN, or --all-splits"
            )
        else:
            recipe = load_recipe(configs[0], changes)
            run = output or DEFAULT_RUNS / f"{configs[0].stem}_split{recipe.data.split}"
        if print_config:
            typer.echo(format_recipe(recipe), nl=False)
            return
        signal = train_network(recipe, run, quiet=quiet).signal
    if signal is not None:
        raise typer.Exit(128 + signal)


def _load_recipes(paths: Sequence[Path], changes: Sequence[str]) -> dict[str, "Recipe"]:
    from stavis.training.loop import load_recipe

    if len({path.stem for path in paths}) < len(paths):
        raise StavisError(
            f"{', '.join(map(str, paths))}: recipes of the same name, which would share the folders of their runs; "
            "rename one"
        )
    return {path.stem: load_recipe(path, changes) for path in paths}
