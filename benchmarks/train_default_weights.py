"""Trains the default weights from nothing but pictures with gaze, sounds and two initializers: `make default-weights`.

    python benchmarks/train_default_weights.py --output default-weights [--shared ../shared] [--quick] [--set KEY=VALUE]

1. generates four databases, one per preset (docs/synthetic.md);
2. trains on still pictures (configs/default_pictures.toml), then on clips taken of them and generated videos
   (configs/default_clips.toml); averages the two networks' weights, 0.7 to 0.3; and trains the average with sound
   (configs/default_sound.toml);
3. writes OUTPUT/weights, in 16 bits, and prints its scores on held-out pictures (benchmarks/real_pictures.py).

What is finished is not done again, so it can be interrupted. --quick does all of it with a few tiny videos in minutes:
to see that it works; its numbers mean nothing.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

import stavis
from stavis.runtime.workers import default_jobs
from stavis.synthetic import Settings, write_databases
from stavis.training.recipe_file import read_recipe
from stavis.weights import load_model_with_report, save_model

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STAGES = ("pictures", "clips", "sound")
NUM_VIDEOS = {"sound-decides": 200, "mixed": 80, "sight-decides": 60, "unrelated": 60}
CLIPS_SHARE = 0.3  # of the average; chosen among 0, 0.3, 0.5 and 1 on held-out pictures, still and moving
QUICK = (
    "epochs=1",
    "batch.size=4",
    "validation.on=none",
    "log.overlays=0",
    "log.tensorboard=false",
    "data.workers=0",
)


def main() -> None:
    """Runs all stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("default-weights"), help="folder for data, runs and weights"
    )
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="folder with real/ and weights/"
    )
    parser.add_argument("--quick", action="store_true", help="tiny videos, one epoch: to see that it works")
    parser.add_argument("--seed", type=int, default=1, help="of all three stages")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of all stages"
    )
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="processes that generate videos")
    arguments = parser.parse_args()
    output, shared = arguments.output, arguments.shared

    for preset, num in NUM_VIDEOS.items():
        settings = Settings(preset=preset, seconds=6.0, size=(256, 192))
        if arguments.quick:
            settings, num = dataclasses.replace(settings, seconds=2.0, size=(96, 72)), 6
        write_databases(
            output / "data", [preset], settings, num_videos=num, test_share=0.2, jobs=arguments.jobs
        )
    for stage in STAGES:
        changes = [f"seed={arguments.seed}", f"data.pictures={shared / 'real'}", *arguments.set]
        changes.append(f"data.root={shared if stage == 'pictures' else output / 'data'}")
        if stage == "sound":
            changes.append(f"data.sounds={shared / 'real' / 'sounds'}")
            changes.append(f'initial_weights=["{{runs}}/averaged/weights", "{shared}/weights/soundnet8.pth"]')
        recipe = read_recipe(
            CONFIGS / f"default_{stage}.toml", [*changes, *(QUICK if arguments.quick else ())]
        )
        stavis.train(recipe, output / "runs" / stage)
        if stage == "clips":
            average(output / "runs")
    model, report = load_model_with_report(output / "runs" / "sound" / "weights")
    save_model(model, output / "weights", metadata=report.metadata, half_precision=True)
    print(
        f"{output / 'weights'}: written; python benchmarks/real_pictures.py --weights {output / 'weights'} scores it"
    )


def average(runs: Path) -> None:
    """Averages the weights of the first two stages: what stills taught is kept, and most of what clips taught added."""
    folder = runs / "averaged" / "weights"
    if folder.is_dir():
        return
    stills, clips = (stavis.load_model(runs / name / "weights") for name in ("pictures", "clips"))
    with torch.no_grad():
        for parameter, other in zip(stills.parameters(), clips.parameters(), strict=True):
            parameter.lerp_(other, CLIPS_SHARE)
    save_model(stills, folder, metadata={"averaged": {"pictures": 1 - CLIPS_SHARE, "clips": CLIPS_SHARE}})


if __name__ == "__main__":
    main()
