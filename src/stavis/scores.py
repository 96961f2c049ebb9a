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
        positions: (n,) in the map read row by row, ascending, each once.
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
    resized = maps.BlockwiseResize(maps.postprocess(prediction), (height, width))

    # First pass: the range, and the pixels that count one by one.
    lowest, highest = math.inf, -math.inf
    at_fixated, at_negative = _Gather(fixated.positions), _Gather(negative.positions)
    for rows, block in resized.blocks():
        lowest, highest = min(lowest, float(block.min())), max(highest, float(block.max()))
        begin = rows.start * width
        at_fixated.add(begin, block)
        at_negative.add(begin, block)
    saliency = _Summary(lowest, highest, resized.mean())
    if not math.isfinite(saliency.mean):
        return FrameScores(*[math.nan] * 5)

    if protocol == "tuebingen":
        auc_shuffled = metrics.exact_auc(
            at_fixated.values, at_negative.values, fixated.counts, negative.counts
        )
    else:
        auc_shuffled = metrics.stretched_grid_auc(at_fixated.values, at_negative.values, lowest, highest)
    return FrameScores(*_full_size_scores(resized, saliency, density, at_fixated.values), auc_shuffled)


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


class _Gather:
    """Collects the values at positions, (n,) and ascending, from a map that comes in pieces."""

    def __init__(self, positions: Indices) -> None:
        self.positions = positions
        self.values = np.empty(positions.size)
        self._num_done = 0

    def add(self, begin: int, block: Float64) -> None:
        """Takes in a piece that begins at position `begin`."""
        end = int(np.searchsorted(self.positions, begin + block.size))
        here = slice(self._num_done, end)
        self.values[here] = block.reshape(-1)[self.positions[here] - begin]
        self._num_done = end


class _Summary(NamedTuple):
    """The range of a map, and its mean."""

    lowest: float
    highest: float
    mean: float

    @property
    def varies(self) -> bool:
        return metrics.is_varied(self.lowest, self.highest)


def _full_size_scores(
    resized: maps.BlockwiseResize, saliency: _Summary, density_map: Array, fixated_values: Float64
) -> tuple[float, float, float, float]:
    """The second pass: CC, SIM, NSS and AUC-Judd.

    Args:
        resized: The saliency map (H, W).
        saliency: Its summary, which is finite.
        density_map: (H, W).
        fixated_values: (n,) the saliency map at the fixated pixels.
    """
    num_pixels = density_map.size
    density = _Summary(float(density_map.min()), float(density_map.max()), float(density_map.mean()))
    near = None
    if fixated_values.size:
        near = metrics.NearPixels(fixated_values, saliency.lowest, saliency.highest)

    # SIM compares (s - lowest) / sum with (d - lowest) / sum: here both times the saliency map's sum.
    saliency_sum = (saliency.mean - saliency.lowest) * num_pixels
    density_sum = (density.mean - density.lowest) * num_pixels
    ratio = saliency_sum / density_sum if density.varies else 0.0
    # min(s - lowest, (d - lowest) * ratio), where s and d have lost their means.
    shift = (density.mean - density.lowest) * ratio - (saliency.mean - saliency.lowest)

    saliency_squares = density_squares = products = shared = 0.0
    s_buffer = d_buffer = np.empty((0, 0))
    for rows, block in resized.blocks():
        if near is not None:
            near.add(block.reshape(-1))
        if s_buffer.shape != block.shape:
            s_buffer, d_buffer = np.empty((2, *block.shape))
        s = np.subtract(block, saliency.mean, out=s_buffer)
        d = d_buffer
        np.copyto(d, density_map[rows])  # numpy converts and computes faster one after the other than at once
        d -= density.mean
        saliency_squares += float(np.vdot(s, s))
        density_squares += float(np.vdot(d, d))
        products += float(np.vdot(s, d))
        d *= ratio
        d += shift
        np.minimum(s, d, out=d)
        shared += float(d.sum())

    both_vary = saliency.varies and density.varies
    cc = products / math.sqrt(saliency_squares * density_squares) if both_vary else math.nan
    sim = (shared + saliency_sum) / saliency_sum if both_vary else math.nan
    if saliency.varies and density.lowest == density.highest == 0:
        sim = 0.0
    nss = math.nan
    if saliency.varies and fixated_values.size:
        deviation = math.sqrt(saliency_squares / (num_pixels - 1))
        nss = (float(fixated_values.mean()) - saliency.mean) / deviation
    return cc, sim, nss, near.expected_auc_judd() if near is not None else math.nan
