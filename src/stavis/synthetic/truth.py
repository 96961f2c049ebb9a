"""Ground truth of a generated video: what sounds when, where everything is, who looks where and why."""

import dataclasses
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stavis.errors import StavisError
from stavis.maps import density_from_fixations
from stavis.runtime.files import ARCHIVE_ERRORS, write_bytes, write_text
from stavis.synthetic.presets import DRIVES

Array = npt.NDArray[np.float64]

SILENT = -2
"""In `Truth.sounding`: no source sounds. (-1, `OFF_SCREEN`: one that is out of sight, music, ambience.)"""

SIGMA_SHARE = 1 / 36
"""Standard deviation of the density maps' Gaussian, in picture widths: about one degree where the picture spans 36."""


@dataclass(frozen=True)
class SimulatedGaze:
    """Gaze of simulated observers: one sample per frame and observer, none during saccades and blinks."""

    observer: npt.NDArray[np.int32]  # (N,) numbers from 0
    frame: npt.NDArray[np.int32]  # (N,) from 0
    x: npt.NDArray[np.float32]  # (N,) pixels from the left edge; the pixel is `floor(x)`
    y: npt.NDArray[np.float32]  # (N,) pixels from the top edge
    # (N,) index into `DRIVES`, the reason to look there; -1 before the first choice.
    drive: npt.NDArray[np.int8]
    fixation: npt.NDArray[np.int32]  # (N,) number of the fixation, counted per observer

    def fixation_maps(self, num_frames: int, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Returns fixation maps (T, H, W): pixels at which at least one observer looks."""
        maps = np.zeros((num_frames, size[1], size[0]), dtype=np.bool_)
        maps[self.frame, *self._pixels(size)] = True
        return maps

    def density_map(self, frame: int, size: tuple[int, int], sigma_pixels: float) -> Array:
        """Returns the density map (H, W) of a frame: each sample blurred with a Gaussian."""
        rows, columns = self._pixels(size)
        now = self.frame == frame
        counts = np.zeros((size[1], size[0]))
        np.add.at(counts, (rows[now], columns[now]), 1)
        return density_from_fixations(counts, sigma_pixels)

    def _pixels(self, size: tuple[int, int]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows and columns (N,) of the samples in a picture of (width, height)."""
        rows, columns = (np.floor(value).astype(np.intp) for value in (self.y, self.x))
        return rows.clip(0, size[1] - 1), columns.clip(0, size[0] - 1)


_none: Any = np.zeros(0)
NO_GAZE = SimulatedGaze(_none, _none, _none, _none, _none, _none)


@dataclass(frozen=True)
class Truth:
    """Ground truth of a generated video. Coordinates are in pixels from the top left corner; a pixel is `floor(x)`."""

    seed: int  # random seed
    preset: str  # name of the preset
    width: int  # in pixels
    height: int  # in pixels
    frame_rate: float  # frames per second
    num_frames: int  # number of frames
    sample_rate: int  # sample rate of the audio in Hz
    drives: dict[str, float]  # drive -> share of the fixations while an object on screen sounds
    shots: list[dict[str, Any]]  # one dictionary per shot: start_frame, stop_frame, route
    # One dictionary per object: actor (its number), shot, kind, candidate, onsets (seconds).
    actors: list[dict[str, Any]]
    # One dictionary per turn: start_seconds, stop_seconds, actor (-1: off screen), sound, level.
    turns: list[dict[str, Any]]
    bed: str  # "music", "ambience" or "none" in the background
    shot_index: npt.NDArray[np.int16]  # (T,) index of the shot of each frame
    sounding: npt.NDArray[np.int16]  # (T,) actor that is heard: its number, -1 (off screen) or -2 (`SILENT`)
    # (T, A, 3) x, y and standard deviation in pixels of where gaze lands on each actor; nan if it is not in the shot.
    targets: npt.NDArray[np.float32]
    # (T, A, 4) left, top, right, bottom in pixels (of people, the head); nan likewise.
    boxes: npt.NDArray[np.float32]
    activity: npt.NDArray[np.float32]  # (T, A) strength of each action in 0..1, whether heard or not
    appeal: npt.NDArray[np.float32]  # (T, A) weight of each actor in the drive "objects"; 0 outside the frame
    contrast_map: npt.NDArray[np.uint8]  # (T, h, w) the drive "contrast" in 0..255, on a coarse grid
    # (T,) root mean square of the audio within half a frame of each frame's time.
    loudness: npt.NDArray[np.float32]
    gaze: SimulatedGaze  # samples of the observers

    @property
    def sigma_pixels(self) -> float:
        """Standard deviation of the Gaussian of the density maps."""
        return self.width * SIGMA_SHARE

    def route(self, frame: int) -> str:
        """Returns how the sounding object of a frame can be found: "semantic", "synchrony", "sight" or "none"."""
        return str(self.shots[self.shot_index[frame]]["route"])

    def candidates(self, frame: int) -> list[int]:
        """Returns the actors in the shot of a frame that could be the source of a sound."""
        shot = self.shot_index[frame]
        return [actor["actor"] for actor in self.actors if actor["candidate"] and actor["shot"] == shot]

    def drive_shares(self, frame: int) -> Array:
        """Returns the share (5,) of each of `DRIVES` in the choices made at a frame."""
        return share_of_drives(self.drives, sounding=int(self.sounding[frame]) >= 0)

    def only_sound_share(self, frame: int) -> float:
        """Returns the share of choices at a frame whose target cannot be predicted without the sound.

        Vision leaves n candidates, so it can predict 1/n of the fixations that sound attracts.
        """
        if self.sounding[frame] < 0 or self.route(frame) not in ("semantic", "synchrony"):
            return 0.0
        return self.drives["source"] * (1 - 1 / len(self.candidates(frame)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `<path>.npz` (arrays) and `<path>.json` (the rest). Equal truths give equal bytes."""
        path = Path(path)
        arrays, plain = {}, {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = value
            elif isinstance(value, SimulatedGaze):
                arrays |= {
                    f"gaze_{name.name}": getattr(value, name.name)
                    for name in dataclasses.fields(SimulatedGaze)
                }
            else:
                plain[field.name] = value
        write_arrays(path.with_suffix(".npz"), arrays)
        write_text(path.with_suffix(".json"), json.dumps(plain, indent=1) + "\n")


def share_of_drives(drives: dict[str, float], *, sounding: bool) -> Array:
    """Returns the shares (5,) in the order of `DRIVES`; without a sounding object its share goes to the others."""
    shares = np.array([drives[name] for name in DRIVES])
    if not sounding:
        shares[DRIVES.index("source")] = 0.0
        if not shares.any():  # all went to the sound; the rest is uniform
            shares[DRIVES.index("uniform")] = 1.0
    return np.asarray(shares / shares.sum())


def read_truth(path: str | os.PathLike[str]) -> Truth:
    """Reads files written by `Truth.save`.

    Args:
        path: `<video>.json`, `<video>.npz`, or without suffix.

    Raises:
        StavisError: A file is missing or malformed.
    """
    path = Path(path)
    try:
        plain = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names = [field.name for field in dataclasses.fields(SimulatedGaze)]
        gaze = SimulatedGaze(**{name: arrays.pop(f"gaze_{name}") for name in names})
        return Truth(**plain, **arrays, gaze=gaze)
    except FileNotFoundError as error:
        raise StavisError(f"{error.filename}: not found; `stavis synth` writes it") from None
    except (TypeError, *ARCHIVE_ERRORS) as error:
        raise StavisError(f"{path}: not the ground truth of a generated video ({error})") from None


def write_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Writes a compressed `.npz` atomically; its bytes depend on the arrays only."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())
