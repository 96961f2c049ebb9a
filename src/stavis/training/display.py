"""Console output of a training run."""

from pathlib import Path
from typing import Any

import torch

from stavis.errors import counted
from stavis.runtime.progress import console
from stavis.training.checkpoint import Position
from stavis.training.distributed import BatchPlan
from stavis.training.recipe import Recipe


def show(text: str) -> None:
    """Prints a line on standard error, without markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def describe_start(
    run: Path,
    plan: BatchPlan,
    num_training: int,
    num_validation: int,
    position: Position,
    recipe: Recipe,
    device: torch.device,
) -> str:
    """Describes in one line what is about to run."""
    shares = f"{plan.micro_size} at a time"
    if plan.accumulation > 1:
        shares += f", {plan.accumulation} times"
    if plan.world_size > 1:
        shares += f", in {plan.world_size} processes"
    measured = ""
    if num_validation:
        what = "from the test lists" if recipe.validation.on == "test" else "held out"
        measured = f", {counted(num_validation, 'validation clips')} {what}"
    begin = f"resumes after step {position.step}, in epoch {position.epoch}" if position.step else "starts"
    batches = f"batches of {plan.batch_size} ({shares}) on {device}"
    return f"{run}: {begin}; {counted(num_training, 'training clips')}{measured}; {batches}"


def describe_progress(
    means: dict[str, float | None] | None, seconds_left: float, device: torch.device
) -> str:
    """Formats the text beside the progress bar: scores, remaining time of the whole run, memory."""
    parts = [format_scores(means)] if means else []
    if seconds_left:
        parts.append(f"{format_duration(seconds_left)} for the remaining epochs")
    parts += [f"GPU memory {gigabytes:.1f} GB" for gigabytes in gpu_memory(device).values()]
    return ", ".join(parts)


def describe_epoch(record: dict[str, Any], num_epochs: int) -> str:
    """Formats the scores of an epoch as one line."""
    text = f"epoch {record['epoch']}/{num_epochs}: "
    if record["training"]:
        text += format_scores(record["training"])
    if record["validation"]:
        text += f"; validation {format_scores(record['validation'])}"
    if record["num_skipped"]:
        text += f"; {record['num_skipped']} steps skipped"
    return f"{text}; {format_duration(record['seconds'])}"


def format_scores(means: dict[str, float | None]) -> str:
    formats = (("loss", "loss", "{:.4g}"), ("CC", "cc", "{:.3f}"), ("NSS", "nss", "{:.3f}"))
    values = ((label, means[name], form) for label, name, form in formats)
    return ", ".join(
        f"{label} {'nan' if value is None else form.format(value)}" for label, value, form in values
    )


def format_duration(seconds: float) -> str:
    """Formats a duration: "4 s", "12 min", "3 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def gpu_memory(device: torch.device) -> dict[str, float]:
    """Returns the peak GPU memory of tensors so far; an empty dictionary on other devices."""
    if device.type != "cuda":
        return {}
    return {"gpu_memory_gigabytes": round(torch.cuda.max_memory_allocated(device) / 1e9, 3)}
