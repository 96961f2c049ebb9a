"""Exact expectation of AUC-Judd over the random noise that breaks ties."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from stavis.metrics.checks import Float64, Indices, is_varied

JITTER = 1e-7  # AUC-Judd breaks ties with noise uniform in 0 to this
_NUM_BINS = 1 << 12
CHUNK = 1 << 15  # pixels processed at once, so that temporary arrays fit into the processor's cache


class NearPixels:
    """One pass over a map that keeps what the expectation of AUC-Judd depends on.

    The noise moves no value by more than `JITTER`, so only pixels that close to a fixated value are kept; the
    others are counted. Values are binned for that: those in a bin with the neighborhood of a fixated value are kept.
    """

    def __init__(self, fixated_values: Float64, lowest: float, highest: float) -> None:
        """Takes the (n,) values of the fixated pixels, n > 0, and the map's range."""
        self.thresholds = np.sort(fixated_values)
        self.num_pixels = 0
        self.surely_below = float(self.thresholds[0]) - JITTER  # values below this are below all thresholds
        self._num_below = 0
        self._lowest = lowest
        # Any scale works, as long as binning is monotone.
        scale = (_NUM_BINS - 1) / (highest - lowest) if is_varied(lowest, highest) else 0.0
        self._scale = scale if math.isfinite(scale) else 0.0
        self._scaled = np.empty(0)
        self._narrow, self._bin_of = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.intp)
        self._parts: list[Float64] = []
        first_bins = self._bins(np.maximum(self.thresholds - JITTER, lowest))
        last_bins = self._bins(np.minimum(self.thresholds + JITTER, highest))
        # Number of thresholds that a bin's values are far below; n + 1 where they are near to one. In few bits.
        num_above = self.thresholds.size - np.bincount(first_bins, minlength=_NUM_BINS).cumsum()
        self._is_near = self.thresholds.size + 1
        for first, last in zip(first_bins, last_bins, strict=True):
            num_above[first : last + 1] = self._is_near
        self._num_above = num_above.astype(np.min_scalar_type(self._is_near))
        self._far_wins = 0.0  # number of pairs (threshold, pixel far below it)

    def _bins(self, values: Float64) -> Indices:
        return ((values - self._lowest) * self._scale).astype(np.intp)

    def add(self, values: Float64) -> None:
        """Adds a part of the map, of any shape."""
        values = values.reshape(-1)
        self.num_pixels += values.size
        # As `_bins`, in reused memory, and by way of 32 bits, to which processors convert several at once.
        if self._scaled.size < values.size:
            self._scaled, self._bin_of = np.empty(values.size), np.empty(values.size, dtype=np.intp)
            self._narrow = np.empty(values.size, dtype=np.int32)
        num = values.size
        scaled, narrow, bins = self._scaled[:num], self._narrow[:num], self._bin_of[:num]
        np.subtract(values, self._lowest, out=scaled)
        scaled *= self._scale
        np.copyto(narrow, scaled, casting="unsafe")
        np.copyto(bins, narrow)
        num_above = self._num_above.take(bins, mode="clip")  # faster than indexing; no bin is outside
        near = (num_above == self._is_near).nonzero()[0]
        self._parts.append(values[near])
        self._far_wins += float(num_above.sum(dtype=np.uint64)) - near.size * self._is_near
        self._num_below += int(np.count_nonzero(num_above == self.thresholds.size))

    def add_low(self, num_pixels: int) -> None:
        """Adds pixels that are all below `surely_below`: their number suffices."""
        self.num_pixels += num_pixels
        self._num_below += num_pixels
        self._far_wins += num_pixels * self.thresholds.size

    def expected_auc_judd(self) -> float:
        """The expectation, once every pixel has been added.

        It is the Mann-Whitney statistic, in which a pair counts with the probability that the fixated pixel ends up
        higher, plus the expected fraction of other pixels that reach the lowest fixated value, over 2n.
        """
        thresholds, num_fixated = self.thresholds, self.thresholds.size
        num_others = self.num_pixels - num_fixated
        if num_others == 0:
            return math.nan
        near, counts = _distinct(np.concatenate(self._parts))
        num_near_below = np.concatenate([[0], np.cumsum(counts)])
        # For values so large that the noise is lost in rounding, only ties are undecided.
        lower = np.minimum(thresholds - JITTER, np.nextafter(thresholds, -np.inf))
        upper = np.maximum(thresholds + JITTER, np.nextafter(thresholds, np.inf))
        first = np.searchsorted(near, lower, side="right")
        last = np.searchsorted(near, upper, side="left")

        # Pairs (fixated, any pixel), minus those of two fixated ones: every other one is won, by symmetry.
        pairs_won = self._far_wins + float(num_near_below[first].sum()) - num_fixated**2 / 2
        if (num_near_below[last] - num_near_below[first]).sum() == num_fixated:
            pairs_won += num_fixated / 2  # each is near to itself alone
        else:
            pairs_won += _expected_wins(thresholds, near, counts, first, last)
        mann_whitney = pairs_won / (num_fixated * num_others)

        undecided = slice(first[0], last[0])
        undecided_fixated = thresholds[thresholds < upper[0]]
        expected_reaching = float(self.num_pixels - self._num_below - num_near_below[last[0]])
        expected_reaching -= num_fixated - undecided_fixated.size
        if counts[undecided].sum() > undecided_fixated.size:
            probability = _probability_to_reach_lowest(thresholds)
            expected_reaching += float((counts[undecided] * probability(near[undecided])).sum())
            expected_reaching -= float(probability(undecided_fixated).sum())
        return float(mann_whitney + expected_reaching / num_others / (2 * num_fixated))


def _distinct(values: Float64) -> tuple[Float64, Indices]:
    """The distinct values, ascending, and their numbers; fast for runs of equal values (plateaus)."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(starts, values.size))
    distinct, inverse = np.unique(values[starts], return_inverse=True)
    return distinct, np.bincount(inverse, weights=lengths).astype(np.intp)


def _expected_wins(
    thresholds: Float64, near: Float64, counts: Indices, first: Indices, last: Indices
) -> float:
    """Expected number of pairs (threshold i, a pixel of near[first[i]:last[i]]) that the threshold wins."""
    # Most thresholds are near only to their own value, and win half of these pairs.
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
    """Probability, as a function, that a noisy value reaches the lowest of the (n,) ascending noisy thresholds.

    With y the noisy value above the lowest threshold, in units of the noise, threshold i, which is d_i above the
    lowest, ends up higher with probability clip(1 - y + d_i, 0, 1). The product g(y) of these is a polynomial between
    the d_i, which is integrated over the value's own noise. The function takes values closer than `JITTER` to the
    lowest threshold.
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
