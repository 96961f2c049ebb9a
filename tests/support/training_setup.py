"""Training runs of seconds: the smallest network on tiny clips of a tiny data set."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from stavis.training.loop import TrainingResult, train
from stavis.training.recipe import Recipe
from stavis.training.recipe_file import change_recipe, parse_recipe
from stavis.training.runlog import read_metrics
from stavis.weights import load_model
from support.datasets import write_data_set

TINY: dict[str, Any] = {
    "epochs": 2,
    "model": {
        "modality": "visual",
        "depth": 10,
        "preprocessing": {"input_size": [64, 64], "clip_length": 8},
    },
    "batch": {"size": 2, "max_clips": 2},
    "optimizer": {"base_rate": 0.01},
    "validation": {"on": "none"},
    "log": {"checkpoint_steps": 0, "tensorboard": False, "overlays": 0},
    "runtime": {"device": "cpu"},
}


def write_tiny_data(root: Path, num_frames: Sequence[int] = (10, 12, 80)) -> Path:
    """Three training videos with four clips: two optimizer steps an epoch at batch size 2."""
    write_data_set(root, ("AVAD",), num_frames=num_frames)
    return root


def tiny_recipe(data: Path, *changes: str) -> Recipe:
    """The tiny recipe with `a.b=value` settings changed."""
    table = {**TINY, "data": {"root": str(data), "workers": 0}}
    return change_recipe(parse_recipe(table, "tiny"), changes)


def run_here(recipe: Recipe, run: Path) -> TrainingResult:
    """Trains in this process."""
    return train(recipe, run, quiet=True)


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_model(run / "weights").state_dict()


def assert_same_run(run: Path, other: Path) -> None:
    """Two runs came to the same weights bit for bit, and recorded the same numbers on the way."""
    weights, others = final_weights(run), final_weights(other)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name
    assert numbers(run) == numbers(other)


def numbers(run: Path) -> list[dict[str, Any]]:
    """What a run recorded, without times."""
    timings = ("seconds", "clips_per_second", "waiting_share")
    return [{key: value for key, value in one.items() if key not in timings} for one in read_metrics(run)]


def start(arguments: Sequence[str], *, cwd: Path, num_processes: int = 1) -> subprocess.Popen[str]:
    """Starts `stavis train` with these arguments in a process of its own, or under torchrun in several."""
    program = [sys.executable, "-m", "stavis"]
    if num_processes > 1:
        options = ["--standalone", "--nproc-per-node", str(num_processes), "-m", "stavis"]
        program = [sys.executable, "-m", "torch.distributed.run", *options]
    # The number of threads decides in what order numbers are added up.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        [*program, "train", *arguments],
        cwd=cwd,
        env=os.environ | threads,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 300) -> str:
    """Waits for a process and returns what it printed."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return output


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], timeout: float = 300) -> None:
    """Waits for a condition as long as the process lives."""
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def num_steps(run: Path) -> int:
    """Optimizer steps that a run has recorded so far."""
    path = run / "metrics.jsonl"
    return path.read_text().count('"kind": "step"') if path.exists() else 0
