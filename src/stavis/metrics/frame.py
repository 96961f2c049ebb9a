"""The five scores of the published protocol, computed at once for a frame or a video.

The numbers equal those of `stavis.maps` and `stavis.metrics`, metric by metric, up to rounding (a test compares them).
Each pass over the full-size map is made once, in tiles that fit into the processor's cache.
"""

import math
from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from stavis import maps, metrics
from stavis.metrics.checks import batch_length, map_of
from stavis.metrics.negatives import Pixels, Quirks, SameVideoNegatives, VideoFixations, pixels_of

Array = maps.Array
Float64 = metrics.Float64
Indices = metrics.Indices
S = TypeVar("S")


class FrameScores(NamedTuple, Generic[S]):
    """The five scores of a frame, nan where undefined; of several frames, five (N,) arrays."""

    cc: S
    sim: S
    nss: S
    auc_judd: S
    auc_shuffled: S


NO_SCORES = FrameScores(*[math.nan] * 5)


def score_frame(
    prediction: metrics.MapLike,
    density_map: metrics.MapLike,
    fixations: metrics.MapLike,
    others: metrics.MapLike | None = None,
    *,
    protocol: metrics.Protocol = "stavis",
) -> FrameScores[Any]:
    """Post-processes a prediction, resizes it to the size of the ground truth and scores it.

    Maps are numpy arrays or torch tensors on any device.

    Args:
        prediction: (h, w), 8-bit or any real values >= 0; or (N, h, w), a batch.
        density_map: (H, W) or (N, H, W), 8-bit or any real values.
        fixations: (H, W) or (N, H, W), fixated where above 0; or the fixated `Pixels`.
        others: The shuffled AUC's negatives (`stavis.maps.other_fixations`), likewise. None: that score is undefined.
        protocol: How `stavis.metrics.auc_shuffled` treats the negatives.

    Returns:
        Floats; for a batch (N,) arrays.

    Raises:
        ValueError: A map has other dimensions, sizes differ, or the protocol is unknown.
    """
    metrics.check_protocol(protocol)
    others = _no_pixels() if others is None else others
    inputs: list[Any] = [
        v if isinstance(v, Pixels) else metrics.as_array(v)
        for v in (prediction, density_map, fixations, others)
    ]
    length = batch_length(*inputs)
    if length is None:
        return score_pixels(*inputs, protocol=protocol)
    return _stack([score_pixels(*(map_of(v, i) for v in inputs), protocol=protocol) for i in range(length)])


def score_video(
    saliency: Iterable[metrics.MapLike],
    density: Iterable[metrics.MapLike],
    fixations: Iterable[metrics.MapLike],
    *,
    protocol: metrics.Protocol = "stavis",
    others: metrics.MapLike | None = None,
    quirks: Quirks = "reference",
) -> FrameScores[Float64]:
    """Scores the maps of a whole video.

    Args:
        saliency: (N, h, w), or N maps (h, w) from any iterable, which is read frame by frame.
        density: (N, H, W), or an iterable of N maps.
        fixations: (N, H, W), or an iterable of N maps, fixated where above 0. They are read before the first map is.
        protocol: "stavis" takes the shuffled AUC's negatives from the video's other frames; for "cross-video" and
            "tuebingen" they must be given.
        others: (H, W) fixations of other videos.
        quirks: Which pixels of a frame are excluded from its negatives under "stavis"
            (`stavis.metrics.negatives.SameVideoNegatives`).

    Returns:
        Five (N,) arrays; `numpy.nanmean(scores.nss)` is the video's score.

    Raises:
        ValueError: Lengths or sizes differ, or `others` does not go with the protocol.
    """
    metrics.check_protocol(protocol)
    if (protocol == "stavis") != (others is None):
        raise ValueError(f"protocol {protocol!r} {'takes no' if others is not None else 'needs'} others")
    arrays = [metrics.as_array(fixation_map) for fixation_map in fixations]
    sizes = {values.shape for values in arrays}
    if len(sizes) != 1 or arrays[0].ndim != 2:
        raise ValueError(f"fixations are N maps of one size (H, W), not {sorted(sizes)}")
    frames = [pixels_of(values) for values in arrays]
    if others is None:
        same_video = SameVideoNegatives(VideoFixations(arrays[0].shape, frames), quirks)
        negatives = [same_video.of_frame(fixated) for fixated in frames]
    else:
        negatives = [_pixels_inside(metrics.as_array(others), arrays[0].shape)] * len(frames)
    rows = []
    for one, truth, fixated, negative in zip(saliency, density, frames, negatives, strict=True):
        rows.append(
            score_pixels(metrics.as_array(one), metrics.as_array(truth), fixated, negative, protocol=protocol)
        )
    return _stack(rows)


def _stack(frames: list[FrameScores[float]]) -> FrameScores[Float64]:
    return FrameScores(*np.array(frames, dtype=np.float64).reshape(-1, len(NO_SCORES)).T)


def _no_pixels() -> Pixels:
    return Pixels(np.empty(0, dtype=np.intp), np.empty(0))


def score_pixels(
    prediction: Array,
    density: Array,
    fixations: Array | Pixels,
    others: Array | Pixels,
    *,
    protocol: metrics.Protocol = "stavis",
) -> FrameScores[float]:
    """`score_frame` for a single frame of numpy arrays."""
    if density.ndim != 2:
        raise ValueError(f"a density map is (H, W), not {density.shape}")
    fixated, negative = _pixels_inside(fixations, density.shape), _pixels_inside(others, density.shape)
    height, width = density.shape
    resized = maps.TiledResize(maps.postprocess(prediction), (height, width))

    at_fixated, at_negative = (_Gather(p.positions, (height, width)) for p in (fixated, negative))
    summary = _first_pass(resized, density, at_fixated, at_negative)
    if not math.isfinite(summary.mean):
        return NO_SCORES
    cc, sim, nss, auc_judd = _second_pass(resized, density, summary, at_fixated.values)
    positives, negatives = at_fixated.values, at_negative.values
    if protocol == "tuebingen":
        auc_shuffled = metrics.exact_auc(positives, negatives, fixated.counts, negative.counts)
    else:
        auc_shuffled = metrics.stretched_grid_auc(positives, negatives, summary.lowest, summary.highest)
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
    """The values at (n,) positions of a map that arrives in tiles."""

    def __init__(self, positions: Indices, size: tuple[int, int]) -> None:
        """Sorts the positions by tile of `maps.TILE_SIZE`."""
        self.values = np.empty(positions.size)
        rows, columns = np.divmod(positions, size[1])
        num_across = -(-size[1] // maps.TILE_SIZE[1])
        tile_of = rows // maps.TILE_SIZE[0] * num_across + columns // maps.TILE_SIZE[1]
        self._order = np.argsort(tile_of, kind="stable")
        self._rows, self._columns = rows[self._order], columns[self._order]
        self._ends = iter(np.cumsum(np.bincount(tile_of)).tolist())
        self._num_done = 0

    def add(self, place: tuple[slice, slice], tile: Float64) -> None:
        """Adds the next tile."""
        here = slice(self._num_done, next(self._ends, self._num_done))
        if here.start == here.stop:
            return
        rows, columns = place
        values = tile[self._rows[here] - rows.start, self._columns[here] - columns.start]
        self.values[self._order[here]] = values
        self._num_done = here.stop


class _Summary(NamedTuple):
    """What the second pass must know of the saliency map S and the density map D.

    Attributes:
        mean: Mean of S.
        lowest: Smallest value of S.
        squares: Sum of the squares of S.
        tile_maxima: Largest value of S in each tile.
        density_lowest: Smallest value of D.
        density_maxima: Largest value of D in each tile.
        density_sum: Sum of D - `density_lowest`.
    """

    mean: float
    lowest: float
    squares: float
    tile_maxima: list[float]
    density_lowest: float
    density_maxima: list[float]
    density_sum: float

    @property
    def highest(self) -> float:
        return max(self.tile_maxima)


def _first_pass(
    resized: maps.TiledResize, density_map: Array, at_fixated: _Gather, at_negative: _Gather
) -> _Summary:
    """Summarizes both maps and fills both gathers."""
    lowest, squares, density_sum = math.inf, 0.0, 0.0
    tile_maxima, density_maxima = [], []
    density_lowest = float(density_map.min())
    exact = np.uint32 if density_map.dtype == np.uint8 else np.float64
    for place, tile in resized.tiles():
        lowest = min(lowest, float(tile.min()))
        squares += float(np.vdot(tile, tile))
        tile_maxima.append(float(tile.max()))
        density = density_map[place]
        density_maxima.append(float(density.max()))
        if density_maxima[-1] > density_lowest:
            density_sum += float(density.sum(dtype=exact)) - density_lowest * tile.size
        at_fixated.add(place, tile)
        at_negative.add(place, tile)
    return _Summary(resized.mean(), lowest, squares, tile_maxima, density_lowest, density_maxima, density_sum)


def _second_pass(
    resized: maps.TiledResize, density_map: Array, summary: _Summary, fixated_values: Float64
) -> tuple[float, float, float, float]:
    """CC, SIM, NSS and AUC-Judd.

    Tiles without density add nothing to the sums, and tiles below all fixated values are only counted: a tile that is
    both is not resized again.

    Args:
        resized: The saliency map (H, W).
        density_map: (H, W).
        summary: Of both; the saliency map's is finite.
        fixated_values: (n,) the saliency map at the fixated pixels.
    """
    num_pixels, lowest, mean = density_map.size, summary.lowest, summary.mean
    varies = metrics.is_varied(lowest, summary.highest)
    density_highest = max(summary.density_maxima)
    density_varies = metrics.is_varied(summary.density_lowest, density_highest)
    near = metrics.NearPixels(fixated_values, lowest, summary.highest) if fixated_values.size else None
    has_density = [density_varies and value > summary.density_lowest for value in summary.density_maxima]
    has_near = [near is not None and value >= near.surely_below for value in summary.tile_maxima]

    # SIM compares (s - lowest) / sum with d / density_sum, where d has lost its lowest value: here both times sum.
    saliency_sum = (mean - lowest) * num_pixels
    ratio = saliency_sum / summary.density_sum if density_varies else 0.0
    density_squares = products = shared = 0.0
    num_done = 0
    buffer = np.empty(math.prod(maps.TILE_SIZE))
    wanted = [either or other for either, other in zip(has_density, has_near, strict=True)]
    flags = [(d, n) for d, n in zip(has_density, has_near, strict=True) if d or n]
    for (place, tile), (of_density, of_near) in zip(resized.tiles(wanted), flags, strict=True):
        if near is not None and of_near:
            near.add(tile)
            num_done += tile.size
        if not of_density:
            continue
        d = buffer[: tile.size].reshape(tile.shape)
        np.copyto(d, density_map[place])  # numpy is faster at converting first and computing then
        if summary.density_lowest:
            d -= summary.density_lowest
        density_squares += float(np.vdot(d, d))
        products += float(np.vdot(tile, d))
        d *= ratio
        d += lowest
        np.minimum(tile, d, out=d)
        shared += float(d.sum()) - lowest * tile.size

    cc = sim = nss = math.nan
    variation = summary.squares - num_pixels * mean**2
    if varies and density_varies:
        density_variation = density_squares - summary.density_sum**2 / num_pixels
        cc = (products - mean * summary.density_sum) / math.sqrt(variation * density_variation)
        sim = shared / saliency_sum
    elif varies and summary.density_lowest == density_highest == 0:
        sim = 0.0
    if varies and fixated_values.size:
        nss = (float(fixated_values.mean()) - mean) / math.sqrt(variation / (num_pixels - 1))
    if near is None:
        return cc, sim, nss, math.nan
    near.add_low(num_pixels - num_done)
    return cc, sim, nss, near.expected_auc_judd()
