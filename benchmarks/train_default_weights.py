"""Trains the default weights from nothing but pictures with gaze, sounds and two initializers: `make default-weights`.

    python benchmarks/train_default_weights.py --output default-weights [--shared ../shared] [--quick] [--set KEY=VALUE]

1. generates four databases, one per preset (docs/synthetic.md), a fifth with more videos in which sound decides, and
   three of scenes with real parts (benchmarks/real_scenes.py) if `--stamps` is there;
2. trains on still pictures (configs/default_pictures.toml), then on clips taken of them and generated videos
   (configs/default_clips.toml); averages the two networks' weights, half and half, and sharpens the average's maps; and
   trains it with sound (configs/default_sound.toml);
3. writes OUTPUT/weights, in 16 bits, and prints its scores on held-out pictures (benchmarks/real_pictures.py).

What is finished is not done again, so it can be interrupted. --quick does all of it with a few tiny videos in minutes:
to see that it works; its numbers mean nothing.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

import stavis
from picture_gaze import write_corrected
from real_scenes import Decider, write_scenes
from stavis.runtime.workers import default_jobs
from stavis.synthetic import Settings, write_databases
from stavis.training.recipe_file import change_recipe, read_recipe
from stavis.weights import load_model_with_report, save_model

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STAGES = ("pictures", "clips", "sound")
# Database -> preset, videos, and share of them for tests.
DATABASES: dict[str, tuple[str, int, float]] = {
    "sound-decides": ("sound-decides", 200, 0.2),
    "mixed": ("mixed", 80, 0.2),
    "sight-decides": ("sight-decides", 60, 0.2),
    "unrelated": ("unrelated", 60, 0.2),
    "sound-decides-more": ("sound-decides", 600, 0.01),
}
# Database of scenes with real parts -> videos, seed, and what decides.
REAL_SCENES: dict[str, tuple[int, int, Decider]] = {
    "real-scenes": (240, 0, "sound"),
    "real-motion": (160, 7, "motion"),
    "real-speech": (160, 11, "speech"),
}
# Of the average. Chosen among 0, 0.3 and 0.5 by the mean NSS of held-out pictures, clips of pictures, and videos.
CLIPS_SHARE = 0.5
# Taken from all logits: probabilities far below 1 are nearly proportional to exponentials, so that maps are more
# peaked. Chosen among 0 to 3 on held-out pictures: NSS +0.03, CC -0.004.
SHARPENING = 1.0
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
    parser.add_argument(
        "--stamps",
        type=Path,
        default=Path("/usr/share/tuxpaint/stamps"),
        help="cut-out things with their sounds; Debian's package tuxpaint-stamps-default",
    )
    parser.add_argument("--quick", action="store_true", help="tiny videos, one epoch: to see that it works")
    parser.add_argument("--seed", type=int, default=1, help="of all three stages")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of all stages"
    )
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="processes that generate videos")
    arguments = parser.parse_args()
    output, shared = arguments.output, arguments.shared

    for database, (preset, num, test_share) in DATABASES.items():
        settings = Settings(preset=preset, seconds=6.0, size=(256, 192))
        if arguments.quick:
            settings, num = dataclasses.replace(settings, seconds=2.0, size=(96, 72)), 6
        write_databases(
            output / "data", [database], settings, num_videos=num, test_share=test_share, jobs=arguments.jobs
        )
    pictures = write_corrected(shared / "real", output / "pictures", every=20 if arguments.quick else 1)
    real_scenes = REAL_SCENES if arguments.stamps.is_dir() else {}
    if not real_scenes:
        print(f"{arguments.stamps}: not there, so no scenes with real parts are made")
    for database, (num, seed, decider) in real_scenes.items():
        write_scenes(
            pictures,
            arguments.stamps,
            output / "data",
            database=database,
            num_videos=10 if arguments.quick else num,
            seconds=2.0 if arguments.quick else 6.0,
            seed=seed,
            jobs=arguments.jobs,
            decider=decider,
        )
    for stage in STAGES:
        changes = [f"seed={arguments.seed}", f"data.pictures={pictures}", *arguments.set]
        changes.append(f"data.root={shared if stage == 'pictures' else output / 'data'}")
        if stage == "sound":
            changes.append(f"data.sounds={shared / 'real' / 'sounds'}")
            changes.append(f'initial_weights=["{{runs}}/averaged/weights", "{shared}/weights/soundnet8.pth"]')
        recipe = read_recipe(
            CONFIGS / f"default_{stage}.toml", [*changes, *(QUICK if arguments.quick else ())]
        )
        made = [one for one in recipe.data.databases if one in DATABASES or one in real_scenes]
        kept = [one for one in recipe.loss.keep_databases if one in made]
        recipe = change_recipe(recipe, [f"data.databases={made}", f"loss.keep_databases={kept}"])
        stavis.train(recipe, output / "runs" / stage)
        if stage == "clips":
            average(output / "runs")
    model, report = load_model_with_report(output / "runs" / "sound" / "weights")
    save_model(model, output / "weights", metadata=report.metadata, half_precision=True)
    print(
        f"{output / 'weights'}: written; python benchmarks/real_pictures.py --weights {output / 'weights'} scores it"
    )


def average(runs: Path) -> None:
    """Averages the weights of the first two stages, most of stills and some of clips, and sharpens the maps."""
    folder = runs / "averaged" / "weights"
    if folder.is_dir():
        return
    stills, clips = (stavis.load_model(runs / name / "weights") for name in ("pictures", "clips"))
    with torch.no_grad():
        for parameter, other in zip(stills.parameters(), clips.parameters(), strict=True):
            parameter.lerp_(other, CLIPS_SHARE)
        assert stills.fuse.bias is not None
        stills.fuse.bias -= SHARPENING
    shares = {"pictures": 1 - CLIPS_SHARE, "clips": CLIPS_SHARE}
    save_model(stills, folder, metadata={"averaged": shares, "sharpening": SHARPENING})


if __name__ == "__main__":
    main()
