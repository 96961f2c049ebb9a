"""Operations on fixation maps: unions, fixated pixels, density maps."""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from stavis.maps.arrays import Array, Float64Map


def union_of_fixations(fixation_maps: Iterable[Array]) -> npt.NDArray[np.bool_]:
    """Returns where any of the (H, W) maps is fixated. Consumes maps one at a time, so a generator needs little memory.

    Raises:
        ValueError: There are no maps, or their sizes differ.
    """
    union: npt.NDArray[np.bool_] | None = None
    for fixation_map in map(np.asarray, fixation_maps):
        fixated = fixation_map if fixation_map.dtype == np.bool_ else fixation_map > 0
        if union is None:
            union = fixated.copy()
        elif union.shape != fixated.shape:
            raise ValueError(f"fixation maps of one video differ in size: {union.shape} and {fixated.shape}")
        else:
            np.logical_or(union, fixated, out=union)
    if union is None:
        raise ValueError("the union of zero fixation maps is undefined")
    return union


def fixated_pixels(fixation_map: Array) -> npt.NDArray[np.intp]:
    """Returns the (n,) ascending row-major indices of the pixels above 0, which is all that scoring needs."""
    fixation_map = np.asarray(fixation_map)
    fixated = fixation_map if fixation_map.dtype in (np.bool_, np.uint8) else fixation_map > 0
    if fixated.flags.c_contiguous or not fixated.flags.f_contiguous:
        return _flatnonzero(fixated)
    # Arrays from MATLAB files are column-major.
    columns, rows = np.divmod(_flatnonzero(fixated.T), fixated.shape[0])
    return np.sort(rows * fixated.shape[1] + columns)


def _flatnonzero(values: Array) -> npt.NDArray[np.intp]:
    """`numpy.flatnonzero` of 8-bit values, several times faster where few are not 0: it tests eight at once."""
    flat = np.ascontiguousarray(values).reshape(-1)
    num_words = flat.size // 8
    words = np.flatnonzero(flat[: 8 * num_words].view(np.uint64) != 0)
    candidates = (8 * words[:, None] + np.arange(8)).reshape(-1)
    candidates = np.concatenate([candidates, np.arange(8 * num_words, flat.size)])
    return np.asarray(candidates[flat[candidates] != 0])


def other_fixations(union: npt.NDArray[np.bool_], fixation_map: Array) -> npt.NDArray[np.bool_]:
    """Returns the negatives of the shuffled AUC for one frame: the video's fixated pixels except those of this frame.

    As published, a pixel of this frame counts as fixated where the map *equals 1*, whereas the metrics use `> 0`.
    """
    return np.asarray(np.logical_and(union, np.asarray(fixation_map) != 1), dtype=np.bool_)


def density_from_fixations(fixation_map: Array, sigma_pixels: float) -> Float64Map:
    """Blurs fixations with a Gaussian into a density map, the way ground truth is made.

    Each fixation adds an untruncated Gaussian with sum 1; the part outside the image is lost.

    Args:
        fixation_map: (H, W), booleans or fixation counts.
        sigma_pixels: Standard deviation, by convention about one degree of visual angle.

    Returns:
        (H, W), nonnegative. `to_8bit` converts it to the form it is stored in.

    Raises:
        ValueError: The map is not two-dimensional, or sigma is not above 0.
    """
    if fixation_map.ndim != 2:
        raise ValueError(f"a fixation map is (H, W), not {fixation_map.shape}")
    if not sigma_pixels > 0:
        raise ValueError(f"sigma_pixels is {sigma_pixels}; it must be above 0")
    # The kernel is separable, and only rows and columns with fixations contribute: thin matrices are exact and fast.
    counts = np.asarray(fixation_map, dtype=np.float64)
    rows = np.flatnonzero(counts.any(axis=1))
    columns = np.flatnonzero(counts.any(axis=0))
    height, width = counts.shape
    down = _gaussian_columns(height, rows, sigma_pixels)
    across = _gaussian_columns(width, columns, sigma_pixels)
    return down @ (counts[np.ix_(rows, columns)] @ across.T)


def _gaussian_columns(length: int, centers: npt.NDArray[np.intp], sigma_pixels: float) -> Float64Map:
    """Returns (length, len(centers)): each column is a Gaussian around its center whose sum over all integers is 1."""
    radius = math.ceil(10 * sigma_pixels)
    total = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_pixels) ** 2).sum()
    return np.asarray(np.exp(-0.5 * ((np.arange(length)[:, None] - centers) / sigma_pixels) ** 2) / total)
