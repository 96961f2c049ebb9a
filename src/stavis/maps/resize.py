"""Resizing as MATLAB's imresize does it (bicubic, antialiased)."""

import functools
import math
from collections.abc import Iterator

import numpy as np

from stavis.maps.arrays import Array, Float64Map

TILE_SIZE = (
    96,
    320,
)  # (height, width) in pixels that are worked on at once: they fit into the processor's cache


# --- Resizing and blurring --------------------------------------------------------------------------------------------


def resize(saliency_map: Array, size: tuple[int, int]) -> Float64Map:
    """Resizes as MATLAB's `imresize`: bicubic (a = -0.5), antialiased when shrinking, mirrored borders, no clipping.

    Library resizers treat the border or the antialiasing otherwise, and scores move (docs/metrics.md).

    Args:
        saliency_map: (h, w), any real values.
        size: (height, width) of the result in pixels.

    Returns:
        (height, width). Values can lie slightly outside the input's range.

    Raises:
        ValueError: The map is not two-dimensional or a size is below 1.
    """
    resized = TiledResize(saliency_map, size)
    result = np.empty(size)
    for place, tile in resized.tiles():
        result[place] = tile
    return result


class TiledResize:
    """What `resize` gives, tile by tile, for work on a tile while it is in the processor's cache.

    Going through the tiles twice costs less than keeping a large map.
    """

    def __init__(self, saliency_map: Array, size: tuple[int, int]) -> None:
        """Resizes the width. Arguments and errors as of `resize`."""
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
        """The mean of the whole result."""
        values = self._columns_done
        if values.shape[0] == self.height:
            return float(values.mean())
        return float((resize_weights(values.shape[0], self.height).sum(axis=0) @ values).mean() / self.height)

    def tiles(self) -> Iterator[tuple[tuple[slice, slice], Float64Map]]:
        """Gives the tiles, of `TILE_SIZE` or less: the rows and columns of the result that one covers, and its values.

        They are to be read only, and valid until the next tile: its memory is the same.
        """
        values = self._columns_done
        tile_height, tile_width = TILE_SIZE
        columns = [
            slice(begin, min(begin + tile_width, self.width)) for begin in range(0, self.width, tile_width)
        ]
        if values.shape[0] == self.height:
            for begin in range(0, self.height, tile_height):
                rows = slice(begin, min(begin + tile_height, self.height))
                for across in columns:
                    yield (rows, across), values[rows, across]
            return
        buffer = np.empty(tile_height * tile_width)
        for rows, used, weights in _weight_blocks(values.shape[0], self.height, tile_height):
            for across in columns:
                shape = (rows.stop - rows.start, across.stop - across.start)
                tile = buffer[: math.prod(shape)].reshape(shape)
                np.matmul(weights, values[used, across], out=tile)
                yield (rows, across), tile


@functools.lru_cache(maxsize=32)
def resize_weights(num_in: int, num_out: int) -> Float64Map:
    """The (num_out, num_in) matrix that resizes one axis. Cached; read-only."""
    scale = num_out / num_in
    shrink = min(scale, 1.0)
    support = 4.0 / shrink  # input pixels under the kernel
    # Centers of the output pixels in input pixels, both counted from 0.
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
    """Keys' cubic convolution kernel, a = -0.5 (Keys 1981)."""
    x = np.abs(x)
    near = 1.0 + x**2 * (1.5 * x - 2.5)
    far = 2.0 + x * (-4.0 + x * (2.5 - 0.5 * x))
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@functools.lru_cache(maxsize=32)
def _weight_blocks(num_in: int, num_out: int, num_rows: int) -> list[tuple[slice, slice, Float64Map]]:
    """The weight matrix in blocks of `num_rows`, each with the few columns only that it is not zero in."""
    matrix = resize_weights(num_in, num_out)
    blocks = []
    for begin in range(0, num_out, num_rows):
        rows = slice(begin, min(begin + num_rows, num_out))
        used = np.flatnonzero(matrix[rows].any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        blocks.append((rows, columns, np.ascontiguousarray(matrix[rows, columns])))
    return blocks
