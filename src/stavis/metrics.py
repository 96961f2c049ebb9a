"""How well a saliency map predicts where people looked: the field's scores of one frame, equal to the MATLAB ones.

Maps are (H, W) arrays of one size, computed in float64. A fixation map is boolean, or numeric and fixated where above
0. A score is nan where it is not defined; formulas, conventions and those cases are in docs/metrics.md.

Where the MATLAB code draws random numbers (ties of AUC-Judd, the negatives of the shuffled AUC and of AUC-Borji), the
default here is the exact expectation over those draws. `rng` draws them.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

Protocol = Literal["stavis", "cross-video", "tuebingen"]

JITTER = 1e-7  # AUC-Judd breaks ties with noise uniform in 0 to this
EPSILON = float(np.finfo(np.float64).eps)  # MATLAB's eps, inside the logarithms

_CONSTANT_BELOW = 1e-12  # relative range: resizing a constant map leaves about 1e-15 of rounding noise
_NUM_BINS = 1 << 12
_CHUNK = 1 << 15  # pixels handled at once, so that temporary arrays stay in the processor's cache


# --- Two maps ---------------------------------------------------------------------------------------------------------


def cc(saliency_map: Array, density_map: Array) -> float:
    """Pearson correlation of two maps, in -1..1 (Bylinskii et al. 2019, CC).

    Args:
        saliency_map: (H, W), any real range.
        density_map: (H, W), any real range; 8-bit maps can stay as they are.

    Returns:
        nan when either map is constant. Positive affine changes of either map do not matter.
    """
    saliency, density = _same_size(saliency_map, density_map)
    if _is_constant(saliency) or _is_constant(density):
        return math.nan
    saliency = saliency - saliency.mean()
    density = density - density.mean()
    norm = math.sqrt(np.vdot(saliency, saliency)) * math.sqrt(np.vdot(density, density))
    return float(np.vdot(saliency, density) / norm)


def sim(saliency_map: Array, density_map: Array) -> float:
    """Similarity: the shared part of two maps as histograms, in 0..1 (Bylinskii et al. 2019, SIM).

    Both maps are stretched to 0..1 and divided by their sums first; not all implementations subtract the minimum.

    Args:
        saliency_map: (H, W), any real range.
        density_map: (H, W), any real range.

    Returns:
        nan when either map is constant, but 0 when that constant is 0 and the other map is defined.
    """
    saliency, density = _same_size(saliency_map, density_map)
    return float(np.minimum(_as_histogram(saliency), _as_histogram(density)).sum())


def kl_divergence(saliency_map: Array, density_map: Array) -> float:
    """Kullback-Leibler divergence of a saliency map from the density map, in nats, >= 0 up to rounding; 0 is best.

    As the MATLAB code has it: both maps divided by their sums, `eps` added inside the quotient and the logarithm
    (Bylinskii et al. 2019, KL). Where resizing left the saliency map below 0 and the density map is not 0, that code
    gives a complex number; here such pixels count as 0.

    Args:
        saliency_map: (H, W).
        density_map: (H, W), >= 0.

    Returns:
        0 when the density map is all zero. nan when a map has nan.
    """
    saliency, density = (_divided_by_sum(values) for values in _same_size(saliency_map, density_map))
    quotient = density / (np.maximum(saliency, 0.0) + EPSILON)
    return float((density * np.log(EPSILON + quotient)).sum())


# --- A map and fixations ----------------------------------------------------------------------------------------------


def nss(saliency_map: Array, fixation_map: Array) -> float:
    """Normalised scanpath saliency: the mean z-score of the fixated pixels (Peters et al. 2005).

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W), fixated where *not 0*, as the MATLAB code has it.

    Returns:
        nan when no pixel is fixated or the saliency map is constant. Positive affine changes do not matter.
    """
    saliency, fixations = _same_size(saliency_map, fixation_map)
    fixated = saliency[fixations != 0]
    if fixated.size == 0 or _is_constant(saliency):
        return math.nan
    return float((fixated.mean() - saliency.mean()) / saliency.std(ddof=1))


def information_gain(saliency_map: Array, fixation_map: Array, baseline_map: Array) -> float:
    """Information gain over a baseline at the fixated pixels, in bits per fixation (Kümmerer et al. 2014).

    As the MATLAB code has it: both maps stretched to 0..1 and divided by their sums, `eps` added in the logarithms.

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W).
        baseline_map: (H, W), a centre prior say.

    Returns:
        nan when no pixel is fixated or either map is constant.
    """
    saliency, fixations = _same_size(saliency_map, fixation_map)
    _, baseline = _same_size(saliency_map, baseline_map)
    fixated = fixations != 0
    if not fixated.any() or _is_constant(saliency) or _is_constant(baseline):
        return math.nan
    gain = np.log2(EPSILON + _as_histogram(saliency)[fixated])
    gain -= np.log2(EPSILON + _as_histogram(baseline)[fixated])
    return float(gain.mean())


def auc_judd(saliency_map: Array, fixation_map: Array, *, rng: np.random.Generator | None = None) -> float:
    """AUC-Judd: area under the ROC curve with the fixated values as thresholds (Judd et al. 2009; Riche et al. 2013).

    All other pixels are negatives. It is *not* the Mann-Whitney AUC but lies above it by fp/(2n), n the number of
    fixated pixels and fp the fraction of the others that reach the lowest fixated value.

    The MATLAB code breaks ties by adding noise uniform in 0..1e-7 to every pixel. That is drawn from `rng`; without,
    the result is the exact expectation over it. So strictly increasing changes of the map do not matter, as long
    as no two different values come, or stop being, closer than 1e-7.

    Args:
        saliency_map: (H, W); the noise is meant for maps in 0..1.
        fixation_map: (H, W).
        rng: Draws the noise.

    Returns:
        nan when no pixel, or every pixel, is fixated, or the map has nan.
    """
    saliency, fixations = _same_size(saliency_map, fixation_map)
    if rng is not None:
        jitter = rng.random(saliency.shape) * JITTER
        return _auc_judd_given_jitter(saliency, fixations, jitter)
    return _expected_auc_judd(np.ravel(saliency), np.flatnonzero(fixations > 0))


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
    """Shuffled AUC: fixations of this frame against fixations of others, which share the centre bias.

    What the protocols differ in:

    - "stavis": negatives are the pixels fixated in other frames of the same video (`stavis.maps.other_fixations`).
      The map is stretched to 0..1 and thresholded at 0, `step`, 2 `step`, ... The MATLAB code draws as many negatives
      as there are fixated pixels and averages `num_splits` draws; without `rng` the result is the exact expectation.
      After Borji et al. 2013, code by Bylinskii.
    - "cross-video": the same formula; `other_map` holds fixations of other videos.
    - "tuebingen": the exact ROC area against *all* negatives with ties counting half, as the MIT/Tübingen benchmark
      and pysaliency have it. Numeric maps then hold numbers of fixations, each of which counts. `other_map`
      holds fixations of other videos. No grid, nothing random.

    Positive affine changes of the map do not matter; under "tuebingen" strictly increasing ones do not either.

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W).
        other_map: (H, W), negatives where above 0. It is taken as it is: pixels fixated in this frame are not removed.
        rng: Draws the splits. Must be None under "tuebingen".
        num_splits: Draws to average, with `rng` only.
        step: Of the thresholds.
        protocol: See above.

    Returns:
        nan when there is no fixated pixel or no negative, or the map is constant or has nan. Under "tuebingen" a
        constant map scores 0.5.

    Raises:
        ValueError: The sizes differ, the protocol is unknown, or `rng` is given to one without draws.
    """
    saliency, fixations = _same_size(saliency_map, fixation_map)
    _, others = _same_size(saliency_map, other_map)
    check_protocol(protocol)
    if protocol == "tuebingen":
        if rng is not None:
            raise ValueError("protocol 'tuebingen' draws nothing; rng must be None")
        is_fixated, is_other = fixations > 0, others > 0
        return exact_auc(saliency[is_fixated], saliency[is_other], fixations[is_fixated], others[is_other])
    if rng is None:
        lowest, highest = float(saliency.min()), float(saliency.max())
        return stretched_grid_auc(saliency[fixations > 0], saliency[others > 0], lowest, highest, step)
    levels = _stretched(saliency).ravel()
    fixated, negatives = np.flatnonzero(fixations > 0), np.flatnonzero(others > 0)
    num_drawn = min(fixated.size, negatives.size)
    samples = np.stack([rng.permutation(negatives)[:num_drawn] for _ in range(num_splits)], axis=1)
    return float(np.mean(_auc_given_samples(levels, fixated, samples, step)))


def auc_borji(
    saliency_map: Array,
    fixation_map: Array,
    *,
    rng: np.random.Generator | None = None,
    num_splits: int = 100,
    step: float = 0.1,
) -> float:
    """AUC-Borji: fixations against uniformly random pixels, fixated ones among them (Borji et al. 2013).

    Thresholds and draws as in `auc_shuffled`, but with replacement; without `rng` the exact expectation.

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W).
        rng: Draws the splits.
        num_splits: Draws to average, with `rng` only.
        step: Of the thresholds.

    Returns:
        nan when fewer than two pixels are fixated, or the map is constant or has nan.
    """
    saliency, fixations = _same_size(saliency_map, fixation_map)
    fixated = np.flatnonzero(fixations > 0)
    if fixated.size < 2:
        return math.nan
    levels = _stretched(saliency).ravel()
    if rng is None:
        return _grid_auc(levels[fixated], levels, step)
    samples = rng.integers(levels.size, size=(fixated.size, num_splits))
    return float(np.mean(_auc_given_samples(levels, fixated, samples, step)))


# --- Shared steps -----------------------------------------------------------------------------------------------------


def _same_size(first: Array, second: Array) -> tuple[Float64, Array]:
    """Both as arrays, the first in float64, the second too unless it is boolean."""
    first = np.asarray(first, dtype=np.float64)
    second = np.asarray(second)
    if first.ndim != 2 or first.shape != second.shape or first.size == 0:
        raise ValueError(f"two maps of one size (H, W) are needed, not {first.shape} and {second.shape}")
    return first, second if second.dtype == np.bool_ else np.asarray(second, dtype=np.float64)


def check_protocol(protocol: str) -> None:
    """Raises ValueError if there is no such protocol."""
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol is {protocol!r}; allowed: {', '.join(get_args(Protocol))}")


def is_varied(lowest: float, highest: float) -> bool:
    """Whether values in this range differ by more than rounding. False when they are not finite."""
    return highest - lowest > _CONSTANT_BELOW * max(abs(lowest), abs(highest))


def _is_constant(values: Array) -> bool:
    """Also true of a map with nan."""
    return not is_varied(float(values.min()), float(values.max()))


def _stretched(values: Float64) -> Float64:
    """Linearly to 0..1; all nan for a constant map."""
    lowest, highest = float(values.min()), float(values.max())
    if not is_varied(lowest, highest):
        return np.full(values.shape, np.nan)
    return (values - lowest) / (highest - lowest)


def _divided_by_sum(values: Float64) -> Float64:
    return values / values.sum() if values.any() else values


def _as_histogram(values: Float64) -> Float64:
    """Stretched to 0..1 and divided by the sum; an all-zero map stays zero."""
    return _divided_by_sum(_stretched(values)) if values.any() else values


# --- AUC-Judd ---------------------------------------------------------------------------------------------------------


def _auc_judd_given_jitter(saliency: Float64, fixations: Array, jitter: Array | float) -> float:
    """What the MATLAB code computes once it has drawn its noise."""
    values = np.ravel(saliency + jitter)
    fixated = np.flatnonzero(fixations > 0)
    num_pixels, num_fixated = values.size, fixated.size
    # That code stretches the map afterwards: without noise, a constant one becomes nan.
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
    for begin in range(0, values.size, _CHUNK):
        near.add(values[begin : begin + _CHUNK])
    return near.expected_auc_judd()


class NearPixels:
    """Gathers, in one pass over a map, what the expectation of AUC-Judd depends on.

    The noise moves nothing by more than `JITTER`, so only the pixels that close to a fixated value need a look; the
    rest is counted. Values are binned for that: what shares a bin with the surroundings of a fixated value is near.
    """

    def __init__(self, fixated_values: Float64, lowest: float, highest: float) -> None:
        """Begins with the (n,) values of the fixated pixels, n > 0, and the map's range."""
        self.thresholds = np.sort(fixated_values)
        self.num_pixels = 0
        self.surely_below = float(self.thresholds[0]) - JITTER  # values below this are below all thresholds
        self._num_below = 0
        self._lowest = lowest
        # Any scale is right, as long as binning never falls with rising values.
        self._scale = (_NUM_BINS - 1) / (highest - lowest) if is_varied(lowest, highest) else 0.0
        self._scaled = np.empty(0)
        self._bin_of = np.empty(0, dtype=np.intp)
        self._num_in_bin = np.zeros(_NUM_BINS, dtype=np.intp)
        self._parts: list[Float64] = []
        self._first_bins = self._bins(np.maximum(self.thresholds - JITTER, lowest))
        last_bins = self._bins(np.minimum(self.thresholds + JITTER, highest))
        self._is_near = np.zeros(_NUM_BINS, dtype=np.bool_)
        for first, last in zip(self._first_bins, last_bins, strict=True):
            self._is_near[first : last + 1] = True

    def _bins(self, values: Float64) -> Indices:
        return ((values - self._lowest) * self._scale).astype(np.intp)

    def add(self, values: Float64) -> None:
        """Takes in a piece of the map, of any shape."""
        values = values.reshape(-1)
        self.num_pixels += values.size
        # What `_bins` does, in memory that is used again.
        if self._scaled.size < values.size:
            self._scaled, self._bin_of = np.empty(values.size), np.empty(values.size, dtype=np.intp)
        scaled, bins = self._scaled[: values.size], self._bin_of[: values.size]
        np.subtract(values, self._lowest, out=scaled)
        scaled *= self._scale
        np.copyto(bins, scaled, casting="unsafe")
        self._num_in_bin += np.bincount(bins, minlength=_NUM_BINS)
        self._parts.append(values[self._is_near[bins].nonzero()[0]])

    def add_low(self, num_pixels: int) -> None:
        """Takes in pixels that are all below `surely_below`: their number is enough."""
        self.num_pixels += num_pixels
        self._num_below += num_pixels

    def expected_auc_judd(self) -> float:
        """The expectation, once every pixel has been added.

        It is Mann-Whitney's statistic, where a pair counts with the probability that the fixated pixel ends up
        higher, plus half the expected fraction of other pixels that reach the lowest fixated value over n.
        """
        thresholds, num_fixated = self.thresholds, self.thresholds.size
        num_others = self.num_pixels - num_fixated
        if num_others == 0:
            return math.nan
        num_far = np.where(self._is_near, 0, self._num_in_bin)
        num_far_below = self._num_below + np.cumsum(num_far)[self._first_bins]
        near, counts = _distinct(np.concatenate(self._parts))
        num_near_below = np.concatenate([[0], np.cumsum(counts)])
        # Where values are so large that the noise is lost in rounding, ties alone are undecided.
        lower = np.minimum(thresholds - JITTER, np.nextafter(thresholds, -np.inf))
        upper = np.maximum(thresholds + JITTER, np.nextafter(thresholds, np.inf))
        first = np.searchsorted(near, lower, side="right")
        last = np.searchsorted(near, upper, side="left")

        # Pairs (fixated, any pixel), minus those of two fixated ones: every other one is won, by symmetry.
        pairs_won = float((num_far_below + num_near_below[first]).sum()) - num_fixated**2 / 2
        if (num_near_below[last] - num_near_below[first]).sum() == num_fixated:
            pairs_won += num_fixated / 2  # each is near to itself alone
        else:
            pairs_won += _expected_wins(thresholds, near, counts, first, last)
        mann_whitney = pairs_won / (num_fixated * num_others)

        undecided = slice(first[0], last[0])
        undecided_fixated = thresholds[thresholds < upper[0]]
        expected_reaching = float(self.num_pixels - num_far_below[0] - num_near_below[last[0]])
        expected_reaching -= num_fixated - undecided_fixated.size
        if counts[undecided].sum() > undecided_fixated.size:
            probability = _probability_to_reach_lowest(thresholds)
            expected_reaching += float((counts[undecided] * probability(near[undecided])).sum())
            expected_reaching -= float(probability(undecided_fixated).sum())
        return float(mann_whitney + expected_reaching / num_others / (2 * num_fixated))


def _distinct(values: Float64) -> tuple[Float64, Indices]:
    """The distinct values, ascending, and how often each occurs; fast where equal values stand in runs (plateaus)."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(starts, values.size))
    distinct, inverse = np.unique(values[starts], return_inverse=True)
    return distinct, np.bincount(inverse, weights=lengths).astype(np.intp)


def _expected_wins(
    thresholds: Float64, near: Float64, counts: Indices, first: Indices, last: Indices
) -> float:
    """Expected number of pairs (threshold i, a pixel of near[first[i]:last[i]]) that noise leaves the threshold's."""
    # Most thresholds are near to their own value alone, and win every other pair.
    alone = last - first == 1
    wins = float(counts[first[alone]].sum()) / 2
    crowded, index, repeats = np.unique(thresholds[~alone], return_index=True, return_counts=True)
    begins, ends = first[~alone][index], last[~alone][index]
    for threshold, repeat, begin, end in zip(crowded, repeats, begins, ends, strict=True):
        difference = (threshold - near[begin:end]) / JITTER
        # The distribution function of the difference of two uniform variables.
        below, above = np.minimum(difference, 0.0), np.maximum(difference, 0.0)
        probability = np.where(difference < 0, (1 + below) ** 2 / 2, 1 - (1 - above) ** 2 / 2)
        wins += repeat * float((counts[begin:end] * probability).sum())
    return wins


def _probability_to_reach_lowest(thresholds: Float64) -> Callable[[Float64], Float64]:
    """Gives the function: how likely a value, with noise, is at least the lowest of the thresholds with theirs.

    With y the noisy value above the lowest threshold, in units of the noise, threshold i, which is d_i above the
    lowest, ends up higher with probability clip(1 - y + d_i, 0, 1). The product g(y) of these is a polynomial between
    the d_i, which is integrated over the value's own noise.

    Args:
        thresholds: (n,) ascending.

    Returns:
        A function of values, each closer than `JITTER` to the lowest threshold.
    """
    offsets = (thresholds - thresholds[0]) / JITTER
    offsets = offsets[offsets < 1]

    def g(y: Float64) -> Float64:
        return np.asarray(np.clip(1 - y[:, None] + offsets, 0, 1).prod(axis=1))

    # g is 1 below 0 and 0 above 1. Rounding joins pieces that would be narrower than the map's own rounding noise.
    knots = np.unique(np.concatenate([[0.0], np.round(offsets, 9), [1.0]]))
    pieces = []
    integral = [0.0]
    for begin, end in itertools.pairwise(knots):
        # Chebyshev coefficients of a k-th power fall like exp(-j^2 / k): what lies above 9 sqrt(k) is rounding.
        power = int((offsets <= begin + 1e-9).sum())
        degree = min(power, 8 + math.ceil(9 * math.sqrt(power)))
        piece = np.polynomial.Chebyshev.interpolate(g, degree, [begin, end]).integ(lbnd=begin)
        pieces.append(piece)
        integral.append(integral[-1] + float(piece(end)))

    def integral_of_g(y: Float64) -> Float64:
        """From 0 to y."""
        inside = np.clip(y, 0.0, 1.0)
        result = np.minimum(y, 0.0)
        piece_of = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(pieces) - 1)
        for i in np.unique(piece_of):
            here = piece_of == i
            result[here] += integral[i] + pieces[i](inside[here])
        return result

    def probability(values: Float64) -> Float64:
        y = (values - thresholds[0]) / JITTER
        return 1 - (integral_of_g(y + 1) - integral_of_g(y))

    return probability


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
    """What the MATLAB code computes once it has drawn its negatives: the area of each split, a column of `samples`."""
    return [_grid_auc(levels[fixated], levels[split], step) for split in samples.T]


def exact_auc(
    positives: Float64, negatives: Float64, positive_weights: Array, negative_weights: Array
) -> float:
    """Mann-Whitney's AUC, ties counting half, of (n,) against (m,) values, each as often as it weighs.

    nan when there are no positives, no negatives, or some are nan.
    """
    if positives.size == 0 or negatives.size == 0 or np.isnan(positives).any() or np.isnan(negatives).any():
        return math.nan
    order = np.argsort(negatives)
    weight_below = np.concatenate([[0.0], np.cumsum(negative_weights[order], dtype=np.float64)])
    below = weight_below[np.searchsorted(negatives[order], positives, side="left")]
    up_to = weight_below[np.searchsorted(negatives[order], positives, side="right")]
    wins = np.average((below + up_to) / 2, weights=np.asarray(positive_weights, dtype=np.float64))
    return float(wins / weight_below[-1])
