"""Import of picture sets with gaze (OSIE, EyeCrowd, Scene500) from the files of their original repositories."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis.datasets.sources import read_picture
from stavis.errors import StavisError, counted, some
from stavis.maps.matfile import read_variables
from stavis.runtime.files import ARCHIVE_ERRORS, atomic_path, find_entry
from stavis.runtime.progress import track

FIXATIONS_NAME = "fixations.npz"
LONGEST_SIDE = 320  # pixels
QUALITY = 92
_GAZE_FILES = ("data/eye/fixations.mat", "data/tidy/fixations.mat")
_FIELDS = ("fix_x", "fix_y", "fix_duration")
_ARRAYS = {"picture": np.int32, "observer": np.int16} | dict.fromkeys(("x", "y", "duration_ms"), np.float32)


@dataclass(frozen=True)
class ImportedSet:
    name: str  # "osie", "eyecrowd", "scene500", or the name of its folder
    num_pictures: int  # number of its pictures
    num_observers: int  # number of its observers
    num_fixations: int  # number of fixations on its pictures
    num_outside: int  # number of fixations that were dropped, as they lie outside their picture

    def __str__(self) -> str:
        return (
            f"{self.name}: {counted(self.num_pictures, 'pictures')}, {counted(self.num_observers, 'observers')}, "
            f"{counted(self.num_fixations, 'fixations')} ({self.num_outside} outside the pictures dropped)"
        )


@dataclass(frozen=True)
class _Looks:
    """The fixations on a picture: observers, and x, y in pixels and durations in ms as rows of (N, 4)."""

    picture: str
    rows: npt.NDArray[np.float64]


def prepare_pictures(
    folders: str | PathLike[str] | Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    longest_side: int = LONGEST_SIDE,
    quiet: bool = True,
) -> list[ImportedSet]:
    """Imports picture sets into one folder: reduced pictures, and the fixations of all sets in `fixations.npz`.

    The arrays of `fixations.npz` have one entry per fixation: `picture` (index into `names`), `observer` (from 0 in
    each set), `x` and `y` as fractions 0..1 of the picture's width and height, and `duration_ms`. `names` are the paths
    of the pictures in the folder, `pictures/<set>/<name>.jpg`. A set already in the folder is replaced, others stay.

    Args:
        folders: Copies of the sets' repositories, as unpacked by `stavis fetch pictures`, each with `data/stimuli` and
            `data/eye/fixations.mat` (OSIE, EyeCrowd) or `data/tidy/fixations.mat` (Scene500).
        longest_side: Pictures are reduced to this longest side in pixels, and never enlarged.

    Returns:
        What was imported, a set per folder.

    Raises:
        ValueError: `longest_side` is below 1.
        StavisError: A folder is not such a repository, or a file in it, or `fixations.npz`, is missing or damaged.
    """
    if longest_side < 1:
        raise ValueError(f"`longest_side={longest_side}` must be 1 or more")
    output = Path(output)
    paths = [Path(f) for f in ([folders] if isinstance(folders, str | PathLike) else folders)]
    sets = [(path, *_read_set(path)) for path in paths]  # mistakes before the work
    if len({name for _, name, _ in sets}) < len(sets):
        raise StavisError(f"{some(str(path) for path in paths)}: two of them are the same picture set")
    _read_file(output / FIXATIONS_NAME)
    results = []
    with track("importing", sum(len(looks) for *_, looks in sets), unit="pictures", quiet=quiet) as advance:
        for path, name, looks in sets:
            names, arrays, num_outside = [], [], 0
            for number, look in enumerate(looks):
                relative = f"pictures/{name}/{Path(look.picture).stem}.jpg"
                width, height = _reduce(_find_picture(path, look.picture), output / relative, longest_side)
                rows = look.rows / (1, width, height, 1)
                position = rows[:, 1:3].astype(np.float32)
                inside = ((position >= 0) & (position < 1)).all(axis=1)
                num_outside += int((~inside).sum())
                arrays.append(np.column_stack([np.full(inside.sum(), number), rows[inside]]))
                names.append(relative)
                advance(1)
            columns = dict(zip(_ARRAYS, np.concatenate([np.zeros((0, 5)), *arrays]).T, strict=True))
            _add_to_file(output / FIXATIONS_NAME, name, names, columns)
            num_observers = len(np.unique(columns["observer"]))
            results.append(ImportedSet(name, len(names), num_observers, len(columns["x"]), num_outside))
    return results


def _read_set(folder: Path) -> tuple[str, list[_Looks]]:
    file = next((folder / name for name in _GAZE_FILES if (folder / name).is_file()), None)
    if file is None:
        raise StavisError(
            f"{folder}: not a picture set's repository; it has neither {_GAZE_FILES[0]} nor {_GAZE_FILES[1]}"
        )
    cells = read_variables(file).get("fixations")
    if not isinstance(cells, np.ndarray) or cells.dtype != object or not cells.size:
        raise StavisError(f"{file}: no cell array 'fixations'")
    if all(isinstance(cell, dict) for cell in cells.ravel()):
        looks = [_Looks(*_read_struct(file, number, cell)) for number, cell in enumerate(cells.ravel(), 1)]
        known = {"1001.jpg": "osie", "001.jpg": "eyecrowd"}.get(looks[0].picture, folder.resolve().name)
        return known, looks
    looks = [
        _Looks(f"{number:03d}.jpg", np.concatenate([np.zeros((0, 4)), *_read_cells(file, number, row)]))
        for number, row in enumerate(cells, 1)
    ]
    # Pictures that nobody was shown have no fixations, and may be missing.
    return "scene500", [look for look in looks if len(look.rows)]


def _read_struct(file: Path, number: int, cell: dict[str, Any]) -> tuple[str, npt.NDArray[np.float64]]:
    """A picture of OSIE or EyeCrowd: its name, and a struct per observer."""
    name, subjects = cell.get("img"), cell.get("subjects")
    if not isinstance(name, str) or Path(name).name != name or not isinstance(subjects, np.ndarray):
        raise StavisError(f"{file}: entry {number} of 'fixations' is not a struct with img and subjects")
    rows = [np.zeros((0, 4))]
    for observer, subject in enumerate(subjects.ravel()):
        values = [subject.get(field) if isinstance(subject, dict) else None for field in _FIELDS]
        arrays = [np.ravel(v) for v in values if isinstance(v, np.ndarray) and v.dtype.kind in "iuf"]
        if len(arrays) != 3 or len({len(array) for array in arrays}) > 1:
            raise StavisError(
                f"{file}: observer {observer + 1} of {name} has not as many numbers each in {', '.join(_FIELDS)}"
            )
        rows.append(np.column_stack([np.full(len(arrays[0]), observer), *arrays]))
    return name, np.concatenate(rows)


def _read_cells(file: Path, number: int, row: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.float64]]:
    """A picture of Scene500: a matrix per observer with columns y, x, onset and duration, both in seconds.

    No description names the columns. Read as x, y, a fifth of the fixations on pictures that are not square lie outside
    of them; read as y, x, all lie inside of all pictures.
    """
    for observer, cell in enumerate(row):
        if isinstance(cell, np.ndarray) and not cell.size:
            continue
        if not isinstance(cell, np.ndarray) or cell.dtype.kind not in "iuf" or cell.shape[1:] != (4,):
            raise StavisError(
                f"{file}: entry ({number}, {observer + 1}) of 'fixations' is not a matrix with the columns y, x, onset "
                "and duration"
            )
        yield np.column_stack([np.full(len(cell), observer), cell[:, 1], cell[:, 0], cell[:, 3] * 1000.0])


def _find_picture(folder: Path, name: str) -> Path:
    path = find_entry(folder / "data" / "stimuli", name)
    if not path.is_file():
        raise StavisError(f"{path}: picture not found, though there is gaze on it")
    return path


def _reduce(source: Path, target: Path, longest_side: int) -> tuple[int, int]:
    """Writes a picture, reduced; returns the width and height of the original."""
    picture = read_picture(source)
    size = picture.size
    picture.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    with atomic_path(target) as temporary:
        picture.save(temporary, format="JPEG", quality=QUALITY)
    return size


def _read_file(path: Path) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]] | None:
    """The names of pictures in a file of fixations, and its other arrays; None if there is no such file."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            names = np.array(list(map(str, file["names"])), dtype=object)
            arrays = {key: file[key] for key in _ARRAYS}
        picture = arrays["picture"]
        if (
            len({array.shape for array in arrays.values()}) != 1
            or picture.ndim != 1
            or picture.dtype.kind not in "iu"
        ):
            raise ValueError(f"{', '.join(_ARRAYS)} do not go together")
        if ((picture < 0) | (picture >= len(names))).any():
            raise ValueError("picture is no index into names")
    except (TypeError, *ARCHIVE_ERRORS) as error:
        raise StavisError(f"{path}: not a file of fixations on pictures ({error})") from None
    return names, arrays


def _add_to_file(path: Path, name: str, names: list[str], columns: dict[str, npt.NDArray[Any]]) -> None:
    """Writes a set into the file of fixations, replacing what the file has of it."""
    if found := _read_file(path):
        old_names, old = found
        kept = np.array([not other.startswith(f"pictures/{name}/") for other in old_names], bool)
        mine = kept[old["picture"]]
        numbers = np.cumsum(kept) - 1
        names = [*old_names[kept], *names]
        columns["picture"] = columns["picture"] + kept.sum()
        columns = {
            key: np.concatenate(
                [numbers[old[key][mine]] if key == "picture" else old[key][mine], columns[key]]
            )
            for key in _ARRAYS
        }
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            names=np.array(names, dtype=str),
            **{key: columns[key].astype(kind) for key, kind in _ARRAYS.items()},  # type: ignore[arg-type]
        )
