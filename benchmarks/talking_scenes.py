"""Scenes in which people of a photograph talk in turns: their mouths, heads and shoulders are moved by recorded speech.

`faces.json` has the boxes (x, y, width, height in pixels) of faces on pictures of OSIE and EyeCrowd with two or more
people. They were found by OpenCV's cascades for frontal faces, where two of them agreed, and looked through by eye.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter1d, map_coordinates

from scene import HEIGHT, RATE, SAMPLE_RATE, WIDTH, Array, Scene, level, mix, read_sound, take_turns
from stavis.datasets.pictures import PictureSet

FACES = Path(__file__).with_name("faces.json")
LANGUAGES = ("be", "bg", "ca", "fr", "ro", "ru")  # spoken names of the stamps; others are left for tests
MOST_TALKERS = 4
SMALLEST_FACE = 16  # pixels of the scene


def find_speech(stamps: Path, languages: tuple[str, ...] = LANGUAGES) -> list[list[Path]]:
    """Recordings of each language."""
    return [sorted(stamps.rglob(f"*_desc_{language}.ogg")) for language in languages]


def make_talking_scene(
    speech: list[list[Path]], pictures: PictureSet, num_frames: int, rng: np.random.Generator
) -> Scene:
    """People of a picture of the training part, one after the other of whom talks."""
    boxes_of = json.loads(FACES.read_text())
    known = {
        "/".join(Path(pictures.names[number]).parts[-3:]): number for number in pictures.part("training")
    }
    names = [name for name in boxes_of if name in known]
    chosen = np.zeros(0, int)
    while len(chosen) < 2:
        name = names[rng.integers(len(names))]
        picture, boxes = pictures.read(known[name]), np.array(boxes_of[name], float)
        left, top, width, height = random_crop(picture.size, rng)
        scale = np.array([WIDTH / width, HEIGHT / height])
        centers = (boxes[:, :2] + boxes[:, 2:] / 2 - (left, top)) * scale
        sizes = boxes[:, 3] * scale[1]
        margins = np.minimum(centers, (WIDTH, HEIGHT) - centers).min(axis=1)
        chosen = rng.permutation(np.flatnonzero((margins > sizes / 2) & (sizes >= SMALLEST_FACE)))[
            :MOST_TALKERS
        ]
    centers, sizes = centers[chosen], sizes[chosen]
    box = (left, top, left + width, top + height)
    image = picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)
    turns = take_turns(len(chosen), num_frames, rng)
    talk = [say(speech[rng.integers(len(speech))], num_frames, rng) for _ in chosen]
    opened = np.stack([openings(sound) * (turns == i) for i, sound in enumerate(talk)], axis=1)
    energy = gaussian_filter1d(
        np.stack([turns == i for i in range(len(chosen))], axis=1).astype(float), 4, axis=0
    )
    laugh = rng.random(len(chosen)) < 0.15  # some who listen move as much
    energy = np.maximum(energy, 0.15 + 0.6 * laugh)
    heads = 0.09 * sizes[:, None] * drift(num_frames, len(chosen), rng) * energy[:, :, None]
    bodies = 0.14 * sizes[:, None] * drift(num_frames, len(chosen), rng) * energy[:, :, None]
    places = (pictures.points[known[name]] * picture.size - (left, top)) * scale
    places = places[((places >= 0) & (places < (WIDTH, HEIGHT))).all(axis=1)]
    return Scene(
        frames=animate(np.asarray(image, np.float32), centers, sizes, opened, heads, bodies),
        sound=mix(talk, turns, rng),
        sizes=np.stack([0.8 * sizes, sizes], axis=1),
        paths=[(center + heads[:, i]).astype(np.float32) for i, center in enumerate(centers)],
        turns=turns,
        places=places if len(places) else centers,
    )


def random_crop(size: tuple[int, int], rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Left, top, width and height of a part of a picture, in the scene's shape."""
    width = rng.uniform(0.4, 1.0) * min(size[0], size[1] * WIDTH / HEIGHT)
    height = width * HEIGHT / WIDTH
    return rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height), width, height


def say(recordings: list[Path], num_frames: int, rng: np.random.Generator) -> Array:
    """Speech of one language without an end: recordings one after the other with short pauses, equally loud."""
    needed, parts = num_frames * SAMPLE_RATE // RATE, []
    while sum(map(len, parts)) < needed:
        sound = read_sound(recordings[rng.integers(len(recordings))])
        loud = np.flatnonzero(np.abs(sound) > 0.05 * np.abs(sound).max())
        if len(loud):
            parts += [
                sound[loud[0] : loud[-1]],
                np.zeros(int(rng.uniform(0.03, 0.15) * SAMPLE_RATE), np.float32),
            ]
    return level(np.concatenate(parts)[:needed])


def openings(sound: Array) -> npt.NDArray[np.float64]:
    """How far a mouth is open in each frame, 0..1, by the loudness of what it says."""
    loudness = np.sqrt(np.square(sound).reshape(-1, SAMPLE_RATE // RATE).mean(axis=1))
    return np.clip(loudness / (np.quantile(loudness, 0.9) + 1e-9), 0, 1)


def drift(num_frames: int, num: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Smooth random motion (frames, num, 2) with a standard deviation of 1."""
    steps = gaussian_filter1d(rng.normal(size=(num_frames + 50, num, 2)), rng.uniform(4, 9), axis=0)[25:-25]
    return steps / (steps.std(axis=0) + 1e-9)


def animate(
    image: Array,
    centers: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    opened: npt.NDArray[np.float64],
    heads: npt.NDArray[np.float64],
    bodies: npt.NDArray[np.float64],
) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames of a picture (height, width, 3) of people who move: `opened` mouths, heads and bodies displaced."""
    for frame in range(len(opened)):
        moved = image.copy()
        for i, ((x, y), size) in enumerate(zip(centers, sizes, strict=True)):
            left, right = max(0, int(x - 2 * size)), min(image.shape[1], int(x + 2 * size))
            top, bottom = max(0, int(y - 1.5 * size)), min(image.shape[0], int(y + 4 * size))
            rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32)
            across, down = (columns - x) / size, (rows - y) / size  # in face heights from its center
            head = np.exp(-((across / 0.8) ** 4) - (down / 0.9) ** 4)
            body = np.exp(-((across / 1.4) ** 4) - ((down - 2.2) / 1.3) ** 4)
            gap = opened[frame, i]
            below = down - 0.28  # from the mouth
            chin = (
                np.exp(-((across / 0.32) ** 2)) * np.clip(below / 0.04, 0, 1) * np.exp(-((below / 0.4) ** 2))
            )
            shift = [head * heads[frame, i, axis] + body * bodies[frame, i, axis] for axis in (0, 1)]
            source = [rows - shift[1] - 0.13 * size * gap * chin, columns - shift[0]]
            patch = np.stack(
                [map_coordinates(moved[..., c], source, order=1, mode="nearest") for c in range(3)], axis=2
            )
            inner = np.exp(
                -(((across - heads[frame, i, 0] / size) / 0.17) ** 4)
                - ((below - heads[frame, i, 1] / size - 0.06 * gap) / (0.02 + 0.07 * gap)) ** 4
            )
            moved[top:bottom, left:right] = patch * (1 - 0.75 * gap * inner[..., None])
        yield np.clip(moved + 0.5, 0, 255).astype(np.uint8)
