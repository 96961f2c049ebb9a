"""`stavis train`: train a network, or both stages on all splits."""

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stavis.training.distributed import Processes
    from stavis.training.recipe import Recipe

DEFAULT_RUNS = Path("runs")


class NanRule(StrEnum):
    STOP = "stop"
    SKIP = "skip"


def train(
    configs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[CONFIG]",
            help="Recipe: a TOML file (configs/visual.toml, say), or visual or audiovisual for the published one of"
            " that name. With --all-splits two of them, or none for the published ones.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="Change a setting of the recipe: --set data.split=2. May be given again.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="RUN",
            help="The run's folder. By default runs/<config>_split<k>. With --all-splits the folder for all runs.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with the interrupted run in this folder, with the recipe in it. (Giving the command that"
            " started it again does the same.)",
            show_default=False,
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
        NanRule | None,
        typer.Option(
            help="When the loss is not finite: stop, or skip that step; for --set runtime.on_nan=.",
            show_default=False,
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved recipe as TOML, and do nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Train a network: from the published initial weights, from scratch, or from any weights.

    Several GPUs: torchrun --nproc-per-node N -m stavis train ... (docs/training.md). Ctrl-C and SIGTERM end training
    after the step under way, with a checkpoint; the same command goes on from there.
    """
    from stavis.errors import StavisError
    from stavis.training.distributed import join_processes
    from stavis.training.recipe_file import format_recipe, read_recipe

    changes = list(settings or ())
    if on_nan is not None:
        changes.append(f"runtime.on_nan={on_nan}")
    if all_splits:
        if resume is not None:
            raise StavisError("--all-splits goes on by itself where it was interrupted; leave --resume out")
        recipes = _read_stages(configs or [], changes)
        if print_config:
            for name, recipe in recipes.items():
                typer.echo(f"# {name}\n{format_recipe(recipe)}")
            return
        _run_experiment(recipes, output or DEFAULT_RUNS, quiet)
        return

    if resume is not None:
        if configs or output is not None:
            raise StavisError(f"--resume {resume} takes the recipe from there; leave CONFIG and --output out")
        run = resume
        recipe = read_recipe(run / "config.toml", changes)
    elif configs is None or len(configs) != 1:
        raise StavisError(
            "one CONFIG is needed: a TOML file, visual or audiovisual; or --resume RUN, or --all-splits"
        )
    else:
        name, recipe = _read_config(configs[0], changes)
        run = output or DEFAULT_RUNS / f"{name}_split{recipe.data.split}"
    if print_config:
        typer.echo(format_recipe(recipe), nl=False)
        return
    with join_processes(recipe.runtime.device) as processes:
        _train_one(recipe, run, processes, quiet)


def _read_config(path: Path, changes: list[str]) -> "tuple[str, Recipe]":
    """A recipe and its name."""
    from stavis.training.recipe import PUBLISHED
    from stavis.training.recipe_file import change_recipe, read_recipe

    if str(path) in PUBLISHED and not path.exists():
        return str(path), change_recipe(PUBLISHED[str(path)], changes)
    return path.stem, read_recipe(path, changes)


def _read_stages(configs: list[Path], changes: list[str]) -> "dict[str, Recipe]":
    """The two stages' recipes by their names."""
    from stavis.errors import StavisError

    if any(change.partition("=")[0].strip() == "data.split" for change in changes):
        raise StavisError("--all-splits trains on splits 1, 2 and 3; leave data.split out")
    recipes = dict(_read_config(path, changes) for path in (configs or [Path("visual"), Path("audiovisual")]))
    modalities = [recipe.model.modality for recipe in recipes.values()]
    if modalities != ["visual", "audiovisual"]:
        raise StavisError(
            f"--all-splits needs the recipe of a visual and of an audiovisual network, in this order; these are "
            f"{', '.join(modalities)}"
        )
    return recipes


def _train_one(recipe: "Recipe", run: Path, processes: "Processes", quiet: bool) -> Path:
    """Trains, and ends the program where a signal asked for it."""
    from stavis.training.display import show
    from stavis.training.loop import train

    outcome = train(recipe, run, processes, quiet=quiet)
    if outcome.weights is None:
        assert outcome.signal is not None
        if processes.is_first:
            show(f"{run}: stopped by {outcome.signal.name}; go on with: stavis train --resume {run}")
        raise typer.Exit(128 + outcome.signal)
    if processes.is_first and not quiet:
        show(f"{outcome.weights}: ready for stavis predict --weights {outcome.weights}")
    return outcome.weights


def _run_experiment(recipes: "dict[str, Recipe]", runs: Path, quiet: bool) -> None:
    """Both stages on every split, then test runs and evaluation of both. What is finished is not done again."""
    from stavis.cli.evaluate import evaluate
    from stavis.cli.predict import QuirkRule
    from stavis.cli.test import predict_test_videos
    from stavis.datasets.layout import SPLITS
    from stavis.datasets.quirks import Quirks
    from stavis.training.distributed import join_processes

    device = next(iter(recipes.values())).runtime.device
    with join_processes(device) as processes:
        for split in SPLITS:
            for name, recipe in recipes.items():
                data = dataclasses.replace(recipe.data, split=split)
                _train_one(
                    dataclasses.replace(recipe, data=data), runs / f"{name}_split{split}", processes, quiet
                )
        for name, recipe in recipes.items():
            is_reference = recipe.data.quirks == Quirks.reference()
            predict_test_videos(
                data=Path(recipe.data.root),
                weights=str(runs / f"{name}_split{{split}}" / "weights"),
                output=runs / f"{name}_test",
                databases=list(recipe.data.databases) or None,
                quirks=QuirkRule.REFERENCE if is_reference else QuirkRule.FIXED,
                # Under "auto" each of torchrun's processes takes its own GPU.
                device="auto" if device == "cuda" else device,
                quiet=quiet,
            )
        processes.wait()
    if not processes.is_first:
        return
    for name, recipe in recipes.items():
        evaluate(
            data=Path(recipe.data.root),
            predictions=runs / f"{name}_test",
            output=runs / f"{name}_evaluation",
            databases=list(recipe.data.databases) or None,
            quiet=quiet,
        )
