"""The published folder layout of the six databases. The only place that knows its names and its counting from 1."""

import re
from dataclasses import dataclass
from pathlib import Path

from stavis.errors import StavisError

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
"""Database -> the folder that its predictions stand in below `split<k>_results`."""

SPLITS = (1, 2, 3)
SINGLE_SPLIT_DATABASES = frozenset({"DIEM"})
"""Databases with one division into train and test, used in every split."""


@dataclass(frozen=True)
class FoldEntry:
    """One line of a fold list.

    Attributes:
        video: The video's folder name.
        num_frames: Its number of frames as the list gives it.
        frame_rate: Frames per second.
    """

    video: str
    num_frames: int
    frame_rate: float


def result_folder(database: str) -> str:
    """The folder below `split<k>_results` for `database`; for one that is not of the six, its name in lower case."""
    return RESULT_FOLDERS.get(database, database.lower())


@dataclass(frozen=True)
class Layout:
    """Paths below a data folder (`root`) in the published layout. Frames are 0-based; files count from 1."""

    root: Path

    def frames_folder(self, database: str, video: str) -> Path:
        return self.root / "video_frames" / database / video

    def frame(self, database: str, video: str, frame: int) -> Path:
        return self.frames_folder(database, video) / f"img_{frame + 1:05d}.jpg"

    def wave(self, database: str, video: str) -> Path:
        return self.root / "video_audio" / database / video / f"{video}.wav"

    def annotations_folder(self, database: str, video: str) -> Path:
        return self.root / "annotations" / database / video

    def density_map(self, database: str, video: str, frame: int) -> Path:
        return self.annotations_folder(database, video) / "maps" / f"eyeMap_{frame + 1:05d}.jpg"

    def fixation_map(self, database: str, video: str, frame: int) -> Path:
        return self.annotations_folder(database, video) / f"fixMap_{frame + 1:05d}.mat"

    def fold_list(self, database: str, subset: str, split: int) -> Path:
        """The list of `subset` ("train" or "test") in `split`; DIEM has one for all splits."""
        name = f"{database}_list_{subset}_{split}_fps.txt"
        if database in SINGLE_SPLIT_DATABASES:
            name = f"{database}_list_{subset}_fps.txt"
        return self.root / "fold_lists" / name

    def databases(self) -> list[str]:
        """The databases that have fold lists here, the six first, then others by name.

        Raises:
            StavisError: There is no folder `fold_lists` or no list in it.
        """
        folder = self.root / "fold_lists"
        if not folder.is_dir():
            raise StavisError(f"{self.root}: no folder 'fold_lists' in it; a data folder in the published layout has one")
        names = {
            match[1]
            for path in folder.iterdir()
            if (match := re.fullmatch(r"(.+)_list_(?:train|test)(?:_[0-9]+)?_fps\.txt", path.name))
        }
        if not names:
            raise StavisError(f"{folder}: no fold list in it (<database>_list_<train|test>_<split>_fps.txt)")
        return [name for name in DATABASES if name in names] + sorted(names.difference(DATABASES))


def read_fold_list(path: Path) -> list[FoldEntry]:
    """Reads a fold list: a line a video, `name frames fps`. Blank lines are passed over.

    Raises:
        StavisError: The file is missing, or a line does not have that form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise StavisError(f"{path}: fold list not found") from None
    except UnicodeDecodeError:
        raise StavisError(f"{path}: not a text file; a fold list has lines 'name frames fps'") from None
    return [_parse_entry(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]


def _parse_entry(line: str, path: Path, number: int) -> FoldEntry:
    fields = line.split()
    try:
        if len(fields) != 3:
            raise ValueError
        entry = FoldEntry(fields[0], int(fields[1]), float(fields[2]))
        if entry.num_frames < 1 or not 0 < entry.frame_rate < float("inf"):
            raise ValueError
    except ValueError:
        raise StavisError(
            f"{path}, line {number}: {line.strip()!r} is not 'name frames fps' with frames >= 1 and fps > 0"
        ) from None
    return entry


def format_fold_list(entries: list[FoldEntry]) -> str:
    """The text of a fold list, as `read_fold_list` reads it."""
    return "".join(f"{e.video} {e.num_frames} {e.frame_rate:.6f}\n" for e in entries)
