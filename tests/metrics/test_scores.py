"""The fast way to the five scores gives the same numbers as the plain functions."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_metrics import Case, cases

import stavis
from stavis import maps, metrics
from stavis.metrics.frame import FrameScores, score_frame
from stavis.metrics.negatives import Pixels, pixels_of


def plain_scores(
    prediction: np.ndarray,
    density: np.ndarray,
    fixations: np.ndarray,
    others: np.ndarray,
    protocol: Any = "stavis",
) -> FrameScores:
    saliency = maps.resize(maps.postprocess(prediction), density.shape)
    return FrameScores(
        cc=metrics.cc(saliency, density),
        sim=metrics.sim(saliency, density),
        nss=metrics.nss(saliency, fixations),
        auc_judd=metrics.auc_judd(saliency, fixations),
        auc_shuffled=metrics.auc_shuffled(saliency, fixations, others, protocol=protocol),
    )


def assert_same(actual: FrameScores, expected: FrameScores) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12, err_msg=str(FrameScores._fields))
    assert all(type(score) is float for score in actual)


@cases
def test_recorded_cases(case: Case) -> None:
    given_maps = (case.array("pred"), case.density, case.fixations, case.others)
    for protocol in ("stavis", "tuebingen"):
        expected = plain_scores(*given_maps, protocol)
        assert_same(score_frame(*given_maps, protocol=protocol), expected)
        pixels = (pixels_of(case.fixations), pixels_of(case.others))
        assert_same(score_frame(*given_maps[:2], *pixels, protocol=protocol), expected)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_made_up_frames(data: st.DataObject) -> None:
    """Of any size, with few gray levels, with few or no fixations, or constant."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    side = st.integers(1, 60)
    levels = data.draw(st.sampled_from([1, 2, 5, 256]))
    prediction = rng.integers(0, levels, (data.draw(side), data.draw(side))).astype(np.uint8)
    prediction += np.uint8(data.draw(st.sampled_from([0, 0, 100])))
    size = (data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300)))
    density = rng.integers(0, data.draw(st.sampled_from([1, 2, 256])), size).astype(np.uint8)
    density += np.uint8(data.draw(st.sampled_from([0, 0, 100])))
    fixations, others = rng.random((2, *size)) < data.draw(st.sampled_from([0, 0.001, 0.1, 1]))
    kind = data.draw(st.sampled_from([np.bool_, np.uint8, np.float64]))
    others = others.astype(kind)
    if data.draw(st.booleans()):
        others = np.asfortranarray(others)
    given_maps = (prediction, density, fixations.astype(kind), others)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(score_frame(*given_maps), plain_scores(*given_maps))


def test_counts_matter_to_tuebingen_alone() -> None:
    rng = np.random.default_rng(0)
    prediction, density = rng.random((12, 14)), rng.random((40, 50))
    once, often = rng.integers(0, 2, (2, 40, 50)), rng.integers(0, 9, (2, 40, 50))
    often *= once
    often[once > 0] += 1
    for protocol in ("stavis", "cross-video", "tuebingen"):
        assert_same(
            score_frame(prediction, density, *often, protocol=protocol),
            plain_scores(prediction, density, *often, protocol),
        )
        same = score_frame(prediction, density, *once, protocol=protocol) == score_frame(
            prediction, density, *often, protocol=protocol
        )
        assert same == (protocol != "tuebingen")


def test_a_prediction_of_the_ground_truths_size_is_not_resized() -> None:
    rng = np.random.default_rng(0)
    prediction, density = (rng.random((2, 70, 90)) * 255).astype(np.uint8)
    fixations = rng.random((70, 90)) < 0.01
    assert_same(
        score_frame(prediction, density, fixations, ~fixations),
        plain_scores(prediction, density, fixations, ~fixations),
    )


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1), (19, 5000), (150, 1300), (1, 1), (2, 3)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    prediction, density = rng.random((17, 13)), (rng.random(size) * 255).astype(np.uint8)
    fixations, others = rng.random((2, *size)) < 0.3
    given_maps = (prediction, density, fixations, others)
    assert_same(score_frame(*given_maps), plain_scores(*given_maps))


@pytest.mark.parametrize("offset", [0, 3])
def test_tiles_that_hold_little(offset: int) -> None:
    """Most tiles have no density at all, or lie below all fixated values, and take a shorter way."""
    height, width = 3 * maps.TILE_SIZE[0] + 7, 2 * maps.TILE_SIZE[1] + 5
    fixations = np.zeros((height, width), dtype=bool)
    fixations[60:70:3, 20:60:9] = True
    density = maps.to_8bit(maps.density_from_fixations(fixations, 8)) + np.uint8(offset)
    rng = np.random.default_rng(0)
    prediction = maps.resize(density, (70, 90)).clip(0) + rng.random((70, 90)) * 20
    others = rng.random((height, width)) < 0.002
    given_maps = (prediction, density, fixations, others & ~fixations)
    assert_same(score_frame(*given_maps), plain_scores(*given_maps))


def test_pixels_of_any_memory_order() -> None:
    fixations = np.array([[0, 2, 0], [1, 0, -3]])
    for ordered in (fixations, np.asfortranarray(fixations), fixations.astype(np.uint8) * (fixations > 0)):
        pixels = pixels_of(ordered)
        assert pixels.positions.tolist() == [1, 3]
        assert pixels.counts.tolist() == [2, 1]
    assert pixels_of(np.zeros((3, 4), dtype=bool)).positions.size == 0


def test_bad_arguments_are_refused() -> None:
    density, small = np.zeros((4, 5)), np.zeros((4, 4))
    with pytest.raises(
        ValueError, match=r"density map of \(4, 5\) goes with fixations of that size, not \(4, 4\)"
    ):
        score_frame(small, density, small, density)
    with pytest.raises(ValueError, match=r"not \(4, 4\)"):
        score_frame(small, density, density, small)
    with pytest.raises(ValueError, match=r"position 20 is outside the map's 20 pixels"):
        score_frame(small, density, Pixels(np.array([3, 20]), np.ones(2)), density)
    with pytest.raises(ValueError, match="protocol is 'mit'"):
        score_frame(small, density, density, density, protocol="mit")
    with pytest.raises(ValueError, match="a prediction is"):
        score_frame(np.zeros(4), density, density, density)
    with pytest.raises(ValueError, match=r"a density map is \(H, W\)"):
        score_frame(small, np.zeros(20), np.zeros(20), np.zeros(20))


@pytest.mark.parametrize("value", [-1, math.nan])
def test_fixations_below_zero_and_nan_are_refused(value: float) -> None:
    saliency, density, fixations = made_up_video()
    wrong = fixations.astype(np.float64)
    wrong[2, 3, 4] = value
    with pytest.raises(ValueError, match="fixation maps must be >= 0"):
        score_frame(saliency[2], density[2], wrong[2])
    with pytest.raises(ValueError, match="fixation maps must be >= 0"):
        stavis.score_video(saliency, density, wrong)


@pytest.mark.parametrize("scale", [1e308, 1e300, 1e-300])
def test_scores_of_extreme_values_are_those_of_ordinary_ones(scale: float) -> None:
    saliency, density, fixations = (values[0] for values in made_up_video())
    plain = score_frame(saliency, density, fixations, fixations)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(score_frame(saliency * scale, density * scale, fixations, fixations), plain)
        endless = np.where(saliency > 0.5, np.inf, saliency)
        assert all(math.isnan(score) for score in score_frame(endless, density, fixations, fixations))


def test_no_prediction_has_no_scores() -> None:
    rng = np.random.default_rng(0)
    density = rng.random((30, 40))
    scores = score_frame(np.zeros((8, 8), np.uint8), density, density > 0.9, density < 0.1)
    assert all(math.isnan(score) for score in scores)


# --- Videos, batches, tensors -----------------------------------------------------------------------------------------


def made_up_video(num: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.random((num, 12, 16)), rng.random((num, 40, 60)), rng.random((num, 40, 60)) < 0.01


def test_score_video_takes_negatives_from_other_frames() -> None:
    saliency, density, fixations = made_up_video()
    union = maps.union_of_fixations(fixations)
    expected = [
        plain_scores(s, d, f, maps.other_fixations(union, f))
        for s, d, f in zip(saliency, density, fixations, strict=True)
    ]
    scores = stavis.score_video(saliency, density, fixations)
    np.testing.assert_allclose(np.transpose(scores), expected, atol=1e-12)
    streamed = stavis.score_video(iter(saliency), iter(density), iter(fixations))
    np.testing.assert_array_equal(streamed, scores)
    others = np.roll(fixations.any(axis=0), 7)
    scores = stavis.score_video(saliency, density, fixations, protocol="tuebingen", others=others)
    expected = [
        plain_scores(s, d, f, others, "tuebingen")
        for s, d, f in zip(saliency, density, fixations, strict=True)
    ]
    np.testing.assert_allclose(np.transpose(scores), expected, atol=1e-12)


def test_tensors_and_batches_score_as_arrays() -> None:
    torch = pytest.importorskip("torch")
    saliency, density, fixations = made_up_video()
    tensors = [
        torch.from_numpy(values).requires_grad_(values.dtype != bool)
        for values in (saliency, density, fixations)
    ]
    others = np.roll(fixations[0], 3)
    expected = [score_frame(*frame, others) for frame in zip(saliency, density, fixations, strict=True)]
    for batch in ((saliency, density, fixations), tensors):
        np.testing.assert_array_equal(np.transpose(stavis.score_frame(*batch, others)), expected)
        np.testing.assert_array_equal(
            stavis.score_video(*batch), stavis.score_video(saliency, density, fixations)
        )
    assert math.isnan(stavis.score_frame(tensors[0][0], tensors[1][0], tensors[2][0]).auc_shuffled)
    same_size = maps.resize(saliency[0], (40, 60))
    for metric in (metrics.cc, metrics.nss, metrics.auc_judd):
        truth = density if metric is metrics.cc else fixations
        one_by_one = [metric(same_size, values) for values in truth]
        assert metric(same_size, truth).tolist() == one_by_one
        assert metric(torch.from_numpy(same_size), torch.from_numpy(truth)).tolist() == one_by_one
        assert type(metric(same_size, truth[0])) is float
    half = torch.from_numpy(same_size).to(torch.bfloat16)
    assert metrics.cc(half, density[0]) == metrics.cc(half.float().numpy(), density[0])


def test_batches_and_videos_of_other_lengths_are_refused() -> None:
    saliency, density, fixations = made_up_video()
    with pytest.raises(ValueError, match="batches of one length"):
        metrics.cc(density, density[1:])
    with pytest.raises(ValueError, match="batches of one length"):
        stavis.score_frame(saliency[1:], density, fixations)
    with pytest.raises(ValueError, match="zip"):
        stavis.score_video(saliency[1:], density, fixations)
    with pytest.raises(ValueError, match="maps of one size"):
        stavis.score_video(saliency, density, [fixations[0], fixations[0][1:]])
    with pytest.raises(ValueError, match="'tuebingen' needs others"):
        stavis.score_video(saliency, density, fixations, protocol="tuebingen")
