"""Gaze in MATLAB files: a cell of observers, or the struct of Coutrot's databases."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.io

from stavis.errors import StavisError
from stavis.gaze.recording import Recording

Sound = Literal["with", "without"]
COUTROT_FIELDS: dict[Sound, str] = {"with": "with_os", "without": "without_os"}
COUTROT_SIZE = (720, 576)  # pixels of every video of these databases


def load_variables(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file, without its header.

    Raises:
        StavisError: It is none, or one of version 7.3, which is HDF5.
    """
    try:
        contents = scipy.io.loadmat(path)
    except NotImplementedError:
        raise StavisError(f"{path}: a MATLAB file of version 7.3; save it with save(..., '-v7')") from None
    except OSError:
        raise
    except Exception as error:  # scipy raises whatever its parser stumbles over
        raise StavisError(f"{path}: not a readable MATLAB file: {error}") from None
    return {name: value for name, value in contents.items() if not name.startswith("__")}


def find_coutrot(variables: dict[str, Any]) -> Any:
    """The struct with fields `with_os`, `without_os` or `x_pos`, `y_pos` among `variables`; None if there is none."""
    for value in variables.values():
        names = set(value.dtype.names or ()) if isinstance(value, np.ndarray) else set()
        if {"x_pos", "y_pos"} <= names or set(COUTROT_FIELDS.values()) & names:
            return value
    return None


def read_mat_cells(path: Path, *, variable: str | None, origin: int) -> Recording:
    """Reads a variable that is a cell array: one matrix an observer, a row a video frame, its first columns x and y.

    A numeric array (observers, frames, 2) is read as well. Observers are named by their number.

    Args:
        path: The file.
        variable: Which of its variables; None if only one can be gaze.
        origin: What the first pixel is called, 0 or 1.

    Raises:
        StavisError: The file has no such variable, or it has another shape.
    """
    variables = load_variables(path)
    if variable is None:
        candidates = [name for name, value in variables.items() if _is_gaze(value)]
        if len(candidates) != 1:
            raise StavisError(
                f"{path}: {len(candidates)} variables, not 1, are cells of matrices (frames, 2) or an array "
                f"(observers, frames, 2); there are: {', '.join(variables) or 'none'}"
            )
        variable = candidates[0]
    elif variable not in variables:
        raise StavisError(f"{path}: no variable {variable!r}; there are: {', '.join(variables) or 'none'}")
    value = variables[variable]
    if not _is_gaze(value):
        raise StavisError(
            f"{path}: {variable!r} is neither a cell array of matrices (frames, 2) nor an array (observers, frames, 2)"
        )
    cells = value.ravel() if value.dtype == object else value
    matrices = [np.asarray(cell, np.float64).reshape(len(cell), -1)[:, :2] for cell in cells]
    lengths = [len(matrix) for matrix in matrices]
    points = np.concatenate(matrices) - origin
    digits = len(str(len(matrices)))
    return Recording(
        observers=tuple(f"{i + 1:0{digits}d}" for i in range(len(matrices))),
        observer=np.repeat(np.arange(len(matrices)), lengths),
        x=points[:, 0],
        y=points[:, 1],
        frame=np.concatenate([np.arange(length) for length in lengths]),
        coordinates="video",
    )


def _is_gaze(value: object) -> bool:
    if not isinstance(value, np.ndarray) or not value.size:
        return False
    if value.dtype == object:
        matrices = [
            cell for cell in value.ravel() if isinstance(cell, np.ndarray) and cell.dtype.kind in "iuf"
        ]
        return len(matrices) == value.size and all(cell.ndim == 2 and cell.shape[1] >= 2 for cell in matrices)
    return value.dtype.kind in "iuf" and value.ndim == 3 and value.shape[2] == 2


def read_coutrot(path: Path, *, clip: int | None, sound: Sound, origin: int) -> Recording:
    """Reads one clip of a Coutrot struct: `x_pos` and `y_pos` of (observers, clips, frames), nan where gaze was lost.

    The struct is a variable of any name, or the fields `with_os` and `without_os` of one.

    Args:
        path: The file.
        clip: Which clip, from 1; None if there is one only.
        sound: With or without the clip's own sound, where the file has both.
        origin: What the first pixel is called, 0 or 1.

    Raises:
        StavisError: There is no such struct or clip, or the arrays have other shapes.
    """
    variables = load_variables(path)
    struct = find_coutrot(variables)
    if struct is None or struct.size != 1:
        raise StavisError(
            f"{path}: no struct with fields x_pos and y_pos, or with_os and without_os holding such; "
            f"there are: {', '.join(variables) or 'none'}"
        )
    struct = struct.ravel()[0]
    if "x_pos" not in struct.dtype.names:
        field = COUTROT_FIELDS[sound]
        if field not in struct.dtype.names:
            raise StavisError(
                f"{path}: no recording {sound} sound; there are: {', '.join(struct.dtype.names)}"
            )
        struct = struct[field].ravel()[0]
    x_pos, y_pos = (np.asarray(struct[name], np.float64) for name in ("x_pos", "y_pos"))
    if x_pos.ndim != 3 or x_pos.shape != y_pos.shape:
        raise StavisError(
            f"{path}: x_pos {x_pos.shape} and y_pos {y_pos.shape} are not two arrays of (observers, clips, frames)"
        )
    num_observers, num_clips, num_frames = x_pos.shape
    if clip is None and num_clips > 1:
        raise StavisError(f"{path}: holds {num_clips} clips; say which one is the video's, 1 to {num_clips}")
    if clip is not None and not 1 <= clip <= num_clips:
        raise StavisError(f"{path}: no clip {clip}; there are clips 1 to {num_clips}")
    chosen = (clip or 1) - 1
    digits = len(str(num_observers))
    return Recording(
        observers=tuple(f"{i + 1:0{digits}d}" for i in range(num_observers)),
        observer=np.repeat(np.arange(num_observers), num_frames),
        x=x_pos[:, chosen].ravel() - origin,
        y=y_pos[:, chosen].ravel() - origin,
        frame=np.tile(np.arange(num_frames), num_observers),
        coordinates="video",
        size=COUTROT_SIZE,
    )
