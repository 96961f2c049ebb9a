"""Training videos in which sound or motion decides, made of photographs, cut-out things before them, and their sounds.

    python benchmarks/real_scenes.py --pictures ../shared/real --stamps /usr/share/tuxpaint/stamps --output data
        [--database real-scenes] [--videos 200] [--seconds 6] [--seed 0] [--jobs 2]
        [--decides sound|motion|speech]

`--stamps` is a folder tree with pictures NAME.png that have transparency, and NAME.ogg, the sound of what is shown
(Debian's package tuxpaint-stamps-default, GPL-2). Two to four of them stand before a picture of the set's training part
and sway alike; one after the other sounds. Twelve made-up observers fixate for 0.3 to 0.8 s each: the thing that sounds
(0.2 s late) in three of five fixations, another thing in one of five, else a place that real observers of the picture
fixated. With `--decides motion` the things rest and are of all sizes, one after the other moves across the picture, and
all sound at once: what moves is fixated. With `--decides speech` the people of a picture talk in turns
(talking_scenes.py), and the one who talks is fixated. The videos become a database of the published layout with
`stavis.prepare`.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

import stavis
from scene import HEIGHT, RATE, WIDTH, Array, Scene, level, mix, read_sound, take_turns, write
from stavis.datasets.pictures import PictureSet, read_picture_set
from stavis.preparation.folds import FoldChoice
from stavis.preparation.options import PrepareOptions
from stavis.runtime.workers import Advance, default_jobs, run_parallel
from talking_scenes import find_speech, make_talking_scene

KINDS = ("animals", "household", "hobbies", "vehicles", "naturalforces")  # whose sounds are what is shown
SIGMA_PIXELS = 8.0

Decider = Literal["sound", "motion", "speech"]


def main() -> None:
    """Makes the database."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--stamps", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="data folder")
    parser.add_argument("--database", default="real-scenes")
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=default_jobs())
    parser.add_argument("--decides", choices=get_args(Decider), default="sound", help="what is looked at")
    arguments = parser.parse_args()
    write_scenes(
        arguments.pictures,
        arguments.stamps,
        arguments.output,
        database=arguments.database,
        num_videos=arguments.videos,
        seconds=arguments.seconds,
        seed=arguments.seed,
        jobs=arguments.jobs,
        decider=arguments.decides,
    )


def write_scenes(
    pictures: Path,
    stamps: Path,
    output: Path,
    *,
    database: str = "real-scenes",
    num_videos: int = 200,
    seconds: float = 6.0,
    seed: int = 0,
    jobs: int = 1,
    decider: Decider = "sound",
) -> None:
    """Makes the database, unless its lists are there already."""
    if any((output / "fold_lists").glob(f"{database}_list_train_1_fps.txt")):
        return
    make = (
        partial(make_talking_scene, find_speech(stamps))
        if decider == "speech"
        else partial(make_scene, find_things(stamps), motion=decider == "motion")
    )
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        write = partial(write_scene, make, pictures, Path(folder), round(seconds * RATE), seed)
        run_parallel(
            write, range(num_videos), jobs=jobs, description="Real scenes", total=num_videos, unit="videos"
        )
        options = PrepareOptions(sigma_pixels=SIGMA_PIXELS)
        folds = FoldChoice(num_folds=10)
        done = stavis.prepare(
            folder, output, database, gaze=folder, options=options, folds=folds, jobs=jobs, quiet=False
        )
        if failed := [one for one in done.videos if one.error]:
            raise SystemExit(f"{failed[0].source.name}: {failed[0].error}")


def find_things(stamps: Path) -> list[Path]:
    """Pictures of things with their sounds beside them."""
    things = [
        sound.with_suffix(".png")
        for kind in KINDS
        for sound in sorted((stamps / kind).rglob("*.ogg"))
        if sound.with_suffix(".png").is_file()
    ]
    if not things:
        raise SystemExit(f"{stamps}: no NAME.png with NAME.ogg in {', '.join(KINDS)}")
    return things


def write_scene(
    make: Callable[[PictureSet, int, np.random.Generator], Scene],
    pictures: Path,
    folder: Path,
    num_frames: int,
    seed: int,
    index: int,
    advance: Advance,
) -> None:
    """Writes one video with its sound, and a table of its gaze."""
    rng = np.random.default_rng([seed, index])
    scene = make(read_picture_set(pictures), num_frames, rng)
    write(scene, folder, f"scene_{index:04d}", rng)
    advance(1)


def make_scene(
    things: list[Path], pictures: PictureSet, num_frames: int, rng: np.random.Generator, *, motion: bool
) -> Scene:
    """Things before a picture of the training part, one after the other of which sounds or moves."""
    number = int(rng.choice(pictures.part("training")))
    background = pictures.read(number).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    chosen = [things[i] for i in rng.choice(len(things), int(rng.integers(2, 5)), replace=False)]
    smallest = 0.07 if motion else 0.28
    sprites = [fit(Image.open(path).convert("RGBA"), rng, len(chosen), smallest) for path in chosen]
    if motion:
        turns = take_turns(len(chosen), num_frames, rng)
        paths = wander(sprites, turns, rng)
    else:
        paths = sway(sprites, num_frames, rng)
        turns = take_turns(len(chosen), num_frames, rng)
    return Scene(
        frames=(draw(background, sprites, [path[frame] for path in paths]) for frame in range(num_frames)),
        sound=mix([sound_of(thing, rng) for thing in chosen], turns, rng, at_once=motion),
        sizes=np.array([sprite.size for sprite in sprites], float),
        paths=paths,
        turns=turns,
        places=pictures.points[number] * (WIDTH, HEIGHT),
    )


def draw(background: Image.Image, sprites: list[Image.Image], centers: list[Array]) -> npt.NDArray[np.uint8]:
    """A frame: things before a picture."""
    image = background.copy()
    for sprite, (x, y) in zip(sprites, centers, strict=True):
        image.paste(sprite, (round(x - sprite.width / 2), round(y - sprite.height / 2)), sprite)
    return np.asarray(image)


def sound_of(thing: Path, rng: np.random.Generator) -> Array:
    """The sound of a thing from a random place on, of a loudness of 1."""
    sound = read_sound(thing.with_suffix(".ogg"))
    sound = np.roll(sound, -int(rng.integers(len(sound))))
    return level(sound)


def fit(sprite: Image.Image, rng: np.random.Generator, num: int, smallest: float) -> Image.Image:
    """A thing at a random size, from a share of the picture's height, that leaves room for the others."""
    height, widest = rng.uniform(smallest, 0.5) * HEIGHT, 0.95 * WIDTH / num
    scale = min(height / sprite.height, widest / sprite.width)
    return sprite.resize((max(8, round(sprite.width * scale)), max(8, round(sprite.height * scale))))


def sway(sprites: list[Image.Image], num_frames: int, rng: np.random.Generator) -> list[Array]:
    """Centers (frames, 2) in pixels: side by side in random order, all swaying alike, so that motion tells nothing."""
    slots = (rng.permutation(len(sprites)) + 0.5) * WIDTH / len(sprites)
    times = np.arange(num_frames) / RATE
    paths = []
    for sprite, slot in zip(sprites, slots, strict=True):
        y = rng.uniform(sprite.height / 2, HEIGHT - sprite.height / 2)
        phases, rates = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.3, 1.0, 2)
        offsets = 5 * np.sin(2 * np.pi * rates * times[:, None] + phases)
        paths.append((np.array([slot, y]) + offsets).astype(np.float32))
    return paths


def wander(sprites: list[Image.Image], turns: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Array]:
    """Centers (frames, 2) in pixels of things that rest at random places, except the one whose turn it is.

    That one crosses a tenth to nine tenths of the picture's width a second, turning all the time.
    """
    paths = []
    for number, sprite in enumerate(sprites):
        low = np.minimum(np.array([sprite.width, sprite.height]) / 2, (WIDTH / 2, HEIGHT / 2))
        high = np.array([WIDTH, HEIGHT]) - low
        speed = np.exp(rng.uniform(np.log(0.1), np.log(0.9))) * WIDTH / RATE
        angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.1, len(turns)))
        steps = speed * np.stack([np.cos(angles), np.sin(angles)], axis=1) * (turns == number)[:, None]
        place = rng.uniform(low, high) + np.cumsum(steps, axis=0)
        span = np.maximum(high - low, 1e-6)
        # Reflected at the picture's edges.
        paths.append((low + span - np.abs((place - low) % (2 * span) - span)).astype(np.float32))
    return paths


if __name__ == "__main__":
    main()
