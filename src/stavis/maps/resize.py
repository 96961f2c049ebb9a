"""Resizing equal to MATLAB's imresize (bicubic, antialiased)."""

import functools
import math

import numpy as np
import numpy.typing as npt

from stavis.maps.arrays import Array, Float64Map

Indices = npt.NDArray[np.intp]

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
    for index in range(resized.num_tiles):
        place, tile = resized.tile(index)
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
        self._num_across = -(-self.width // TILE_SIZE[1])
        self.num_tiles = -(-self.height // TILE_SIZE[0]) * self._num_across
        self._buffer = np.empty(math.prod(TILE_SIZE))
        self._source = self._columns_done = values
        if values.shape[1] != self.width:
            self._columns_done = np.empty((values.shape[0], self.width))
            for columns, used, weights in _weight_blocks(values.shape[1], self.width, 64):
                np.matmul(values[:, used], weights.T, out=self._columns_done[:, columns])

    def mean(self) -> float:
        """Returns the mean of the whole result."""
        rows, columns = (
            _weight_sums(*sizes) for sizes in zip(self._source.shape, (self.height, self.width), strict=True)
        )
        return float(rows @ self._source @ columns) / (self.height * self.width)

    def source_range(self) -> float:
        """Returns the largest value before resizing less the smallest."""
        return float(np.ptp(self._source))

    @property
    def enlarges_much(self) -> bool:
        """Whether `variation` and `bounds` are cheaper than the result itself."""
        height, width = self._source.shape
        is_enlarged = 2 * height <= self.height and 2 * width <= self.width
        is_cheap = height * width * (height + width) <= 10 * self.height * self.width
        return bool(is_enlarged and is_cheap)

    def variation(self) -> float:
        """Returns the sum of the squared differences from the mean, computed without the result."""
        centered = self._source - self.mean()
        rows, columns = (
            _weight_products(*sizes) for sizes in zip(centered.shape, (self.height, self.width), strict=True)
        )
        products = centered @ columns
        variation = 0.0
        for apart in range(min(4, len(centered))):  # other rows do not meet in a pixel of the result
            of_rows = np.einsum("ij,ij->i", centered[: len(centered) - apart], products[apart:])
            variation += (2 if apart else 1) * float(np.diagonal(rows, apart) @ of_rows)
        return variation

    def bounds(self) -> tuple[Float64Map, Float64Map]:
        """Returns (tiles,) lower and upper bounds of every tile's values, computed without the result.

        Only for maps that are enlarged: then 4x4 pixels lie under the kernel.
        """
        sizes = zip(self._source.shape, (self.height, self.width), TILE_SIZE, strict=True)
        (rows, row_segments), (columns, column_segments) = (_windows_under_tiles(*size) for size in sizes)
        # In 32 bits, whose rounding the slack allows for, and of the map and its negative at once.
        padded = self._source[rows].take(columns, axis=1)
        lows = _lows_of_4x4(np.stack([padded, -padded]).astype(np.float32))
        lows = np.minimum.reduceat(
            np.minimum.reduceat(lows, column_segments, axis=2)[..., ::2], row_segments, axis=1
        )
        low, negative_high = lows[:, ::2].reshape(2, -1).astype(np.float64)
        return low, -negative_high

    def tile(self, index: int) -> tuple[tuple[slice, slice], Float64Map]:
        """Computes a tile of at most `TILE_SIZE`, counted row by row.

        Returns the rows and columns of the result that it covers, and its values: read-only, and valid until the next
        call, which reuses their memory.
        """
        row, column = divmod(index, self._num_across)
        tile_height, tile_width = TILE_SIZE
        across = slice(column * tile_width, min((column + 1) * tile_width, self.width))
        values = self._columns_done
        if values.shape[0] == self.height:
            rows = slice(row * tile_height, min((row + 1) * tile_height, self.height))
            return (rows, across), values[rows, across]
        rows, used, weights = _weight_blocks(values.shape[0], self.height, tile_height)[row]
        shape = (rows.stop - rows.start, across.stop - across.start)
        tile = self._buffer[: math.prod(shape)].reshape(shape)
        np.matmul(weights, values[used, across], out=tile)
        return (rows, across), tile


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


@functools.lru_cache(maxsize=32)
def _weight_sums(num_in: int, num_out: int) -> Float64Map:
    return np.asarray(resize_weights(num_in, num_out).sum(axis=0))


@functools.lru_cache(maxsize=32)
def _weight_products(num_in: int, num_out: int) -> Float64Map:
    weights = resize_weights(num_in, num_out)
    return np.asarray(weights.T @ weights)


# --- Bounds -----------------------------------------------------------------------------------------------------------

# In each direction weights sum to 1, and the negative ones to -1/8 at most: in both, to (1 - 1.25 * 1.25) / 2.
_OVERSHOOT = 0.2813  # most that a value exceeds the 4x4 pixels under the kernel, in units of their range
_ROUNDING = 1e-6  # in units of the values


def _lows_of_4x4(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Lower bounds of results with these 4x4 pixels under the kernel: (2, h, w) -> (2, h - 3, w - 3).

    Takes a map and its negative, whose lower bounds are the map's upper ones.
    """
    _, height, width = values.shape
    flat = values.reshape(2, -1)  # long runs are faster than columns; what wraps around is cut off
    for step in (1, 2, width, 2 * width):
        flat = np.minimum(flat[:, :-step], flat[:, step:])
    lows = np.zeros((2, (height - 3) * width), dtype=np.float32)
    lows[:, : flat.shape[1]] = flat
    lows -= _ROUNDING * np.abs(lows) - _OVERSHOOT * (lows[0] + lows[1])
    return lows.reshape(2, height - 3, width)[:, :, : width - 3]


@functools.lru_cache(maxsize=32)
def _windows_under_tiles(num_in: int, num_out: int, tile: int) -> tuple[Indices, Indices]:
    """Windows of four input pixels, those that the kernel covers as it moves along one axis, and the tiles over them.

    Returns the input pixels, with the border repeated; for each tile its first window and the one after its last. There
    is one window more than the kernel needs, so that the last tile's end exists.
    """
    pixels = np.array([(begin, min(begin + tile, num_out) - 1) for begin in range(0, num_out, tile)])
    segments = np.floor((pixels + 0.5) * (num_in / num_out) - 0.5).astype(np.intp) + np.array([1, 2])
    return np.arange(-2, num_in + 3).clip(0, num_in - 1), segments.ravel()
