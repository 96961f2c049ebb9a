"""How well a saliency map predicts where people looked: the field's scores of one frame, equal to the MATLAB ones.

Maps are (H, W) arrays of one size, computed in float64. A fixation map is boolean, or numeric and fixated where above
0. A score is nan where it is not defined; formulas, conventions and those cases are in docs/metrics.md.

Where the MATLAB code draws random numbers (ties of AUC-Judd, the negatives of the shuffled AUC and of AUC-Borji), the
default here is the exact expectation over those draws. `rng` draws them.
"""

import math

import numpy as np

from stavis.metrics.checks import Array, Float64, is_constant, same_size, stretched

EPSILON = float(np.finfo(np.float64).eps)  # MATLAB's eps, inside the logarithms


# --- Two maps ---------------------------------------------------------------------------------------------------------


def cc(saliency_map: Array, density_map: Array) -> float:
    """Pearson correlation of two maps, in -1..1 (Bylinskii et al. 2019, CC).

    Args:
        saliency_map: (H, W), any real range.
        density_map: (H, W), any real range; 8-bit maps can stay as they are.

    Returns:
        nan when either map is constant. Positive affine changes of either map do not matter.
    """
    saliency, density = same_size(saliency_map, density_map)
    if is_constant(saliency) or is_constant(density):
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
    saliency, density = same_size(saliency_map, density_map)
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
    saliency, density = (_divided_by_sum(values) for values in same_size(saliency_map, density_map))
    quotient = density / (np.maximum(saliency, 0.0) + EPSILON)
    return float((density * np.log(EPSILON + quotient)).sum())


# --- A map and fixations ----------------------------------------------------------------------------------------------


def nss(saliency_map: Array, fixation_map: Array) -> float:
    """Normalized scanpath saliency: the mean z-score of the fixated pixels (Peters et al. 2005).

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W), fixated where *not 0*, as the MATLAB code has it.

    Returns:
        nan when no pixel is fixated or the saliency map is constant. Positive affine changes do not matter.
    """
    saliency, fixations = same_size(saliency_map, fixation_map)
    fixated = saliency[fixations != 0]
    if fixated.size == 0 or is_constant(saliency):
        return math.nan
    return float((fixated.mean() - saliency.mean()) / saliency.std(ddof=1))


def information_gain(saliency_map: Array, fixation_map: Array, baseline_map: Array) -> float:
    """Information gain over a baseline at the fixated pixels, in bits per fixation (Kümmerer et al. 2014).

    As the MATLAB code has it: both maps stretched to 0..1 and divided by their sums, `eps` added in the logarithms.

    Args:
        saliency_map: (H, W), any real range.
        fixation_map: (H, W).
        baseline_map: (H, W), a center prior say.

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
    return values / values.sum() if values.any() else values


def _as_histogram(values: Float64) -> Float64:
    """Stretched to 0..1 and divided by the sum; an all-zero map stays zero."""
    return _divided_by_sum(stretched(values)) if values.any() else values
