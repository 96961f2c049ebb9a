"""CC, SIM, NSS, KL divergence and information gain, equal to the MATLAB code of the MIT saliency benchmark."""

import math

import numpy as np

from stavis.metrics.checks import Array, Float64, is_constant, moderate, per_map, same_size, stretched

EPSILON = float(np.finfo(np.float64).eps)  # MATLAB's eps, inside the logarithms


# --- Two maps ---------------------------------------------------------------------------------------------------------


@per_map
def cc(saliency_map: Array, density_map: Array) -> float:
    """Pearson correlation of two maps, in -1..1 (Bylinskii et al. 2019, CC).

    Args:
        saliency_map: (H, W), any real range.
        density_map: (H, W), any real range; 8-bit maps can stay as they are.

    Returns:
        nan when either map is constant. Invariant to positive affine transformations of either map.
    """
    saliency, density = map(moderate, same_size(saliency_map, density_map))
    if is_constant(saliency) or is_constant(density):
        return math.nan
    saliency = saliency - saliency.mean()
    density = density - density.mean()
    norm = math.sqrt(np.vdot(saliency, saliency)) * math.sqrt(np.vdot(density, density))
    return float(np.vdot(saliency, density) / norm)


@per_map
def sim(saliency_map: Array, density_map: Array) -> float:
    """Similarity: the intersection of two maps as histograms, in 0..1 (Bylinskii et al. 2019, SIM).

    Both maps are scaled to 0..1 and divided by their sums first; some implementations do not subtract the minimum.

    Args:
        saliency_map: (H, W), any real range.
        density_map: (H, W), any real range.

    Returns:
        nan when either map is constant, but 0 when that constant is 0 and the other map is defined.
    """
    saliency, density = same_size(saliency_map, density_map)
    return float(np.minimum(_as_histogram(saliency), _as_histogram(density)).sum())


@per_map
def kl_divergence(saliency_map: Array, density_map: Array) -> float:
    """Kullback-Leibler divergence of a saliency map from the density map, in nats, >= 0 up to rounding; 0 is best.

    As in the MATLAB code, both maps are divided by their sums and `eps` is added inside the quotient and the logarithm
    (Bylinskii et al. 2019, KL). Where resizing left the saliency map below 0 and the density map is not 0, that code
    returns a complex number; here such pixels count as 0.

    Args:
        saliency_map: (H, W).
        density_map: (H, W), >= 0.

    Returns:
        0 when the density map is all zero. nan when a map has nan.
    """
    saliency, density = (_divided_by_sum(values) for values in same_size(saliency_map, density_map))
    quotient = density / (np.maximum(saliency, 0.0) + EPSILON)
    return float((density * np.log(EPSILON + quotient)).sum())


# --- A map and fixations ----------------------------------------------------------------------------------------------


@per_map
def nss(saliency_map: Array, fixation_map: Array) -> float:
    """Normalized scanpath saliency: the mean z-score of the fixated pixels (Peters et al. 2005).

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W), fixated where *not 0*, as in the MATLAB code.

    Returns:
        nan when no pixel is fixated or the saliency map is constant. Invariant to positive affine transformations.
    """
    saliency, fixations = same_size(saliency_map, fixation_map)
    saliency = moderate(saliency)
    fixated = saliency[fixations != 0]
    if fixated.size == 0 or is_constant(saliency):
        return math.nan
    return float((fixated.mean() - saliency.mean()) / saliency.std(ddof=1))


@per_map
def information_gain(saliency_map: Array, fixation_map: Array, baseline_map: Array) -> float:
    """Information gain over a baseline at the fixated pixels, in bits per fixation (Kümmerer et al. 2014).

    As in the MATLAB code, both maps are scaled to 0..1 and divided by their sums; `eps` is added in the logarithms.

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W).
        baseline_map: (H, W), for example a center prior.

    Returns:
        nan when no pixel is fixated or either map is constant.
    """
    saliency, fixations = same_size(saliency_map, fixation_map)
    _, baseline = same_size(saliency_map, baseline_map)
    fixated = fixations != 0
    if not fixated.any() or is_constant(saliency) or is_constant(baseline):
        return math.nan
    gain = np.log2(EPSILON + _as_histogram(saliency)[fixated])
    gain -= np.log2(EPSILON + _as_histogram(baseline)[fixated])
    return float(gain.mean())


def _divided_by_sum(values: Float64) -> Float64:
    if not values.any():
        return values
    values = moderate(values)
    total = values.sum()
    return values / total if math.isfinite(total) else np.full(values.shape, np.nan)


def _as_histogram(values: Float64) -> Float64:
    """Scaled to 0..1 and divided by the sum; an all-zero map stays zero."""
    return _divided_by_sum(stretched(values)) if values.any() else values
