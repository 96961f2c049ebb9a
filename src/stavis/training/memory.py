"""Memory estimates: how many clips fit, computed without allocating anything."""

import contextlib
import functools
import os
from collections.abc import Iterator

import torch
from torch import nn

from stavis.errors import StavisError
from stavis.model import ModelConfig, STAViS
from stavis.training.distributed import Processes, plan_batches
from stavis.training.recipe import Recipe

# The rest is lost to fragmentation, drivers and the workspaces of convolutions.
USABLE_SHARE = 0.9


def bytes_per_clip(config: ModelConfig, *, half_precision: bool = False) -> int:
    """Returns the bytes that a training step keeps per clip until its gradient is computed.

    Runs clips through a network on torch's meta device and counts what autograd would keep. Twice the size of the
    largest of these tensors is added for its gradient and the gradient that it is computed from.
    """
    one, _ = _kept_bytes(config, 1, half_precision)
    two, largest = _kept_bytes(config, 2, half_precision)
    return two - one + largest


def fixed_bytes(config: ModelConfig, num_states: int) -> int:
    """Returns the bytes of weights, gradients and `num_states` further values per weight (optimizer, averaging)."""
    with torch.device("meta"):
        model = STAViS(config)
    return sum(parameter.numel() for parameter in model.parameters()) * 4 * (2 + num_states)


def num_clips_that_fit(
    capacity: int, config: ModelConfig, num_states: int, *, half_precision: bool = False
) -> int:
    """Estimates how many clips fit into one forward and backward pass on a device of `capacity` bytes; may be 0.

    `num_states` are the values that optimizer and averaging keep per weight.
    """
    free = USABLE_SHARE * capacity - fixed_bytes(config, num_states)
    return max(0, int(free // bytes_per_clip(config, half_precision=half_precision)))


@functools.cache
def _kept_bytes(config: ModelConfig, batch: int, half_precision: bool) -> tuple[int, int]:
    """Returns the bytes kept for `batch` clips, and twice the largest tensor among them per clip."""
    dtype = torch.bfloat16 if half_precision else torch.float32
    p = config.preprocessing
    with torch.device("meta"):
        model: nn.Module = STAViS(config).to(dtype)
        clips = torch.empty(batch, 3, p.clip_length, *p.input_size, dtype=dtype)
        audio = torch.empty(batch, p.num_audio_samples, dtype=dtype)
    kept: dict[int, torch.UntypedStorage] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # keeps a reference, so that the number is not reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(clips, audio)
    sizes = [storage.nbytes() for storage in kept.values()]
    return sum(sizes), 2 * max(sizes) // batch


@contextlib.contextmanager
def explain_memory(recipe: Recipe, processes: Processes) -> Iterator[None]:
    """Turns an out-of-memory error into a StavisError that reports how many clips would fit.

    A killed worker process is one, too: that is how systems that run out of memory help themselves.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise StavisError(advise(recipe, processes, _capacity(processes))) from None
        # PyTorch's own words, wherever in the loop its handler of SIGCHLD interrupts.
        if str(error).startswith("DataLoader worker"):
            raise StavisError(
                "a worker process that loads clips was killed, for want of memory perhaps "
                f"({str(error).strip(' .')}); the last checkpoint is kept, resume with fewer workers "
                "(--set data.workers=1)"
            ) from None
        raise


def advise(recipe: Recipe, processes: Processes, capacity: int) -> str:
    """Describes in one line what to change when `capacity` bytes were too few."""
    num_states = {"sgd": int(recipe.optimizer.momentum > 0), "adamw": 2}[recipe.optimizer.name]
    num_states += int(recipe.optimizer.ema_decay > 0)
    half_precision = recipe.runtime.precision != "float32"
    fitting = num_clips_that_fit(capacity, recipe.model, num_states, half_precision=half_precision)
    plan = plan_batches(recipe.batch.size, recipe.batch.max_clips, processes.world_size)
    message = (
        f"out of memory with {plan.micro_size} clips per forward pass on {processes.device}, "
        f"which has {capacity / 1e9:.1f} GB for this process"
    )
    # This many did not fit, whatever the estimate is.
    fitting = min(fitting, plan.micro_size - 1)
    if fitting < 1:
        return f"{message}; by an estimate, not even one clip fits (docs/training.md)"
    smaller = plan_batches(recipe.batch.size, fitting, processes.world_size).micro_size
    return f"{message}; by an estimate, {fitting} fit: --set batch.max_clips={smaller}"


def _capacity(processes: Processes) -> int:
    """Returns the bytes that this process has or could get."""
    if processes.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(processes.device)
        return free + torch.cuda.memory_reserved(processes.device)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // processes.world_size
