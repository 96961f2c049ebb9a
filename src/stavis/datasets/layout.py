"""The published folder layout of the six databases. Nothing else knows its names and its counting from 1.

Names of folders are found in whatever Unicode form they have on disk; files whose names begin with a dot are ignored.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from stavis.errors import StavisError
from stavis.runtime.files import find_entry

Subset = Literal["train", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "test")

DATABASES = ("AVAD", "Coutrot_db1", "Coutrot_db2", "DIEM", "ETMD_av", "SumMe")
"""The six databases, by the names of their folders."""

RESULT_FOLDERS = {
    "AVAD": "avad",
    "Coutrot_db1": "coutrot1",
    "Coutrot_db2": "coutrot2",
    "DIEM": "diem",
    "ETMD_av": "etmd",
    "SumMe": "summe",
}
"""Database -> folder of its predictions below `split<k>_results`."""

SPLITS = (1, 2, 3)
SINGLE_SPLIT_DATABASES = frozenset({"DIEM"})
"""Databases with a single division into train and test, used in every split."""


@dataclass(frozen=True)
class FoldEntry:
    video: str  # name of the video's folder
    num_frames: int  # number of frames according to the list
    frame_rate: float  # frames per second


def result_folder(database: str) -> str:
    """The folder below `split<k>_results` for `database`: for others than the six, its name in lower case."""
    return RESULT_FOLDERS.get(database, database.lower())


@dataclass(frozen=True)
class Layout:
    """Paths below a data folder (`root`) in the published layout. Frames are 0-based; files count from 1."""

    root: Path

    def folder(self, kind: str, database: str) -> Path:
        """A database's folder of a kind: "video_frames", "video_audio" or "annotations"."""
        return find_entry(self.root / kind, database)

    def frames_folder(self, database: str, video: str) -> Path:
        return find_entry(self.folder("video_frames", database), video)

    def frame(self, database: str, video: str, frame: int) -> Path:
        return self.frames_folder(database, video) / f"img_{frame + 1:05d}.jpg"

    def wave(self, database: str, video: str) -> Path:
        return find_entry(find_entry(self.folder("video_audio", database), video), f"{video}.wav")

    def annotations_folder(self, database: str, video: str) -> Path:
        return find_entry(self.folder("annotations", database), video)

    def density_map(self, database: str, video: str, frame: int) -> Path:
        return self.annotations_folder(database, video) / "maps" / f"eyeMap_{frame + 1:05d}.jpg"

    def fixation_map(self, database: str, video: str, frame: int) -> Path:
        return self.annotations_folder(database, video) / f"fixMap_{frame + 1:05d}.mat"

    def fold_list(self, database: str, subset: str, split: int) -> Path:
        """The list of `subset` ("train" or "test") in `split`, whether or not it exists.

        A database has one list per split, or one list for all splits, like DIEM. If only the other kind exists, it is
        used, so that databases other than the six can have either.
        """
        names = (f"{database}_list_{subset}_{split}_fps.txt", f"{database}_list_{subset}_fps.txt")
        kinds = [self.root / "fold_lists" / name for name in names]
        if database in SINGLE_SPLIT_DATABASES:
            kinds.reverse()
        usual, other = kinds
        return other if not usual.exists() and other.exists() else usual

    def published_weights(self, modality: str, split: int) -> Path:
        """The published checkpoint of "visual" or "audiovisual" that was trained on `split`."""
        folder = {"visual": "stavis_visual_only", "audiovisual": "stavis_audiovisual"}[modality]
        return self.root / "pretrained_models" / folder / f"{modality}_split{split}_save_60.pth"

    def splits(self, database: str) -> tuple[int, ...]:
        """The splits that `database` has lists for, in order; none if its lists are for all splits."""
        folder = self.root / "fold_lists"
        pattern = re.compile(re.escape(database) + r"_list_(?:train|test)_([0-9]+)_fps\.txt")
        matches = (pattern.fullmatch(name) for name in _list_folder(folder))
        return tuple(sorted({int(match[1]) for match in matches if match}))

    def databases(self) -> list[str]:
        """The databases that have fold lists: first the six, then others by name.

        Raises StavisError if there is no folder `fold_lists`, or no list in it.
        """
        folder = self.root / "fold_lists"
        if not folder.is_dir():
            raise StavisError(
                f"{self.root}: no folder 'fold_lists' in it; a data folder in the published layout has one "
                "(docs/data.md)"
            )
        pattern = re.compile(r"(.+)_list_(?:train|test)(?:_[0-9]+)?_fps\.txt")
        matches = [pattern.fullmatch(name) for name in _list_folder(folder) if not name.startswith(".")]
        names = {match[1] for match in matches if match}
        if not names:
            raise StavisError(f"{folder}: no fold list in it (<database>_list_<train|test>_<split>_fps.txt)")
        return [name for name in DATABASES if name in names] + sorted(names.difference(DATABASES))


@dataclass(frozen=True)
class VideoFiles:
    """Which files of a video exist, found by listing its folders: nothing is opened."""

    frames: npt.NDArray[np.bool_]  # (num_frames,) whether each frame in the fold list has its picture
    density_maps: npt.NDArray[np.bool_]  # (num_frames,) the same for density maps
    fixation_maps: npt.NDArray[np.bool_]  # (num_frames,) the same for fixation maps
    wave: bool  # whether there is a WAV file
    # Part ("frames", "density_maps", "fixation_maps") -> number of numbered files beyond those in the list.
    surplus: dict[str, int]


def find_files(layout: Layout, database: str, entry: FoldEntry) -> VideoFiles:
    """Finds out which files of a video exist. Each folder is listed once, however many frames there are."""
    frames = _find_numbered(layout.frames_folder(database, entry.video), "img_", ".jpg", entry.num_frames)
    annotations = layout.annotations_folder(database, entry.video)
    density_maps = _find_numbered(annotations / "maps", "eyeMap_", ".jpg", entry.num_frames)
    fixation_maps = _find_numbered(annotations, "fixMap_", ".mat", entry.num_frames)
    return VideoFiles(
        frames=frames[0],
        density_maps=density_maps[0],
        fixation_maps=fixation_maps[0],
        wave=layout.wave(database, entry.video).is_file(),
        surplus={"frames": frames[1], "density_maps": density_maps[1], "fixation_maps": fixation_maps[1]},
    )


def _find_numbered(folder: Path, prefix: str, suffix: str, num: int) -> tuple[npt.NDArray[np.bool_], int]:
    """Which of the files 1 to `num` are in `folder`, and how many more files of that form."""
    names = {name for name in _list_folder(folder) if name.startswith(prefix) and name.endswith(suffix)}
    present = np.array([f"{prefix}{i:05d}{suffix}" in names for i in range(1, num + 1)], np.bool_)
    numbered = sum(name[len(prefix) : -len(suffix)].isdecimal() for name in names)
    return present, numbered - int(np.count_nonzero(present))


def _list_folder(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_numbers(frames: Iterable[int]) -> str:
    """The file numbers of 0-based frames with runs joined: "3, 7-15". At most five runs are written out."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    shown = [f"{first + 1}" if first == last else f"{first + 1}-{last + 1}" for first, last in runs[:5]]
    return ", ".join(shown) + (f" and {len(runs) - 5} more runs" if len(runs) > 5 else "")
