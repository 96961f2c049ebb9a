"""Bootstrap confidence intervals, with fixed seeds."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95

Float64 = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """Ends of an interval; nan where there is nothing to resample."""

    low: float
    high: float


def interval_of_video(values: Float64, frame_rate: float) -> Interval:
    """95 % interval of the mean of a video's frames, by the circular block bootstrap (Politis and Romano 1992).

    Adjacent frames are correlated, so resampling single frames would give intervals that are too narrow. Blocks of one
    second are resampled, or of a quarter of the video if that is shorter.

    Args:
        values: (n,) scores, or differences of scores, of the frames; nan where undefined.
        frame_rate: Frames per second.
    """
    values = values[~np.isnan(values)]
    if values.size < 2:
        return Interval(math.nan, math.nan)
    length = max(1, min(round(frame_rate), values.size // 4))
    around = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: length - 1]]))])
    block_means = (around[length:] - around[:-length]) / length
    num_blocks = math.ceil(values.size / length)
    drawn = np.random.default_rng(0).integers(block_means.size, size=(NUM_RESAMPLES, num_blocks))
    return _ends(block_means[drawn].mean(axis=1))


def interval_of_mean(values: Float64) -> Interval:
    """Bootstrap 95 % interval of the mean of (n,) independent values, for example of videos; nan are excluded."""
    values = values[~np.isnan(values)]
    if values.size < 2:
        return Interval(math.nan, math.nan)
    drawn = np.random.default_rng(0).integers(values.size, size=(NUM_RESAMPLES, values.size))
    return _ends(values[drawn].mean(axis=1))


def _ends(means: Float64) -> Interval:
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(float(low), float(high))
