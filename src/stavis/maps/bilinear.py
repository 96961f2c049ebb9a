"""Bilinear resizing without antialiasing, as OpenCV's INTER_LINEAR."""

import functools

import numpy as np
import numpy.typing as npt

from stavis.maps.arrays import Array, Float64Map


def resize_bilinear(values: Array, size: tuple[int, int]) -> Float64Map:
    """Resizes an (h, w) map to `size` = (height, width): half-pixel centers, clamped borders, float64 weights."""
    result = np.asarray(values, dtype=np.float64)
    if result.shape[1] != size[1]:
        left, right, weights = _taps(result.shape[1], size[1])
        result = result[:, left] * (1 - weights) + result[:, right] * weights
    if result.shape[0] != size[0]:
        above, below, weights = _taps(result.shape[0], size[0])
        result = result[above] * (1 - weights[:, None]) + result[below] * weights[:, None]
    return result


@functools.lru_cache(maxsize=32)
def _taps(num_in: int, num_out: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Float64Map]:
    """For each output sample the two input samples, and the weight of the second."""
    centers = (np.arange(num_out) + 0.5) * (num_in / num_out) - 0.5
    first = np.floor(centers).astype(np.intp)
    weights = np.where((first < 0) | (first >= num_in - 1), 0.0, centers - first)
    return first.clip(0, num_in - 1), (first + 1).clip(0, num_in - 1), weights
