"""A scene of a few things or people that take turns, its soundtrack, and where made-up observers look in it."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stavis import media

RATE, SAMPLE_RATE = 25, 22050
WIDTH, HEIGHT = 256, 192
NUM_OBSERVERS = 12
LAG = 5  # frames
LONGEST_SOUND = 10 * SAMPLE_RATE

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    frames: Iterable[npt.NDArray[np.uint8]]  # (height, width, 3) each
    sound: Array  # of the frames' length
    sizes: npt.NDArray[np.float64]  # (N, 2): width and height of what takes turns, in pixels
    paths: Sequence[Array]  # of each, (frames, 2): where its center is
    turns: npt.NDArray[np.int64]  # (frames,): whose turn it is; -1 in pauses
    places: npt.NDArray[np.floating]  # (M, 2): what else is looked at, in pixels


def write(scene: Scene, folder: Path, name: str, rng: np.random.Generator) -> None:
    """Writes a video with its sound, and a table of its gaze."""
    sound = folder / f"{name}.wav"
    media.write_wave(sound, scene.sound, SAMPLE_RATE)
    with media.VideoWriter(
        folder / f"{name}.mp4", width=WIDTH, height=HEIGHT, frame_rate=RATE, audio_from=sound
    ) as writer:
        for frame in scene.frames:
            writer.write(frame)
    sound.unlink()
    with (folder / f"{name}.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["observer", "frame", "x", "y"])
        table.writerows(look(scene, rng))


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


def read_sound(path: Path) -> Array:
    """The first seconds of a recording."""
    with media.AudioReader(path, sample_rate=SAMPLE_RATE) as reader:
        return reader.read(0, min(reader.num_samples or LONGEST_SOUND, LONGEST_SOUND))


def level(sound: Array) -> Array:
    """The sound with a loudness (root mean square) of 1."""
    return (sound / np.sqrt(np.mean(np.square(sound)) + 1e-9)).astype(np.float32)


def mix(
    sounds: Sequence[Array], turns: npt.NDArray[np.int64], rng: np.random.Generator, *, at_once: bool = False
) -> Array:
    """The soundtrack: each sound, of a loudness of 1 and any length, while it is its turn, or all the time."""
    per_frame = SAMPLE_RATE // RATE
    track = rng.normal(0, 0.001, len(turns) * per_frame)
    for number, sound in enumerate(sounds):
        gate = np.repeat(((turns == number) | at_once).astype(float), per_frame)
        gate = np.convolve(gate, np.full(221, 1 / 221), mode="same")  # 10 ms ramps
        track += gate * np.resize(sound, len(track)) * rng.uniform(0.05, 0.15)
    return np.clip(track, -1, 1).astype(np.float32)


def look(scene: Scene, rng: np.random.Generator) -> list[list[object]]:
    """Rows of the gaze table: observer, frame, x and y in pixels."""
    rows: list[list[object]] = []
    turns = scene.turns
    for observer in range(NUM_OBSERVERS):
        frame = 0
        while frame < len(turns):
            noticed = int(turns[max(0, frame - LAG)])
            target = rng.choice(
                ["noticed", "thing", "place"], p=[0.6, 0.2, 0.2] if noticed >= 0 else [0, 0.5, 0.5]
            )
            end = min(len(turns), frame + int(rng.integers(0.3 * RATE, 0.8 * RATE)))
            if target == "place":
                place = np.tile(scene.places[rng.integers(len(scene.places))], (end - frame, 1))
            else:
                one = noticed if target == "noticed" else int(rng.integers(len(scene.paths)))
                place = scene.paths[one][frame:end] + rng.normal(0, 0.15, 2) * scene.sizes[one]
            place = np.clip(place, 0, (WIDTH - 1, HEIGHT - 1))
            rows += [
                [f"o{observer:02d}", t, round(float(x), 1), round(float(y), 1)]
                for t, (x, y) in enumerate(place, frame)
            ]
            frame = end
    return rows
