"""Training runs: what they leave behind, and that an interruption changes nothing."""

import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

import stavis
from stavis.cli import app
from stavis.datasets.dataset import SaliencyDataset, Sample
from stavis.errors import StavisError
from stavis.media import write_wave
from stavis.model import ModelConfig, STAViS
from stavis.model.resnet3d import Conv3d
from stavis.training import loop
from stavis.training.distributed import Processes
from stavis.training.recipe import PUBLISHED
from stavis.training.recipe_file import change_recipe, format_recipe, parse_recipe, read_recipe
from stavis.training.runlog import draw_curves, read_metrics
from stavis.training.state import prepare_network
from stavis.weights import load_model, load_model_with_report, save_model
from support.networks import lively_network
from support.training_setup import (
    assert_same_run,
    final_weights,
    finish,
    num_steps,
    numbers,
    run_here,
    start,
    tiny_recipe,
    wait_until,
    write_tiny_data,
)

NUM_STEPS = 4  # of the tiny recipe: two epochs of two


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny recipe that nothing happened to."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    run_here(tiny_recipe(data), run)
    return run


# What a run leaves behind ---------------------------------------------------------------------------------------------


def test_run_folder(data: Path, undisturbed: Path) -> None:
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        ".lock",  # of filelock, which leaves it
        "checkpoints",
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "weights",
    ]
    assert read_recipe(undisturbed / "config.toml") == tiny_recipe(data)
    names = sorted(path.name for path in (undisturbed / "checkpoints").iterdir())
    assert names == ["step_00000002.pt", "step_00000004.pt"]
    (environment,) = json.loads((undisturbed / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["num_processes"] == 1


def test_weights_are_ready_to_predict_and_say_where_they_come_from(data: Path, undisturbed: Path) -> None:
    model, report = load_model_with_report(undisturbed / "weights")
    assert model.config == tiny_recipe(data).model
    assert report.metadata["recipe"] == tomllib.loads(format_recipe(tiny_recipe(data)))
    assert (report.metadata["epoch"], report.metadata["step"]) == (2, NUM_STEPS)
    with torch.no_grad():
        assert torch.isfinite(model(torch.zeros(1, 3, 8, 64, 64)).logits).all()


def test_metrics(undisturbed: Path) -> None:
    records = read_metrics(undisturbed)
    assert [record["kind"] for record in records] == ["step", "step", "epoch"] * 2
    for first, last, epoch in ((0, 2, 2), (3, 5, 5)):
        for score in ("loss", "bce", "cc", "nss"):
            mean = np.mean([record[score] for record in records[first:last]])  # equally many clips in each
            assert records[epoch]["training"][score] == pytest.approx(mean)
        mean = records[epoch]["training"]
        assert mean["loss"] == pytest.approx(0.1 * mean["bce"] - 2 * mean["cc"] - mean["nss"], rel=1e-5)
    # int(0.5 * 2) - 1 = 0 and int(0.75 * 2) - 1 = 0 fall to the first epoch's end.
    rates = [records[i]["rates"]["backbone"] for i in (2, 5)]
    assert rates == pytest.approx([0.001, 0.00001])


def test_a_finished_run_is_left_alone(data: Path, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    outcome = run_here(tiny_recipe(data), undisturbed)
    assert outcome.weights == undisturbed / "weights"
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_same_seed_same_numbers_other_seed_others(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    run_here(tiny_recipe(data, "data.workers=2"), tmp_path / "again")
    assert_same_run(tmp_path / "again", undisturbed)
    run_here(tiny_recipe(data, "seed=2"), tmp_path / "other")
    assert numbers(tmp_path / "other") != numbers(undisturbed)


def test_accumulation_equals_one_pass_without_batch_statistics(data: Path, tmp_path: Path) -> None:
    for clips in (1, 2):
        recipe = tiny_recipe(data, "runtime.batch_norm=frozen", f"batch.max_clips={clips}")
        run_here(recipe, tmp_path / str(clips))
    weights, others = final_weights(tmp_path / "1"), final_weights(tmp_path / "2")
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=1e-4, atol=1e-6, msg=name)
    assert all(not value.any() for name, value in weights.items() if name.endswith("running_mean"))


def test_last_batch_may_be_short(data: Path, tmp_path: Path) -> None:
    run_here(tiny_recipe(data, "batch.size=3", "batch.max_clips=3", "epochs=1"), tmp_path / "run")
    assert [one["clips"] for one in read_metrics(tmp_path / "run") if one["kind"] == "step"] == [3, 1]


# Validation -----------------------------------------------------------------------------------------------------------


def test_validation_pictures_and_tensorboard(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe = tiny_recipe(
        data, "validation.on=test", "log.overlays=2", "log.tensorboard=true", "runtime.batch_norm=frozen"
    )
    run = tmp_path / "run"
    run_here(recipe, run)
    epochs = [record for record in read_metrics(run) if record["kind"] == "epoch"]
    model = load_model(run / "weights")
    preprocessing = model.config.preprocessing
    samples = SaliencyDataset(
        data, subset="test", mode="validation", audio=False, preprocessing=preprocessing, quiet=True
    )
    assert epochs[-1]["validation"]["clips"] == len(samples) == 4
    ccs = []
    for sample in (samples[i] for i in range(len(samples))):
        with torch.no_grad():
            saliency = model(sample.clip[None]).logits.sigmoid().numpy().ravel()
        ccs.append(np.corrcoef(saliency, sample.density_map.numpy().ravel())[0, 1])
    assert epochs[-1]["validation"]["cc"] == pytest.approx(np.mean(ccs), abs=1e-5)

    with Image.open(run / "overlays" / "epoch_001.png") as picture:
        assert picture.size == (3 * 3 * 64, 2 * 3 * 64)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("step/loss")] == list(range(1, NUM_STEPS + 1))
    assert [event.value for event in events.Scalars("epoch/validation/cc")] == pytest.approx(
        [one["validation"]["cc"] for one in epochs]
    )
    assert events.Images("overlays")


def test_without_tensorboard_a_line_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run_here(tiny_recipe(data, "epochs=1", "log.tensorboard=true"), tmp_path / "run")
    assert "TensorBoard is not installed" in capfd.readouterr().err
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.slow
def test_best_epoch_of_held_out_videos_is_kept_and_saved(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = tiny_recipe(
        data, "epochs=3", "validation.on=holdout", "validation.metric=cc", "log.keep_checkpoints=1"
    )
    run_here(recipe, run)
    records = [record for record in read_metrics(run) if record["kind"] == "epoch"]
    held_out = records[0]["validation"]["clips"]
    assert 0 < held_out < 4
    assert records[0]["training"]["clips"] == 4 - held_out
    scores = [record["validation"]["cc"] for record in records]
    best = max(range(3), key=lambda i: -math.inf if scores[i] is None else scores[i])
    _, report = load_model_with_report(run / "weights")
    assert report.metadata["epoch"] == best + 1
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    assert len(kept) == 2
    assert "best.pt" in kept


def test_training_stops_early_when_nothing_gets_better(data: Path, tmp_path: Path) -> None:
    # At this rate the weights do not move in float32, so the first measurement stays the best.
    recipe = tiny_recipe(
        data,
        "epochs=9",
        "validation.on=holdout",
        "validation.patience=2",
        "optimizer.base_rate=1e-30",
        "runtime.batch_norm=frozen",
    )
    run_here(recipe, tmp_path / "run")
    epochs = [record["epoch"] for record in read_metrics(tmp_path / "run") if record["kind"] == "epoch"]
    assert epochs == [1, 2, 3]
    _, report = load_model_with_report(tmp_path / "run" / "weights")
    assert report.metadata["epoch"] == 1
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    run_here(recipe, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_only_videos_with_clips_are_held_out(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data", num_frames=(10, 10, 10))
    recipe = tiny_recipe(
        data, "validation.on=holdout", "epochs=1", "data.allow_missing=true", "data.cache=''"
    )
    shutil.rmtree(data / "video_frames" / "AVAD" / "train_0")  # the one that would be drawn of the three
    run_here(recipe, tmp_path / "run")
    (record,) = [one for one in read_metrics(tmp_path / "run") if one["kind"] == "epoch"]
    assert (record["training"]["clips"], record["validation"]["clips"]) == (1, 1)
    shutil.rmtree(data / "video_frames" / "AVAD" / "train_1")
    with pytest.raises(StavisError, match="AVAD has 1 training video with clips, of which 1 cannot be held"):
        run_here(recipe, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_run_without_training_clips_is_refused(tmp_path: Path) -> None:
    from datasets.test_picture_gaze import write_set

    pictures = write_set(tmp_path / "pictures", num=1)  # held out
    recipe = tiny_recipe(tmp_path, "data.videos=false", f"data.pictures={pictures}")
    with pytest.raises(StavisError, match="pictures: no training clip"):
        run_here(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Interruptions --------------------------------------------------------------------------------------------------------


def interrupt(data: Path, run: Path, send: Callable[[], signal.Signals], when: int) -> tuple[int, str]:
    """Starts the tiny run in a process of its own and sends it a signal when it has recorded `when` steps."""
    recipe = run.parent / "tiny.toml"
    recipe.write_text(format_recipe(tiny_recipe(data, "log.checkpoint_steps=1")))
    process = start([str(recipe), "--output", str(run)], cwd=run.parent)
    wait_until(lambda: num_steps(run) >= when, process)
    process.send_signal(send())
    output = finish(process)
    return process.returncode, output


@pytest.mark.slow  # the fast suite resumes a run after SIGTERM
@pytest.mark.parametrize("when", [1, 3])
def test_killed_and_resumed_equals_undisturbed(
    data: Path, undisturbed: Path, tmp_path: Path, when: int
) -> None:
    run = tmp_path / "run"
    status, _ = interrupt(data, run, lambda: signal.SIGKILL, when)
    assert status == -signal.SIGKILL
    assert not (run / "weights").exists()
    assert num_steps(run) < NUM_STEPS
    run_here(read_recipe(run / "config.toml"), run)
    assert_same_run(run, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signals_end_in_a_checkpoint(
    data: Path, undisturbed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    status, output = interrupt(data, run, lambda: number, when=2)
    assert status == 128 + number
    assert f"stopped by {number.name}; resume with: stavis train --resume {run}" in output
    assert not (run / "weights").exists()
    steps = num_steps(run)
    assert (run / "checkpoints" / f"step_{steps:08d}.pt").exists()
    result = CliRunner().invoke(app, ["train", "--resume", str(run), "--quiet"])
    assert result.exit_code == 0, result.output
    assert_same_run(run, undisturbed)


@pytest.mark.slow
def test_a_run_with_a_stopped_worker_ends(data: Path, tmp_path: Path) -> None:
    """Ctrl-Z stops the workers too; a run that alone continued waited for them forever, even after Ctrl-C."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(format_recipe(tiny_recipe(data, "data.workers=1", "epochs=200")))
    process = start([str(recipe), "--output", "run"], cwd=tmp_path)
    wait_until(lambda: num_steps(tmp_path / "run") >= 1, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids = [int(pid) for pid in children.read_text().split()]
    # The server that forked the caching processes, and what tracks its resources, end by themselves.
    workers = [pid for pid in pids if b"multiprocessing" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    for _ in range(2):  # the first one waits for the step under way
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    try:
        finish(process, timeout=60)  # a hang would outlast this
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert process.returncode == 128 + signal.SIGINT


def test_a_signal_during_validation(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(data, "validation.on=holdout", "epochs=1")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_here(recipe, whole)
    get = SaliencyDataset.__getitem__

    def get_and_signal(samples: SaliencyDataset, index: int) -> Sample:
        if samples.mode == "validation":
            os.kill(os.getpid(), signal.SIGTERM)
        return get(samples, index)

    monkeypatch.setattr(SaliencyDataset, "__getitem__", get_and_signal)
    outcome = run_here(recipe, broken)
    assert (outcome.weights, outcome.signal) == (None, signal.SIGTERM)
    assert all(record["kind"] == "step" for record in read_metrics(broken))
    monkeypatch.setattr(SaliencyDataset, "__getitem__", get)
    run_here(recipe, broken)
    assert_same_run(broken, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_points_equals_undisturbed(
    data: Path, undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    """Killed again and again at random moments, checkpoints being written among them, until the run is through."""
    rng = random.Random(seed)
    run = tmp_path / "run"
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(format_recipe(tiny_recipe(data, "log.checkpoint_steps=1")))
    kills = 0
    while not (run / "weights").exists():
        process = start([str(recipe), "--output", str(run)], cwd=tmp_path)
        done = num_steps(run)
        # The first step at least, so that the run gets somewhere; then a moment within the next steps.
        wait_until(lambda done=done: num_steps(run) > done or (run / "weights").exists(), process)
        try:
            process.wait(timeout=rng.uniform(0, 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        finish(process)
    assert kills
    assert_same_run(run, undisturbed)


BEYOND = {
    "adamw, cosine, clipped, averaged": [
        "optimizer.name=adamw",
        "optimizer.base_rate=0.001",
        "optimizer.clip_gradient_norm=1.0",
        "optimizer.ema_decay=0.5",
        "schedule.name=cosine",
        "schedule.warm_up_epochs=0.5",
    ],
    "frozen stem, channels last, augmented": [
        "optimizer.frozen=['stem', 'layer1']",
        "runtime.channels_last=true",
        "augmentation.color=0.3",
        "augmentation.scale=0.3",
    ],
}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=[pytest.mark.slow] if "frozen" in name else [])
        for name, changes in BEYOND.items()
    ],
)
def test_beyond_the_recipe_and_resumed(
    data: Path, undisturbed: Path, tmp_path: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(data, *changes, "log.checkpoint_steps=1")
    run_here(recipe, tmp_path / "whole")
    assert numbers(tmp_path / "whole") != numbers(undisturbed)
    assert all(value.isfinite().all() for value in final_weights(tmp_path / "whole").values())

    # The same, broken off by an error in the middle of the second epoch.
    get = SaliencyDataset.__getitem__
    monkeypatch.setattr(SaliencyDataset, "__getitem__", fail_after(6, get))
    with pytest.raises(StavisError, match="no more"):
        run_here(recipe, tmp_path / "broken")
    assert num_steps(tmp_path / "broken") == 3
    monkeypatch.setattr(SaliencyDataset, "__getitem__", get)
    run_here(recipe, tmp_path / "broken")
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def fail_after(
    num_calls: int, get: Callable[[SaliencyDataset, int], Sample]
) -> Callable[[SaliencyDataset, int], Sample]:
    calls = 0

    def get_or_fail(samples: SaliencyDataset, index: int) -> Sample:
        nonlocal calls
        calls += 1
        if calls > num_calls:
            raise StavisError("no more")
        return get(samples, index)

    return get_or_fail


@pytest.mark.slow
def test_compiled_network_learns_the_same(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    run_here(tiny_recipe(data, "runtime.compile=true"), tmp_path / "run")
    losses = [[one["loss"] for one in numbers(run)[:2]] for run in (tmp_path / "run", undisturbed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    load_model(tmp_path / "run" / "weights")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_half_precision(data: Path, undisturbed: Path, tmp_path: Path, device: str, precision: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    run_here(
        tiny_recipe(data, f"runtime.device={device}", f"runtime.precision={precision}"), tmp_path / "run"
    )
    first, expected = numbers(tmp_path / "run")[0], numbers(undisturbed)[0]
    assert first["loss"] == pytest.approx(expected["loss"], rel=0.05)
    assert all(value.isfinite().all() for value in final_weights(tmp_path / "run").values())


@pytest.mark.parametrize("num_frames", [1, 8, 16])
def test_gradients_in_16_bits_on_a_cpu(num_frames: int) -> None:
    """PyTorch 2.13 alone gets those of 3x3x3 convolutions over two time steps wrong by up to 1e34."""
    torch.manual_seed(0)
    model = STAViS(ModelConfig(modality="visual", depth=10)).train()
    clips = F.interpolate(torch.randn(2, 3, num_frames, 8, 8), size=(num_frames, 64, 64))

    def gradients(enabled: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = model(clips).logits
        (logits.float() * torch.linspace(-1, 1, 64)).mean().backward()
        return {
            name: one.weight.grad.flatten() for name, one in model.named_modules() if isinstance(one, Conv3d)
        }

    exact, found = gradients(False), gradients(True)
    for name in exact:
        assert F.cosine_similarity(found[name], exact[name], dim=0) > 0.9, name
        assert float(found[name].norm()) == pytest.approx(float(exact[name].norm()), rel=0.2), name


def test_logits_keep_full_precision_under_autocast(data: Path) -> None:
    """A fresh network's logits lie near -6, where bfloat16 knows nothing finer than 1/32."""
    recipe = tiny_recipe(data, "runtime.precision=bfloat16")
    torch.manual_seed(0)
    model = STAViS(recipe.model)
    clips = 50 * torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model(clips).logits.float().std() == 0
        prediction = prepare_network(model, recipe, Processes())(clips)
    for logits in (prediction.logits, *prediction.side_logits):
        assert logits.dtype == torch.float32
        assert logits.std() > 0


def test_frozen_parts_stay(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    initial = STAViS(tiny_recipe(data).model).state_dict()
    run_here(tiny_recipe(data, "optimizer.frozen=['stem', 'layer1']", "epochs=1"), tmp_path / "run")
    for name, value in final_weights(tmp_path / "run").items():
        if name.startswith(("conv1.", "bn1.", "layer1.")):
            assert torch.equal(value, initial[name]), name
        elif name.startswith(("layer2.", "layer3.")):
            assert not torch.equal(value, initial[name]), name


# Initial weights ------------------------------------------------------------------------------------------------------


def test_fine_tuning_starts_from_given_weights(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    still = ["optimizer.base_rate=1e-30", "runtime.batch_norm=frozen", "epochs=1", "batch.size=4"]
    recipe = tiny_recipe(data, *still, f"initial_weights={undisturbed / 'weights'}")
    run_here(recipe, tmp_path / "run")
    for name, value in final_weights(tmp_path / "run").items():
        torch.testing.assert_close(value, final_weights(undisturbed)[name], rtol=0, atol=1e-20)


def test_second_stage_starts_from_the_first_and_soundnet(data: Path, tmp_path: Path) -> None:
    sound = ["model.modality=audiovisual", "model.preprocessing.clip_length=16", "batch.size=4", "epochs=1"]
    runs = tmp_path / "runs"
    recipe = tiny_recipe(
        data, *sound, "optimizer.base_rate=1e-30", "runtime.batch_norm=frozen", "batch.max_clips=6"
    )
    torch.manual_seed(3)
    stage1 = STAViS(tiny_recipe(data).model)
    save_model(stage1, runs / "visual_split1" / "weights")
    soundnet = {
        name.removeprefix("soundnet8."): value
        for name, value in STAViS(recipe.model).state_dict().items()
        if name.startswith("soundnet8.")
    }
    torch.save(soundnet, tmp_path / "soundnet8.pth")
    initial = f"initial_weights=['{{runs}}/visual_split{{split}}/weights', '{tmp_path}/soundnet8.pth']"
    result = CliRunner().invoke(
        app,
        [
            "train",
            write_recipe(tmp_path, format_recipe(recipe)),
            "--set",
            initial,
            "--output",
            str(runs / "two"),
        ],
    )
    assert result.exit_code == 0, result.output
    for name, value in final_weights(runs / "two").items():
        if name.startswith("soundnet8."):
            torch.testing.assert_close(value, soundnet[name.removeprefix("soundnet8.")], rtol=0, atol=1e-20)
        elif name in stage1.state_dict():
            torch.testing.assert_close(value, stage1.state_dict()[name], rtol=0, atol=1e-20)


def write_recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.toml"
    path.write_text(text)
    return str(path)


def test_missing_initial_weights_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StavisError, match=r"nowhere/visual_split1"):
        run_here(tiny_recipe(data, "initial_weights=nowhere/visual_split{split}"), tmp_path / "run")


# Failures -------------------------------------------------------------------------------------------------------------


def with_nan(index_to_spoil: int) -> Callable[[SaliencyDataset, int], Sample]:
    get = SaliencyDataset.__getitem__

    def get_with_nan(samples: SaliencyDataset, index: int) -> Sample:
        sample = get(samples, index)
        if index == index_to_spoil and samples.epoch == 2:
            sample = sample._replace(clip=sample.clip * math.nan)
        return sample

    return get_with_nan


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clip(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SaliencyDataset, "__getitem__", with_nan(3))
    run = tmp_path / "run"
    with pytest.raises(
        StavisError,
        match=r"epoch 2\): not finite: .*the loss of AVAD/train_2, images 75 to 80, maps 79 \(its frames or audio",
    ) as caught:
        run_here(tiny_recipe(data), run)
    assert f"--resume {run} --on-nan skip" in str(caught.value)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    state = torch.load(newest, weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())

    # As the message says.
    run_here(tiny_recipe(data, "runtime.on_nan=skip"), run)
    last = read_metrics(run)[-1]
    assert last["num_skipped"] == 1
    assert last["training"]["clips"] == 2
    assert last["training"]["loss"] is not None
    assert all(value.isfinite().all() for value in final_weights(run).values())


def test_skipping_has_a_limit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SaliencyDataset, "__getitem__", with_nan(3))
    with pytest.raises(StavisError, match=r"0 steps \(runtime.max_skipped\) were skipped"):
        run_here(tiny_recipe(data, "runtime.on_nan=skip", "runtime.max_skipped=0"), tmp_path / "run")


@pytest.mark.slow
def test_divergence_is_noticed(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StavisError, match="not finite"):
        run_here(tiny_recipe(data, "optimizer.base_rate=1e30"), tmp_path / "run")


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data")
    broken = data / "video_frames" / "AVAD" / "train_0" / "img_00003.jpg"
    broken.write_bytes(b"not a picture")
    for workers in (0, 1):
        with pytest.raises(StavisError, match=r"img_00003.jpg: not a readable picture.*AVAD/train_0"):
            run_here(
                tiny_recipe(data, "data.cache=''", f"data.workers={workers}"), tmp_path / f"run{workers}"
            )


def test_a_killed_worker_is_told_in_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SaliencyDataset, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(StavisError, match="a worker process that loads clips was killed, for want of memory"):
        run_here(tiny_recipe(data, "data.workers=1"), tmp_path / "run")


def test_another_recipe_in_the_folder_is_refused_with_what_differs(data: Path, undisturbed: Path) -> None:
    with pytest.raises(
        StavisError, match=r"another recipe: model.depth is 18, was 10; choose another --output"
    ):
        run_here(tiny_recipe(data, "model.depth=18"), undisturbed)
    result = CliRunner().invoke(
        app, ["train", "--resume", str(undisturbed), "--set", "optimizer.momentum=0.5"]
    )
    assert "optimizer.momentum is 0.5, was 0.9" in str(result.exception)


def test_one_training_at_a_time(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOCK_TIMEOUT_SECONDS", 0.0)
    run = tmp_path / "run"
    run.mkdir()
    with filelock.FileLock(run / ".lock"):
        with pytest.raises(StavisError, match="run: another `stavis train` is at work there"):
            run_here(tiny_recipe(data), run)
    assert run_here(tiny_recipe(data), run).weights == run / "weights"


def test_a_run_outlives_files_that_a_power_cut_emptied(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "weights")
    (run / "checkpoints" / "step_00000004.pt").unlink()
    (run / "config.toml").write_bytes(b"")
    (run / "environment.json").write_bytes(b"")
    with pytest.raises(StavisError, match=r"another recipe: model\.depth is 18, was 10"):
        run_here(tiny_recipe(data, "model.depth=18"), run)
    result = CliRunner().invoke(app, ["train", "--resume", str(run), "--quiet"])
    assert result.exit_code == 0, result.output
    assert_same_run(run, undisturbed)
    assert read_recipe(run / "config.toml") == tiny_recipe(data)
    assert len(json.loads((run / "environment.json").read_text())) == 1

    (run / "config.toml").write_bytes(bytes(100))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(StavisError, match=r"config\.toml: empty, and no checkpoint has a copy"):
        run_here(tiny_recipe(data), run)


def test_settings_that_change_no_number_may_change(data: Path, undisturbed: Path) -> None:
    assert run_here(tiny_recipe(data, "data.workers=3", "log.keep_checkpoints=5"), undisturbed).weights


def test_a_folder_with_other_things_is_not_touched(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("my only copy")
    with pytest.raises(StavisError, match="not empty and not a training run"):
        run_here(tiny_recipe(data), tmp_path)


# The command line -----------------------------------------------------------------------------------------------------


def test_runs_prints_a_table_and_plots(undisturbed: Path, tmp_path: Path) -> None:
    plot = tmp_path / "curves.png"
    test_run = tmp_path / "debug_test"
    test_run.mkdir()
    (test_run / "testrun.json").touch()
    folders = (str(test_run), str(undisturbed))
    result = CliRunner().invoke(app, ["runs", *folders, "--plot", str(plot)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert f"{test_run}: not a training run, passed over" in result.output
    last = read_metrics(undisturbed)[-1]
    assert f"{last['training']['cc']:.3f}" in result.output
    assert "finished" in result.output
    with Image.open(plot) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 0


def test_names_of_runs_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$ begins no formula, and what begins with _ is not hidden."""
    shown: list[str] = []

    def keep(figure: Figure, *_: object, **__: object) -> None:
        figure.draw_without_rendering()
        shown.extend(text.get_text() for text in figure.axes[0].get_legend().get_texts())

    monkeypatch.setattr(Figure, "savefig", keep)
    scores = {"loss": 1.0, "cc": 0.1, "nss": 0.5}
    run = tmp_path / "_$x^$"
    run.mkdir()
    (run / "metrics.jsonl").write_text(json.dumps({"kind": "epoch", "epoch": 1, "training": scores}) + "\n")
    draw_curves([run], tmp_path / "curves.png")
    assert [text.replace(r"\$", "$").strip() for text in shown] == ["_$x^$ training"]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\n{}\n")
    with pytest.raises(StavisError, match=r"metrics\.jsonl, line 1: not JSON"):
        read_metrics(tmp_path)


def test_runs_of_a_folder_that_is_none(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert "not a training run" in str(result.exception)


def test_train_needs_one_recipe() -> None:
    result = CliRunner().invoke(app, ["train"])
    assert "give one CONFIG" in str(result.exception)


def test_resume_needs_a_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--resume", str(tmp_path)])
    assert "config.toml: recipe not found" in str(result.exception)


# The whole experiment -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_splits_trains_tests_and_evaluates_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data", num_frames=(10, 12))
    settings = [
        f"data.root={data}",
        "data.workers=0",
        "epochs=1",
        "model.depth=10",
        "model.preprocessing.input_size=[64, 64]",
        "batch.size=2",
        "batch.max_clips=2",
        "validation.on=none",
        "log.tensorboard=false",
        "runtime.device=cpu",
    ]
    stages = {
        "visual": [],
        "audiovisual": [
            "initial_weights={runs}/visual_split{split}/weights",
            "model.modality=audiovisual",
        ],
    }
    for name, changes in stages.items():
        recipe = change_recipe(PUBLISHED["visual"], ["initial_weights=[]", *settings, *changes])
        (tmp_path / f"{name}.toml").write_text(format_recipe(recipe))
    command = ["visual.toml", "audiovisual.toml", "--all-splits", "--output", "paper"]

    process = start(command, cwd=tmp_path)
    wait_until((tmp_path / "paper" / "audiovisual_split2" / "config.toml").exists, process)
    process.kill()
    finish(process)
    finished = tmp_path / "paper" / "visual_split1" / "weights" / "model.safetensors"
    written = finished.stat().st_mtime_ns

    process = start(command, cwd=tmp_path)
    output = finish(process, timeout=900)
    assert process.returncode == 0, output
    assert finished.stat().st_mtime_ns == written
    for name in stages:
        for split in (1, 2, 3):
            _, report = load_model_with_report(tmp_path / "paper" / f"{name}_split{split}" / "weights")
            assert report.metadata["recipe"]["data"]["split"] == split
        scores = json.loads((tmp_path / "paper" / f"{name}_evaluation" / "scores.json").read_text())
        assert set(scores["databases"]["AVAD"]) >= {"cc", "sim", "nss", "auc_judd", "auc_shuffled"}


def test_pictures_then_clips_then_fusion_alone(tmp_path: Path) -> None:
    """The default weights' three stages in small: stills, clips with generated motion, and sound on encoded clips."""
    from datasets.test_picture_gaze import write_set

    pictures = write_set(tmp_path / "pictures", num=16)
    (tmp_path / "sounds").mkdir()
    torch.save(lively_network().soundnet8.state_dict(), tmp_path / "soundnet.pth")
    write_wave(tmp_path / "sounds" / "noise.wav", np.random.default_rng(1).uniform(-1, 1, 44100), 22050)
    common = (
        f"data.pictures={pictures}",
        "data.workers=0",
        "epochs=1",
        "batch.size=4",
        "batch.max_clips=4",
        'model.modality="visual"',
        "model.depth=10",
        "model.preprocessing.input_size=[64, 64]",
        "log.overlays=0",
        "log.tensorboard=false",
        "loss.kl=1.0",
    )
    runs = tmp_path / "runs"
    stills = parse_recipe({}, "stills", [*common, "data.videos=false", 'validation.on="holdout"'])
    stavis.train(stills, runs / "stills", quiet=True)
    clips = [*common, "data.videos=false", 'data.pictures_as="clips"', 'validation.on="none"']
    recipe = parse_recipe({}, "clips", [*clips, "initial_weights={runs}/stills/weights"])
    stavis.train(recipe, runs / "clips", quiet=True)
    frozen = '["stem", "layer1", "layer2", "layer3", "dsam", "soundnet"]'
    sound = [
        *clips,
        'model.modality="audiovisual"',
        f"data.sounds={tmp_path / 'sounds'}",
        f'initial_weights=["{{runs}}/clips/weights", "{tmp_path}/soundnet.pth"]',
        "keep_read_out=true",
        "runtime.encoded_epochs=2",
        'runtime.precision="bfloat16"',
        f"optimizer.frozen={frozen}",
        "optimizer.weight_decay=0.0",
        'optimizer.name="adamw"',
        'optimizer.rates="uniform"',
        "optimizer.base_rate=1e-3",
        "epochs=3",
    ]
    stavis.train(parse_recipe({}, "sound", sound), runs / "sound", quiet=True)
    before, after = (stavis.load_model(runs / name / "weights") for name in ("clips", "sound"))
    assert torch.equal(before.fuse.weight, after.fuseav.weight[:, :64])
    assert torch.equal(before.layer3[0].conv1.weight, after.layer3[0].conv1.weight)
    assert after.fuseav.weight[:, 64:].abs().max() > 0
    features = {path.parent.name for path in (runs / "sound" / ".features").glob("*/*.npy")}
    assert len(features) == 1
    # Features of another seed's clips, as a run that was killed leaves them, are not taken over.
    shutil.copytree(runs / "sound" / ".features", runs / "other" / ".features")
    stavis.train(parse_recipe({}, "sound", [*sound, "seed=7", "epochs=1"]), runs / "other", quiet=True)
    other = {path.parent.name for path in (runs / "other" / ".features").glob("*/*.npy")}
    assert len(other) == 1
    assert other != features
