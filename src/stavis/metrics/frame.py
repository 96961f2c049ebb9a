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
    resized = maps.TiledResize(maps.postprocess(prediction), (height, width))

    at_fixated, at_negative = (_Gather(p.positions, (height, width)) for p in (fixated, negative))
    saliency, density_summary = _first_pass(resized, density, at_fixated, at_negative)
    if not math.isfinite(saliency.mean):
        return FrameScores(*[math.nan] * 5)
    cc, sim, nss, auc_judd = _second_pass(resized, saliency, density, density_summary, at_fixated.values)
    positives, negatives = at_fixated.values, at_negative.values
    if protocol == "tuebingen":
        auc_shuffled = metrics.exact_auc(positives, negatives, fixated.counts, negative.counts)
    else:
        auc_shuffled = metrics.stretched_grid_auc(positives, negatives, saliency.lowest, saliency.highest)
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


class _Gather:
    """Collects the values at (n,) positions of a map that comes in tiles."""

    def __init__(self, positions: Indices, size: tuple[int, int]) -> None:
        """Sorts the positions by the tile of `maps.TILE_SIZE` in which they lie."""
        self.values = np.empty(positions.size)
        rows, columns = np.divmod(positions, size[1])
        num_across = -(-size[1] // maps.TILE_SIZE[1])
        tile_of = rows // maps.TILE_SIZE[0] * num_across + columns // maps.TILE_SIZE[1]
        self._order = np.argsort(tile_of, kind="stable")
        self._rows, self._columns = rows[self._order], columns[self._order]
        self._ends = iter(np.cumsum(np.bincount(tile_of)).tolist())
        self._num_done = 0

    def add(self, place: tuple[slice, slice], tile: Float64) -> None:
        """Takes in the next tile."""
        here = slice(self._num_done, next(self._ends, self._num_done))
        rows, columns = place
        values = tile[self._rows[here] - rows.start, self._columns[here] - columns.start]
        self.values[self._order[here]] = values
        self._num_done = here.stop


class _Summary(NamedTuple):
    """A map's mean and range, and the largest value of each of its tiles."""

    mean: float
    lowest: float
    tile_maxima: list[float]

    @property
    def highest(self) -> float:
        return max(self.tile_maxima)

    @property
    def varies(self) -> bool:
        return math.isfinite(self.mean) and metrics.is_varied(self.lowest, self.highest)


def _first_pass(
    resized: maps.TiledResize, density_map: Array, at_fixated: _Gather, at_negative: _Gather
) -> tuple[_Summary, _Summary]:
    """Summaries of the saliency and the density map, and the pixels that are looked at one by one."""
    saliency = _Summary(resized.mean(), math.inf, [])
    density = _Summary(float(density_map.mean()), float(density_map.min()), [])
    lowest = math.inf
    for place, tile in resized.tiles():
        lowest = min(lowest, float(tile.min()))
        saliency.tile_maxima.append(float(tile.max()))
        density.tile_maxima.append(float(density_map[place].max()))
        at_fixated.add(place, tile)
        at_negative.add(place, tile)
    return saliency._replace(lowest=lowest), density


def _second_pass(
    resized: maps.TiledResize,
    saliency: _Summary,
    density_map: Array,
    density: _Summary,
    fixated_values: Float64,
) -> tuple[float, float, float, float]:
    """CC, SIM, NSS and AUC-Judd.

    Args:
        resized: The saliency map (H, W).
        saliency: Its summary, which is finite.
        density_map: (H, W).
        density: Its summary.
        fixated_values: (n,) the saliency map at the fixated pixels.
    """
    num_pixels = density_map.size
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
    s_buffer, d_buffer = np.empty((2, math.prod(maps.TILE_SIZE)))
    tiles = zip(resized.tiles(), saliency.tile_maxima, density.tile_maxima, strict=True)
    for (place, tile), tile_maximum, density_maximum in tiles:
        if near is not None and tile_maximum < near.surely_below:
            near.add_low(tile.size)
        elif near is not None:
            near.add(tile)
        s = s_buffer[: tile.size].reshape(tile.shape)
        np.subtract(tile, saliency.mean, out=s)
        saliency_squares += float(np.vdot(s, s))
        if density.lowest == density_maximum == 0:
            # Every d is minus the mean, and nothing is shared: the rest of this loop, done by hand.
            density_squares += tile.size * density.mean**2
            products -= density.mean * float(s.sum())
            shared -= tile.size * (saliency.mean - saliency.lowest)
            continue
        d = d_buffer[: tile.size].reshape(tile.shape)
        np.copyto(
            d, density_map[place]
        )  # numpy converts and computes faster one after the other than at once
        d -= density.mean
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
