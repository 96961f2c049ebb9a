"""Overfits a small network on a few real clips, to show that the training loop learns.

    python benchmarks/overfit.py --data ../shared/goldens/dataset/data --output runs/overfit

The training and test lists of the data folder should name the same videos, so that the validation CC is that of the
training frames. Prints it after every tenth of the run, plots the curves, and exits with status 1 unless the last value
is above 0.8. After an interruption, the same command resumes.
"""

import argparse
from pathlib import Path

import stavis
from stavis.training.recipe import PUBLISHED
from stavis.training.recipe_file import change_recipe
from stavis.training.runlog import draw_curves, read_metrics

WANTED_CC = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description="Overfits a few clips.")
    parser.add_argument("--data", type=Path, required=True, help="data folder in the published layout")
    parser.add_argument("--output", type=Path, required=True, help="the run's folder")
    parser.add_argument("--plot", type=Path, help="for the curves; curves.png in the run's folder by default")
    parser.add_argument("--modality", default="visual", choices=PUBLISHED)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--base-rate", type=float, default=0.001)
    arguments = parser.parse_args()
    recipe = change_recipe(
        PUBLISHED[arguments.modality],
        [
            "initial_weights=[]",  # from scratch
            f"data.root={arguments.data}",
            f"data.cache={arguments.output}_cache",
            "data.workers=0",
            f"model.depth={arguments.depth}",
            f"epochs={arguments.epochs}",
            "batch.size=3",
            # Steps of a few clips from scratch: the published rates are for whole batches and trained weights.
            "optimizer.name=adamw",
            "optimizer.rates=uniform",
            f"optimizer.base_rate={arguments.base_rate}",
            "schedule.name=cosine",
            f"validation.every={max(1, arguments.epochs // 30)}",
            f"log.overlay_epochs={max(1, arguments.epochs // 10)}",
            "log.overlays=3",
            "log.tensorboard=false",
        ],
    )
    result = stavis.train(recipe, arguments.output, quiet=True)
    if result.weights is None:
        raise SystemExit("interrupted; the same command resumes")
    measured = [record for record in read_metrics(arguments.output) if record.get("validation")]
    for record in measured[:: max(1, len(measured) // 10)] + measured[-1:]:
        scores = record["validation"]
        print(
            f"epoch {record['epoch']}: loss {scores['loss']:.1f}, CC {scores['cc']:.3f}, NSS {scores['nss']:.3f}"
        )
    draw_curves([arguments.output], arguments.plot or arguments.output / "curves.png")
    if not measured[-1]["validation"]["cc"] > WANTED_CC:
        raise SystemExit(f"CC is not above {WANTED_CC}")


if __name__ == "__main__":
    main()
