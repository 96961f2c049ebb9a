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
    """Progress of a run.

    Attributes:
        epoch: The current epoch, from 1; the number of epochs plus 1 when all are finished.
        step_in_epoch: Optimizer steps done in this epoch. After the last one comes its validation.
        step: Optimizer steps done in total.
        num_skipped: How many of them were skipped because the loss was not finite.
        sums: Sums over the clips of this epoch so far: "clips" (their number), "loss", "bce", "cc", "nss".
        best: Best validation score so far (higher is better); None before the first.
        num_worse: Number of validations since the best one.
    """

    epoch: int = 1
    step_in_epoch: int = 0
    step: int = 0
    num_skipped: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    num_worse: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to resume.

    Attributes:
        recipe: The recipe as TOML.
        samples: Fingerprint of the training samples, to detect changed data.
        position: Progress of the run.
        model: State dict of the network.
        optimizer: State dict of the optimizer.
        scaler: State dict of the float16 loss scaler; empty if unused.
        average: State dict of the averaged weights; empty if unused.
    """

    recipe: str
    samples: str
    position: Position
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    average: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int, best: bool = False) -> Path:
    """Writes a checkpoint atomically as `step_<number>.pt`, and removes all but the newest `keep`.

    With `best`, it is also written as the best checkpoint, which stays until a better one replaces it.

    Raises:
        StavisError: The disk is full or not writable. Earlier checkpoints are untouched.
    """
    content = {one.name: getattr(checkpoint, one.name) for one in dataclasses.fields(checkpoint)}
    content |= {"format": FORMAT, "position": dataclasses.asdict(checkpoint.position)}
    # To memory first: on a full disk, torch's own writer fails with an internal error.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = folder / f"step_{checkpoint.position.step:08d}.pt"
    try:
        _write(path, buffer)
        if best:
            _write(folder / BEST_FILE, buffer)
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

    Raises:
        StavisError: The file is missing, damaged, or not a checkpoint of a training run.
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
