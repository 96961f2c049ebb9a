"""Data of DHF1K (also Hollywood-2 and UCF sports in its layout), scored by the MATLAB formulas or as UNISAL does."""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from stavis import maps, metrics
from stavis.datasets.layout import FoldEntry
from stavis.errors import StavisError
from stavis.evaluation.baselines import moments_of
from stavis.evaluation.plan import VideoTask, digest_of
from stavis.evaluation.predictions import numbered_maps
from stavis.evaluation.protocols.base import TRAINING_VIDEOS, FieldData, Truth, evenly
from stavis.maps import Array
from stavis.metrics import Float64, Indices
from stavis.metrics.checks import stretched
from stavis.metrics.negatives import Pixels, merge_scaled, pixels_of
from stavis.metrics.variants import unisal_scores
from stavis.runtime.files import atomic_path
from stavis.runtime.workers import run_parallel

FRAME_RATE = 30.0  # frames per second of DHF1K
NUM_SAMPLES = 10  # frames per video whose fixations are negatives of other videos
SUBSETS = {"train": range(1, 601), "validation": range(601, 701), "test": range(701, 1001)}
NUM_VIDEOS = 1000
_FIXATION_FOLDERS = ("fixation", "fixations")


class Dhf1kData(FieldData):
    """A folder with `annotation/<video>/maps/0001.png` and `annotation/<video>/fixation/0001.png`.

    `annotation/` may be left out. Videos that are all named by numbers up to 1000 are divided as in DHF1K: 1 to 600
    training, to 700 validation, to 1000 test.
    """

    metrics = ("cc", "nss", "auc_judd", "auc_shuffled", "sim")

    @cached_property
    def _folders(self) -> dict[str, Path]:
        for root in (self.root / "annotation", self.root):
            folders = [path.parent for path in sorted(root.glob("[!.]*/maps")) if path.is_dir()]
            found = {folder.name: folder for folder in folders}
            if found:
                return found
        raise StavisError(f"{self.root}: no <video>/maps in it; protocol 'dhf1k' needs such folders")

    def subsets(self) -> dict[str, list[str]]:
        names = list(self._folders)
        if not all(name.isdecimal() and 1 <= int(name) <= NUM_VIDEOS for name in names):
            return {"DHF1K": names}
        divided = {s: [name for name in names if int(name) in numbers] for s, numbers in SUBSETS.items()}
        return {subset: names for subset, names in divided.items() if names}

    def entry(self, subset: str, video: str) -> FoldEntry:
        return FoldEntry(video, len(numbered_maps(self._folders[video] / "maps")), FRAME_RATE)

    def training_videos(self) -> list[str]:
        return evenly(self.subsets().get("train", []), TRAINING_VIDEOS)

    def training_moments(self, video: str) -> Float64:
        paths = evenly(list(numbered_maps(self._folders[video] / "maps").values()), NUM_SAMPLES)
        known = [m for m in (moments_of(maps.read_map(path)) for path in paths) if not np.isnan(m).any()]
        return np.asarray(np.mean(known, axis=0)) if known else np.full(4, np.nan)

    def _fixation_maps(self, video: str) -> dict[int, Path]:
        for name in _FIXATION_FOLDERS:
            if (self._folders[video] / name).is_dir():
                return numbered_maps(self._folders[video] / name)
        raise StavisError(f"{self._folders[video]}: no folder 'fixation' of fixation maps in it")

    def truths(
        self, subset: str, video: str, notes: list[str], takes: Callable[[int], bool] = lambda frame: True
    ) -> Iterator[tuple[int, Truth | None]]:
        fixations = self._fixation_maps(video)
        for frame, path in numbered_maps(self._folders[video] / "maps").items():
            if not takes(frame):
                yield frame, None
                continue
            if frame not in fixations:
                raise StavisError(f"{path}: there is no fixation map of that frame")
            density, fixated = maps.read_map(path), maps.read_map(fixations[frame])
            if density.shape != fixated.shape:
                raise StavisError(
                    f"{path}: {density.shape[1]}x{density.shape[0]} pixels, its fixation map has "
                    f"{fixated.shape[1]}x{fixated.shape[0]}"
                )
            flat = np.flatnonzero(fixated)
            yield frame, Truth(density.astype(np.float64), flat, flat.size)

    def prepare(self, tasks: Sequence[VideoTask], jobs: int, overwrite: bool, quiet: bool) -> list[VideoTask]:
        """Stores the fixations of some frames of every video of a subset, which are the negatives of the others.

        Videos without predictions count, too: what is evaluated does not change the scores.
        """
        subsets = self.subsets()
        for subset in dict.fromkeys(task.database for task in tasks):
            path = self._samples_path(tasks[0].output, subset)
            if path.exists() and not overwrite:
                continue
            name, videos = f"fixations of other videos of {subset}", subsets[subset]
            total = NUM_SAMPLES * len(videos)
            parts = run_parallel(
                self._sample, videos, jobs=jobs, description=name, total=total, unit="frames", quiet=quiet
            )
            arrays = []
            for size, samples in parts:
                ends = np.cumsum([len(sample) for sample in samples])
                flat = np.concatenate(samples) if samples else np.empty(0, np.intp)
                arrays.append(np.concatenate([[*size, len(samples)], ends, flat]).astype(np.int64))
            names = np.array([os.fsencode(video) for video in videos])  # in any encoding
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, *arrays, names=names)
            _read_samples.cache_clear()
            _all_negatives.cache_clear()
        others = {s: [FoldEntry(video, 0, FRAME_RATE) for video in videos] for s, videos in subsets.items()}
        return [
            replace(task, others=tuple(one for one in others[task.database] if one.video != task.entry.video))
            for task in tasks
        ]

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {subset: digest_of([str(self.root), *names]) for subset, names in self.subsets().items()}

    def _samples_path(self, output: Path, subset: str) -> Path:
        return output / "fixations" / f"negatives_{self._digests[subset]}.npz"

    def _sample(self, video: str, advance: Callable[[int], None]) -> tuple[tuple[int, int], list[Indices]]:
        paths = list(self._fixation_maps(video).values())
        samples, size = [], (1, 1)
        for path in evenly(paths, NUM_SAMPLES):
            fixated = maps.read_map(path)
            size = (fixated.shape[0], fixated.shape[1])
            samples.append(np.flatnonzero(fixated))
            advance(1)
        return size, samples

    def score(self, saliency: Array, truth: Truth, task: VideoTask, method: str) -> Sequence[float]:
        gray = saliency if saliency.ndim == 2 else saliency[..., :3].mean(axis=2)
        size = (truth.density.shape[0], truth.density.shape[1])
        resized = maps.resize(gray, size)
        fixated = np.zeros(size, dtype=np.bool_)
        fixated.reshape(-1)[truth.fixated] = True
        if self.settings.quirks == "reference":
            return self._score_as_unisal(resized, truth, fixated, task)
        others = np.zeros(size, dtype=np.bool_)
        others.reshape(-1)[
            _negatives(self._samples_path(task.output, task.database), task.entry.video, size).positions
        ] = True
        return (
            metrics.cc(resized, truth.density),
            metrics.nss(resized, fixated),
            metrics.auc_judd(stretched(resized), fixated),
            metrics.auc_shuffled(resized, fixated, others),
            metrics.sim(resized, truth.density),
        )

    def _score_as_unisal(
        self, resized: Array, truth: Truth, fixated: Array, task: VideoTask
    ) -> Sequence[float]:
        p, g = np.maximum(resized, 0.0).astype(np.float32), truth.density.astype(np.float32)
        if not (p.max() > p.min() and g.max() > g.min()):
            return [math.nan] * len(self.metrics)
        # Ten random frames of ten random videos, other ones in every frame.
        seed = hashlib.sha256(p.tobytes()).digest()[:4]
        rng = np.random.RandomState(int.from_bytes(seed, "big"))
        others = np.zeros(p.shape, dtype=np.bool_)
        drawn = _negatives(
            self._samples_path(task.output, task.database), task.entry.video, (p.shape[0], p.shape[1]), rng
        )
        others.reshape(-1)[drawn.positions] = True
        with np.errstate(divide="ignore"):
            scores = unisal_scores(
                p / p.sum(), g / g.sum(), fixated, others if others.any() else None, rng=rng
            )
        return [scores[metric] for metric in self.metrics]


@functools.lru_cache(maxsize=2)
def _read_samples(path: Path) -> dict[str, tuple[tuple[int, int], list[Indices]]]:
    """Video -> size and the fixated positions of its sampled frames."""
    found = {}
    with np.load(path, allow_pickle=False) as arrays:
        for i, name in enumerate(arrays["names"].tolist()):
            stored = arrays[f"arr_{i}"]
            height, width, num = stored[:3].tolist()
            ends, flat = stored[3 : 3 + num], stored[3 + num :]
            found[os.fsdecode(name)] = ((height, width), np.split(flat, ends[:-1]) if num else [])
    return found


def _negatives(
    path: Path, video: str, size: tuple[int, int], rng: np.random.RandomState | None = None
) -> Pixels:
    """Fixations of the other videos' sampled frames; with `rng` of one frame each of ten of them."""
    if rng is None:
        return _all_negatives(path, video, size)
    others = [samples for name, samples in _read_samples(path).items() if name != video and samples[1]]
    drawn = [others[i] for i in rng.permutation(len(others))[:NUM_SAMPLES]]
    return _merge([(shape, [frames[rng.randint(len(frames))]]) for shape, frames in drawn], size)


@functools.lru_cache(maxsize=2)
def _all_negatives(path: Path, video: str, size: tuple[int, int]) -> Pixels:
    return _merge([samples for name, samples in _read_samples(path).items() if name != video], size)


def _merge(samples: Sequence[tuple[tuple[int, int], list[Indices]]], size: tuple[int, int]) -> Pixels:
    pixels = []
    for (height, width), frames in samples:
        counts = np.zeros((height, width))
        for positions in frames:
            np.add.at(counts.reshape(-1), positions, 1)
        pixels.append(((height, width), pixels_of(counts)))
    return merge_scaled(pixels, size)
