"""Scores of the video saliency challenges (AIM 2024, NTIRE 2026, CrowdSAL) and of the MSU benchmark.

Both average frames, then videos. Their formulas for CC, SIM, NSS and AUC-Judd are the same up to one count. Compared
with the MATLAB code (`stavis.metrics.similarity`), SIM does not subtract the minimum, standard deviations are of the
population, and small constants are added to denominators.
"""

import math

import numpy as np

from stavis.metrics.auc import auc_judd
from stavis.metrics.checks import Array, Float64, Indices

EPSILON = 1e-7  # in denominators
RANGE_EPSILON = 2.0**-23  # of the min-max normalization
KLD_EPSILON = 2.2204e-16  # of the MSU benchmark
_NUM_BINS = 1 << 12


def min_max(values: Array) -> Float64:
    """(h, w) or (h, w, channels) samples of any type as (h, w) float64 in 0..1; channels are averaged first."""
    if values.ndim == 3:
        num = values.shape[2]
        sums = values[..., 0].astype(np.float64)
        for channel in range(1, num):
            sums += values[..., channel]
    else:
        num, sums = 1, values.astype(np.float64)
    lowest = float(sums.min())
    span = (float(sums.max()) - lowest) / num
    sums -= lowest
    sums /= num * (span + RANGE_EPSILON)
    return sums


def similarity_scores(prediction: Float64, truth: Float64) -> tuple[float, float]:
    """CC and SIM of two (H, W) maps >= 0."""
    p, g = prediction - prediction.mean(), truth - truth.mean()
    num = p.size
    p_squares, g_squares = float(np.vdot(p, p)), float(np.vdot(g, g))
    p_scale, g_scale = math.sqrt(p_squares / num) + EPSILON, math.sqrt(g_squares / num) + EPSILON
    products = float(np.vdot(p, g)) / (p_scale * g_scale)
    cc = products / math.sqrt(p_squares * g_squares / (p_scale * g_scale) ** 2 + EPSILON)
    np.divide(prediction, float(prediction.sum()) + EPSILON, out=p)
    np.divide(truth, float(truth.sum()) + EPSILON, out=g)
    return cc, float(np.minimum(p, g, out=p).sum())


def nss_score(prediction: Float64, fixated: Indices) -> float:
    """Mean of the z-scored (H, W) map at the (n,) flat indices of the fixations, which count as often as they occur."""
    values = prediction.ravel()[fixated]
    return float((values.mean() - prediction.mean()) / (prediction.std() + EPSILON))


def stepwise_auc(prediction: Float64, fixated: Indices, num_positives: int) -> float:
    """AUC-Judd with one threshold per fixation and without a rule for ties.

    `fixated` are (n,) flat indices into the (H, W) prediction, n > 0; all but `num_positives` pixels are negatives.
    Thresholds t_k are the values at the fixations in descending order, with repeats; a_k is the number of pixels that
    reach t_k. The curve runs through (0, 0), ((a_k - k) / (N - `num_positives`), k / n), (1, 1), and backwards where
    thresholds are tied.
    """
    values = prediction.ravel()
    thresholds = np.sort(values[fixated])[::-1]
    rank = np.arange(1, fixated.size + 1)
    above = count_at_least(values, thresholds)
    true_positives = np.concatenate([[0.0], rank / fixated.size, [1.0]])
    false_positives = np.concatenate([[0.0], (above - rank) / (values.size - num_positives), [1.0]])
    return float(np.trapezoid(true_positives, false_positives))


def count_at_least(values: Float64, thresholds: Float64) -> Indices:
    """How many of (N,) values reach each of the (n,) descending thresholds."""
    lowest, highest = float(values.min()), float(values.max())
    if not highest > lowest:
        return np.where(thresholds <= lowest, values.size, 0).astype(np.intp)
    # Values in the thresholds' bins are compared one by one; the others are counted by bin.
    scale = (_NUM_BINS - 1) / (highest - lowest)
    bins = ((values - lowest) * scale).astype(np.int32)
    threshold_bins = ((thresholds - lowest) * scale).astype(np.int32)
    num_above = np.cumsum(np.bincount(bins, minlength=_NUM_BINS + 1)[::-1])[::-1]
    is_threshold = np.zeros(_NUM_BINS, dtype=np.bool_)
    is_threshold[threshold_bins] = True
    near = np.sort(values[is_threshold[bins]])
    near_bins = ((near - lowest) * scale).astype(np.int32)
    ends = np.searchsorted(near_bins, threshold_bins, side="right")
    return np.asarray(num_above[threshold_bins + 1] + ends - np.searchsorted(near, thresholds, side="left"))


def kld_score(prediction: Float64, truth: Float64) -> float:
    """KL divergence of the MSU benchmark, of maps divided by their sums; nan for a map of zeros."""
    if not (prediction.any() and truth.any()):
        return math.nan
    p, g = prediction / prediction.sum(), truth / truth.sum()
    return float((g * np.log(KLD_EPSILON + g / (p + KLD_EPSILON))).sum())


def expected_auc(prediction: Float64, fixated: Indices) -> float:
    """AUC-Judd of the MATLAB code: each fixated pixel counts once, ties by expectation (`stavis.metrics.auc_judd`)."""
    fixation_map = np.zeros(prediction.shape, dtype=np.bool_)
    fixation_map.reshape(-1)[fixated] = True
    return float(auc_judd(prediction, fixation_map))
