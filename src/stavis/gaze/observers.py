"""The file that keeps who looked where, beside the maps in which that is lost."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stavis.errors import StavisError
from stavis.gaze.recording import FloatArray, Gaze, IntArray
from stavis.runtime.files import atomic_path


@dataclass(frozen=True)
class Observers:
    """Every fixation on a video with its observer.

    Attributes:
        names: Of the observers.
        known: Whether the recording told observers apart; if not, all fixations are one observer's.
        observer: (N,) index into `names`.
        frame: (N,) from 0.
        x: (N,) in pixels of the video's frames; the pixel is `floor(x)`.
        y: As `x`.
    """

    names: tuple[str, ...]
    known: bool
    observer: IntArray
    frame: IntArray
    x: FloatArray
    y: FloatArray


def write_observers(path: Path, gaze: Gaze) -> None:
    """Writes gaze by frame as a compressed `.npz` with arrays observer, frame, x, y, names and known."""
    if gaze.frame is None:
        raise ValueError("needs gaze by frame")
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            observer=gaze.observer.astype(np.int32),
            frame=gaze.frame.astype(np.int32),
            x=gaze.x,
            y=gaze.y,
            names=np.array(gaze.observers, dtype=str),
            known=np.array(gaze.observers_known),
        )


def read_observers(path: Path) -> Observers:
    """Reads what `write_observers` wrote.

    Raises:
        StavisError: The file is missing or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Observers(
                names=tuple(arrays["names"].tolist()),
                known=bool(arrays["known"]),
                observer=arrays["observer"].astype(np.int64),
                frame=arrays["frame"].astype(np.int64),
                x=arrays["x"].astype(np.float64),
                y=arrays["y"].astype(np.float64),
            )
    except FileNotFoundError:
        raise StavisError(
            f"{path}: no file of observers; `stavis prepare` writes it for videos with gaze"
        ) from None
    except (OSError, ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise StavisError(
            f"{path}: not a file of observers as `stavis prepare` writes it ({error})"
        ) from None
