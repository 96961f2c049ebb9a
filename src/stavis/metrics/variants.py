"""Scores of two popular Python code bases, UNISAL (2020) and ViNet (2021), for comparison with the MATLAB code.

Maps are single frames (H, W) in float32, density maps and predictions divided by their sums. What differs from the
MATLAB code (`stavis.metrics`), and by how much, is listed in docs/protocols.md.
"""

import math

import numpy as np

from stavis.metrics.checks import Array, Float64

EPSILON = 2.2204e-16  # of ViNet
NUM_SPLITS = 100


def unisal_scores(
    prediction: Array,
    density_map: Array,
    fixation_map: Array,
    other_map: Array | None = None,
    *,
    rng: np.random.RandomState | None = None,
) -> dict[str, float]:
    """Scores as UNISAL's `salience_metrics.py` computes them.

    Args:
        prediction: (H, W), sums to 1.
        density_map: (H, W), sums to 1.
        fixation_map: (H, W), fixated where True.
        other_map: (H, W), fixated in other videos; None: no shuffled AUC.
        rng: Generator of the shuffled AUC's draws.

    Returns:
        kldiv, nss, cc, sim, auc_judd, auc_shuffled; nan where UNISAL has no value. NSS is 1 without fixations.
    """
    p, g = np.asarray(prediction), np.asarray(density_map)
    fixated = np.asarray(fixation_map) > 0
    where = g > 0
    kldiv = float((g[where] * (np.log(g[where]) - np.log(p[where]))).sum())
    scores = {"kldiv": kldiv, "nss": 1.0, "cc": _pearson(p, g), "sim": float(np.minimum(p, g).sum())}
    scores["auc_judd"] = scores["auc_shuffled"] = math.nan
    if fixated.any():
        scores["nss"] = float(((p - p.mean()) / p.std(ddof=1))[fixated].mean())
        stretched = (p - p.min()) / (p.max() - p.min())
        scores["auc_judd"] = _auc_of_distinct_thresholds(stretched, fixated)
        if other_map is not None:
            rng = rng or np.random.RandomState(0)
            scores["auc_shuffled"] = _auc_of_splits(stretched, fixated, np.asarray(other_map) > 0, rng)
    return scores


def vinet_scores(prediction: Array, density_map: Array, fixation_map: Array) -> dict[str, float]:
    """Scores as ViNet's `loss.py` computes them: cc, sim, nss (nan without fixations), kldiv; arguments as above."""
    p, g = np.asarray(prediction), np.asarray(density_map)
    fixated = np.asarray(fixation_map) > 0
    stretched = [(values - values.min()) / (values.max() - values.min()) for values in (p, g)]
    sim = float(np.minimum(*(values / values.sum() for values in stretched)).sum())
    z = (p - p.mean()) / (p.std(ddof=1) + EPSILON)
    normalized_p, normalized_g = p / p.sum(), g / g.sum()
    kldiv = float((normalized_g * np.log(EPSILON + normalized_g / (normalized_p + EPSILON))).sum())
    nss = float(z[fixated].mean()) if fixated.any() else math.nan
    return {"cc": _pearson(p, g), "sim": sim, "nss": nss, "kldiv": kldiv}


def _pearson(p: Array, g: Array) -> float:
    p, g = p - p.mean(), g - g.mean()
    return float((p * g).sum() / np.sqrt((p * p).sum() * (g * g).sum()))


def _auc_of_distinct_thresholds(stretched: Array, fixated: Array) -> float:
    """The ROC curve at the distinct fixated values, rounded to 4 digits; others are negatives."""
    thresholds = np.unique(stretched[fixated])[::-1]
    hits, others = np.sort(stretched[fixated]), np.sort(stretched[~fixated])
    true_positives = (hits.size - np.searchsorted(hits, thresholds)) / hits.size
    false_positives = (others.size - np.searchsorted(others, thresholds)) / others.size
    return _area(np.round(true_positives, 4), np.round(false_positives, 4))


def _auc_of_splits(stretched: Array, fixated: Array, others: Array, rng: np.random.RandomState) -> float:
    """The mean area of 100 draws of as many negatives, with thresholds 0, 0.1, ... below the largest value."""
    hits, candidates = stretched[fixated], np.flatnonzero(others)
    draws = [rng.permutation(candidates)[: hits.size] for _ in range(NUM_SPLITS)]
    areas = []
    for draw in draws:
        negatives = stretched.ravel()[draw]
        thresholds = np.arange(0.0, max(hits.max(), negatives.max()), 0.1)[::-1, None]
        areas.append(_area((hits >= thresholds).mean(axis=1), (negatives >= thresholds).mean(axis=1)))
    return float(np.mean(areas))


def _area(true_positives: Float64, false_positives: Float64) -> float:
    ys, xs = (np.concatenate([[0.0], rates, [1.0]]) for rates in (true_positives, false_positives))
    return float(np.trapezoid(ys, xs))
