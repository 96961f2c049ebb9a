"""Data and scores of the MSU video saliency prediction benchmark, with and without its domain adaptation."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from stavis import maps
from stavis.datasets.layout import FoldEntry
from stavis.errors import StavisError
from stavis.evaluation.baselines import center_map
from stavis.evaluation.plan import VideoTask
from stavis.evaluation.predictions import numbered_maps
from stavis.evaluation.protocols.base import FieldData, Truth
from stavis.evaluation.results import PREDICTIONS
from stavis.maps import Array
from stavis.maps.bilinear import resize_bilinear
from stavis.metrics import Float64, Indices
from stavis.metrics.adaptation import Adaptation, Fit
from stavis.metrics.challenge import kld_score
from stavis.runtime.files import atomic_path
from stavis.runtime.workers import run_parallel

SIZE = (360, 640)  # height, width in pixels of everything that is compared
FRAME_RATE = 25.0  # frames per second; folders of images have none
PRIOR_FILE = "gt_cp.png"
UNADAPTED = "unadapted"


class MsuData(FieldData):
    """A folder with `<video>/gaussians/0001.png` and `<video>/fixations/0001.png`, or with that below `GT/`.

    `gt_cp.png`, the center prior, is expected in the folder or its parent. Predictions are scored twice: adapted to the
    ground truth, as the benchmark does, and as they are.
    """

    metrics = ("cc", "nss", "auc_judd", "sim", "kldiv")
    methods = (PREDICTIONS, UNADAPTED)
    is_strict = True

    @cached_property
    def _truth_folder(self) -> Path:
        return self.root / "GT" if (self.root / "GT").is_dir() else self.root

    def subsets(self) -> dict[str, list[str]]:
        names = sorted(path.parent.name for path in self._truth_folder.glob("[!.]*/gaussians"))
        if not names:
            raise StavisError(f"{self.root}: no <video>/gaussians in it; protocol 'msu' needs such folders")
        return {"MSU": names}

    def entry(self, subset: str, video: str) -> FoldEntry:
        return FoldEntry(video, len(numbered_maps(self._truth_folder / video / "gaussians")), FRAME_RATE)

    def truths(
        self, subset: str, video: str, notes: list[str], takes: Callable[[int], bool] = lambda frame: True
    ) -> Iterator[tuple[int, Truth | None]]:
        folder = self._truth_folder / video
        fixation_paths = numbered_maps(folder / "fixations")
        for frame, path in numbered_maps(folder / "gaussians").items():
            if not takes(frame):
                yield frame, None
                continue
            if frame not in fixation_paths:
                raise StavisError(f"{folder / 'fixations'}: no fixation map of frame {frame + 1}")
            fixated = _letterbox_fixations(maps.read_map(fixation_paths[frame]))
            if not fixated.size and self.settings.quirks == "reference":
                raise StavisError(f"{fixation_paths[frame]}: no fixation; the published script stops there")
            yield frame, Truth(letterbox(to_gray(maps.read_prediction(path))), fixated, fixated.size)

    def center(self) -> Float64 | None:
        for folder in (self.root, self.root.parent):
            if (folder / PRIOR_FILE).is_file():
                return letterbox(to_gray(maps.read_prediction(folder / PRIOR_FILE)))
        return None

    @cached_property
    def _prior(self) -> Float64:
        center = self.center()
        if center is not None:
            return center
        if self.settings.quirks == "reference":
            raise StavisError(f"{self.root / PRIOR_FILE}: not found; it is the benchmark's center prior")
        return resize_bilinear(center_map(SIZE), SIZE)

    def prepare(self, tasks: Sequence[VideoTask], jobs: int, overwrite: bool, quiet: bool) -> list[VideoTask]:
        """Fits the adaptation to all frames of all predicted videos."""
        sources = [
            (scored.source, task) for task in tasks for scored in task.scored if scored.method == PREDICTIONS
        ]
        if not sources:
            return list(tasks)
        digest = hashlib.sha256(self.settings.quirks.encode())
        for source, _ in sources:
            assert source is not None
            digest.update(source.fingerprint().encode())
        path = tasks[0].output / "adaptation" / f"{digest.hexdigest()[:16]}.npz"
        if overwrite or not path.exists():
            total = sum(task.entry.num_frames for _, task in sources)
            todo = [task for _, task in sources]
            parts = run_parallel(
                self._fit_video,
                todo,
                jobs=jobs,
                description="adaptation",
                total=total,
                unit="frames",
                quiet=quiet,
            )
            adaptation = sum(parts[1:], parts[0]).solve()
            with atomic_path(path) as temporary:
                np.savez(temporary, beta=adaptation.beta, curve=adaptation.curve, counts=adaptation.counts)
            read_adaptation.cache_clear()
        return [replace(task, adaptation=path) for task in tasks]

    def _fit_video(self, task: VideoTask, advance: Callable[[int], None]) -> Fit:
        fit = Fit()
        source = next(s.source for s in task.scored if s.method == PREDICTIONS)
        assert source is not None
        reader = source.open(own_depth=True)
        for frame, truth in self.truths(task.database, task.entry.video, []):
            saliency = reader.read(frame)
            if saliency is not None and truth is not None:
                if saliency.dtype.kind == "f" and not 0 <= saliency.min() <= saliency.max() <= 1:
                    raise StavisError(
                        f"{source.path}: values of frame {frame + 1} are {saliency.min():g} to {saliency.max():g}; "
                        "samples of 8 or 16 bits, or numbers in 0..1, are allowed"
                    )
                fit.add(letterbox(to_gray(saliency)), self._prior, truth.density)
            advance(1)
        return fit

    def score(self, saliency: Array, truth: Truth, task: VideoTask, method: str) -> Sequence[float]:
        prediction = letterbox(to_gray(saliency))
        if method == PREDICTIONS:
            assert task.adaptation is not None
            prediction = read_adaptation(task.adaptation).apply(prediction, self._prior)
        cc, sim, nss, auc = self.challenge_scores(prediction, truth)
        return cc, nss, auc, sim, kld_score(prediction, truth.density)


@functools.lru_cache(maxsize=2)
def read_adaptation(path: Path) -> Adaptation:
    with np.load(path, allow_pickle=False) as arrays:
        return Adaptation(float(arrays["beta"]), arrays["curve"], arrays["counts"])


def to_gray(samples: Array) -> Float64:
    """8- or 16-bit samples as gray in 0..1; color with the integer luma of OpenCV's PNG reader. Floats are in 0..1."""
    if samples.dtype.kind == "f":
        return samples
    if samples.dtype == np.uint16:
        samples = (samples >> 8).astype(np.uint8)
    if samples.ndim == 3 and samples.shape[2] >= 3:
        red, green, blue = (samples[..., channel].astype(np.int64) for channel in range(3))
        samples = (9797 * red + 19234 * green + 3737 * blue) >> 15
    elif samples.ndim == 3:
        samples = samples[..., 0]
    return np.asarray(samples / 255.0)


def _letterbox_size(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    if height / SIZE[0] > width / SIZE[1]:
        return SIZE[0], max(1, SIZE[0] * width // height)
    return max(1, SIZE[1] * height // width), SIZE[1]


def letterbox(values: Float64) -> Float64:
    """An (h, w) map scaled into 360x640 with its aspect ratio, zeros around it."""
    height, width = _letterbox_size((values.shape[0], values.shape[1]))
    result = np.zeros(SIZE)
    top, left = (SIZE[0] - height) // 2, (SIZE[1] - width) // 2
    result[top : top + height, left : left + width] = resize_bilinear(values, (height, width))
    return result


def _letterbox_fixations(fixation_map: Array) -> Indices:
    """Flat indices into 360x640 of the pixels above 0, each once, ascending."""
    size = (fixation_map.shape[0], fixation_map.shape[1])
    height, width = _letterbox_size(size)
    rows, columns = np.nonzero(fixation_map)
    rows = np.minimum(np.rint(rows * (height / size[0])).astype(np.intp), height - 1)
    columns = np.minimum(np.rint(columns * (width / size[1])).astype(np.intp), width - 1)
    return np.unique((rows + (SIZE[0] - height) // 2) * SIZE[1] + columns + (SIZE[1] - width) // 2)
