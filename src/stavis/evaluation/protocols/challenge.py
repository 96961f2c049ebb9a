"""Data and scores of the video saliency challenges AIM 2024, NTIRE 2026 and CrowdSAL."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stavis import media
from stavis.datasets.layout import FoldEntry
from stavis.errors import StavisError, counted, some
from stavis.evaluation.plan import VideoTask
from stavis.evaluation.protocols.base import TRAINING_VIDEOS, FieldData, Truth, evenly
from stavis.maps import Array
from stavis.maps.bilinear import resize_bilinear
from stavis.media.inputs import walk_folders
from stavis.media.samples import count_pictures, read_samples
from stavis.media.suffixes import VIDEO_SUFFIXES
from stavis.metrics import Float64, Indices
from stavis.metrics.challenge import min_max, similarity_scores

SPLIT_FILE = "TrainTestSplit.json"
FIXATIONS_FILE = "fixations.json"
_LAST_NUMBER = 999  # the script's names have three digits, and are sorted as text


class ChallengeData(FieldData):
    """A folder with `TrainTestSplit.json`, `Saliency*/.../<video>.mp4` and `.../<video>/fixations.json`.

    Quirks "reference" scores as the published script does; "fixed" differs as docs/protocols.md lists.
    """

    metrics = ("cc", "sim", "nss", "auc_judd")
    is_strict = True

    @cached_property
    def _subsets(self) -> dict[str, list[str]]:
        return read_subsets(self.root)

    def subsets(self) -> dict[str, list[str]]:
        # Training videos are evaluated only where their ground truth is there.
        return {
            subset: names
            for subset, names in self._subsets.items()
            if subset != "train" or all(n in self._videos and n in self._fixations for n in names)
        }

    def training_videos(self) -> list[str]:
        names = self._subsets.get("train", [])
        return evenly(
            [name for name in names if name in self._videos and name in self._fixations], TRAINING_VIDEOS
        )

    def training_moments(self, video: str) -> Float64:
        info = media.probe(self._videos[video])
        try:
            points = np.array([p[:2] for frame in self._read_lists(video) for p in frame], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise StavisError(f"{self._fixations[video]}: not lists of [row, column]") from None
        if not points.size:
            return np.full(4, np.nan)
        y, x = ((points + 0.5) / (info.height, info.width) * 2 - 1).T
        return np.array([x.mean(), y.mean(), (x * x).mean(), (y * y).mean()])

    @cached_property
    def _files(self) -> list[Path]:
        return files_below(self.root)

    def _one_each(self, named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
        needed = {name for names in self._subsets.values() for name in names}
        return one_per_name((name, path) for name, path in named if name in needed)

    @cached_property
    def _videos(self) -> dict[str, Path]:
        return self._one_each(
            (path.stem, path)
            for path in self._files
            if path.suffix.lower() in VIDEO_SUFFIXES
            and any("saliency" in part.lower() for part in path.relative_to(self.root).parts[:-1])
        )

    @cached_property
    def _fixations(self) -> dict[str, Path]:
        return self._one_each((path.parent.name, path) for path in self._files if path.name == FIXATIONS_FILE)

    def entry(self, subset: str, video: str) -> FoldEntry:
        for what, found in (("ground-truth video", self._videos), (FIXATIONS_FILE, self._fixations)):
            if video not in found:
                raise StavisError(
                    f"{self.root}: no {what} of {video!r} ({subset}); there are those of {some(found) or 'no video'}"
                )
        rate = float(media.probe(self._videos[video]).frame_rate)
        return FoldEntry(video, len(self._read_lists(video)), rate)

    def truths(
        self, subset: str, video: str, notes: list[str], takes: Callable[[int], bool] = lambda frame: True
    ) -> Iterator[tuple[int, Truth | None]]:
        lists = self._read_lists(video)
        order: Sequence[int] = range(len(lists))
        if self.settings.quirks == "reference" and len(lists) > _LAST_NUMBER:
            order = _text_order(count_pictures(self._videos[video]))
            notes.append(
                f"fixations of frame {_LAST_NUMBER + 1} and above paired as by the script, in order of text"
            )
        num_lost = num_frames = 0
        for frame, samples in enumerate(read_samples(self._videos[video])):
            num_frames += 1
            position = order[frame] if frame < len(order) else len(lists)
            if position >= len(lists):
                if self.settings.quirks == "reference":
                    yield frame, None  # the script ends with the shorter of both
                    continue
                points: list[Any] = []
            else:
                points = lists[position]
            if not takes(frame):
                yield frame, None
                continue
            density = min_max(samples)
            size = (density.shape[0], density.shape[1])
            fixated, num_positives, lost = self._locate(
                points, size, f"{self._fixations[video]}, frame {frame + 1}"
            )
            num_lost += lost
            yield frame, Truth(density, fixated, num_positives)
        if len(lists) != num_frames:
            notes.append(f"{counted(len(lists), 'lists')} of fixations for {counted(num_frames, 'frames')}")
        if num_lost:
            notes.append(f"{counted(num_lost, 'fixations')} outside the frame ignored")

    def _read_lists(self, video: str) -> list[list[Any]]:
        path = self._fixations[video]
        try:
            lists = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise StavisError(f"{path}: not JSON ({error})") from None
        if not isinstance(lists, list) or not all(isinstance(points, list) for points in lists):
            raise StavisError(f"{path}: not a list with a list of [row, column] per frame")
        return lists

    def _locate(self, points: list[Any], size: tuple[int, int], where: str) -> tuple[Indices, int, int]:
        """Flat indices, the number that AUC-Judd subtracts, and the number of ignored fixations."""
        reference = self.settings.quirks == "reference"
        height, width = size
        if not points:
            if reference:
                raise StavisError(
                    f"{where}: no fixation; the published script stops there (quirks='fixed' goes on)"
                )
            return np.empty(0, dtype=np.intp), 0, 0
        try:
            array = np.array(points, dtype=np.float64)
            if array.ndim != 2 or array.shape[1] < 2 or not np.isfinite(array).all():
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise StavisError(f"{where}: not a list of [row, column]") from None
        # Positions far outside stay outside.
        rows, columns = np.floor(array[:, :2]).clip(-(2**40), 2**40).astype(np.intp).T
        if reference:
            if not all(isinstance(value, int) for point in points for value in point):
                raise StavisError(f"{where}: a position is not an integer; the published script stops there")
            if ((rows >= height) | (columns >= width) | (rows < -height) | (columns < -width)).any():
                raise StavisError(f"{where}: a fixation outside the frame; the published script stops there")
            # Negative numbers count from the far border. Distinct are counted columns, not fixations: 2 at most times.
            return rows % height * width + columns % width, len({tuple(c) for c in array.T.tolist()}), 0
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        flat = rows[inside] * width + columns[inside]
        return flat, np.unique(flat).size, int((~inside).sum())

    def score(self, saliency: Array, truth: Truth, task: VideoTask, method: str) -> Sequence[float]:
        prediction = resize_bilinear(min_max(saliency), truth.density.shape)
        cc, sim, nss, auc = self.challenge_scores(prediction, truth)
        if self.settings.quirks == "fixed":
            cc, sim, auc = _of_constant_maps(prediction, truth, cc, sim, auc)
        return cc, sim, nss, auc


def read_subsets(root: Path) -> dict[str, list[str]]:
    """Subset -> its videos, from `TrainTestSplit.json`.

    Raises StavisError if the file is missing or of another form.
    """
    path = root / SPLIT_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise StavisError(f"{root}: no {SPLIT_FILE} in it; choose the folder that contains it") from None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not all(isinstance(names, list) for names in record.values()):
        raise StavisError(f"{path}: not of the form {{subset: [video, ...], ...}}")
    subsets = {subset: sorted({str(name) for name in names}) for subset, names in record.items()}
    for name in (*subsets, *(name for names in subsets.values() for name in names)):
        if name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
            raise StavisError(f"{path}: {name!r} is not a name; names without a folder are allowed")
    return subsets


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and its subfolders, sorted, but for hidden ones. Follows links to folders."""
    return sorted(p for inside in walk_folders(folder) for p in inside.glob("[!.]*") if p.is_file())


def one_per_name(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Name -> path. Raises StavisError if two have the same name."""
    found: dict[str, Path] = {}
    for name, path in named:
        if name in found:
            raise StavisError(f"{found[name]} and {path}: both are of {name}; one is needed")
        found[name] = path
    return found


def _of_constant_maps(
    prediction: Float64, truth: Truth, cc: float, sim: float, auc: float
) -> tuple[float, float, float]:
    """CC, SIM and AUC where a map is constant: a constant prediction is at chance, constant truth has no scores."""
    if not truth.density.any():
        return math.nan, math.nan, auc
    if not prediction.any():
        _, sim = similarity_scores(np.ones_like(prediction), truth.density)
        return 0.0, sim, 0.5 if truth.fixated.size else math.nan
    return cc, sim, auc


def _text_order(num_frames: int) -> list[int]:
    """For each frame its position among the names %03d sorted as text."""
    order = sorted(range(num_frames), key=lambda frame: f"{frame + 1:03d}")
    positions = [0] * num_frames
    for position, frame in enumerate(order):
        positions[frame] = position
    return positions
