"""Readers for gaze in MATLAB files: a cell array per observer, or the struct of Coutrot's databases."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from stavis.errors import StavisError, some
from stavis.gaze.recording import FloatArray, Recording
from stavis.maps.matfile import read_variables

Sound = Literal["with", "without"]
COUTROT_FIELDS: dict[Sound, str] = {"with": "with_os", "without": "without_os"}
COUTROT_SIZE = (720, 576)  # pixels of every video of these databases


def find_coutrot(variables: dict[str, Any]) -> dict[str, Any] | None:
    """The struct with fields `with_os`, `without_os` or `x_pos`, `y_pos` among `variables`, if there is one."""
    for value in variables.values():
        names = set(value) if isinstance(value, dict) else set()
        if {"x_pos", "y_pos"} <= names or set(COUTROT_FIELDS.values()) & names:
            return dict(value)
    return None


def read_mat_cells(path: Path, *, variable: str | None, origin: int) -> Recording:
    """Reads a cell array with one matrix per observer: a row per video frame, the first two columns x and y.

    A numeric array (observers, frames, 2) is read as well. Observers are named by their number. `variable` is None if
    only one can be gaze.

    Raises StavisError if the file has no such variable, or it has another shape.
    """
    variables = read_variables(path)
    there_are = f"there are: {some(variables, 20) or 'none'}"
    if variable is None:
        candidates = [name for name, value in variables.items() if _is_gaze(value)]
        if len(candidates) != 1:
            raise StavisError(
                f"{path}: {len(candidates)} variables, not 1, are cells of matrices (frames, 2) or an array "
                f"(observers, frames, 2); {there_are}"
            )
        variable = candidates[0]
    elif variable not in variables:
        raise StavisError(f"{path}: no variable {variable!r}; {there_are}")
    value = variables[variable]
    if not _is_gaze(value):
        raise StavisError(
            f"{path}: {variable!r} is neither a cell array of matrices (frames, 2) nor an array (observers, frames, 2)"
        )
    cells = value.ravel() if value.dtype == object else value
    for number, cell in enumerate(cells, 1):
        if cell.shape[0] == 2 and cell.shape[1] > 4:
            raise StavisError(
                f"{path}: matrix {number} of {variable!r} is 2x{cell.shape[1]}, one column per frame; allowed is a "
                "row per frame, so transpose it"
            )
    matrices = [np.asarray(cell, np.float64)[:, :2] for cell in cells]
    lengths = [len(matrix) for matrix in matrices]
    points = np.concatenate(matrices) - origin
    return Recording(
        observers=_numbered(len(matrices)),
        observer=np.repeat(np.arange(len(matrices)), lengths),
        x=points[:, 0],
        y=points[:, 1],
        frame=np.concatenate([np.arange(length) for length in lengths]),
        coordinates="video",
    )


def _numbered(num: int) -> tuple[str, ...]:
    digits = len(str(num))
    return tuple(f"{i + 1:0{digits}d}" for i in range(num))


def _is_numeric(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iuf"


def _is_gaze(value: object) -> bool:
    if not isinstance(value, np.ndarray) or not value.size:
        return False
    if value.dtype == object:
        return all(
            isinstance(cell, np.ndarray) and _is_numeric(cell) and cell.ndim == 2 and cell.shape[1] >= 2
            for cell in value.ravel()
        )
    return _is_numeric(value) and value.ndim == 3 and value.shape[2] == 2


def read_coutrot(path: Path, *, clip: int | None, sound: Sound, origin: int) -> Recording:
    """Reads one clip of a Coutrot struct: `x_pos` and `y_pos` of (observers, clips, frames), nan where gaze was lost.

    The struct is a variable of any name, or one of its fields `with_os` and `without_os`, the recordings with and
    without the clip's own sound.

    Raises StavisError if there is no such struct or clip, or the arrays have other shapes.
    """
    variables = read_variables(path)
    struct = find_coutrot(variables)
    if struct is None:
        raise StavisError(
            f"{path}: no struct with fields x_pos and y_pos, or with_os and without_os holding such; "
            f"there are: {some(variables, 20) or 'none'}"
        )
    if "x_pos" not in struct:
        field = struct.get(COUTROT_FIELDS[sound])
        if not isinstance(field, dict) or not {"x_pos", "y_pos"} <= field.keys():
            raise StavisError(f"{path}: no recording {sound} sound; there are: {some(struct, 20)}")
        struct = field
    x_pos, y_pos = (_three_dimensional(struct[name]) for name in ("x_pos", "y_pos"))
    if x_pos is None or y_pos is None or x_pos.shape != y_pos.shape:
        shapes = " and ".join(
            f"{name} {getattr(struct[name], 'shape', 'not numbers')}" for name in ("x_pos", "y_pos")
        )
        raise StavisError(f"{path}: {shapes} are not two arrays of (observers, clips, frames)")
    num_observers, num_clips, num_frames = x_pos.shape
    chosen = choose_clip(path, clip, num_clips) - 1
    return Recording(
        observers=_numbered(num_observers),
        observer=np.repeat(np.arange(num_observers), num_frames),
        x=x_pos[:, chosen].ravel() - origin,
        y=y_pos[:, chosen].ravel() - origin,
        frame=np.tile(np.arange(num_frames), num_observers),
        coordinates="video",
        size=COUTROT_SIZE,
    )


def _three_dimensional(value: object) -> FloatArray | None:
    if isinstance(value, np.ndarray) and _is_numeric(value) and value.ndim == 3:
        return value.astype(np.float64)
    return None


def choose_clip(path: Path, clip: int | None, num_clips: int) -> int:
    """The number, from 1, of the clip to read. Raises StavisError if none is chosen of several, or it is missing."""
    if clip is None and num_clips > 1:
        raise StavisError(
            f"{path}: contains {num_clips} clips; choose the video's with `clip`, 1 to {num_clips}"
        )
    if clip is not None and not 1 <= clip <= num_clips:
        raise StavisError(f"{path}: no clip {clip}; there are clips 1 to {num_clips}")
    return clip or 1
