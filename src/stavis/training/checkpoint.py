"""A run's state on disk, from which it goes on as if it had never stopped."""

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
    """How far a run has come.

    Attributes:
        epoch: The epoch that is under way, from 1; one more than there are epochs when all are finished.
        step_in_epoch: Its optimizer steps that are done. When all of them are, its validation is next.
        step: Optimizer steps that are done in all.
        num_skipped: Of these, steps that were skipped, as their loss was not finite.
        sums: Sums over the epoch's clips so far: "clips" (their number), "loss", "bce", "cc", "nss".
        best: The best validation score so far, higher being better; None before the first.
        num_worse: Validations since the best one.
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
    """All that a run needs to go on.

    Attributes:
        recipe: The recipe as TOML.
        samples: A fingerprint of the training samples, so that other data are noticed.
        position: How far the run had come.
        model: The network's state dict.
        optimizer: The optimizer's state dict.
        scaler: The state dict of float16's loss scaling; empty without it.
        average: The averaged weights' state dict; empty without them.
    """

    recipe: str
    samples: str
    position: Position
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    average: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int, best: bool = False) -> Path:
    """Writes a checkpoint, whole or not at all, and removes all but the newest ones.

    Args:
        folder: Of the run's checkpoints.
        checkpoint: What is written, as `step_<number>.pt`.
        keep: How many of the newest stay.
        best: Write it as the best one too, which stays until a better one replaces it.

    Raises:
        StavisError: The disk is full or not writable; what was there before is untouched.
    """
    content = {one.name: getattr(checkpoint, one.name) for one in dataclasses.fields(checkpoint)}
    content |= {"format": FORMAT, "position": dataclasses.asdict(checkpoint.position)}
    # First to memory: torch's own writer answers a full disk with an internal error.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = folder / f"step_{checkpoint.position.step:08d}.pt"
    try:
        _write(path, buffer)
        if best:
            _write(folder / BEST_FILE, buffer)
    except OSError as error:
        newest = [one for one in list_checkpoints(folder) if one != path]
        kept = f"the last whole checkpoint is {newest[-1]}" if newest else "there is no checkpoint before it"
        raise StavisError(f"{path}: cannot be written: {error.strerror or error}; {kept}") from None
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the oldest first; not the best one's copy."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step_[0-9]{8,}\.pt", path.name))


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU. Nothing in the file is executed.

    Raises:
        StavisError: The file is missing, damaged, or no checkpoint of a training run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle versions
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StavisError(f"{path}: checkpoint not found") from None
    except Exception as error:  # on arbitrary bytes torch raises nearly anything
        raise StavisError(f"{path}: not a whole checkpoint ({str(error).partition(chr(10))[0]})") from None
    names = {one.name for one in dataclasses.fields(Checkpoint)}
    if not isinstance(content, dict) or content.keys() != names | {"format"}:
        raise StavisError(f"{path}: not a checkpoint of a training run; weights are given as initial_weights")
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
            # A name that survives a power cut must not stand for content that does not.
            os.fsync(file.fileno())
