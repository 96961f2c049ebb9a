"""A database of a data folder, to look at: its videos with frames, maps, sound and observers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from stavis.datasets.fold_lists import choose_databases, choose_lists, read_fold_list
from stavis.datasets.layout import FoldEntry, Layout
from stavis.datasets.sources import load_waveform, read_picture
from stavis.errors import StavisError, counted
from stavis.gaze.observers import OBSERVERS_NAME, Observers, read_observers
from stavis.maps import read_fixation_map, read_map


@dataclass(frozen=True)
class DatabaseVideo:
    """A video of a database. Nothing is read before it is asked for.

    Attributes:
        name: Name of its folder.
        num_frames: Number of frames according to its fold list.
        frame_rate: Frames per second.
        lists: (split, "train" or "test") of each fold list that names it; split None for a list of all splits.
    """

    name: str
    num_frames: int
    frame_rate: float
    lists: tuple[tuple[int | None, str], ...]
    _layout: Layout
    _database: str

    def frame(self, index: int) -> npt.NDArray[np.uint8]:
        """Reads frame `index`, counted from 0: (H, W, 3) RGB.

        Raises:
            StavisError: The file is missing or is not a picture.
            IndexError: There is no such frame.
        """
        path = self._layout.frame(self._database, self.name, self._checked(index))
        return np.asarray(read_picture(path))

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Reads frames one by one: (H, W, 3) RGB. Arguments as for `range`, within the video."""
        for index in range(self.num_frames)[start:stop:step]:
            yield self.frame(index)

    def density(self, index: int) -> npt.NDArray[np.uint8]:
        """Reads the density map of frame `index`: (H, W), 0..255.

        Raises:
            StavisError: The file is missing or unreadable.
            IndexError: There is no such frame.
        """
        return read_map(self._layout.density_map(self._database, self.name, self._checked(index)))

    def fixations(self, index: int) -> npt.NDArray[np.float64]:
        """Reads the fixation map of frame `index`: (H, W), above 0 where someone fixated.

        Raises:
            StavisError: The file is missing or unreadable.
            IndexError: There is no such frame.
        """
        return read_fixation_map(self._layout.fixation_map(self._database, self.name, self._checked(index)))

    def audio(self) -> tuple[npt.NDArray[np.float32], int]:
        """Reads the whole sound: (S,) mono samples in -1..1, and their rate in Hz.

        Raises:
            StavisError: The file is missing or unreadable.
        """
        return load_waveform(self._layout.wave(self._database, self.name), None)

    @property
    def observers(self) -> Observers | None:
        """Every fixation with its observer; None for the six databases, whose maps pool all observers.

        Raises:
            StavisError: The file is unreadable.
        """
        path = self._layout.annotations_folder(self._database, self.name) / OBSERVERS_NAME
        return read_observers(path) if path.exists() else None

    def _checked(self, index: int) -> int:
        if not -self.num_frames <= index < self.num_frames:
            raise IndexError(f"frame {index} of {self.name}, which has {self.num_frames}")
        return index % self.num_frames

    def __repr__(self) -> str:
        frames, seconds = counted(self.num_frames, "frames"), self.num_frames / self.frame_rate
        return f"<video {self.name}: {frames} at {self.frame_rate:g} per second, {seconds:.1f} s>"


class Database(Sequence[DatabaseVideo]):
    """A database of a data folder: a sequence of its videos, which are also found by name.

    Attributes:
        data: The data folder.
        name: Name of the database.
    """

    def __init__(self, data: Path | str, name: str) -> None:
        """Reads the fold lists of a database.

        Args:
            data: Data folder in the published layout (docs/data.md).
            name: Name of the database: "DIEM".

        Raises:
            StavisError: The folder has no fold list of this database, or a list is unreadable.
        """
        self.data = Path(data)
        layout = Layout(self.data)
        [self.name] = choose_databases(layout, [name])
        entries: dict[str, FoldEntry] = {}
        lists: dict[str, list[tuple[int | None, str]]] = {}
        for split, subset, path in choose_lists(layout, self.name, None):
            if path.exists():
                for entry in dict.fromkeys(read_fold_list(path)):
                    entries.setdefault(entry.video, entry)
                    lists.setdefault(entry.video, []).append((split, subset))
        self._videos = {
            video: DatabaseVideo(
                video, entry.num_frames, entry.frame_rate, tuple(lists[video]), layout, self.name
            )
            for video, entry in sorted(entries.items())
        }

    @property
    def names(self) -> list[str]:
        """Names of the videos, in alphabetical order."""
        return list(self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def __contains__(self, key: object) -> bool:
        """Whether there is a video of this name, or this video."""
        return key in self._videos if isinstance(key, str) else super().__contains__(key)

    @overload
    def __getitem__(self, key: int | str) -> DatabaseVideo: ...
    @overload
    def __getitem__(self, key: slice) -> list[DatabaseVideo]: ...
    def __getitem__(self, key: int | str | slice) -> DatabaseVideo | list[DatabaseVideo]:
        """The video of a name or at an index. Raises StavisError if there is no video of this name."""
        if isinstance(key, str):
            if key not in self._videos:
                raise StavisError(f"{self.data}: no video {key!r} in the fold lists of {self.name}")
            return self._videos[key]
        return list(self._videos.values())[key]

    def __repr__(self) -> str:
        return f"<database {self.name} in {self.data}: {counted(len(self), 'videos')}>"
