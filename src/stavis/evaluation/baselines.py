"""Baselines: maps that do not depend on the video, and human observers."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from stavis import maps
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import FoldEntry, Layout, find_files
from stavis.errors import StavisError
from stavis.evaluation.predictions import MapReader
from stavis.gaze.observers import OBSERVERS_NAME, Observers, read_observers
from stavis.metrics import Protocol
from stavis.metrics.frame import NO_SCORES, FrameScores, score_pixels
from stavis.metrics.negatives import Negatives, Pixels
from stavis.runtime.files import atomic_path
from stavis.runtime.workers import run_parallel

if TYPE_CHECKING:
    from stavis.evaluation.plan import VideoTask

Float64Map = maps.Float64Map
Baseline = Literal["center", "uniform", "train-mean", "shuffled", "inter-observer"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
REFERENCES: tuple[Baseline, ...] = ("center", "shuffled", "inter-observer")
"""Baselines that are scored beside every prediction, on some of the frames."""
REFERENCE_FRAMES = 100  # of a video, at most
REFERENCE_OBSERVERS = 400  # leave-one-out scores of a video, at most: one takes as long as several frames
FITTED, FIXED = "Gaussian fitted to the training videos", "fixed Gaussian, there are no training videos"
OWN = "center prior of the data"

MAP_SIDE = 112  # pixels: baselines are maps as large as the published predictions
LONGEST_OBSERVER_SIDE = 320  # pixels, of the maps of other observers' fixations
FRAMES_PER_TRAINING_VIDEO = 100


class FixedMap(MapReader):
    """Reader that returns the same map for every frame."""

    def __init__(self, saliency_map: maps.Array, *notes: str) -> None:
        self._map = saliency_map
        self._notes = notes

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes

    def read(self, frame: int) -> maps.Array | None:
        return self._map


class NoiseMaps(MapReader):
    """Reader of maps of independent uniform noise, reproducible: the baseline "uniform".

    The scores of a constant map are undefined under the protocol; noise scores at chance level.
    """

    def __init__(self, database: str, video: str) -> None:
        self._seed = int.from_bytes(hashlib.sha256(f"{database}/{video}".encode()).digest()[:8], "big")

    def read(self, frame: int) -> maps.Array | None:
        return np.random.default_rng([self._seed, frame]).random((MAP_SIDE, MAP_SIDE))


def center_map(size: tuple[int, int]) -> Float64Map:
    """The center prior of Clarke and Tatler (2014): a Gaussian whose variances are 0.23 and 0.45 * 0.23.

    The unit is half the frame's width, for x and y; `size` is (height, width) of the frame that the map covers.

    Returns (112, 112), 1 in the center.
    """
    height, width = size
    return gaussian_map(np.array([0, 0, 0.23, 0.45 * 0.23 * (width / height) ** 2]))


def gaussian_map(moments: Float64Map) -> Float64Map:
    """A Gaussian as a (112, 112) map, 1 at its center.

    `moments` are the (4,) means of x, y, x^2 and y^2, where x and y are -1 to 1 over the frame.
    """
    across = (np.arange(MAP_SIDE) + 0.5) / MAP_SIDE * 2 - 1
    x, y, xx, yy = moments
    # The variances are at least a pixel's.
    x_var, y_var = (max(float(v), (2 / MAP_SIDE) ** 2) for v in (xx - x * x, yy - y * y))
    return np.asarray(
        np.exp(-0.5 * ((across[None, :] - x) ** 2 / x_var + (across[:, None] - y) ** 2 / y_var))
    )


def moments_of(density: maps.Array) -> Float64Map:
    """The (4,) `gaussian_map` moments of an (H, W) map >= 0; nan for a map of zeros."""
    down, across = ((np.arange(n) + 0.5) / n * 2 - 1 for n in density.shape)
    xs, ys = density.sum(axis=0, dtype=np.float64), density.sum(axis=1, dtype=np.float64)
    sums = [(xs * across).sum(), (ys * down).sum(), (xs * across**2).sum(), (ys * down**2).sum()]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.array(sums) / xs.sum())


def read_center(task: "VideoTask", split: int | None, size: tuple[int, int]) -> FixedMap:
    """The baseline "center": fitted to the mean of the training videos if there is one (`VideoTask.train_means`)."""
    mean = task.train_means.get(split or 0)
    if mean is None:
        return FixedMap(center_map(size), FIXED)
    return FixedMap(gaussian_map(moments_of(mean)), FITTED)


def reference_stride(method: str, num_frames: int, num_observers: int = 1) -> int:
    """Every how many frames a reference row of a video is scored."""
    if method == "inter-observer":
        return max(1, -(-num_frames * num_observers // REFERENCE_OBSERVERS))
    return max(1, -(-num_frames // REFERENCE_FRAMES))


# --- The mean of the training videos ----------------------------------------------------------------------------------


def train_mean_map(
    layout: Layout,
    database: str,
    split: int,
    cache: Path,
    *,
    jobs: int,
    overwrite: bool = False,
    quiet: bool = False,
) -> Float64Map:
    """The mean density map of a database's training videos, equally weighted.

    The map is stored in the folder `cache`. Up to 100 equidistant frames of each video are used; each map is resized to
    112x112 and divided by its sum.

    Returns (112, 112). Raises StavisError if the training list is missing or empty, or a density map is missing or
    unreadable.
    """
    path = layout.fold_list(database, "train", split)
    entries = list(dict.fromkeys(read_fold_list(path)))
    if not entries:
        raise StavisError(f"{path}: contains no video; the train-mean baseline of {database} needs one")
    listed = [(entry.video, entry.num_frames) for entry in entries]
    key = json.dumps([database, MAP_SIDE, FRAMES_PER_TRAINING_VIDEO, listed])
    kept = cache / f"{database}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if kept.exists() and not overwrite:
        return np.asarray(np.load(kept, allow_pickle=False), dtype=np.float64)
    for entry in entries:
        there = find_files(layout, database, entry).density_maps
        if not there.all():
            folder = layout.density_map(database, entry.video, 0).parent
            raise StavisError(
                f"{folder}: {int((~there).sum())} of {entry.num_frames} density maps missing; the train-mean baseline "
                "needs those of all training videos"
            )
    videos = [(layout, database, entry) for entry in entries]
    total = sum(min(entry.num_frames, FRAMES_PER_TRAINING_VIDEO) for entry in entries)
    name = f"{database}, split {split}: mean of the training videos"
    means = run_parallel(
        _mean_of_video, videos, jobs=jobs, description=name, total=total, unit="maps", quiet=quiet
    )
    known = [mean for mean in means if mean is not None]
    mean: Float64Map = np.mean(known or [np.zeros((MAP_SIDE, MAP_SIDE))], axis=0)
    with atomic_path(kept) as temporary, temporary.open("wb") as file:
        np.save(file, mean)
    return mean


def has_training_maps(layout: Layout, database: str, split: int) -> bool:
    """Whether `train_mean_map` has what it needs."""
    path = layout.fold_list(database, "train", split)
    entries = read_fold_list(path) if path.exists() else []
    return bool(entries) and all(find_files(layout, database, entry).density_maps.all() for entry in entries)


def _mean_of_video(video: tuple[Layout, str, FoldEntry], advance: Callable[[int], None]) -> Float64Map | None:
    layout, database, entry = video
    num = min(entry.num_frames, FRAMES_PER_TRAINING_VIDEO)
    total, num_maps = np.zeros((MAP_SIDE, MAP_SIDE)), 0
    for frame in np.linspace(0, entry.num_frames - 1, num).round().astype(int):
        path = layout.density_map(database, entry.video, int(frame))
        density = np.maximum(maps.resize(maps.read_density_map(path), (MAP_SIDE, MAP_SIDE)), 0.0)
        if density.any():
            total += density / density.sum()
            num_maps += 1
        advance(1)
    return total / num_maps if num_maps else None


# --- Other observers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoGaze:
    observers: Observers  # every fixation with its observer
    sigma_pixels: float  # standard deviation of the Gaussian of its density maps


def read_video_gaze(layout: Layout, database: str, video: str) -> VideoGaze:
    """Reads the gaze of each observer, which `stavis prepare` and `stavis synth` write beside the maps.

    Raises StavisError if the file is missing, or does not distinguish two or more observers.
    """
    path = layout.annotations_folder(database, video) / OBSERVERS_NAME
    observers = read_observers(path)
    if not observers.known or len(observers.names) < 2:
        raise StavisError(
            f"{path}: the inter-observer baseline needs the gaze of two or more distinguished observers; found "
            f"{len(observers.names)}" + ("" if observers.known else ", not distinguished")
        )
    sigma = observers.sigma_pixels or _recorded_sigma(layout, database, video)
    if sigma is None or not sigma > 0:
        raise StavisError(f"{path}: has no sigma_pixels, the sigma of the density maps' Gaussian")
    return VideoGaze(observers, sigma)


def _recorded_sigma(layout: Layout, database: str, video: str) -> float | None:
    """Sigma from the records beside files of older versions: of `stavis prepare`, then of `stavis synth`."""
    records = (
        (layout.annotations_folder(database, video) / "prepare.json", "gaze"),
        (layout.root / "truth" / database / f"{video}.json", None),
    )
    for path, section in records:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return float((record[section] if section else record)["sigma_pixels"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


class InterObserver:
    """Leave-one-out score: each observer's fixations of a frame, predicted by those of all other observers.

    The prediction is the others' fixations, blurred as the density maps are; the ground truth is the one observer's
    fixations, and for CC and SIM these blurred. A frame's score is the mean over its observers.
    """

    def __init__(self, gaze: VideoGaze, size: tuple[int, int]) -> None:
        """Takes the gaze of a video and its `size` (height, width)."""
        self._gaze = gaze
        self._size = size
        height, width = size
        self._shrink = min(1.0, LONGEST_OBSERVER_SIDE / max(height, width))
        self._small = (max(1, round(height * self._shrink)), max(1, round(width * self._shrink)))
        order = np.argsort(gaze.observers.frame, kind="stable")
        self._rows = order
        self._frames = gaze.observers.frame[order]

    def score(
        self, frame: int, negatives: Negatives, fixated: Pixels, protocol: Protocol
    ) -> FrameScores[float]:
        """The scores of a frame; all nan where fewer than two observers fixate."""
        first, last = np.searchsorted(self._frames, (frame, frame + 1))
        here = self._rows[first:last]
        observers = self._gaze.observers
        who, x, y = observers.observer[here], observers.x[here], observers.y[here]
        present = np.unique(who)
        if present.size < 2:
            return NO_SCORES
        others = negatives.of_frame(fixated)
        everybody = self._blur(x, y, self._small)
        scores = []
        for observer in present:
            own = who == observer
            prediction = everybody - self._blur(x[own], y[own], self._small)
            pixels = self._pixels(x[own], y[own])
            density = self._blur(x[own], y[own], self._size)
            scores.append(
                score_pixels(np.maximum(prediction, 0.0), density, pixels, others, protocol=protocol)
            )
        columns = np.array(scores)
        defined = ~np.isnan(columns)
        sums = np.where(defined, columns, 0.0).sum(axis=0)
        counts = defined.sum(axis=0)
        return FrameScores(*(float(s / n) if n else math.nan for s, n in zip(sums, counts, strict=True)))

    def _blur(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], size: tuple[int, int]
    ) -> Float64Map:
        """Blurred fixations, a map of `size` that covers the frame."""
        height, width = self._size
        rows = np.minimum(np.floor(y).astype(np.intp), height - 1) * size[0] // height
        columns = np.minimum(np.floor(x).astype(np.intp), width - 1) * size[1] // width
        counts = np.zeros(size)
        np.add.at(counts, (rows, columns), 1)
        return maps.density_from_fixations(counts, self._gaze.sigma_pixels * size[1] / width)

    def _pixels(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Pixels:
        height, width = self._size
        rows = np.clip(np.floor(y).astype(np.intp), 0, height - 1)
        columns = np.clip(np.floor(x).astype(np.intp), 0, width - 1)
        positions = np.unique(rows * width + columns)
        return Pixels(positions, np.ones(positions.size))
