"""Saliency maps of a video in any of the usual forms: found, then read frame by frame."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from stavis import maps, media
from stavis.datasets.layout import result_folder
from stavis.errors import StavisError
from stavis.maps.files import MAP_FORMATS
from stavis.media.suffixes import VIDEO_SUFFIXES
from stavis.runtime.files import ARCHIVE_ERRORS, find_entry

Array = maps.Array

SourceKind = Literal["images", "archive", "video"]

ARCHIVE_KEYS = ("saliency", "index")
OTHER_IMAGES = frozenset({"timeline"})  # written by `stavis predict` beside its maps
COLOR_SHARE = 0.02  # mean difference of channels, of the range, above which a map counts as colored
OWN_MAP_PREFIX = "map_"  # of the images of `stavis predict`, which are numbered from 0


@dataclass(frozen=True)
class MapSource:
    # "images": a folder of numbered JPEGs or PNGs. "archive": an `.npz` with `saliency` (N, h, w) and `index` (N,) from
    # 0. "video": one map per frame.
    kind: SourceKind
    path: Path  # the folder or the file

    @staticmethod
    def at(path: Path) -> "MapSource":
        """The maps at a path; its kind follows from its suffix."""
        if path.is_dir():
            return MapSource("images", path)
        return MapSource("archive" if path.suffix == ".npz" else "video", path)

    def fingerprint(self) -> str:
        """A hash that changes when a file is added, removed or modified. No file is opened."""
        files = numbered_maps(self.path).values() if self.kind == "images" else [self.path]
        digest = hashlib.sha256()
        for path in files:
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def open(self, *, own_depth: bool = False) -> "MapReader":
        """Opens the maps. Raises StavisError if there are none, or the file is of another kind.

        With `own_depth`, samples are as they are stored, (h, w) or (h, w, channels), uint8 or uint16. By default maps
        are (h, w); of a map in color the first channel counts, as in the published scoring.
        """
        if self.kind == "images":
            return _ImageReader(self.path, own_depth)
        if self.kind == "archive":
            return _ArchiveReader(self.path, own_depth)
        return _VideoReader(self.path, own_depth)


class MapReader(ABC):
    """Reader of a video's maps in the order of frames."""

    @abstractmethod
    def read(self, frame: int) -> Array | None:
        """The map (h, w) of a frame, from 0, or None if there is none. Called for ascending frames."""

    def count_beyond(self, num_frames: int) -> int:
        """The number of maps beyond the video's last frame. Called at the end."""
        return 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores must know about the maps."""
        return ()


def find_source(root: Path, database: str, video: str, split: int) -> tuple[MapSource, bool] | None:
    """Finds the maps of a video.

    Searched are `split<k>_results/<database>`, where <database> is its folder's name or the published short one, then
    `<database>`, then `root` itself, for `<video>/` with images, `<video>.npz` or a video file `<video>.mp4` (or the
    like). Of the outputs of `stavis predict` in `<video>/`, the one closest to the network's output is taken:
    pred_sal/, saliency.npz, maps/, saliency.mp4.

    Names match in either Unicode form.

    Returns the maps and whether they belong to this split alone; None if there are none.
    """
    names = dict.fromkeys((result_folder(database), database))
    bases = [(root / f"split{split}_results" / name, True) for name in names]
    if not _splits_below(root):
        bases += [(root / name, False) for name in names] + [(root, False)]
    for base, of_split in bases:
        source = source_in(base, video)
        if source is not None:
            return source, of_split
    return None


def source_in(base: Path, video: str) -> MapSource | None:
    """The maps of a video directly below `base`; None if there are none."""
    folder = find_entry(base, video)
    for candidate in (folder, folder / "pred_sal"):
        if _holds_images(candidate):
            return MapSource.at(candidate)
    for path in (find_entry(base, f"{video}.npz"), folder / "saliency.npz"):
        if path.is_file():
            return MapSource.at(path)
    if _holds_images(folder / "maps"):
        return MapSource.at(folder / "maps")
    videos = (find_entry(base, f"{video}{suffix}") for suffix in sorted(VIDEO_SUFFIXES))
    for path in (*videos, folder / "saliency.mp4"):
        if path.is_file():
            return MapSource.at(path)
    return None


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(
        path.suffix.lower() in MAP_FORMATS and path.stem not in OTHER_IMAGES for path in folder.iterdir()
    )


def _splits_below(root: Path) -> set[int]:
    """The splits that have a folder of results."""
    names = (re.fullmatch(r"split([1-9][0-9]*)_results", path.name) for path in root.glob("split*_results/"))
    return {int(name[1]) for name in names if name}


def find_absent_splits(root: Path, splits: Iterable[int]) -> tuple[int, ...]:
    """Those of the splits without a folder of results, if any has one."""
    there = _splits_below(root)
    return tuple(sorted(set(splits) - there)) if there else ()


def describe_content(root: Path) -> str:
    """A short description of a predictions folder in which no maps were found."""
    if not root.is_dir():
        return "it does not exist"
    found: list[str] = []
    for folder in sorted(root.glob("split*_results/*"))[:6] or sorted(root.iterdir())[:6]:
        inner = sorted(p.name for p in folder.iterdir())[:2] if folder.is_dir() else []
        found.append(f"{folder.relative_to(root)}" + (f"/{{{', '.join(inner)}, ...}}" if inner else ""))
    return f"it contains {'; '.join(found)}" if found else "it is empty"


# --- Readers ----------------------------------------------------------------------------------------------------------


def numbered_maps(folder: Path) -> dict[int, Path]:
    """The images of a folder by frame (from 0), ascending.

    The digits at the end of a file's name are its number. Numbers start at 1, as in the published layout and DHF1K's,
    but at 0 if a file has number 0, and in the images `map_%06d.png` of `stavis predict`.

    Raises StavisError if a name does not end with a number, two have the same one, or there are no images.
    """
    paths = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in MAP_FORMATS
        and not path.name.startswith(".")
        and path.stem not in OTHER_IMAGES
    ]
    numbers: dict[int, Path] = {}
    for path in sorted(paths):
        match = re.search(r"([0-9]+)$", path.stem)
        if match is None:
            raise StavisError(f"{path}: the name does not end with a number, as in pred_sal_000009.jpg")
        number = int(match[1])
        if number in numbers:
            raise StavisError(f"{folder}: {numbers[number].name} and {path.name} are maps of the same frame")
        numbers[number] = path
    if not numbers:
        raise StavisError(f"{folder}: no .jpg or .png in it")
    from_zero = 0 in numbers or all(path.name.startswith(OWN_MAP_PREFIX) for path in numbers.values())
    return {number - (not from_zero): numbers[number] for number in sorted(numbers)}


class ColorCheck:
    """Notes maps in color, of which a channel or a mean is scored."""

    def __init__(self) -> None:
        self._largest = 0.0
        self._num = 0

    def add(self, samples: Array) -> None:
        """Checks a map (h, w) or (h, w, channels)."""
        if samples.ndim == 2 or samples.shape[2] < 3:
            return
        # Every fourth pixel of every fourth row shows color, at a fraction of the time.
        few = samples[::4, ::4, :3].astype(np.int32)
        share = float((few.max(axis=2) - few.min(axis=2)).mean()) / np.iinfo(samples.dtype).max
        self._num += share > COLOR_SHARE
        self._largest = max(self._largest, share)

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._num:
            return ()
        return (
            f"{self._num} maps are in color (channels differ by {self._largest:.0%} of the range on average); gray "
            "maps are expected",
        )


class _ImageReader(MapReader):
    def __init__(self, folder: Path, own_depth: bool) -> None:
        self._paths = numbered_maps(folder)
        self._own_depth = own_depth
        self._colors = ColorCheck()

    def read(self, frame: int) -> Array | None:
        path = self._paths.get(frame)
        if path is None:
            return None
        samples = maps.read_prediction(path)
        self._colors.add(samples)
        return samples if self._own_depth or samples.ndim == 2 else samples[..., 0]

    def count_beyond(self, num_frames: int) -> int:
        return sum(frame >= num_frames for frame in self._paths)

    @property
    def notes(self) -> tuple[str, ...]:
        return self._colors.notes


class _ArchiveReader(MapReader):
    def __init__(self, path: Path, own_depth: bool) -> None:
        self._own_depth = own_depth
        try:
            with np.load(path, allow_pickle=False) as arrays:
                saliency, index = (arrays[key] for key in ARCHIVE_KEYS)
        except KeyError:
            raise StavisError(
                f"{path}: lacks the arrays {' and '.join(ARCHIVE_KEYS)}, which `stavis predict` writes"
            ) from None
        except ARCHIVE_ERRORS as error:
            raise StavisError(f"{path}: unreadable ({error}); an .npz of arrays is allowed") from None
        if saliency.ndim != 3 or 0 in saliency.shape[1:] or saliency.dtype.kind not in "fui":
            raise StavisError(
                f"{path}: saliency is {saliency.shape} {saliency.dtype}; numbers (N, h, w) are needed"
            )
        if index.shape != saliency.shape[:1] or index.dtype.kind not in "ui" or (index < 0).any():
            raise StavisError(
                f"{path}: index is {index.shape} {index.dtype}; a frame number from 0 is needed for each map"
            )
        if len(np.unique(index)) != len(index):
            raise StavisError(f"{path}: index contains a frame twice")
        self._path = path
        self._saliency = saliency
        self._rows = {int(frame): row for row, frame in enumerate(index)}

    def read(self, frame: int) -> Array | None:
        row = self._rows.get(frame)
        if row is None:
            return None
        if self._own_depth and self._saliency.dtype in (np.uint8, np.uint16):
            return np.asarray(self._saliency[row])
        saliency: npt.NDArray[np.float64] = self._saliency[row].astype(np.float64)
        if not np.isfinite(saliency).all():
            raise StavisError(f"{self._path}: the map of frame {frame} (from 0) is not finite")
        return saliency

    def count_beyond(self, num_frames: int) -> int:
        return sum(frame >= num_frames for frame in self._rows)


class _VideoReader(MapReader):
    def __init__(self, path: Path, own_depth: bool) -> None:
        self._own_depth = own_depth
        self._frames = enumerate(
            media.read_samples(path) if own_depth else (frame.image for frame in media.read_frames(path))
        )
        self._num_read = 0
        self._colors = ColorCheck()

    def read(self, frame: int) -> Array | None:
        for index, samples in self._frames:
            self._num_read = index + 1
            if index == frame:
                self._colors.add(samples)
                return samples if self._own_depth else samples[..., 0]
        return None

    def count_beyond(self, num_frames: int) -> int:
        for index, _ in self._frames:
            self._num_read = index + 1
        return max(0, self._num_read - num_frames)

    @property
    def notes(self) -> tuple[str, ...]:
        return self._colors.notes
