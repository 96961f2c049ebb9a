"""The gaze of a picture set, with Scene500's as it was recorded."""

from pathlib import Path

import numpy as np

from stavis.datasets.pictures import FIXATIONS_FILE
from stavis.maps.matfile import read_variables

ORIGINALS = ("originals/scene500_fixations.mat", "originals/scene500_imgInfo.mat")


def write_corrected(source: Path, folder: Path, every: int = 1) -> Path:
    """Makes a picture set of every nth picture of another, whose files it names where they are; returns its folder.

    Scene500's files have the columns y, x, onset and duration. A set that was imported as if they were x, y, ... has
    its gaze mirrored at the diagonal; where the original files are beside it, it is read from them again.
    """
    with np.load(source / FIXATIONS_FILE) as file:
        arrays = {name: file[name] for name in ("picture", "observer", "x", "y", "names")}
    names = arrays.pop("names")
    rows = np.column_stack(list(arrays.values())).astype(np.float64)
    if all((source / name).is_file() for name in ORIGINALS):
        of_scene500 = np.array([Path(name).parent.name == "scene500" for name in names])
        numbers = np.flatnonzero(of_scene500)
        again = scene500_rows(source, {int(Path(names[number]).stem): number for number in numbers})
        rows = np.concatenate([rows[~of_scene500[rows[:, 0].astype(int)]], again])
    rows = rows[rows[:, 0] % every == 0]
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / FIXATIONS_FILE,
        picture=(rows[:, 0] // every).astype(np.int32),
        observer=rows[:, 1].astype(np.int16),
        x=rows[:, 2].astype(np.float32),
        y=rows[:, 3].astype(np.float32),
        names=np.array([str((source / name).resolve()) for name in names[::every]]),
    )
    return folder


def scene500_rows(source: Path, numbers: dict[int, int]) -> np.ndarray:
    """Index of the picture, observer, x and y, both as shares, of fixations (N, 4) on Scene500's pictures."""
    fixations, sizes = (read_variables(source / name) for name in ORIGINALS)
    rows = []
    for number, index in numbers.items():
        height, width = sizes["imgInfo"]["size"][number - 1].astype(float)
        for observer, cell in enumerate(fixations["fixations"][number - 1]):
            if cell.size:
                place = cell[:, 1] / width, cell[:, 0] / height
                rows.append(np.column_stack([np.full((len(cell), 2), (index, observer)), *place]))
    return np.concatenate(rows)
