"""Writes tiny data sets in the published layout, with Pillow, scipy and the standard library alone."""

import wave
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from stavis.datasets.fold_lists import format_fold_list
from stavis.datasets.layout import FoldEntry, Layout

SAMPLE_RATE = 16000  # Hz: not the network's, so that sound is resampled
SIZE = (72, 128)  # height, width in pixels


def write_video(
    layout: Layout,
    database: str,
    entry: FoldEntry,
    *,
    size: tuple[int, int] = SIZE,
    sample_rate: int = SAMPLE_RATE,
    annotations: bool = True,
    audio: bool = True,
    seed: int = 0,
) -> None:
    """Writes one video: a spot that wanders over a texture, fixated where it is, with a tone."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width]
    texture = np.stack(
        [100 + 60 * np.sin(x / (5 + c) + seed) * np.cos(y / (7 - c)) for c in range(3)], axis=-1
    )
    for frame in range(entry.num_frames):
        row = int(height * (0.5 + 0.4 * np.sin(frame / 7 + seed)))
        column = int(width * (0.5 + 0.4 * np.cos(frame / 5 + seed)))
        spot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * (height / 12) ** 2))
        picture = np.clip(texture + 120 * spot[..., None], 0, 255).astype(np.uint8)
        _save(layout.frame(database, entry.video, frame), picture)
        if annotations:
            _save(layout.density_map(database, entry.video, frame), np.rint(255 * spot).astype(np.uint8))
            fixations = np.zeros(size, np.uint8)
            near = rng.normal((row, column), height / 20, (4, 2)).astype(int)
            near = near.clip((0, 0), (height - 1, width - 1))
            fixations[near[:, 0], near[:, 1]] = 1
            path = layout.fixation_map(database, entry.video, frame)
            scipy.io.savemat(str(path), {"eyeMap": fixations}, do_compression=True)
    if audio:
        num = round(entry.num_frames / entry.frame_rate * sample_rate)
        tone = np.sin(np.arange(num) * (200 + 10 * seed) * 2 * np.pi / sample_rate) * rng.uniform(
            0.3, 0.9, num
        )
        path = layout.wave(database, entry.video)
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            file.writeframes((tone * 32767).astype("<i2").tobytes())


def write_lists(
    layout: Layout, database: str, lists: Mapping[tuple[str, int | None], Sequence[FoldEntry]]
) -> None:
    """Writes fold lists, by (subset, split); split None gives the name without a number."""
    folder = layout.root / "fold_lists"
    folder.mkdir(parents=True, exist_ok=True)
    for (subset, split), entries in lists.items():
        number = "" if split is None else f"_{split}"
        (folder / f"{database}_list_{subset}{number}_fps.txt").write_text(format_fold_list(list(entries)))


def write_data_set(
    root: Path,
    databases: Sequence[str] = ("DIEM", "AVAD"),
    *,
    num_frames: Sequence[int] = (24, 95, 7),
    frame_rate: float = 25.0,
    annotations: bool = True,
    audio: bool = True,
) -> Layout:
    """Writes a whole data set: for each database a train and a test video of every length in `num_frames`.

    DIEM gets one pair of lists, any other database the same ones in splits 1 to 3. Videos are named
    `train_0`, `train_1`, ..., `test_0`, ...

    Returns:
        Its layout.
    """
    layout = Layout(root)
    seed = 0
    for database in databases:
        lists: dict[tuple[str, int | None], list[FoldEntry]] = {}
        for subset in ("train", "test"):
            entries = [FoldEntry(f"{subset}_{i}", num, frame_rate) for i, num in enumerate(num_frames)]
            for entry in entries:
                write_video(layout, database, entry, seed=seed, annotations=annotations, audio=audio)
                seed += 1
            for split in (None,) if database == "DIEM" else (1, 2, 3):
                lists[subset, split] = entries
        write_lists(layout, database, lists)
    return layout


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
