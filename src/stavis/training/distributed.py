"""Distributed training: the processes of a run, their shares of the clips, and how they agree to stop."""

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
from stavis.weights.device import choose_device

# How long processes wait while one of them prepares data. If a process dies, the others end at once, not only after
# this time.
TIMEOUT = datetime.timedelta(hours=2)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Processes:
    """This process within the run."""

    rank: int = 0  # its number, from 0. Only process 0 writes files and prints
    world_size: int = 1  # number of processes
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))  # device it computes on

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sums `values`, of the same shape in every process, over the processes."""
        if self.world_size > 1:
            values = values.to(self.device)
            torch.distributed.all_reduce(values)
        return values

    def gather(self, texts: list[str]) -> list[str]:
        """Collects `texts` of all processes."""
        gathered = [texts]
        if self.world_size > 1:
            gathered = [[] for _ in range(self.world_size)]
            torch.distributed.all_gather_object(gathered, texts)
        return [one for part in gathered for one in part]

    def spread_buffers(self, model: nn.Module) -> None:
        """Copies the running statistics of process 0 to all processes."""
        if self.world_size > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Returns when every process has called this method."""
        if self.world_size > 1:
            torch.distributed.barrier()


@dataclass
class StopRequest:
    """Request to end training after the current step."""

    received: signal.Signals | None = None  # signal that this process received
    # Signal that some process received and all know of. Processes act on this one only, otherwise they would get out of
    # step.
    agreed: signal.Signals | None = None


@contextlib.contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """Turns the first SIGTERM or Ctrl-C into a request; a second one interrupts immediately."""
    stop = StopRequest()

    def note(number: int, frame: object) -> None:
        if stop.received is not None:
            raise KeyboardInterrupt
        stop.received = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python handles signals in the main thread only
        return
    previous = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Joins the other processes of the run if torchrun started several. `device` is as for `choose_device`.

    Raises StavisError if the device does not exist.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    # One process under torchrun needs no process group.
    if world_size == 1:
        yield Processes(device=chosen)
        return
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=TIMEOUT)
    # After an error the others hang in a collective operation, where a tidy leave would hang too. Process
    # exit, and torchrun behind it, ends them.
    yield Processes(rank, world_size, chosen)
    torch.distributed.destroy_process_group()


@dataclass(frozen=True)
class BatchPlan:
    batch_size: int  # clips per optimizer step, over all processes
    world_size: int  # number of processes
    micro_size: int  # clips per forward pass of a process

    @property
    def accumulation(self) -> int:
        """Forward passes of a process per full batch."""
        return self.batch_size // (self.world_size * self.micro_size)

    def num_steps(self, num_samples: int) -> int:
        """Returns the optimizer steps per epoch. The last batch may be smaller."""
        return -(-num_samples // self.batch_size)


def plan_batches(batch_size: int, max_clips: int, world_size: int) -> BatchPlan:
    """Divides the global batch evenly among processes, then into equal parts of at most `max_clips` clips."""
    if batch_size % world_size:
        raise StavisError(
            f"batch.size = {batch_size} cannot be divided evenly among {world_size} processes; "
            f"allowed: multiples of {world_size}"
        )
    share = batch_size // world_size
    micro_size = max(size for size in range(1, min(share, max_clips) + 1) if share % size == 0)
    return BatchPlan(batch_size, world_size, micro_size)


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Returns the order of the samples in an epoch, which depends on seed and epoch only, on any machine."""
    # RandomState's streams are frozen across numpy releases, Generator's are not.
    state = np.random.SeedSequence([seed, epoch]).generate_state(8)
    return np.random.RandomState(state).permutation(num_samples).astype(np.int64)


def micro_batches(
    order: np.ndarray[tuple[int], np.dtype[np.int64]], plan: BatchPlan, rank: int
) -> list[list[list[int]]]:
    """Lists the micro-batches of one process in an epoch: for each optimizer step a list of lists of indices.

    The shares of the processes are disjoint and together cover `order`. In a step every process gets the same number
    of lists, because each list ends in a collective reduction. In the last, smaller step a list can be empty.
    """
    steps = []
    for begin in range(0, len(order), plan.batch_size):
        batch = order[begin : begin + plan.batch_size]
        largest_share = -(-len(batch) // plan.world_size)
        num_parts = -(-largest_share // plan.micro_size)
        share = batch[rank :: plan.world_size]
        steps.append([[int(i) for i in part] for part in np.array_split(share, num_parts)])
    return steps
