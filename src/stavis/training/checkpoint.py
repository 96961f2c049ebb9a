"""Checkpoints: the state of a run on disk, from which it resumes exactly."""

import dataclasses
import io
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stavis.errors import StavisError
from stavis.runtime.files import atomic_path

FORMAT = 1
BEST_FILE = "best.pt"


@dataclass
class Position:
    epoch: int = 1  # the current epoch, from 1; the number of epochs plus 1 when all are finished
    step_in_epoch: int = 0  # optimizer steps done in this epoch. After the last one comes its validation
    step: int = 0  # optimizer steps done in total
    num_skipped: int = 0  # how many of them were skipped because the loss was not finite
    # Sums over the clips of this epoch so far: "clips" (their number), "loss", "bce", "cc", "nss".
    sums: dict[str, float] = field(default_factory=dict)
    best: float | None = None  # best validation score so far (higher is better); None before the first
    num_worse: int = 0  # number of validations since the best one


@dataclass(frozen=True)
class Checkpoint:
    recipe: str  # the recipe as TOML
    samples: str  # fingerprint of the training samples, to detect changed data
    position: Position  # progress of the run
    model: Mapping[str, Any]  # state dict of the network
    optimizer: Mapping[str, Any]  # state dict of the optimizer
    scaler: Mapping[str, Any]  # state dict of the float16 loss scaler; empty if unused
    average: Mapping[str, Any]  # state dict of the averaged weights; empty if unused


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int, best: bool = False) -> Path:
    """Writes a checkpoint atomically as `step_<number>.pt`, and removes all but the newest `keep`.

    With `best`, it is also written as the best checkpoint, which stays until a better one replaces it.

    Raises StavisError if the disk is full or not writable; earlier checkpoints are untouched then.
    """
    content = {one.name: getattr(checkpoint, one.name) for one in dataclasses.fields(checkpoint)}
    content |= {"format": FORMAT, "position": dataclasses.asdict(checkpoint.position)}
    # To memory first: on a full disk, torch's own writer fails with an internal error.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = folder / f"step_{checkpoint.position.step:08d}.pt"
    try:
        if best:  # first: if the run ends between the two, it arrives at this best checkpoint again
            _write(folder / BEST_FILE, buffer)
        _write(path, buffer)
    except OSError as error:
        newest = [one for one in list_checkpoints(folder) if one != path]
        kept = f"the last complete checkpoint is {newest[-1]}" if newest else "there is no earlier checkpoint"
        raise StavisError(f"{path}: cannot be written: {error.strerror or error}; {kept}") from None
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the checkpoints in `folder`, oldest first, without the copy of the best one."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step_[0-9]{8,}\.pt", path.name))


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU. Nothing in the file is executed.

    Raises StavisError if the file is missing, damaged, or not a checkpoint of a training run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle versions
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StavisError(f"{path}: checkpoint not found") from None
    except Exception as error:  # torch raises nearly anything for arbitrary bytes
        raise StavisError(f"{path}: not a complete checkpoint ({str(error).partition(chr(10))[0]})") from None
    names = {one.name for one in dataclasses.fields(Checkpoint)}
    if not isinstance(content, dict) or content.keys() != names | {"format"}:
        raise StavisError(
            f"{path}: not a checkpoint of a training run; to start from weights, use initial_weights"
        )
    if content.pop("format") != FORMAT:
        raise StavisError(
            f"{path}: a checkpoint of another version of stavis; this one reads format {FORMAT}"
        )
    return Checkpoint(**{**content, "position": Position(**content["position"])})


def _write(path: Path, buffer: io.BytesIO) -> None:
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            # After a power cut the name must not exist without its content.
            os.fsync(file.fileno())
