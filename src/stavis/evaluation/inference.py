"""Statistical inference: bootstrap intervals, permutation tests, effect sizes; seeds are fixed."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

NUM_RESAMPLES = 2000
NUM_RESAMPLES_OF_VIDEOS = 10_000  # more, as the tails are further out
FEWEST_RESAMPLED = 6  # videos
NUM_PERMUTATIONS = 9_999
LARGEST_EXACT = 14  # differences whose signs are all tried
CONFIDENCE = 0.95
BLOCK_SECONDS = 2.0

Float64 = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """Ends of an interval; nan where there is nothing to resample."""

    low: float
    high: float


def interval_of_video(values: Float64, frame_rate: float) -> Interval:
    """95 % interval of the mean of a video's frames, by the circular block bootstrap (Politis and Romano 1992).

    `values` are (n,) scores, or differences of scores, of the frames; nan are excluded. Adjacent frames are correlated,
    so resampling single frames would give intervals that are too narrow. Blocks of two seconds are resampled, or of a
    quarter of the video if that is shorter. Tails are widened as for few videos.
    """
    values = values[~np.isnan(values)]
    if values.size < 2:
        return Interval(math.nan, math.nan)
    length = max(1, min(round(BLOCK_SECONDS * frame_rate), values.size // 4))
    around = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: length - 1]]))])
    block_means = (around[length:] - around[:-length]) / length
    num_blocks = math.ceil(values.size / length)
    drawn = np.random.default_rng(0).integers(block_means.size, size=(NUM_RESAMPLES, num_blocks))
    # The share of resampled means to leave out at each end: fewer if there are few blocks.
    outside = ndtr(math.sqrt(num_blocks / (num_blocks - 1)) * stdtrit(num_blocks - 1, (1 - CONFIDENCE) / 2))
    low, high = np.quantile(block_means[drawn].mean(axis=1), [outside, 1 - outside])
    return Interval(float(low), float(high))


def interval_of_mean(values: Float64) -> Interval:
    """95 % interval of the mean of (n,) independent values, for example of videos; nan are excluded.

    The studentized bootstrap (Efron 1981), whose intervals are lopsided where scores are skewed, as near their limit:
    percentile and t intervals are too narrow then. Fewer than six values are too few to resample; the skewness is
    allowed for by Hall's transformation of Student's t (1992).
    """
    values = values[~np.isnan(values)]
    num = values.size
    if num < 2:
        return Interval(math.nan, math.nan)
    mean, deviation = float(values.mean()), float(values.std())
    if deviation <= 1e-12 * abs(mean):
        return Interval(mean, mean)
    standardized = (values - mean) / deviation
    if num < FEWEST_RESAMPLED:
        high = float(stdtrit(num - 1, (1 + CONFIDENCE) / 2)) / math.sqrt(num - 1)
        skewness = float((standardized**3).mean())
        low, high = (_without_skewness(one, skewness, num) for one in (-high, high))
    else:
        weights = _resampling_weights(num)
        means = weights @ standardized
        variances = weights @ standardized**2 - means**2
        varied = variances > 1e-9  # others drew one value alone
        ends = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
        low, high = np.quantile(means[varied] / np.sqrt(variances[varied]), ends).tolist()
    return Interval(mean - high * deviation, mean - low * deviation)


def _without_skewness(error: float, skewness: float, num: int) -> float:
    """The error of a mean of `num` skewed values, in deviations, that goes with one of symmetric values."""
    if abs(skewness) < 1e-6:
        return error
    return (float(np.cbrt(1 + skewness * (error - skewness / (6 * num)))) - 1) * 3 / skewness


@functools.lru_cache(maxsize=4)
def _resampling_weights(num: int) -> Float64:
    """(NUM_RESAMPLES_OF_VIDEOS, num): the share of each of `num` values in each resample."""
    drawn = np.random.default_rng(0).integers(num, size=(NUM_RESAMPLES_OF_VIDEOS, num))
    flat = (drawn + np.arange(NUM_RESAMPLES_OF_VIDEOS)[:, None] * num).ravel()
    counts = np.bincount(flat, minlength=NUM_RESAMPLES_OF_VIDEOS * num)
    return np.asarray(counts.reshape(-1, num) / num, dtype=np.float64)


def sign_flip_test(differences: Float64) -> float:
    """Two-sided p value of the hypothesis that paired differences, (n,), are symmetric around 0; nan are excluded.

    A permutation test of the mean: exact over all 2^n signs for up to 14 differences, else over random signs. With n
    differences no p value is below 2 / 2^n. nan for none.
    """
    differences = differences[~np.isnan(differences)]
    num = differences.size
    if num == 0:
        return math.nan
    # Signs that give the same sum count, whatever the rounding.
    observed = abs(differences.sum()) * (1 - 1e-12)
    if num <= LARGEST_EXACT:
        bits = np.arange(1 << num)[:, None] >> np.arange(num) & 1
        return float((np.abs((2 * bits - 1) @ differences) >= observed).mean())
    return float((1 + (np.abs(_random_signs(num) @ differences) >= observed).sum()) / (1 + NUM_PERMUTATIONS))


@functools.lru_cache(maxsize=4)
def _random_signs(num: int) -> Float64:
    """(NUM_PERMUTATIONS, num) of -1 and 1."""
    signs = np.random.default_rng(0).integers(0, 2, size=(NUM_PERMUTATIONS, num)) * 2 - 1
    return signs.astype(np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for multiple tests by Holm's step-down method; nan stay nan and do not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = highest
    return adjusted


def effect_size(differences: Float64) -> float:
    """Cohen's d of paired differences: their mean over their standard deviation; nan for fewer than two."""
    differences = differences[~np.isnan(differences)]
    if differences.size < 2:
        return math.nan
    deviation = float(differences.std(ddof=1))
    mean = float(differences.mean())
    return mean / deviation if deviation > 0 else 0.0 if mean == 0 else math.copysign(math.inf, mean)
