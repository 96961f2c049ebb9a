"""The loss terms against recorded values and gradients, and where nothing is recorded, against reasoning."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.stats
import torch

from stavis.training.losses import (
    EPSILON,
    LossWeights,
    bce_loss,
    cc_loss,
    clip_losses,
    kl_loss,
    nss_loss,
    output_loss,
    side_output_weight,
)


def golden_cases(golden: Path) -> list[Path]:
    paths = sorted((golden / "model").glob("losses_*.json"))
    assert paths, f"no losses_*.json in {golden / 'model'}"
    return paths


def test_values_and_gradients_of_every_golden(golden: Path, recipe: ModuleType) -> None:
    for path in golden_cases(golden):
        run = json.loads(path.read_text())
        seed, batch = run["seed"], run["batch"]
        gradients = np.load(path.with_suffix(".npz"))
        shape = gradients["grad_bce"].shape
        density, fixations = (torch.from_numpy(a) for a in recipe.maps(batch, seed, size=shape[-1]))
        values = np.random.RandomState(4000 + seed).standard_normal(shape) * 2
        for name, function, maps in (
            ("bce", bce_loss, density),
            ("cc", cc_loss, density),
            ("nss", nss_loss, fixations),
        ):
            logits = torch.from_numpy(values.astype(np.float32)).requires_grad_()
            loss = function(logits, maps)
            tolerance = {"rtol": 0, "atol": 1e-6} if name == "cc" else {"rtol": 1e-5, "atol": 0}
            np.testing.assert_allclose(loss.detach().numpy(), run["per_sample"][name], **tolerance)
            (gradient,) = torch.autograd.grad(loss.sum(), logits)
            recorded = gradients[f"grad_{name}"]
            np.testing.assert_allclose(gradient, recorded, rtol=0, atol=1e-5 * np.abs(recorded).max())


def random_case(batch: int = 2, size: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(batch, 1, size, size, generator=generator, dtype=torch.float64)
    density = torch.randint(0, 256, (batch, 1, size, size), generator=generator)
    fixations = torch.rand(batch, 1, size, size, generator=generator) > 0.9
    return logits, density, fixations


def test_cc_is_minus_numpys_correlation() -> None:
    logits, density, _ = random_case()
    saliency = 1 / (1 + np.exp(-logits.numpy()))
    expected = [
        -np.corrcoef(s.ravel(), d.ravel())[0, 1] for s, d in zip(saliency, density.numpy(), strict=True)
    ]
    np.testing.assert_allclose(cc_loss(logits, density), expected, rtol=1e-9)


def test_cc_epsilon_is_on_the_targets_sum_of_squares() -> None:
    logits, _, _ = random_case(batch=1)
    # A density map so faint that its sum of squares is below the epsilon.
    density = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    density[0, 0, 0, 0] = 1e-4
    centered = density - density.mean()
    saliency = torch.sigmoid(logits)
    saliency = saliency - saliency.mean()
    energy = centered.square().sum()
    expected = -(saliency * centered).sum() / (saliency.square().sum() * (energy + 2.0**-23)).sqrt()
    assert energy < 2.0**-23  # so that a missing epsilon would show
    torch.testing.assert_close(cc_loss(logits, density)[0], expected, rtol=1e-12, atol=0)


def test_constant_density_and_no_fixation_give_zero_with_finite_gradients() -> None:
    logits, _, _ = random_case()
    logits.requires_grad_()
    loss = cc_loss(logits, torch.full_like(logits, 17.0)) + nss_loss(logits, torch.zeros_like(logits))
    torch.testing.assert_close(loss, torch.zeros(2, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.isfinite(gradient).all()


def test_nss_epsilon_is_on_the_count() -> None:
    logits, _, fixations = random_case(batch=1)
    saliency = torch.sigmoid(logits)
    standardized = (saliency - saliency.mean()) / saliency.std(correction=0)
    expected = -standardized[fixations].sum() / (fixations.sum().double() + 2.0**-23)
    torch.testing.assert_close(nss_loss(logits, fixations)[0], expected, rtol=1e-12, atol=0)
    assert EPSILON == 2.0**-23


def test_fixation_maps_are_binary_whatever_their_scale() -> None:
    logits, _, fixations = random_case()
    torch.testing.assert_close(nss_loss(logits, fixations), nss_loss(logits, fixations * 255))


def test_bce_is_a_sum_in_nats() -> None:
    logits = torch.zeros(3, 1, 4, 5)
    np.testing.assert_allclose(bce_loss(logits, torch.full_like(logits, 255.0)), 20 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize(("epoch", "weight"), [(1, 59 / 60), (15, 0.75), (59, 1 / 60), (60, 0.0)])
def test_side_outputs_are_annealed(epoch: int, weight: float) -> None:
    assert side_output_weight(epoch, 60, LossWeights()) == pytest.approx(weight, abs=1e-15)
    assert side_output_weight(epoch, 60, LossWeights(anneal_side_outputs=False)) == 1


def test_clip_losses_add_weighted_side_outputs_and_report_the_final_one() -> None:
    logits, density, fixations = random_case()
    sides = [logits * factor for factor in (0.5, -1.0)]
    weights = LossWeights(bce=0.3, cc=5.0, nss=0.7)
    total, final = clip_losses(logits, sides, density, fixations, weights, 0.25)
    expected = output_loss(logits, density, fixations, weights)
    torch.testing.assert_close(final.total, expected.total)
    torch.testing.assert_close(expected.total, 0.3 * expected.bce + 5 * expected.cc + 0.7 * expected.nss)
    for side in sides:
        expected_side = output_loss(side, density, fixations, weights).total
        total = total - 0.25 * expected_side
    torch.testing.assert_close(total, final.total)


def test_half_precision_logits_are_widened() -> None:
    logits, density, fixations = random_case()
    terms = output_loss(logits.bfloat16(), density, fixations, LossWeights())
    assert {term.dtype for term in terms} == {torch.float32}


def test_kl_is_the_divergence_of_two_distributions() -> None:
    rng = np.random.default_rng(5)
    logits, density = rng.normal(size=(2, 1, 6, 7)), rng.uniform(0, 255, (2, 1, 6, 7))
    found = kl_loss(torch.from_numpy(logits), torch.from_numpy(density))
    for i in range(2):
        saliency = 1 / (1 + np.exp(-logits[i].ravel()))
        assert found[i].item() == pytest.approx(scipy.stats.entropy(density[i].ravel(), saliency), abs=1e-6)
    nothing = kl_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    assert nothing.item() == 0


def test_kl_is_part_of_the_total() -> None:
    logits, density, fixations = torch.randn(2, 1, 8, 8), torch.rand(2, 1, 8, 8) * 255, torch.ones(2, 1, 8, 8)
    without = output_loss(logits, density, fixations, LossWeights())
    with_it = output_loss(logits, density, fixations, LossWeights(kl=0.5))
    assert torch.allclose(with_it.total - without.total, 0.5 * kl_loss(logits, density))
