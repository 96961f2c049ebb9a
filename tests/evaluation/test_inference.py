"""Intervals, tests and effect sizes against enumeration, scipy, and simulations with a known truth."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from stavis.evaluation.inference import effect_size, holm, interval_of_mean, sign_flip_test


def test_sign_flip_test_counts_all_signs() -> None:
    rng = np.random.default_rng(0)
    for num in (1, 2, 5, 8):
        differences = rng.normal(0.5, 1, num)
        sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=num)]
        expected = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
        assert sign_flip_test(differences) == pytest.approx(expected)
    assert sign_flip_test(np.array([1.0, 2.0, np.nan, 3.0])) == 2 / 8
    assert sign_flip_test(np.zeros(4)) == 1
    assert math.isnan(sign_flip_test(np.array([np.nan])))


def test_random_signs_agree_with_scipy() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1, 30)
    expected = scipy.stats.permutation_test(
        (differences, np.zeros(30)),
        lambda a, b: (a - b).mean(),
        permutation_type="samples",
        n_resamples=20_000,
        rng=2,
    )
    assert sign_flip_test(differences) == pytest.approx(expected.pvalue, abs=0.015)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, math.nan, 0.5])[0] == 1
    assert math.isnan(holm([0.6, math.nan, 0.5])[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_lowers(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for (p, a), (q, b) in itertools.combinations(zip(p_values, adjusted, strict=True), 2):
        assert (a <= b) if p < q else (a >= b) if p > q else True
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    assert min(adjusted) == pytest.approx(min(1.0, len(p_values) * min(p_values)))


def test_effect_size() -> None:
    assert effect_size(np.array([1.0, 3.0])) == pytest.approx(2 / math.sqrt(2))
    assert effect_size(np.array([2.0, 2.0])) == math.inf
    assert effect_size(np.zeros(3)) == 0
    assert math.isnan(effect_size(np.array([1.0])))


@pytest.mark.parametrize("num_videos", [3, 6, 20])
@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_over_few_videos_cover_the_mean(num_videos: int, skewed: bool) -> None:
    rng = np.random.default_rng(num_videos)
    inside = 0
    for _ in range(300):
        scores = rng.exponential(size=num_videos) - 1 if skewed else rng.normal(size=num_videos)
        low, high = interval_of_mean(scores)
        inside += low <= 0 <= high
    assert 265 <= inside <= 297  # 90 to 99 %, and two standard errors


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(-3, 3), st.floats(0.1, 5))
def test_intervals_follow_shift_and_scale(values: list[float], shift: float, scale: float) -> None:
    one = np.round(values, 6)
    low, high = interval_of_mean(one)
    assert low <= high
    moved = interval_of_mean(one * scale + shift)
    assert moved == pytest.approx((low * scale + shift, high * scale + shift), rel=1e-5, abs=1e-5)
