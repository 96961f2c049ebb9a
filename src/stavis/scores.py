"""The five scores of the published protocol for one frame, in one go and fast.

They are the numbers that `stavis.maps` and `stavis.metrics` give one by one, up to rounding (a test holds the two
together). Each pass over the full-size map is made once, in pieces that stay in the processor's cache.
"""

import math
from typing import NamedTuple

import numpy as np

from stavis import maps, metrics

Array = maps.Array
Float64 = metrics.Float64
Indices = metrics.Indices


class FrameScores(NamedTuple):
    """The five scores of a frame, nan where undefined."""

    cc: float
    sim: float
    nss: float
    auc_judd: float
    auc_shuffled: float


class Pixels(NamedTuple):
    """Pixels of a map and how much each counts.

    Attributes:
        positions: (n,), each once, in the map read row by row.
        counts: (n,) numbers of fixations, which only the protocol "tuebingen" looks at.
    """

    positions: Indices
    counts: Array


def pixels_of(fixation_map: Array) -> Pixels:
    """The pixels above 0 of an (H, W) map: much smaller, for a video's frames to be kept in memory."""
    positions = maps.fixated_pixels(fixation_map)
    rows, columns = np.divmod(positions, fixation_map.shape[1])
    return Pixels(positions, fixation_map[rows, columns])


def score_frame(
    prediction: Array,
    density_map: Array,
    fixations: Array | Pixels,
    others: Array | Pixels,
    *,
    protocol: metrics.Protocol = "stavis",
) -> FrameScores:
    """Post-processes a prediction, resizes it to the ground truth and scores it.

    Args:
        prediction: (h, w), 8-bit or any real values >= 0.
        density_map: (H, W), 8-bit or any real values.
        fixations: An (H, W) map, fixated where above 0, or the fixated pixels.
        others: The shuffled AUC's negatives (`stavis.maps.other_fixations`), likewise.
        protocol: What `stavis.metrics.auc_shuffled` makes of the negatives.

    Raises:
        ValueError: A map is not two-dimensional, sizes differ, or the protocol is unknown.
    """
    metrics.check_protocol(protocol)
    density = np.asarray(density_map)
    if density.ndim != 2:
        raise ValueError(f"a density map is (H, W), not {density.shape}")
    fixated, negative = _pixels_inside(fixations, density.shape), _pixels_inside(others, density.shape)
    height, width = density.shape
    saliency = maps.resize(maps.postprocess(prediction), (height, width)).reshape(-1)
    lowest, highest = float(saliency.min()), float(saliency.max())
    positives, negatives = saliency[fixated.positions], saliency[negative.positions]
    if protocol == "tuebingen":
        auc_shuffled = metrics.exact_auc(positives, negatives, fixated.counts, negative.counts)
    else:
        auc_shuffled = metrics.stretched_grid_auc(positives, negatives, lowest, highest)
    cc, sim, nss, auc_judd = _full_size_scores(
        saliency, density.reshape(-1), fixated.positions, lowest, highest
    )
    return FrameScores(cc, sim, nss, auc_judd, auc_shuffled)


def _pixels_inside(fixations: Array | Pixels, shape: tuple[int, ...]) -> Pixels:
    if not isinstance(fixations, Pixels):
        if fixations.shape != shape:
            raise ValueError(
                f"a density map of {shape} goes with fixations of that size, not {fixations.shape}"
            )
        return pixels_of(fixations)
    num_pixels = math.prod(shape)
    if fixations.positions.size and fixations.positions.max() >= num_pixels:
        raise ValueError(f"position {fixations.positions.max()} is outside the map's {num_pixels} pixels")
    return fixations


def _full_size_scores(
    saliency: Float64, density: Array, fixated: Indices, lowest: float, highest: float
) -> tuple[float, float, float, float]:
    """CC, SIM, NSS and AUC-Judd of maps (N,), in one pass over both.

    Args:
        saliency: (N,), its range `lowest` to `highest`.
        density: (N,).
        fixated: (n,) positions.
        lowest: May be nan.
        highest: May be nan.
    """
    if not math.isfinite(highest - lowest):
        return math.nan, math.nan, math.nan, math.nan
    near = metrics.NearPixels(saliency[fixated], lowest, highest) if fixated.size else None
    num_pixels = saliency.size
    saliency_mean = float(saliency.mean())
    density_mean = float(density.mean())
    density_lowest, density_highest = float(density.min()), float(density.max())
    saliency_varies = not metrics.is_constant_range(lowest, highest)
    density_varies = not metrics.is_constant_range(density_lowest, density_highest)

    # SIM compares (s - lowest) / sum and (d - lowest) / sum: here both times the saliency map's sum.
    saliency_sum = (saliency_mean - lowest) * num_pixels
    density_sum = (density_mean - density_lowest) * num_pixels
    ratio = saliency_sum / density_sum if density_varies else 0.0

    squares = density_squares = products = shared = 0.0
    s_buffer, d_buffer = np.empty((2, metrics.CHUNK))
    for begin in range(0, num_pixels, metrics.CHUNK):
        part = saliency[begin : begin + metrics.CHUNK]
        s, d = s_buffer[: part.size], d_buffer[: part.size]
        np.subtract(part, saliency_mean, out=s)
        np.subtract(density[begin : begin + metrics.CHUNK], density_mean, out=d)
        squares += float(np.dot(s, s))
        density_squares += float(np.dot(d, d))
        products += float(np.dot(s, d))
        # min(s - lowest, (d - lowest) * ratio), with both sides' means and minima moved into one constant.
        d *= ratio
        d += (density_mean - density_lowest) * ratio - (saliency_mean - lowest)
        np.minimum(s, d, out=d)
        shared += float(d.sum())
        if near is not None:
            near.add(part)

    cc = products / math.sqrt(squares * density_squares) if saliency_varies and density_varies else math.nan
    nss = math.nan
    if saliency_varies and fixated.size:
        nss = (float(saliency[fixated].mean()) - saliency_mean) / math.sqrt(squares / (num_pixels - 1))
    if saliency_varies and density_varies:
        sim = (shared + saliency_sum) / saliency_sum
    elif saliency_varies and density_highest == density_lowest == 0:
        sim = 0.0
    else:
        sim = math.nan
    return cc, sim, nss, near.expected_auc_judd() if near is not None else math.nan
