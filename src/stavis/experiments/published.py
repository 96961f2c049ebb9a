"""The paper's experiment: both training stages on every split, then test runs and evaluation."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from signal import Signals

from stavis.datasets.layout import SPLITS
from stavis.datasets.quirks import LoaderQuirks
from stavis.errors import StavisError
from stavis.evaluation.evaluate import evaluate
from stavis.prediction.testrun import RunSettings, predict_test_videos
from stavis.training.distributed import Processes, join_processes
from stavis.training.loop import train
from stavis.training.recipe import Recipe

STAGES = ("visual", "audiovisual")


def run_published(
    recipes: Mapping[str, Recipe], output: Path, *, processes: Processes | None = None, quiet: bool = False
) -> Signals | None:
    """Trains both stages on splits 1, 2 and 3, predicts the test videos and scores the maps.

    `recipes` are by name, the visual stage first; their `data.split` is ignored. The folder `output` receives
    `<name>_split<k>` (runs), `<name>_test` (maps) and `<name>_evaluation`. Finished parts are not repeated, so the same
    call resumes an interrupted experiment. `processes` are those that share the work; None joins those that torchrun
    started.

    Returns the signal that stopped training; None if the experiment is complete. Raises StavisError if the recipes are
    not of the two stages, or any of the three parts fails.
    """
    modalities = [recipe.model.modality for recipe in recipes.values()]
    if modalities != list(STAGES):
        raise StavisError(
            "the published experiment needs the recipe of a visual network, then one of an audiovisual network; "
            f"found {', '.join(modalities)}"
        )
    if processes is None:
        with join_processes(next(iter(recipes.values())).runtime.device) as joined:
            return run_published(recipes, output, processes=joined, quiet=quiet)
    for split in SPLITS:
        for name, recipe in recipes.items():
            recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, split=split))
            result = train(recipe, output / f"{name}_split{split}", processes=processes, quiet=quiet)
            if result.signal is not None:
                return result.signal
    for name, recipe in recipes.items():
        _predict(name, recipe, output, processes, quiet)
    processes.wait()
    if processes.is_first:
        for name, recipe in recipes.items():
            databases, folder = recipe.data.databases or None, output / f"{name}_evaluation"
            evaluate(output / f"{name}_test", recipe.data.root, folder, databases=databases, quiet=quiet)
    return None


def _predict(name: str, recipe: Recipe, output: Path, processes: Processes, quiet: bool) -> None:
    predict_test_videos(
        recipe.data.root,
        output / f"{name}_test",
        weights=str(output / f"{name}_split{{split}}" / "weights"),
        databases=recipe.data.databases or None,
        device=str(processes.device),
        settings=RunSettings(
            quirks="reference" if recipe.data.quirks == LoaderQuirks.reference() else "fixed"
        ),
        quiet=quiet,
    )
