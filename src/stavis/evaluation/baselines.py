"""What predictions are measured against: maps that do not look at the video, and observers that do."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from stavis import maps
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import FoldEntry, Layout, find_files
from stavis.errors import StavisError
from stavis.evaluation.ground_truth import Negatives
from stavis.gaze.observers import OBSERVERS_NAME, Observers, read_observers
from stavis.metrics import Protocol
from stavis.metrics.frame import FrameScores, Pixels, score_frame
from stavis.runtime.files import atomic_path
from stavis.runtime.workers import run_parallel

Float64Map = maps.Float64Map
Baseline = Literal["center", "uniform", "train-mean", "inter-observer"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

MAP_SIDE = 112  # pixels: baselines are maps as large as the published predictions
LONGEST_OBSERVER_SIDE = 320  # pixels of the maps made of other observers' fixations
FRAMES_PER_TRAINING_VIDEO = 100


class FixedMap:
    """The same map for every frame: a reader of maps, as those in `stavis.evaluation.predictions`."""

    def __init__(self, saliency_map: maps.Array) -> None:
        self._map = saliency_map

    def read(self, frame: int) -> maps.Array | None:
        return self._map

    def count_beyond(self) -> int:
        return 0

    def close(self) -> None:
        pass


class NoiseMaps:
    """Maps of independent uniform noise, the same in every run: what "uniform" scores.

    A constant map has no scores under the protocol (nan); noise has, and those of chance.
    """

    def __init__(self, database: str, video: str) -> None:
        self._seed = int.from_bytes(hashlib.sha256(f"{database}/{video}".encode()).digest()[:8], "big")

    def read(self, frame: int) -> maps.Array | None:
        return np.random.default_rng([self._seed, frame]).random((MAP_SIDE, MAP_SIDE))

    def count_beyond(self) -> int:
        return 0

    def close(self) -> None:
        pass


def center_map(size: tuple[int, int]) -> Float64Map:
    """A Gaussian in the middle, as wide as people's bias to look there (Clarke and Tatler 2014).

    With x from -1 to 1 over the picture's width and y in the same unit, the variances are 0.23 and 0.45 * 0.23.

    Args:
        size: (height, width) of the picture that the map covers.

    Returns:
        (112, 112), 1 in the middle.
    """
    height, width = size
    across = (np.arange(MAP_SIDE) + 0.5) / MAP_SIDE * 2 - 1
    down = across * height / width
    return np.exp(-0.5 * (across[None, :] ** 2 / 0.23 + down[:, None] ** 2 / (0.45 * 0.23)))


# --- The mean of the training videos ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _TrainingVideo:
    layout: Layout
    database: str
    entry: FoldEntry


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
    """The mean density map of a database's training videos, each counting the same.

    Of each video up to 100 frames at equal distances are taken; each map is resized to 112x112 and divided by its sum.

    Args:
        layout: The data folder.
        database: One of its databases.
        split: Whose train list.
        cache: Folder where the map is kept for a later run.
        jobs: Processes.
        overwrite: Make it anew.
        quiet: Show no progress.

    Returns:
        (112, 112).

    Raises:
        StavisError: There is no train list, it names no video, or a density map is missing or unreadable.
    """
    path = layout.fold_list(database, "train", split)
    entries = list(dict.fromkeys(read_fold_list(path)))
    if not entries:
        raise StavisError(f"{path}: no video in it, so there is no train-mean baseline for {database}")
    key = json.dumps(
        [database, MAP_SIDE, FRAMES_PER_TRAINING_VIDEO, [(e.video, e.num_frames) for e in entries]]
    )
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
    videos = [_TrainingVideo(layout, database, entry) for entry in entries]
    total = sum(min(entry.num_frames, FRAMES_PER_TRAINING_VIDEO) for entry in entries)
    name = f"{database}, split {split}: mean of the training videos"
    means = run_parallel(
        _mean_of_video, videos, jobs=jobs, description=name, total=total, unit="maps", quiet=quiet
    )
    mean: Float64Map = np.mean(
        [m for m in means if m is not None] or [np.zeros((MAP_SIDE, MAP_SIDE))], axis=0
    )
    with atomic_path(kept) as temporary, temporary.open("wb") as file:
        np.save(file, mean)
    return mean


def _mean_of_video(video: _TrainingVideo, advance: Callable[[int], None]) -> Float64Map | None:
    num = min(video.entry.num_frames, FRAMES_PER_TRAINING_VIDEO)
    total, num_maps = np.zeros((MAP_SIDE, MAP_SIDE)), 0
    for frame in np.linspace(0, video.entry.num_frames - 1, num).round().astype(int):
        path = video.layout.density_map(video.database, video.entry.video, int(frame))
        density = np.maximum(maps.resize(maps.read_density_map(path), (MAP_SIDE, MAP_SIDE)), 0.0)
        if density.any():
            total += density / density.sum()
            num_maps += 1
        advance(1)
    return total / num_maps if num_maps else None


# --- Other observers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoGaze:
    """Who looked where in a video.

    Attributes:
        observers: Every fixation with its observer.
        sigma_pixels: Of the Gaussian that its density maps were made with.
    """

    observers: Observers
    sigma_pixels: float


def read_video_gaze(layout: Layout, database: str, video: str) -> VideoGaze:
    """Reads the gaze of each observer, which `stavis prepare` and `stavis synth` keep beside the maps.

    Raises:
        StavisError: It is not there, or observers are not told apart, or there are fewer than two.
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
        raise StavisError(
            f"{path}: has no sigma_pixels, the standard deviation of the density maps' Gaussian"
        )
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
    """Scores each observer's fixations by a map of all other observers' in the same frame (leave one out).

    The map is their fixations, blurred as the density maps are; the ground truth is the one observer's fixations,
    and for CC and SIM these blurred. A frame's score is the mean over its observers.
    """

    def __init__(self, gaze: VideoGaze, size: tuple[int, int]) -> None:
        """Takes the gaze of a video of `size` (height, width)."""
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
    ) -> FrameScores | None:
        """The scores of a frame; all nan where fewer than two observers fixate."""
        here = self._rows[
            np.searchsorted(self._frames, frame) : np.searchsorted(self._frames, frame, "right")
        ]
        observers = self._gaze.observers
        who, x, y = observers.observer[here], observers.x[here], observers.y[here]
        present = np.unique(who)
        if present.size < 2:
            return FrameScores(*[math.nan] * 5)
        others = negatives.of_frame(fixated)
        everybody = self._blur(x, y, self._small)
        scores = []
        for observer in present:
            own = who == observer
            prediction = everybody - self._blur(x[own], y[own], self._small)
            pixels = self._pixels(x[own], y[own])
            density = self._blur(x[own], y[own], self._size)
            scores.append(
                score_frame(np.maximum(prediction, 0.0), density, pixels, others, protocol=protocol)
            )
        columns = np.array(scores)
        defined = ~np.isnan(columns)
        sums = np.where(defined, columns, 0.0).sum(axis=0)
        counts = defined.sum(axis=0)
        return FrameScores(*(float(s / n) if n else math.nan for s, n in zip(sums, counts, strict=True)))

    def _blur(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], size: tuple[int, int]
    ) -> Float64Map:
        """Fixations blurred, in a map of `size` that covers the picture."""
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
