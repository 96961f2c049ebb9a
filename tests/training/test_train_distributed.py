"""Several processes: they share every batch without overlap, come to what one comes to, and end together."""

import itertools
import os
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stavis.errors import StavisError
from stavis.training.distributed import Processes, epoch_order, micro_batches, plan_batches
from stavis.training.recipe_file import format_recipe
from stavis.training.runlog import read_metrics
from stavis.weights.device import choose_device
from support.training_setup import (
    final_weights,
    finish,
    num_steps,
    run_here,
    start,
    tiny_recipe,
    wait_until,
    write_tiny_data,
)

# The arithmetic -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    num_samples=st.integers(1, 300),
    share=st.integers(1, 40),
    world_size=st.integers(1, 9),
    max_clips=st.integers(1, 50),
    epoch=st.integers(1, 100),
)
def test_shards_cover_the_epoch_once(
    num_samples: int, share: int, world_size: int, max_clips: int, epoch: int
) -> None:
    plan = plan_batches(share * world_size, max_clips, world_size)
    assert plan.micro_size <= max_clips
    assert plan.micro_size * plan.accumulation == share
    order = epoch_order(num_samples, seed=1, epoch=epoch)
    assert sorted(order) == list(range(num_samples))
    shards = [micro_batches(order, plan, rank) for rank in range(world_size)]
    for steps in shards:
        assert len(steps) == plan.num_steps(num_samples)
        for parts in steps:
            assert all(len(part) <= plan.micro_size for part in parts)
    for step in range(plan.num_steps(num_samples)):
        # Every process takes part in as many exchanges, the first one always with clips of its own.
        assert len({len(steps[step]) for steps in shards}) == 1
        assert all(shards[0][step])
        taken = [index for steps in shards for part in steps[step] for index in part]
        expected = order[step * plan.batch_size : (step + 1) * plan.batch_size]
        assert sorted(taken) == sorted(expected)
        if len(expected) == plan.batch_size:
            assert all(len(part) == plan.micro_size for steps in shards for part in steps[step])


def test_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {(seed, epoch): tuple(epoch_order(50, seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}
    assert len(set(orders.values())) == 4
    assert tuple(epoch_order(50, 1, 1)) == orders[1, 1]
    # RandomState's streams are frozen: these are the numbers on every machine.
    assert epoch_order(10, 1, 1).tolist() == [3, 2, 7, 1, 8, 6, 4, 0, 5, 9]


@settings(deadline=None)
@given(num_clips=st.integers(1, 200), world_size=st.integers(1, 9))
def test_validation_shares_cover_all_without_padding(num_clips: int, world_size: int) -> None:
    shares = [range(rank, num_clips, world_size) for rank in range(world_size)]
    assert sorted(itertools.chain(*shares)) == list(range(num_clips))


def test_uneven_shares_are_refused() -> None:
    with pytest.raises(StavisError, match=r"batch.size = 128 cannot be divided evenly among 3 processes"):
        plan_batches(128, 128, 3)


@pytest.mark.parametrize(
    ("batch_size", "max_clips", "world_size", "micro_size", "accumulation"),
    [(128, 128, 1, 128, 1), (128, 40, 1, 32, 4), (128, 128, 8, 16, 1), (128, 7, 2, 4, 16), (6, 4, 1, 3, 2)],
)
def test_plans(batch_size: int, max_clips: int, world_size: int, micro_size: int, accumulation: int) -> None:
    plan = plan_batches(batch_size, max_clips, world_size)
    assert (plan.micro_size, plan.accumulation) == (micro_size, accumulation)


def test_devices() -> None:
    assert choose_device("cpu", local_rank=3) == torch.device("cpu")
    with pytest.raises(StavisError, match="not known; allowed"):
        choose_device("abacus", local_rank=0)
    if not torch.cuda.is_available():
        with pytest.raises(StavisError, match="no GPU"):
            choose_device("cuda", local_rank=0)


def test_one_process_needs_no_exchange() -> None:
    alone = Processes()
    values = torch.ones(3)
    assert alone.sum(values) is values
    assert alone.gather(["a"]) == ["a"]
    alone.wait()


# Real processes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("tiny") / "data")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Five clips, four to a batch: in the second step the second process has no clip of its own."""
    data = write_tiny_data(tmp_path / "data", num_frames=(10, 12, 80, 11))
    changes = [
        "runtime.batch_norm=frozen",
        "validation.on=test",
        "batch.size=4",
        "batch.max_clips=1",
        "epochs=1",
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    recipe = tiny_recipe(data, *changes)
    run_here(recipe, one)
    (tmp_path / "tiny.toml").write_text(format_recipe(recipe))
    process = start(["tiny.toml", "--output", str(two)], cwd=tmp_path, num_processes=2)
    output = finish(process)
    assert process.returncode == 0, output

    weights, others = final_weights(one), final_weights(two)
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for record, other in zip(read_metrics(one), read_metrics(two), strict=True):
        assert record["kind"] == other["kind"]
        if record["kind"] == "step":
            assert other["clips"] == record["clips"] == (4 if record["step"] % 2 else 1)
            assert other["loss"] == pytest.approx(record["loss"], rel=1e-5)
            assert other["gradient_norm"] == pytest.approx(record["gradient_norm"], rel=1e-4)
        else:
            assert other["validation"] == pytest.approx(record["validation"], rel=1e-4)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def start_two(recipe_changes: list[str], data: Path, folder: Path) -> subprocess.Popen[str]:
    (folder / "tiny.toml").write_text(format_recipe(tiny_recipe(data, "epochs=200", *recipe_changes)))
    return start(["tiny.toml", "--output", "run"], cwd=folder, num_processes=2)


@pytest.mark.slow
def test_the_death_of_one_process_ends_all(data: Path, tmp_path: Path) -> None:
    process = start_two([], data, tmp_path)
    wait_until(lambda: num_steps(tmp_path / "run") >= 1, process)
    workers = workers_of(process)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    output = finish(process, timeout=120)  # a hang would outlast this
    assert process.returncode != 0
    assert f"exitcode: -9) local_rank: 1 (pid: {workers[1]})" in output
    for pid in workers:
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_signal_to_torchrun_ends_in_a_checkpoint(data: Path, tmp_path: Path) -> None:
    process = start_two([], data, tmp_path)
    wait_until(lambda: num_steps(tmp_path / "run") >= 1, process)
    process.send_signal(signal.SIGTERM)
    output = finish(process, timeout=120)
    assert process.returncode != 0
    assert "stopped by SIGTERM; resume with: stavis train --resume run" in output
    steps = num_steps(tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / f"step_{steps:08d}.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("both", [True, False])
def test_processes_stopped_interrupted_and_continued_end(both: bool, data: Path, tmp_path: Path) -> None:
    """As Ctrl-Z, Ctrl-C and fg in a terminal do; without torchrun, which would end them after a while in any case."""
    (tmp_path / "tiny.toml").write_text(format_recipe(tiny_recipe(data, "epochs=200", "validation.on=test")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = []
    for rank in ("0", "1"):
        joined = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in joined.items():
                patch.setenv(name, value)
            processes.append(start(["tiny.toml", "--output", "run"], cwd=tmp_path))
    wait_until(lambda: num_steps(tmp_path / "run") >= 1, processes[0])
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    for process in processes if both else processes[1:]:
        process.send_signal(signal.SIGINT)
    for process in processes:
        process.send_signal(signal.SIGCONT)
    for process in processes:
        output = finish(process, timeout=120)  # a hang would outlast this
        assert process.returncode == 128 + signal.SIGINT, output
    steps = num_steps(tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / f"step_{steps:08d}.pt").exists()


@pytest.mark.slow
def test_the_error_of_one_process_is_shown_and_ends_all(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data")
    broken = data / "video_frames" / "AVAD" / "train_0" / "img_00003.jpg"
    broken.write_bytes(b"not a picture")
    process = start_two(["data.cache=''", "epochs=1"], data, tmp_path)
    output = finish(process, timeout=120)
    assert process.returncode != 0
    assert "img_00003.jpg: not a readable picture" in output.replace("\n", "")


def test_order_of_large_epochs_is_uniform_enough() -> None:
    """Each sample's mean place over many epochs is near the middle: no sample is always late."""
    places = np.array([np.argsort(epoch_order(20, 1, epoch)) for epoch in range(400)])
    assert abs(places.mean(0) - 9.5).max() < 4 * np.sqrt((20**2 - 1) / 12 / 400)
