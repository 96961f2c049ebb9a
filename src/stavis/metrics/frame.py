"""The five scores of the published protocol, computed at once for a frame or a video.

The numbers equal those of `stavis.maps` and `stavis.metrics`, metric by metric, up to rounding (a test compares them).
Each pass over the full-size map is made once, in tiles that fit into the processor's cache.
"""

import math
from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from stavis import maps, metrics
from stavis.metrics.checks import batch_length, map_of, scale_exponent
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
        fixations: (H, W) or (N, H, W), >= 0, fixated where above 0; or the fixated `Pixels`.
        others: The shuffled AUC's negatives (`stavis.maps.other_fixations`), likewise. None: that score is undefined.
        protocol: How `stavis.metrics.auc_shuffled` treats the negatives.

    Returns:
        Floats; for a batch (N,) arrays.

    Raises:
        ValueError: A map has other dimensions, sizes differ, fixations are negative or nan, or the protocol is unknown.
    """
    metrics.check_protocol(protocol)
    others = _no_pixels() if others is None else others
    inputs: list[Any] = [
        v if isinstance(v, Pixels) else metrics.as_array(v)
        for v in (prediction, density_map, fixations, others)
    ]
    if not isinstance(inputs[2], Pixels):
        _check_fixations(inputs[2])
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
        fixations: (N, H, W), or an iterable of N maps, >= 0, fixated where above 0. They are read before the first map
            is.
        protocol: "stavis" takes the shuffled AUC's negatives from the video's other frames; for "cross-video" and
            "tuebingen" they must be given.
        others: (H, W) fixations of other videos.
        quirks: Which pixels of a frame are excluded from its negatives under "stavis"
            (`stavis.metrics.negatives.SameVideoNegatives`).

    Returns:
        Five (N,) arrays; `numpy.nanmean(scores.nss)` is the video's score.

    Raises:
        ValueError: Lengths or sizes differ, fixations are negative or nan, or `others` does not go with the protocol.
    """
    metrics.check_protocol(protocol)
    if (protocol == "stavis") != (others is None):
        raise ValueError(f"protocol {protocol!r} {'takes no' if others is not None else 'needs'} others")
    arrays = [metrics.as_array(fixation_map) for fixation_map in fixations]
    sizes = {values.shape for values in arrays}
    if len(sizes) != 1 or arrays[0].ndim != 2:
        raise ValueError(f"fixations are N maps of one size (H, W), not {sorted(sizes)}")
    for values in arrays:
        _check_fixations(values)
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


def _check_fixations(fixations: Array) -> None:
    """Raises ValueError for values that count as fixated in some scores of `stavis.metrics` only."""
    if fixations.dtype.kind not in ("b", "u") and fixations.size and not fixations.min() >= 0:
        raise ValueError("fixation maps must be >= 0; this one has values that are negative or nan")


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

    mean = resized.mean()
    if not math.isfinite(mean):
        return NO_SCORES
    at_fixated, at_negative = (_Gather(p.positions, (height, width)) for p in (fixated, negative))
    summary = _summarize(resized, mean, at_fixated)
    cc, sim, nss, auc_judd = _compare(resized, density, summary, at_fixated.values(), at_negative)
    positives, negatives = at_fixated.values(), at_negative.values()
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
        num_down, num_across = (-(-n // tile) for n, tile in zip(size, maps.TILE_SIZE, strict=True))
        rows, columns = np.divmod(positions, size[1])
        tile_rows, rows = np.divmod(rows, maps.TILE_SIZE[0])
        tile_columns, columns = np.divmod(columns, maps.TILE_SIZE[1])
        tile_of = tile_rows * num_across + tile_columns
        self._order = np.argsort(tile_of, kind="stable")
        self._rows, self._columns = rows[self._order], columns[self._order]
        self._sorted = np.empty(positions.size)
        counts = np.bincount(tile_of, minlength=num_down * num_across)
        self._ends = counts.cumsum().tolist()
        self.has_any = counts > 0  # (tiles,)

    def add(self, index: int, tile: Float64) -> None:
        """Adds a tile by its number."""
        here = slice(self._ends[index - 1] if index else 0, self._ends[index])
        if here.start < here.stop:
            self._sorted[here] = tile[self._rows[here], self._columns[here]]

    def values(self) -> Float64:
        """(n,) once all tiles with positions have been added."""
        values = np.empty(self._sorted.size)
        values[self._order] = self._sorted
        return values


class _Summary(NamedTuple):
    """What the comparison must know of the saliency map beforehand."""

    mean: float
    offset: float  # the mean if the map varies little around it, else 0. Sums of what exceeds it do not lose digits.
    variation: float  # sum of the squared differences from the mean
    lowest: float  # smallest value
    highest: float  # largest value
    highs: Float64  # (tiles,) largest value of each tile, or an upper bound


def _summarize(resized: maps.TiledResize, mean: float, at_fixated: _Gather) -> _Summary:
    """Summarizes the saliency map and gathers its values at fixated pixels.

    Of a map that is much enlarged, only tiles with fixated pixels, and those that may have an extreme, are computed.
    """
    by_tile = not resized.enlarges_much
    lows, highs = np.full((2, resized.num_tiles), [[-math.inf], [math.inf]]) if by_tile else resized.bounds()
    is_done = np.zeros(resized.num_tiles, dtype=np.bool_)
    offset = mean if resized.source_range() < abs(mean) else 0.0
    squares = 0.0

    def visit(index: int) -> None:
        nonlocal squares
        _, tile = resized.tile(index)
        lows[index], highs[index], is_done[index] = tile.min(), tile.max(), True
        if by_tile:
            above = tile - offset if offset else tile
            squares += float(np.vdot(above, above))
        at_fixated.add(index, tile)

    for index in at_fixated.has_any.nonzero()[0].tolist():
        visit(index)
    # The tile with the best bound is next, until this is a value.
    for argbest in (lows.argmin, highs.argmax):
        while not is_done[index := int(argbest())]:
            visit(index)
    lowest, highest = float(lows.min()), float(highs.max())
    variation = (
        squares - resized.height * resized.width * (mean - offset) ** 2 if by_tile else resized.variation()
    )
    return _Summary(mean, offset, variation, lowest, highest, highs)


def _compare(
    resized: maps.TiledResize,
    density_map: Array,
    summary: _Summary,
    fixated_values: Float64,
    at_negative: _Gather,
) -> tuple[float, float, float, float]:
    """CC, SIM, NSS and AUC-Judd of a saliency map and a density map, both (H, W); fills the gather `at_negative`.

    Tiles without density add nothing to the sums, and tiles below all `fixated_values`, those of the saliency map at
    the fixated pixels, are only counted: a tile that is both, and without negatives, is not computed. The `summary` is
    finite.
    """
    num_pixels, lowest, mean, offset = density_map.size, summary.lowest, summary.mean, summary.offset
    varies = metrics.is_varied(lowest, summary.highest)
    density_lowest, density_maxima = float(density_map.min()), _tile_maxima(density_map)
    density_highest = float(density_maxima.max())
    if exponent := scale_exponent(density_lowest, density_highest):
        return _compare(resized, np.ldexp(density_map, exponent), summary, fixated_values, at_negative)
    density_varies = metrics.is_varied(density_lowest, density_highest)
    has_density = density_maxima > density_lowest if density_varies else np.zeros_like(at_negative.has_any)
    near = metrics.NearPixels(fixated_values, lowest, summary.highest) if fixated_values.size else None
    has_near = summary.highs >= near.surely_below if near else np.zeros_like(has_density)

    density_sum = _sum_of_density(density_map, has_density, density_lowest)
    # SIM compares (s - lowest) / sum with d / density_sum, where d has lost its lowest value: here both times sum.
    saliency_sum = (mean - lowest) * num_pixels
    ratio = saliency_sum / density_sum if density_varies else 0.0
    density_squares = products = shared = 0.0
    num_done = 0
    buffer = np.empty(math.prod(maps.TILE_SIZE))
    wanted = has_density | has_near | at_negative.has_any
    for index in wanted.nonzero()[0].tolist():
        place, tile = resized.tile(index)
        at_negative.add(index, tile)
        if near is not None and has_near[index]:
            rows = (tile.max(axis=1) >= near.surely_below).nonzero()[0]
            reaching = tile[rows[0] : rows[-1] + 1] if rows.size else tile[:0]
            near.add(reaching)
            num_done += reaching.size
        if not has_density[index]:
            continue
        d = buffer[: tile.size].reshape(tile.shape)
        np.copyto(d, density_map[place])  # numpy is faster at converting first and computing then
        if density_lowest:
            d -= density_lowest
        density_squares += float(np.vdot(d, d))
        products += float(np.vdot(tile - offset if offset else tile, d))
        d *= ratio
        d += lowest
        np.minimum(tile, d, out=d)
        shared += float(d.sum()) - lowest * tile.size

    cc = sim = nss = math.nan
    if varies and density_varies:
        density_variation = density_squares - density_sum**2 / num_pixels
        cc = (products - (mean - offset) * density_sum) / math.sqrt(summary.variation * density_variation)
        sim = shared / saliency_sum
    elif varies and density_lowest == density_highest == 0:
        sim = 0.0
    if varies and fixated_values.size:
        nss = (float(fixated_values.mean()) - mean) / math.sqrt(summary.variation / (num_pixels - 1))
    if near is None:
        return cc, sim, nss, math.nan
    near.add_low(num_pixels - num_done)
    return cc, sim, nss, near.expected_auc_judd()


def _tile_maxima(density_map: Array) -> Float64:
    """(tiles,) the largest value of each tile."""
    height, width = density_map.shape
    columns = np.arange(0, width, maps.TILE_SIZE[1])
    return np.concatenate(
        [
            np.maximum.reduceat(density_map[begin : begin + maps.TILE_SIZE[0]].max(axis=0), columns)
            for begin in range(0, height, maps.TILE_SIZE[0])
        ]
    ).astype(np.float64)


def _sum_of_density(density_map: Array, has_density: Array, lowest: float) -> float:
    """Sum of the (H, W) map less its lowest value."""
    exact = np.uint32 if density_map.dtype == np.uint8 else np.float64
    across = -(-density_map.shape[1] // maps.TILE_SIZE[1])
    total = 0.0
    for index in has_density.nonzero()[0].tolist():
        row, column = (n * tile for n, tile in zip(divmod(index, across), maps.TILE_SIZE, strict=True))
        density = density_map[row : row + maps.TILE_SIZE[0], column : column + maps.TILE_SIZE[1]]
        total += float(density.sum(dtype=exact)) - lowest * density.size
    return total
