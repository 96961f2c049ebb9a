"""Training videos in which sound or motion decides, made of photographs, cut-out things before them, and their sounds.

    python benchmarks/real_scenes.py --pictures ../shared/real --stamps /usr/share/tuxpaint/stamps --output data
        [--database real-scenes] [--videos 200] [--seconds 6] [--seed 0] [--jobs 2] [--motion]

`--stamps` is a folder tree with pictures NAME.png that have transparency, and NAME.ogg, the sound of what is shown
(Debian's package tuxpaint-stamps-default, GPL-2). Two to four of them stand before a picture of the set's training part
and sway alike; one after the other sounds. Twelve made-up observers fixate for 0.3 to 0.8 s each: the thing that sounds
(0.2 s late) in three of five fixations, another thing in one of five, else a place that real observers of the picture
fixated. With --motion the things rest and are of all sizes, one after the other moves across the picture, and all sound
at once: what moves is fixated instead of what sounds. The videos become a database of the published layout with
`stavis.prepare`.
"""

import argparse
import csv
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import stavis
from stavis import media
from stavis.datasets.pictures import PictureSet, read_picture_set
from stavis.preparation.folds import FoldChoice
from stavis.preparation.options import PrepareOptions
from stavis.runtime.workers import Advance, default_jobs, run_parallel

RATE, SAMPLE_RATE = 25, 22050
WIDTH, HEIGHT = 256, 192
KINDS = ("animals", "household", "hobbies", "vehicles", "naturalforces")  # whose sounds are what is shown
NUM_OBSERVERS = 12
LAG = 5  # frames
LONGEST_SOUND = 10 * SAMPLE_RATE
SIGMA_PIXELS = 8.0

Array = npt.NDArray[np.float32]


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
    parser.add_argument("--motion", action="store_true", help="motion decides, not sound")
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
        motion=arguments.motion,
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
    motion: bool = False,
) -> None:
    """Makes the database, unless its lists are there already."""
    if any((output / "fold_lists").glob(f"{database}_list_train_1_fps.txt")):
        return
    things = find_things(stamps)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        write = partial(write_scene, pictures, things, Path(folder), round(seconds * RATE), seed, motion)
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
    pictures: Path,
    things: list[Path],
    folder: Path,
    num_frames: int,
    seed: int,
    motion: bool,
    index: int,
    advance: Advance,
) -> None:
    """Writes one video with its sound, and a table of its gaze."""
    rng = np.random.default_rng([seed, index])
    picture_set = read_picture_set(pictures)
    number = int(rng.choice(picture_set.part("training")))
    background = picture_set.read(number).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    chosen = [things[i] for i in rng.choice(len(things), int(rng.integers(2, 5)), replace=False)]
    smallest = 0.07 if motion else 0.28
    sprites = [fit(Image.open(path).convert("RGBA"), rng, len(chosen), smallest) for path in chosen]
    if motion:
        turns = take_turns(len(chosen), num_frames, rng)
        paths = wander(sprites, turns, rng)
    else:
        paths = sway(sprites, num_frames, rng)
        turns = take_turns(len(chosen), num_frames, rng)
    name = f"scene_{index:04d}"
    media.write_wave(folder / f"{name}.wav", render_sound(chosen, turns, rng, at_once=motion), SAMPLE_RATE)
    with media.VideoWriter(
        folder / f"{name}.mp4",
        width=WIDTH,
        height=HEIGHT,
        frame_rate=RATE,
        audio_from=folder / f"{name}.wav",
    ) as writer:
        for frame in range(num_frames):
            image = background.copy()
            for sprite, path in zip(sprites, paths, strict=True):
                x, y = path[frame]
                image.paste(sprite, (round(x - sprite.width / 2), round(y - sprite.height / 2)), sprite)
            writer.write(np.asarray(image))
    (folder / f"{name}.wav").unlink()
    with (folder / f"{name}.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["observer", "frame", "x", "y"])
        table.writerows(look(picture_set, number, sprites, paths, turns, rng))
    advance(1)


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


def take_turns(num: int, num_frames: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Whose turn each frame is; -1 in pauses, a tenth of the turns."""
    turns = np.full(num_frames, -1)
    start, last = 0, -1
    while start < num_frames:
        end = start + int(rng.integers(1.5 * RATE, 3.5 * RATE))
        last = int(rng.choice([one for one in range(num) if one != last]))
        turns[start:end] = -1 if rng.random() < 0.1 else last
        start = end
    return turns


def render_sound(
    things: list[Path], turns: npt.NDArray[np.int64], rng: np.random.Generator, *, at_once: bool
) -> Array:
    """The soundtrack: each thing's sound, repeated while it is its turn, or all the time; all about equally loud."""
    per_frame = SAMPLE_RATE // RATE
    track = rng.normal(0, 0.001, len(turns) * per_frame)
    for number, thing in enumerate(things):
        with media.AudioReader(thing.with_suffix(".ogg"), sample_rate=SAMPLE_RATE) as reader:
            samples = reader.read(0, min(reader.num_samples or LONGEST_SOUND, LONGEST_SOUND))
        gate = np.repeat(((turns == number) | at_once).astype(float), per_frame)
        gate = np.convolve(gate, np.full(221, 1 / 221), mode="same")  # 10 ms ramps
        loudness = np.sqrt(np.mean(np.square(samples)) + 1e-9)
        repeated = np.resize(np.roll(samples, -int(rng.integers(len(samples)))), len(track))
        track += gate * repeated * rng.uniform(0.05, 0.15) / loudness
    return np.clip(track, -1, 1).astype(np.float32)


def look(
    pictures: PictureSet,
    number: int,
    sprites: list[Image.Image],
    paths: list[Array],
    turns: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> list[list[object]]:
    """Rows of the gaze table: observer, frame, x and y in pixels."""
    rows: list[list[object]] = []
    places = pictures.points[number] * (WIDTH, HEIGHT)
    for observer in range(NUM_OBSERVERS):
        frame = 0
        while frame < len(turns):
            noticed = int(turns[max(0, frame - LAG)])
            target = rng.choice(
                ["noticed", "thing", "place"], p=[0.6, 0.2, 0.2] if noticed >= 0 else [0, 0.5, 0.5]
            )
            end = min(len(turns), frame + int(rng.integers(0.3 * RATE, 0.8 * RATE)))
            if target == "place":
                place = np.tile(places[rng.integers(len(places))], (end - frame, 1))
            else:
                one = noticed if target == "noticed" else int(rng.integers(len(paths)))
                size = np.array([sprites[one].width, sprites[one].height])
                place = paths[one][frame:end] + rng.normal(0, 0.15, 2) * size
            place = np.clip(place, 0, (WIDTH - 1, HEIGHT - 1))
            rows += [
                [f"o{observer:02d}", t, round(float(x), 1), round(float(y), 1)]
                for t, (x, y) in enumerate(place, frame)
            ]
            frame = end
    return rows


if __name__ == "__main__":
    main()
