"""Rates, decay and schedule against the recorded settings; the published training step against recorded runs."""

import itertools
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from stavis.errors import StavisError
from stavis.model import ModelConfig, STAViS
from stavis.training.losses import LossWeights, clip_losses, output_loss, side_output_weight
from stavis.training.optim import (
    OptimizerSettings,
    ScheduleSettings,
    build_optimizer,
    build_scheduler,
    cosine_factor,
    freeze,
    milestone_epochs,
    parameter_rate,
    set_training_mode,
)


def golden_runs(golden: Path) -> list[dict[str, Any]]:
    paths = sorted((golden / "model").glob("train_*.json"))
    assert paths, f"no train_*.json in {golden / 'model'}"
    return [{"file": path.name, **json.loads(path.read_text())} for path in paths]


def golden_model(run: dict[str, Any], recipe: ModuleType) -> STAViS:
    modality = "audiovisual" if run["audiovisual"] else "visual"
    model = STAViS(ModelConfig(modality, run["depth"], run["shortcut"]))
    weights = {
        name: torch.from_numpy(np.asarray(recipe.tensor(name, tuple(value.shape), run["seed"])))
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(weights)
    return model.to(getattr(torch, run["dtype"]))


def test_every_parameters_settings_in_every_golden(golden: Path) -> None:
    for run in golden_runs(golden):
        modality = "audiovisual" if run["audiovisual"] else "visual"
        model = STAViS(ModelConfig(modality, run["depth"], run["shortcut"]))
        optimizer = build_optimizer(model, OptimizerSettings(base_rate=run["base_learning_rate"]))
        ours = {
            name: {key: group[key] for key in ("lr", "weight_decay", "momentum", "dampening")}
            for group in optimizer.param_groups
            for name in group["parameter_names"]
        }
        recorded = {name: s for entries in run["optimizer_groups"].values() for name, s in entries}
        assert set(ours) == {name for name, _ in model.named_parameters()}
        for name, settings in ours.items():
            assert settings == recorded[name], name
        # What we do not have, the published code does not train.
        for name in recorded.keys() - ours.keys():
            assert name not in run["first_batch_gradient_norm_and_sum"], name


def golden_batch(run: dict[str, Any], recipe: ModuleType, seed: int) -> tuple[torch.Tensor, ...]:
    dtype = getattr(torch, run["dtype"])
    batch = run["microbatch"]
    density, fixations = recipe.maps(batch, seed)
    arrays = recipe.clip(batch, seed), recipe.audio(batch, seed), density, fixations
    return tuple(torch.from_numpy(array).to(dtype) for array in arrays)


def check_norm_and_sum(tensor: torch.Tensor, recorded: list[float], largest: float, name: str) -> None:
    norm, total = tensor.norm().item(), tensor.sum().item()
    if recorded[0] < 1e-8 * largest:  # mathematically zero
        assert norm < 1e-8 * largest, name
        return
    assert norm == pytest.approx(recorded[0], rel=1e-5), name
    # A sum in which terms cancel is no better known than its terms.
    assert total == pytest.approx(recorded[1], rel=1e-5, abs=1e-5 * recorded[0]), name


def run_golden(run: dict[str, Any], recipe: ModuleType, *, first_step_only: bool = False) -> None:
    model = golden_model(run, recipe)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = OptimizerSettings(base_rate=run["base_learning_rate"])
    optimizer = build_optimizer(model, settings)
    weights = LossWeights()
    side_weight = side_output_weight(run["epoch"], run["n_epochs"], weights)
    accumulation = run["effective_batch"] // run["microbatch"]
    terms = []
    model.train()
    for i, (seed, recorded) in enumerate(zip(run["input_seeds"], run["per_microbatch"], strict=True)):
        clips, audio, density, fixations = golden_batch(run, recipe, seed)
        prediction = model(clips, audio if run["audiovisual"] else None)
        total, final = clip_losses(*prediction, density, fixations, weights, side_weight)
        loss = total.sum() / run["effective_batch"]
        loss.backward()
        assert loss.item() == pytest.approx(recorded["loss"], rel=1e-6)
        assert final.cc.mean().item() == pytest.approx(recorded["cc"], rel=1e-6)
        assert final.nss.mean().item() == pytest.approx(recorded["nss"], rel=1e-6)
        terms.append(torch.stack([term.detach() for term in final]))
        if i + 1 == accumulation:
            gradients = run["first_batch_gradient_norm_and_sum"]
            largest = max(norm for norm, _ in gradients.values())
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None, name
                check_norm_and_sum(parameter.grad, gradients[name], largest, name)
            if first_step_only:
                return
        if (i + 1) % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
    (log,) = run["epoch_log"]
    means = torch.cat(terms, dim=1).mean(1).tolist()
    assert means == pytest.approx([log[key] for key in ("loss_sal", "sal_cross", "cc", "nss")], rel=1e-6)

    changes = run["change_norm_after_three_steps"]
    largest = max(changes[name] for name, _ in model.named_parameters())
    statistics = run["running_statistics_norm_and_sum"]
    for name, value in model.state_dict().items():
        change = (value - before[name]).double().norm().item()
        limit = 1e-8 * largest if name in dict(model.named_parameters()) else 0.0
        assert change == pytest.approx(changes[name], rel=1e-5, abs=limit), name
        if name in statistics:
            check_norm_and_sum(value, statistics[name], statistics[name][0], name)
    compared = set(model.state_dict()) & set(statistics)
    assert compared == {name for name in model.state_dict() if ".running_" in name}

    model.eval()
    validation = []
    for seed in run["input_seeds"][:2]:
        clips, audio, density, fixations = golden_batch(run, recipe, seed)
        with torch.no_grad():
            logits = model(clips, audio if run["audiovisual"] else None).logits
        validation.append(torch.stack(output_loss(logits, density, fixations, weights)))
    (log,) = run["validation_on_first_two_microbatches_after_training"]
    means = torch.cat(validation, dim=1).mean(1).tolist()
    assert means == pytest.approx([log[key] for key in ("loss_sal", "sal_cross", "cc", "nss")], rel=1e-6)


@pytest.mark.parametrize("first_step_only", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_shallow_golden_runs(first_step_only: bool, golden: Path, recipe: ModuleType) -> None:
    """Losses and gradients of the first step; then of three steps, with the weights and statistics after them."""
    runs = [run for run in golden_runs(golden) if run["depth"] < 50]
    assert runs
    for run in runs:
        run_golden(run, recipe, first_step_only=first_step_only)


@pytest.mark.slow
def test_deep_golden_runs(goldens: Path, recipe: ModuleType) -> None:
    for run in golden_runs(goldens):
        if run["depth"] >= 50:
            run_golden(run, recipe)


def rate_history(settings: ScheduleSettings, num_epochs: int, steps_per_epoch: int = 1) -> list[float]:
    """The rate of every epoch (steps) or optimizer step (cosine) of a whole training at base rate 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_scheduler(optimizer, settings, num_epochs, steps_per_epoch)
    rates = []
    for _ in range(num_epochs * (steps_per_epoch if settings.name == "cosine" else 1)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_published_schedule_of_60_epochs() -> None:
    rates = rate_history(ScheduleSettings(), 60)
    assert rates[:29] == [1.0] * 29
    assert rates[29:44] == pytest.approx([0.1] * 15)
    assert rates[44:] == pytest.approx([0.01] * 16)


@pytest.mark.parametrize("num_epochs", range(4, 101))
def test_published_milestones(num_epochs: int) -> None:
    expected = [int(0.5 * num_epochs) - 1, int(0.75 * num_epochs) - 1]
    assert milestone_epochs(ScheduleSettings(), num_epochs) == expected
    assert rate_history(ScheduleSettings(), num_epochs)[0] == 1.0


@pytest.mark.parametrize("num_epochs", [1, 2, 3])
def test_the_first_epoch_is_at_the_full_rate_however_few_there_are(num_epochs: int) -> None:
    assert rate_history(ScheduleSettings(), num_epochs)[0] == 1.0


def test_cosine_rises_then_falls_to_zero() -> None:
    rates = rate_history(ScheduleSettings(name="cosine", warm_up_epochs=2.0), 10, steps_per_epoch=5)
    assert rates[:11] == pytest.approx([(i + 1) / 11 for i in range(10)] + [1.0])
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[30] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01
    assert cosine_factor(50, 50, 10) == pytest.approx(0.0, abs=1e-15)
    assert math.isclose(cosine_factor(0, 10, 0), 1.0)


def test_rates_add_up_to_the_reference_table() -> None:
    for name, modality, group, rate in (
        ("layer1.0.bn1.bias", "visual", "backbone", 1e-3),
        ("conv1.weight", "audiovisual", "backbone", 1e-4),
        ("soundnet8.0.bias", "audiovisual", "soundnet", 1e-3),
        ("fusion3.w_a_rgb.bias", "audiovisual", "fusion", 1e-2),
        ("score_dsn.2.side_prep.weight", "visual", "side_prep.weight", 1e-4),
        ("score_dsn.2.side_prep.bias", "visual", "side_prep.bias", 2e-4),
        ("score_dsn.2.score_dsn.bias", "visual", "read_out.bias", 2e-5),
        ("score_dsn.0.upscale_.weight", "visual", "read_out.weight", 1e-5),
        ("fuse.bias", "visual", "read_out.bias", 2e-5),
        ("fuseav.weight", "audiovisual", "read_out.weight", 1e-5),
    ):
        assert parameter_rate(name, modality, 0.01) == (group, pytest.approx(rate)), name


def small_model(modality: str = "visual") -> STAViS:
    return STAViS(ModelConfig(modality, 10))  # type: ignore[arg-type]


def test_uniform_rates() -> None:
    model = small_model("audiovisual")
    optimizer = build_optimizer(model, OptimizerSettings(rates="uniform", base_rate=0.003))
    assert {group["lr"] for group in optimizer.param_groups} == {0.003}
    counted = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert counted == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("modality", ["visual", "audiovisual"])
def test_fine_tuning_rates(modality: str) -> None:
    optimizer = build_optimizer(
        small_model(modality), OptimizerSettings(rates="fine-tuning", base_rate=0.003)
    )
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert groups["new"]["lr"] == 0.003
    assert groups["given"]["lr"] == pytest.approx(0.0003)
    parts = {name.partition(".")[0] for name in groups["new"]["parameter_names"]}
    assert parts == ({"fuse"} if modality == "visual" else {"fusion3", "fuseav"})


def test_groups_are_named_and_complete() -> None:
    model = small_model("audiovisual")
    optimizer = build_optimizer(model, OptimizerSettings())
    names = [group["name"] for group in optimizer.param_groups]
    assert sorted(names) == sorted(
        [
            "backbone",
            "soundnet",
            "fusion",
            "side_prep.weight",
            "side_prep.bias",
            "read_out.weight",
            "read_out.bias",
        ]
    )
    counted = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert counted == sum(p.numel() for p in model.parameters())


def test_adamw_keeps_the_rates() -> None:
    optimizer = build_optimizer(
        small_model(), OptimizerSettings(name="adamw", base_rate=0.001, weight_decay=0.1)
    )
    assert isinstance(optimizer, torch.optim.AdamW)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["backbone"] == pytest.approx(1e-4)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


def test_frozen_parts_do_not_learn_and_keep_their_statistics() -> None:
    model = small_model()
    frozen = ("stem", "layer1")
    freeze(model, frozen)
    optimizer = build_optimizer(model, OptimizerSettings(frozen=frozen))
    learning = {name for group in optimizer.param_groups for name in group["parameter_names"]}
    assert not any(name.startswith(("conv1.", "bn1.", "layer1.")) for name in learning)
    assert any(name.startswith("layer2.") for name in learning)
    set_training_mode(model, frozen=frozen, frozen_statistics=False)
    assert not model.bn1.training
    assert not model.layer1[0].bn1.training
    assert model.layer2[0].bn1.training
    set_training_mode(model, frozen=(), frozen_statistics=True)
    assert not model.layer2[0].bn1.training
    assert model.training


def test_freezing_everything_is_refused() -> None:
    model = small_model()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(StavisError, match="leaves nothing to train"):
        build_optimizer(model, OptimizerSettings())


def test_unknown_parts_and_idle_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layer9.*allowed: stem"):
        OptimizerSettings(frozen=("layer9",))
    with pytest.raises(ValueError, match="warm_up_epochs needs"):
        ScheduleSettings(warm_up_epochs=1.0)
