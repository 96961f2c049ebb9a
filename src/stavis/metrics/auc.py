"""Areas under the ROC curve: AUC-Judd, shuffled AUC, AUC-Borji."""

import math

import numpy as np

from stavis.metrics.checks import (
    Array,
    Float64,
    Indices,
    Protocol,
    check_protocol,
    is_varied,
    per_map,
    same_size,
    stretched,
)
from stavis.metrics.ties import CHUNK, JITTER, NearPixels


@per_map
def auc_judd(saliency_map: Array, fixation_map: Array, *, rng: np.random.Generator | None = None) -> float:
    """AUC-Judd: area under the ROC curve with the fixated values as thresholds (Judd et al. 2009; Riche et al. 2013).

    All other pixels are negatives. It is *not* the Mann-Whitney AUC but exceeds it by fp/(2n), where n is the number
    of fixated pixels and fp the fraction of the other pixels that reach the lowest fixated value.

    The MATLAB code breaks ties by adding uniform noise in 0..1e-7 to every pixel. With `rng` that noise is drawn;
    without, the result is the exact expectation over it. So the score is invariant to strictly increasing
    transformations of the map, as long as they move no two values closer together than 1e-7, or apart.

    Args:
        saliency_map: (H, W); the noise is meant for maps in 0..1.
        fixation_map: (H, W), fixated where above 0.
        rng: Generator of the noise.

    Returns:
        nan when no pixel, or every pixel, is fixated, or the map has nan.

    Raises:
        ValueError: The sizes differ, or `rng` is no generator.
    """
    saliency, fixations = same_size(saliency_map, fixation_map)
    _check_draws(rng)
    if rng is not None:
        jitter = rng.random(saliency.shape) * JITTER
        return _auc_judd_given_jitter(saliency, fixations, jitter)
    return _expected_auc_judd(np.ravel(saliency), np.flatnonzero(fixations > 0))


@per_map
def auc_shuffled(
    saliency_map: Array,
    fixation_map: Array,
    other_map: Array,
    *,
    rng: np.random.Generator | None = None,
    num_splits: int = 100,
    step: float = 0.1,
    protocol: Protocol = "stavis",
) -> float:
    """Shuffled AUC: fixations of this frame against fixations of other frames, which share the center bias.

    Protocols:

    - "stavis": negatives are the pixels fixated in other frames of the same video (`stavis.maps.other_fixations`).
      The map is scaled to 0..1 and thresholded at 0, `step`, 2 `step`, ... The MATLAB code draws as many negatives
      as there are fixated pixels and averages `num_splits` draws; without `rng` the result is the exact expectation
      (Borji et al. 2013, code by Bylinskii).
    - "cross-video": the same formula; `other_map` holds fixations of other videos.
    - "tuebingen": the exact ROC area against *all* negatives, ties counting half, as in the MIT/Tübingen benchmark and
      pysaliency. Numeric maps then hold numbers of fixations, each of which counts. `other_map` holds fixations of
      other videos. No thresholds, no randomness.

    Invariant to positive affine transformations of the map; under "tuebingen" to all strictly increasing ones.

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W).
        other_map: (H, W), negatives where above 0. Used as it is: pixels fixated in this frame are not removed.
        rng: Generator of the draws. Must be None under "tuebingen".
        num_splits: Number of draws to average, 1 or more, with `rng` only.
        step: Distance of the thresholds, above 0, up to 1.
        protocol: See above.

    Returns:
        nan when there is no fixated pixel or no negative, or the map is constant or has nan. Under "tuebingen" a
        constant map scores 0.5.

    Raises:
        ValueError: The sizes differ, the protocol is unknown, `rng` is no generator or given to a protocol that draws
            nothing, or `num_splits` or `step` is out of range.
    """
    saliency, fixations = same_size(saliency_map, fixation_map)
    _, others = same_size(saliency_map, other_map)
    check_protocol(protocol)
    _check_draws(rng, num_splits, step)
    if protocol == "tuebingen":
        if rng is not None:
            raise ValueError("protocol 'tuebingen' draws nothing; rng must be None")
        is_fixated, is_other = fixations > 0, others > 0
        return exact_auc(saliency[is_fixated], saliency[is_other], fixations[is_fixated], others[is_other])
    if rng is None:
        lowest, highest = float(saliency.min()), float(saliency.max())
        return stretched_grid_auc(saliency[fixations > 0], saliency[others > 0], lowest, highest, step)
    levels = stretched(saliency).ravel()
    fixated, negatives = np.flatnonzero(fixations > 0), np.flatnonzero(others > 0)
    num_drawn = min(fixated.size, negatives.size)
    samples = np.stack([rng.permutation(negatives)[:num_drawn] for _ in range(num_splits)], axis=1)
    return float(np.mean(_auc_given_samples(levels, fixated, samples, step)))


@per_map
def auc_borji(
    saliency_map: Array,
    fixation_map: Array,
    *,
    rng: np.random.Generator | None = None,
    num_splits: int = 100,
    step: float = 0.1,
) -> float:
    """AUC-Borji: fixations against uniformly random pixels, including fixated ones (Borji et al. 2013).

    Thresholds and draws as in `auc_shuffled`, but with replacement; without `rng` the exact expectation.

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W).
        rng: Generator of the draws.
        num_splits: Number of draws to average, 1 or more, with `rng` only.
        step: Distance of the thresholds, above 0, up to 1.

    Returns:
        nan when fewer than two pixels are fixated, or the map is constant or has nan.

    Raises:
        ValueError: The sizes differ, `rng` is no generator, or `num_splits` or `step` is out of range.
    """
    saliency, fixations = same_size(saliency_map, fixation_map)
    _check_draws(rng, num_splits, step)
    fixated = np.flatnonzero(fixations > 0)
    if fixated.size < 2:
        return math.nan
    levels = stretched(saliency).ravel()
    if rng is None:
        return _grid_auc(levels[fixated], levels, step)
    samples = rng.integers(levels.size, size=(fixated.size, num_splits))
    return float(np.mean(_auc_given_samples(levels, fixated, samples, step)))


def _check_draws(rng: np.random.Generator | None, num_splits: int = 1, step: float = 1.0) -> None:
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"`rng={rng!r}`: must be a numpy.random.Generator, as numpy.random.default_rng(0) is"
        )
    if num_splits < 1:
        raise ValueError(f"`num_splits={num_splits}`: must be 1 or more")
    if not 0 < step <= 1:
        raise ValueError(f"`step={step}`: must be above 0 and at most 1")


# --- AUC-Judd ---------------------------------------------------------------------------------------------------------


def _auc_judd_given_jitter(saliency: Float64, fixations: Array, jitter: Array | float) -> float:
    """AUC-Judd of the MATLAB code for given noise."""
    values = np.ravel(saliency + jitter)
    fixated = np.flatnonzero(fixations > 0)
    num_pixels, num_fixated = values.size, fixated.size
    # The MATLAB code scales the map afterwards: without noise, a constant one becomes nan.
    if num_fixated in (0, num_pixels) or not values.min() < values.max():
        return math.nan
    thresholds = np.sort(values[fixated])[::-1]
    num_above = num_pixels - np.searchsorted(np.sort(values), thresholds, side="left")
    rank = np.arange(1, num_fixated + 1)
    true_positives = np.concatenate([[0.0], rank / num_fixated, [1.0]])
    false_positives = np.concatenate([[0.0], (num_above - rank) / (num_pixels - num_fixated), [1.0]])
    return float(np.trapezoid(true_positives, false_positives))


def _expected_auc_judd(values: Float64, fixated: Indices) -> float:
    """The mean of `_auc_judd_given_jitter` over the noise, for a map (N,) and the (n,) indices of its fixations."""
    lowest, highest = float(values.min()), float(values.max())
    if fixated.size == 0 or not math.isfinite(highest - lowest):
        return math.nan
    near = NearPixels(values[fixated], lowest, highest)
    for begin in range(0, values.size, CHUNK):
        near.add(values[begin : begin + CHUNK])
    return near.expected_auc_judd()


# --- AUCs over negatives ----------------------------------------------------------------------------------------------


def stretched_grid_auc(
    positives: Float64, negatives: Float64, lowest: float, highest: float, step: float = 0.1
) -> float:
    """`_grid_auc` of (n,) and (m,) values of a map whose range is `lowest` to `highest`; nan if it is constant."""
    if not is_varied(lowest, highest):
        return math.nan
    scale = highest - lowest
    return _grid_auc((positives - lowest) / scale, (negatives - lowest) / scale, step)


def _grid_auc(positives: Float64, negatives: Float64, step: float) -> float:
    """Area under the ROC curve whose thresholds are the multiples of `step`, for values in 0..1.

    Between two thresholds, values tie; a tie counts half. nan without positives or without negatives.
    """
    if positives.size == 0 or negatives.size == 0 or np.isnan(positives).any():
        return math.nan
    grid = np.asarray(np.arange(1, math.floor(1 / step + 1e-9) + 1) * step, dtype=np.float64)
    positives_at_least = _num_at_least(positives, grid)
    negatives_at_least = _num_at_least(negatives, grid)
    true_positives = np.concatenate([[1.0], positives_at_least / positives.size, [0.0]])
    false_positives = np.concatenate([[1.0], negatives_at_least / negatives.size, [0.0]])
    return float(-np.trapezoid(true_positives, false_positives))


def _num_at_least(values: Float64, grid: Float64) -> Indices:
    """How many of `values` reach each entry of the ascending `grid`."""
    below_next = np.bincount(np.searchsorted(grid, values, side="right"), minlength=grid.size + 1)
    return np.cumsum(below_next[::-1])[::-1][1:]


def _auc_given_samples(levels: Float64, fixated: Indices, samples: Indices, step: float) -> list[float]:
    """The areas of the MATLAB code for given negatives, one column of `samples` per split."""
    return [_grid_auc(levels[fixated], levels[split], step) for split in samples.T]


def exact_auc(
    positives: Float64, negatives: Float64, positive_weights: Array, negative_weights: Array
) -> float:
    """Weighted Mann-Whitney AUC of (n,) against (m,) values, ties counting half.

    nan without positives, without negatives, or with nan among them.
    """
    if positives.size == 0 or negatives.size == 0 or np.isnan(positives).any() or np.isnan(negatives).any():
        return math.nan
    order = np.argsort(negatives)
    weight_below = np.concatenate([[0.0], np.cumsum(negative_weights[order], dtype=np.float64)])
    below = weight_below[np.searchsorted(negatives[order], positives, side="left")]
    up_to = weight_below[np.searchsorted(negatives[order], positives, side="right")]
    wins = np.average((below + up_to) / 2, weights=np.asarray(positive_weights, dtype=np.float64))
    return float(wins / weight_below[-1])
