"""Resizing equal to MATLAB's imresize (bicubic, antialiased)."""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from stavis.maps.arrays import Array, Float64Map

TILE_SIZE = (64, 256)  # (height, width) in pixels of a tile, which fits into the processor's cache


def resize(saliency_map: Array, size: tuple[int, int]) -> Float64Map:
    """Resizes like MATLAB's `imresize`: bicubic (a = -0.5), antialiased when shrinking, mirrored borders, no clipping.

    Common libraries handle borders or antialiasing differently, which changes scores (docs/metrics.md).

    Args:
        saliency_map: (h, w), any real values.
        size: (height, width) of the result, in pixels.

    Returns:
        (height, width). Values can lie slightly outside the range of the input.

    Raises:
        ValueError: The map is not two-dimensional or a size is below 1.
    """
    resized = TiledResize(saliency_map, size)
    result = np.empty(size)
    for place, tile in resized.tiles():
        result[place] = tile
    return result


class TiledResize:
    """The result of `resize` tile by tile, for processing each tile while it is in the cache.

    Iterating over the tiles twice is cheaper than storing a large map.
    """

    def __init__(self, saliency_map: Array, size: tuple[int, int]) -> None:
        """Resizes the width. Arguments and errors are those of `resize`."""
        values = np.asarray(saliency_map, dtype=np.float64)
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(f"a map is (H, W), not {values.shape}")
        self.height, self.width = size
        if self.height < 1 or self.width < 1:
            raise ValueError(f"cannot resize to {self.height}x{self.width} pixels")
        self._columns_done = values
        if values.shape[1] != self.width:
            self._columns_done = np.empty((values.shape[0], self.width))
            for columns, used, weights in _weight_blocks(values.shape[1], self.width, 64):
                np.matmul(values[:, used], weights.T, out=self._columns_done[:, columns])

    def mean(self) -> float:
        """Returns the mean of the whole result."""
        values = self._columns_done
        if values.shape[0] == self.height:
            return float(values.mean())
        return float((resize_weights(values.shape[0], self.height).sum(axis=0) @ values).mean() / self.height)

    def tiles(self, wanted: Sequence[bool] | None = None) -> Iterator[tuple[tuple[slice, slice], Float64Map]]:
        """Yields tiles of at most `TILE_SIZE`: the rows and columns of the result each one covers, and its values.

        A tile is read-only and valid until the next one, which reuses its memory. `wanted` says for each tile whether
        it is computed; None for all.
        """
        is_wanted = iter(itertools.repeat(True) if wanted is None else wanted)
        values = self._columns_done
        tile_height, tile_width = TILE_SIZE
        columns = [
            slice(begin, min(begin + tile_width, self.width)) for begin in range(0, self.width, tile_width)
        ]
        if values.shape[0] == self.height:
            for begin in range(0, self.height, tile_height):
                rows = slice(begin, min(begin + tile_height, self.height))
                for across in itertools.compress(columns, is_wanted):
                    yield (rows, across), values[rows, across]
            return
        buffer = np.empty(tile_height * tile_width)
        for rows, used, weights in _weight_blocks(values.shape[0], self.height, tile_height):
            for across in itertools.compress(columns, is_wanted):
                shape = (rows.stop - rows.start, across.stop - across.start)
                tile = buffer[: math.prod(shape)].reshape(shape)
                np.matmul(weights, values[used, across], out=tile)
                yield (rows, across), tile


@functools.lru_cache(maxsize=32)
def resize_weights(num_in: int, num_out: int) -> Float64Map:
    """Returns the (num_out, num_in) matrix that resizes one axis. Cached and read-only."""
    scale = num_out / num_in
    shrink = min(scale, 1.0)
    support = 4.0 / shrink  # input pixels under the kernel
    # Centers of the output pixels, in input pixels counted from 0.
    centers = (np.arange(num_out) + 0.5) / scale - 0.5
    first = np.floor(centers - support / 2).astype(np.intp)
    taps = first[:, None] + np.arange(math.ceil(support) + 2)
    weights = _cubic(shrink * (centers[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    folded = taps % (2 * num_in)
    folded = np.where(folded < num_in, folded, 2 * num_in - 1 - folded)
    matrix = np.zeros((num_out, num_in))
    np.add.at(matrix, (np.arange(num_out)[:, None], folded), weights)
    matrix.flags.writeable = False
    return matrix


def _cubic(x: Float64Map) -> Float64Map:
    """Cubic convolution kernel with a = -0.5 (Keys 1981)."""
    x = np.abs(x)
    near = 1.0 + x**2 * (1.5 * x - 2.5)
    far = 2.0 + x * (-4.0 + x * (2.5 - 0.5 * x))
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@functools.lru_cache(maxsize=32)
def _weight_blocks(num_in: int, num_out: int, num_rows: int) -> list[tuple[slice, slice, Float64Map]]:
    """Splits the weight matrix into blocks of `num_rows`, each reduced to its few nonzero columns."""
    matrix = resize_weights(num_in, num_out)
    blocks = []
    for begin in range(0, num_out, num_rows):
        rows = slice(begin, min(begin + num_rows, num_out))
        used = np.flatnonzero(matrix[rows].any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        blocks.append((rows, columns, np.ascontiguousarray(matrix[rows, columns])))
    return blocks
