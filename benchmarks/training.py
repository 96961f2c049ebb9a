"""Training speed of this loop and of one written like the published one, on the same clips in the same run.

    python benchmarks/training.py

writes a small data set of 1280x720 JPEGs to a temporary folder and trains on it in alternating rounds, so that slow
phases of the machine affect both:

- ours: the loop of `stavis train`, with the frame cache, one optimizer; and with `runtime.precision=bfloat16`;
- published: a DataLoader that decodes and resizes the JPEGs of every clip, four optimizers, one parameter per group.

Both train the same network with the same losses, which favors the published way. Prints clips per second, the share of
time spent waiting for clips, and the ratio.

On a GPU, our loop is then measured in float32, bfloat16 and compiled, with memory per clip beside its estimate, and one
step is profiled. Without a GPU, a line says that this part is skipped.
"""

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from loader import PublishedDataset, write_data_set
from stavis.datasets.dataset import SaliencyDataset, Sample
from stavis.datasets.layout import Layout
from stavis.model import STAViS
from stavis.runtime.allocator import keep_freed_memory
from stavis.training.distributed import Processes, StopRequest, plan_batches
from stavis.training.loop import Session, take_step
from stavis.training.losses import clip_losses, side_output_weight
from stavis.training.memory import bytes_per_clip
from stavis.training.optim import parameter_groups
from stavis.training.recipe import PUBLISHED, Recipe
from stavis.training.recipe_file import change_recipe
from stavis.training.samples import BatchLoader, Clips, open_clips
from stavis.training.state import build_state, prepare_network

WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Speed:
    """Of some steps: clips per second, and the share of the time that was spent waiting for clips."""

    clips_per_second: float
    waiting_share: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the training loop.")
    parser.add_argument("--depth", type=int, default=10, help="of the network")
    parser.add_argument("--modality", default="audiovisual", choices=("visual", "audiovisual"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--frames", type=int, default=90, help="of a video")
    parser.add_argument("--gpu-depth", type=int, default=50)
    parser.add_argument("--gpu-batch-size", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="for the data set; a temporary one by default")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        layout = Layout(Path(folder) / "data")
        write_data_set(layout, arguments.videos, arguments.frames)
        recipe = make_recipe(layout, arguments.depth, arguments)
        open_clips(recipe, Processes(), quiet=True)  # makes the cache
        compare(console, recipe, arguments)
        if torch.cuda.is_available():
            measure_gpu(console, make_recipe(layout, arguments.gpu_depth, arguments), arguments)
        else:
            console.print(
                "no GPU here: float32, bfloat16, compile, memory and profile on a GPU were not measured"
            )


def make_recipe(layout: Layout, depth: int, arguments: argparse.Namespace) -> Recipe:
    return change_recipe(
        PUBLISHED[arguments.modality],
        [
            "initial_weights=[]",
            "validation.on=none",
            f"data.root={layout.root}",
            f"data.workers={arguments.workers}",
            f"model.depth={depth}",
            f"batch.size={arguments.batch_size}",
        ],
    )


def compare(console: Console, recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Both loops on the CPU, in turns."""
    recipe = change_recipe(recipe, ["runtime.device=cpu"])
    speeds: dict[str, list[Speed]] = {name: [] for name in WAYS}
    with contextlib.ExitStack() as stack:
        # A process each, as the memory allocator's settings are part of `stavis train` and hold for a process.
        pools = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), keep_freed_memory if loop is our_loop else None)
            )
            for name, (loop, _) in WAYS.items()
        }
        for _ in range(arguments.rounds):
            for name, pool in pools.items():
                speeds[name].append(pool.submit(time_loop, name, recipe, arguments.steps).result())
    table = Table(
        title=f"{recipe.model.modality} ResNet-{recipe.model.depth}, batches of {recipe.batch.size}, "
        f"{torch.get_num_threads()} threads and {recipe.data.workers} workers on the CPU"
    )
    for heading in ("loop", "clips/s", "waiting for clips", "times the published"):
        table.add_column(heading, justify="left" if heading == "loop" else "right")
    for name, measured in speeds.items():
        pairs = zip(measured, speeds["published"], strict=True)
        table.add_row(
            name,
            f"{statistics.median(one.clips_per_second for one in measured):.2f}",
            f"{100 * statistics.median(one.waiting_share for one in measured):.1f} %",
            f"{statistics.median(a.clips_per_second / b.clips_per_second for a, b in pairs):.2f}",
        )
    console.print(table)


def time_loop(name: str, recipe: Recipe, num_steps: int) -> Speed:
    loop, changes = WAYS[name]
    with loop(change_recipe(recipe, changes), Processes()) as step:
        return time_steps(step, num_steps, recipe.batch.size, torch.device("cpu"))


@contextlib.contextmanager
def our_loop(recipe: Recipe, processes: Processes) -> Iterator[Callable[[], float]]:
    """Gives a function that takes one step of `stavis train` and returns the seconds that it waited."""
    training, _ = open_clips(recipe, processes, quiet=True)
    plan = plan_batches(recipe.batch.size, recipe.batch.max_clips, 1)
    state = build_state(recipe, Path("run"), 1000, processes, None, quiet=True)
    network = prepare_network(state.model, recipe, processes)
    session = Session(recipe, Path("run"), processes, plan, training, None, StopRequest(), None, True)
    parts = endless_parts(training, plan.micro_size, plan.accumulation)
    loader = BatchLoader(training, recipe, processes.device, augment=True)
    loaded = loader.load(1, [part for parts_of_step in parts for part in parts_of_step])
    state.model.train()
    step_parts = itertools.cycle(parts)
    yield lambda: take_step(session, state, network, loaded, next(step_parts)).waited


def endless_parts(
    clips: Clips, micro_size: int, accumulation: int, num_steps: int = 200
) -> list[list[list[int]]]:
    """The clips again and again, cut into the steps of a long epoch."""
    indices = itertools.cycle(range(len(clips)))
    return [
        [[next(indices) for _ in range(micro_size)] for _ in range(accumulation)] for _ in range(num_steps)
    ]


@contextlib.contextmanager
def published_loop(recipe: Recipe, processes: Processes) -> Iterator[Callable[[], float]]:
    """The same for a loop as the published one is built."""
    direct = SaliencyDataset(Path(recipe.data.root), quirks="fixed", quiet=True)
    loader = DataLoader(
        PublishedDataset(direct),
        batch_size=recipe.batch.size,
        sampler=[i % len(direct) for i in range(200 * recipe.batch.size)],
        num_workers=recipe.data.workers,
    )
    model = STAViS(recipe.model).to(processes.device).train()
    optimizers = four_optimizers(model, recipe)
    side_weight = side_output_weight(1, recipe.epochs, recipe.loss)
    batches = iter(loader)

    def step() -> float:
        began = time.perf_counter()
        batch: Sample = next(batches)
        waited = time.perf_counter() - began
        clips, audio, density_maps, fixation_maps = (part.to(processes.device) for part in batch[:4])
        logits, side_logits = model(clips, audio)
        totals, terms = clip_losses(
            logits, side_logits, density_maps, fixation_maps, recipe.loss, side_weight
        )
        loss = totals.sum() / recipe.batch.size
        for term in terms:  # what it prints after every batch
            term.mean().item()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        return waited

    yield step


Loop = Callable[[Recipe, Processes], contextlib.AbstractContextManager[Callable[[], float]]]
WAYS: dict[str, tuple[Loop, list[str]]] = {
    "ours": (our_loop, []),
    "ours, bfloat16": (our_loop, ["runtime.precision=bfloat16"]),
    "published": (published_loop, []),
}


def four_optimizers(model: STAViS, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """One each for backbone, SoundNet, fusion, and DSAMs with read-out; every parameter a group of its own."""
    settings = recipe.optimizer
    by_part: dict[str, list[dict[str, object]]] = {}
    for group in parameter_groups(model, settings.base_rate):
        part = group["name"] if group["name"] in ("backbone", "soundnet", "fusion") else "saliency"
        by_part.setdefault(part, []).extend(
            {"params": [parameter], "lr": group["lr"], "weight_decay": settings.weight_decay}
            for parameter in group["params"]
        )
    return [
        torch.optim.SGD(groups, momentum=settings.momentum, dampening=settings.dampening)
        for groups in by_part.values()
    ]


def time_steps(step: Callable[[], float], num_steps: int, batch_size: int, device: torch.device) -> Speed:
    for _ in range(WARM_UP_STEPS):
        step()
    synchronize(device)
    began = time.perf_counter()
    waited = sum(step() for _ in range(num_steps))
    synchronize(device)
    elapsed = time.perf_counter() - began
    return Speed(num_steps * batch_size / elapsed, waited / elapsed)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- On a GPU ---------------------------------------------------------------------------------------------------------


def measure_gpu(console: Console, recipe: Recipe, arguments: argparse.Namespace) -> None:
    processes = Processes(device=torch.device("cuda", 0))
    size = arguments.gpu_batch_size
    recipe = change_recipe(recipe, ["runtime.device=cuda", f"batch.size={size}"])
    table = Table(title=f"ResNet-{recipe.model.depth}, batches of {size}, {torch.cuda.get_device_name()}")
    for heading in ("way", "clips/s", "waiting for clips", "MB a clip", "estimated"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    ways = {
        "float32": [],
        "bfloat16": ["runtime.precision=bfloat16"],
        "bfloat16, channels last": ["runtime.precision=bfloat16", "runtime.channels_last=true"],
        "bfloat16, compiled": ["runtime.precision=bfloat16", "runtime.compile=true"],
    }
    for name, changes in ways.items():
        changed = change_recipe(recipe, changes)
        with our_loop(changed, processes) as step:
            speed = time_steps(step, arguments.steps * 4, size, processes.device)
        half = change_recipe(changed, [f"batch.size={size // 2}"])
        peaks = [peak_memory(one, processes) for one in (changed, half)]
        estimate = bytes_per_clip(changed.model, half_precision=changed.runtime.precision != "float32")
        table.add_row(
            name,
            f"{speed.clips_per_second:.1f}",
            f"{100 * speed.waiting_share:.1f} %",
            f"{(peaks[0] - peaks[1]) / (size - size // 2) / 1e6:.0f}",
            f"{estimate / 1e6:.0f}",
        )
    console.print(table)
    profile_step(console, change_recipe(recipe, ways["bfloat16"]), processes)


def peak_memory(recipe: Recipe, processes: Processes) -> int:
    """The most memory that tensors take in two steps, in bytes."""
    torch.cuda.empty_cache()
    with our_loop(recipe, processes) as step:
        step()
        torch.cuda.reset_peak_memory_stats()
        step()
    return torch.cuda.max_memory_allocated()


def profile_step(console: Console, recipe: Recipe, processes: Processes) -> None:
    with our_loop(recipe, processes) as step:
        for _ in range(WARM_UP_STEPS):
            step()
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            step()
            synchronize(processes.device)
    console.print(
        profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=15),
        markup=False,
        highlight=False,
    )


if __name__ == "__main__":
    main()
