"""Several processes, one training run: who they are, how they share the clips, how they agree."""

import contextlib
import datetime
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed
from torch import nn

from stavis.errors import StavisError
from stavis.weights import resolve_device

# Other processes wait this long where one prepares data. A process that dies ends the rest at once, not
# after this.
TIMEOUT = datetime.timedelta(hours=2)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: Its number, from 0. Number 0 alone writes files and prints.
        world_size: How many there are.
        device: What it computes on.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of every process's `values`, which all have the same shape."""
        if self.world_size > 1:
            values = values.to(self.device)
            torch.distributed.all_reduce(values)
        return values

    def gather(self, texts: list[str]) -> list[str]:
        """Every process's `texts`."""
        gathered = [texts]
        if self.world_size > 1:
            gathered = [[] for _ in range(self.world_size)]
            torch.distributed.all_gather_object(gathered, texts)
        return [one for part in gathered for one in part]

    def spread_buffers(self, model: nn.Module) -> None:
        """Gives every process the running statistics of process 0."""
        if self.world_size > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.world_size > 1:
            torch.distributed.barrier()


@dataclass
class StopRequest:
    """Whether training is to end after the step under way.

    Attributes:
        received: The signal that this process got.
        agreed: The one that some process got and all know of. Only by this may they act, or they would part.
    """

    received: signal.Signals | None = None
    agreed: signal.Signals | None = None


@contextlib.contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """Turns the first SIGTERM or Ctrl-C into a request; a second one interrupts at once."""
    stop = StopRequest()

    def note(number: int, frame: object) -> None:
        if stop.received is not None:
            raise KeyboardInterrupt
        stop.received = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only a program's main thread may listen to signals
        return
    previous = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Joins the other processes of the run, if torchrun started several.

    Args:
        device: As for `choose_device`.

    Raises:
        StavisError: The device is not there.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    # torchrun with one process is one process like any other.
    if world_size == 1:
        yield Processes(device=chosen)
        return
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=TIMEOUT)
    # After an error the others hang in a collective operation, where a tidy leave would hang too. Process
    # exit, and torchrun behind it, ends them.
    yield Processes(rank, world_size, chosen)
    torch.distributed.destroy_process_group()


def choose_device(device: str, local_rank: int) -> torch.device:
    """The device that a setting means for this process.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N", "mps"; with the first and the third, each process takes a GPU.
        local_rank: This process's number on its machine.

    Raises:
        StavisError: There is no such device.
    """
    chosen = resolve_device(device)
    if chosen.type == "cuda" and chosen.index is None:
        return resolve_device(f"cuda:{local_rank}")
    return chosen


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is divided.

    Attributes:
        batch_size: Clips to an optimizer step, over all processes.
        world_size: Processes.
        micro_size: Clips that a process takes through the network at once.
    """

    batch_size: int
    world_size: int
    micro_size: int

    @property
    def accumulation(self) -> int:
        """How often a process goes through the network for a full batch."""
        return self.batch_size // (self.world_size * self.micro_size)

    def num_steps(self, num_samples: int) -> int:
        """Optimizer steps in an epoch: the last batch may be shorter."""
        return -(-num_samples // self.batch_size)


def plan_batches(batch_size: int, max_clips: int, world_size: int) -> BatchPlan:
    """Divides the global batch evenly: over processes, then into equal parts of at most `max_clips` clips.

    Raises:
        StavisError: The processes cannot have equal shares.
    """
    if batch_size % world_size:
        raise StavisError(
            f"batch.size = {batch_size} cannot be shared evenly by {world_size} processes; "
            f"allowed: multiples of {world_size}"
        )
    share = batch_size // world_size
    micro_size = max(size for size in range(1, min(share, max_clips) + 1) if share % size == 0)
    return BatchPlan(batch_size, world_size, micro_size)


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The order in which an epoch takes the samples: a function of seed and epoch, on any machine."""
    # RandomState's streams are frozen across numpy releases, Generator's are not.
    state = np.random.SeedSequence([seed, epoch]).generate_state(8)
    return np.random.RandomState(state).permutation(num_samples).astype(np.int64)


def micro_batches(
    order: np.ndarray[tuple[int], np.dtype[np.int64]], plan: BatchPlan, rank: int
) -> list[list[list[int]]]:
    """What one process takes through the network in an epoch: a list of index lists for each optimizer step.

    The processes' shares are disjoint and together are `order`. Every process gets equally many lists in a
    step, as each ends in a common reduction. In the last, shorter step a process's list can be empty.
    """
    steps = []
    for begin in range(0, len(order), plan.batch_size):
        batch = order[begin : begin + plan.batch_size]
        largest_share = -(-len(batch) // plan.world_size)
        num_parts = -(-largest_share // plan.micro_size)
        share = batch[rank :: plan.world_size]
        steps.append([[int(i) for i in part] for part in np.array_split(share, num_parts)])
    return steps
