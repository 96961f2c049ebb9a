"""Fixations of each observer (`observers.npz`), kept beside maps that pool all observers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stavis.errors import StavisError, counted
from stavis.gaze.recording import FloatArray, Gaze, IntArray
from stavis.runtime.files import ARCHIVE_ERRORS, atomic_path

OBSERVERS_NAME = "observers.npz"


@dataclass(frozen=True)
class Observers:
    """Every fixation on a video with its observer.

    Attributes:
        names: Names of the observers.
        known: Whether the recording distinguishes observers; if not, all fixations belong to one.
        observer: (N,) index into `names`.
        frame: (N,) frame of each fixation, from 0.
        x, y: (N,) position in pixels of the video's frames; the pixel is `floor(x)`.
        sigma_pixels: Standard deviation of the Gaussian of the video's density maps; None in files of older versions.
    """

    names: tuple[str, ...]
    known: bool
    observer: IntArray
    frame: IntArray
    x: FloatArray
    y: FloatArray
    sigma_pixels: float | None = None

    def __repr__(self) -> str:
        return f"<{counted(len(self.frame), 'fixations')} of {counted(len(self.names), 'observers')}>"


def write_observers(path: Path, gaze: Gaze, sigma_pixels: float) -> None:
    """Writes gaze by frame as a compressed `.npz` with the fields of `Observers` as arrays."""
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
            sigma_pixels=np.array(sigma_pixels, dtype=np.float64),
        )


def read_observers(path: Path) -> Observers:
    """Reads a file of `write_observers`.

    Raises:
        StavisError: The file is missing or of another kind.
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
                sigma_pixels=float(arrays["sigma_pixels"]) if "sigma_pixels" in arrays else None,
            )
    except FileNotFoundError:
        raise StavisError(f"{path}: not found; `stavis prepare` writes it for videos with gaze") from None
    except (TypeError, AttributeError, *ARCHIVE_ERRORS) as error:
        raise StavisError(f"{path}: not a file of observers of `stavis prepare` ({error})") from None
