"""Checkpoints: whole or not at all, read without running anything, refused where they do not fit."""

import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stavis.errors import StavisError
from stavis.training.checkpoint import (
    Checkpoint,
    Position,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from support.training_setup import run_here, tiny_recipe, write_tiny_data


def make_checkpoint(step: int, size: int = 10) -> Checkpoint:
    return Checkpoint(
        recipe="epochs = 3\n",
        samples="abc",
        position=Position(epoch=2, step_in_epoch=1, step=step, sums={"clips": 3.0, "loss": 0.1}, best=-1.5),
        model={"weight": torch.arange(float(size)) + step},
        optimizer={
            "state": {0: {"momentum_buffer": torch.ones(2)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        scaler={},
        average={},
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make_checkpoint(7), keep=3)
    loaded, expected = load_checkpoint(path), make_checkpoint(7)
    assert loaded.position == expected.position
    assert (loaded.recipe, loaded.samples) == (expected.recipe, expected.samples)
    assert torch.equal(loaded.model["weight"], expected.model["weight"])
    assert loaded.optimizer["param_groups"] == expected.optimizer["param_groups"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_00000007.pt"]


def test_newest_and_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, make_checkpoint(step), keep=2, best=step in (1, 2))
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000004.pt", "step_00000005.pt"]
    assert load_checkpoint(tmp_path / "best.pt").position.step == 2


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    """A real limit on the size of files, in a process of its own."""
    save_checkpoint(tmp_path, make_checkpoint(1), keep=1)
    save_checkpoint(tmp_path, make_checkpoint(1), keep=1, best=True)
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from test_checkpoint import make_checkpoint
from stavis.training.checkpoint import save_checkpoint
save_checkpoint(Path({str(tmp_path)!r}), make_checkpoint(2, size=100_000), keep=1, best=True)
"""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    result = subprocess.run([sys.executable, "-c", program], preexec_fn=limit, capture_output=True, text=True)
    expected = (
        f"step_00000002.pt: cannot be written: File too large; the last complete checkpoint is {tmp_path}"
    )
    assert expected in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "step_00000001.pt"]
    for path in tmp_path.iterdir():
        assert load_checkpoint(path).position.step == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "step_00000001.pt"
    with pytest.raises(StavisError, match="checkpoint not found"):
        load_checkpoint(path)
    path.write_bytes(b"\x80\x02nonsense")
    with pytest.raises(StavisError, match="not a complete checkpoint"):
        load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(
        StavisError, match="not a checkpoint of a training run; to start from weights, use initial_weights"
    ):
        load_checkpoint(path)
    content = vars(make_checkpoint(1)) | {"format": 99, "position": {}}
    torch.save(content, path)
    with pytest.raises(StavisError, match="another version"):
        load_checkpoint(path)


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "step_00000001.pt"
    torch.save(Trap(), path)
    with pytest.raises(StavisError, match="not a complete checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(StavisError, match="not a complete checkpoint"):
        load_checkpoint(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture
def broken_off(data: Path, tmp_path: Path) -> Path:
    """A run whose weights folder was not written."""
    run = tmp_path / "run"
    run_here(tiny_recipe(data, "epochs=1", "log.checkpoint_steps=1"), run)
    for path in (run / "weights").iterdir():
        path.unlink()
    (run / "weights").rmdir()
    return run


def test_a_damaged_newest_checkpoint_is_passed_over(
    data: Path, broken_off: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    newest = list_checkpoints(broken_off / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:5000])
    assert run_here(tiny_recipe(data, "epochs=1"), broken_off).weights is not None
    assert f"warning: {newest}: not a complete checkpoint" in capfd.readouterr().err.replace("\n", "")
    for path in list_checkpoints(broken_off / "checkpoints"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_recipe_says_what_differs(data: Path, broken_off: Path) -> None:
    recipe = broken_off / "config.toml"
    recipe.write_text(recipe.read_text().replace("depth = 10", "depth = 18"))
    with pytest.raises(StavisError, match=r"does not fit this run: model.depth is 18, was 10"):
        run_here(tiny_recipe(data, "epochs=1", "model.depth=18"), broken_off)


def test_a_checkpoint_of_other_data_is_refused(broken_off: Path, tmp_path: Path) -> None:
    other = write_tiny_data(tmp_path / "other")
    lists = other / "fold_lists" / "AVAD_list_train_1_fps.txt"
    lists.write_text("".join(lists.read_text().splitlines(keepends=True)[:1]))
    with pytest.raises(StavisError, match=r"belongs to other training data .* the list of videos"):
        run_here(tiny_recipe(other, "epochs=1"), broken_off)
