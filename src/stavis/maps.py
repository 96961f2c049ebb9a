"""Saliency, density and fixation maps: files, resizing and blurring as MATLAB does it, the published post-processing.

Maps are arrays (H, W). 8-bit maps are uint8 in 0..255; everything computed is float64.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image
from scipy.ndimage import gaussian_filter

from stavis.errors import StavisError
from stavis.matfile import read_matrix
from stavis.runtime.files import atomic_path

Array = npt.NDArray[Any]
Float64Map = npt.NDArray[np.float64]

FIXATION_VARIABLE = "eyeMap"  # the variable of the published fixMap_*.mat files
_MAT_DESCRIPTION = b"MATLAB 5.0 MAT-file, a fixation map".ljust(116)  # the header's text field
MAP_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
JPEG_QUALITY = 75  # Pillow's default, which the published maps were written with
POSTPROCESSING_SIGMA = 2.0  # pixels of the prediction

TILE_SIZE = (
    96,
    320,
)  # (height, width) in pixels that are worked on at once: they fit into the processor's cache


# --- 8-bit maps -------------------------------------------------------------------------------------------------------


def read_map(path: Path) -> npt.NDArray[np.uint8]:
    """Reads an 8-bit JPEG or PNG. Of a coloured one the first channel counts, as in the published scoring.

    Returns:
        (H, W) in 0..255; a bilevel image gives 0 and 255.

    Raises:
        StavisError: The file is missing, unreadable, truncated, neither JPEG nor PNG, or not 8-bit.
    """
    return _read_8bit(Path(path), colour_allowed=True)


def read_density_map(path: Path) -> npt.NDArray[np.uint8]:
    """Reads an 8-bit grey JPEG or PNG: ground truth, which the published scoring refuses in colour.

    Returns:
        (H, W) in 0..255.

    Raises:
        StavisError: As `read_map`, or the image has colours.
    """
    return _read_8bit(Path(path), colour_allowed=False)


def _read_8bit(path: Path, *, colour_allowed: bool) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as file:
            file.load()
            image: Image.Image = file
    except FileNotFoundError:
        raise StavisError(f"{path}: map not found") from None
    except Image.DecompressionBombError:
        raise StavisError(
            f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; not a map"
        ) from None
    # Pillow reports broken files as OSError (UnidentifiedImageError among them), SyntaxError or ValueError.
    except (OSError, SyntaxError, ValueError) as error:
        raise StavisError(f"{path}: unreadable ({error}); an 8-bit JPEG or PNG is allowed") from None
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGB")
    if image.mode == "L":
        return np.asarray(image)
    if image.mode not in ("LA", "RGB", "RGBA"):
        raise StavisError(f"{path}: Pillow mode {image.mode!r}; an 8-bit grey JPEG or PNG is allowed")
    if not colour_allowed:
        raise StavisError(
            f"{path}: has {len(image.getbands())} channels ({image.mode}); ground truth must be grey"
        )
    return np.asarray(image.getchannel(0))


def write_map(path: Path, saliency_map: npt.NDArray[np.uint8], *, quality: int = JPEG_QUALITY) -> None:
    """Writes an (H, W) uint8 map as grey JPEG or PNG, by the suffix; whole or not at all.

    Raises:
        StavisError: The suffix is neither .jpg, .jpeg nor .png.
        ValueError: The array is not (H, W) uint8.
    """
    path = Path(path)
    file_format = MAP_FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise StavisError(f"{path}: cannot write a map as {path.suffix!r}; allowed: {', '.join(MAP_FORMATS)}")
    if saliency_map.dtype != np.uint8 or saliency_map.ndim != 2:
        raise ValueError(f"a map is (H, W) uint8, not {saliency_map.shape} {saliency_map.dtype}")
    with atomic_path(path) as temporary:
        Image.fromarray(saliency_map).save(temporary, format=file_format, quality=quality)


def to_8bit(density_map: Array) -> npt.NDArray[np.uint8]:
    """Scales a map of values >= 0 so that its maximum is 255, rounded, as density maps are stored. Zeros stay zeros."""
    values = np.asarray(density_map, dtype=np.float64)
    highest = values.max(initial=0.0)
    if highest <= 0:
        return np.zeros(values.shape, dtype=np.uint8)
    return np.asarray(np.rint(values * (255.0 / highest)).clip(0, 255), dtype=np.uint8)


# --- Fixation maps ----------------------------------------------------------------------------------------------------


def read_fixation_map(path: Path) -> Array:
    """Reads the variable `eyeMap` of a MATLAB file.

    Returns:
        (H, W) of whatever number type, fixated where above 0.

    Raises:
        StavisError: The file is missing, damaged, of MATLAB's version 7.3, or has no such numeric matrix.
    """
    path = Path(path)
    fixation_map = read_matrix(path, FIXATION_VARIABLE)
    if fixation_map.ndim != 2 or fixation_map.size == 0:
        raise StavisError(
            f"{path}: '{FIXATION_VARIABLE}' is {fixation_map.shape}; (height, width) is allowed"
        )
    return fixation_map


def write_fixation_map(path: Path, fixation_map: Array) -> None:
    """Writes a fixation map as variable `eyeMap` of a compressed MATLAB 5 file; whole or not at all.

    Args:
        path: The file.
        fixation_map: (H, W); booleans are stored as 8-bit 0 and 1.
    """
    if fixation_map.ndim != 2:
        raise ValueError(f"a fixation map is (H, W), not {fixation_map.shape}")
    if fixation_map.dtype == np.bool_:
        fixation_map = fixation_map.astype(np.uint8)
    with atomic_path(Path(path)) as temporary:
        scipy.io.savemat(temporary, {FIXATION_VARIABLE: fixation_map}, appendmat=False, do_compression=True)
        with temporary.open("r+b") as file:
            # scipy writes the time of day there; the same map shall give the same bytes.
            file.write(_MAT_DESCRIPTION)


def union_of_fixations(fixation_maps: Iterable[Array]) -> npt.NDArray[np.bool_]:
    """Where any of the (H, W) maps is fixated. Takes them one by one, so a generator over files needs little memory.

    Raises:
        ValueError: There is none, or their sizes differ.
    """
    union: npt.NDArray[np.bool_] | None = None
    for fixation_map in fixation_maps:
        fixated = fixation_map if fixation_map.dtype == np.bool_ else fixation_map > 0
        if union is None:
            union = fixated.copy()
        elif union.shape != fixated.shape:
            raise ValueError(f"fixation maps of one video differ in size: {union.shape} and {fixated.shape}")
        else:
            np.logical_or(union, fixated, out=union)
    if union is None:
        raise ValueError("the union of no fixation maps is not defined")
    return union


def fixated_pixels(fixation_map: Array) -> npt.NDArray[np.intp]:
    """The (n,) ascending positions of the pixels above 0 in the map read row by row: all that scoring needs of it."""
    fixated = fixation_map if fixation_map.dtype == np.bool_ else fixation_map > 0
    if fixated.flags.c_contiguous or not fixated.flags.f_contiguous:
        return np.flatnonzero(fixated)
    # MATLAB's files are read column by column.
    columns, rows = np.divmod(np.flatnonzero(fixated.T), fixated.shape[0])
    return np.sort(rows * fixated.shape[1] + columns)


def other_fixations(union: npt.NDArray[np.bool_], fixation_map: Array) -> npt.NDArray[np.bool_]:
    """The shuffled AUC's negatives for one frame: the video's fixated pixels without those of this frame.

    As published, a pixel counts as fixated in this frame where the map *equals 1*, though the metrics take `> 0`.
    """
    return np.asarray(np.logical_and(union, fixation_map != 1), dtype=np.bool_)


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
    # Centres of the output pixels in input pixels, both counted from 0.
    centres = (np.arange(num_out) + 0.5) / scale - 0.5
    first = np.floor(centres - support / 2).astype(np.intp)
    taps = first[:, None] + np.arange(math.ceil(support) + 2)
    weights = _cubic(shrink * (centres[:, None] - taps))
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


def blur(saliency_map: Array, sigma_pixels: float, *, truncate: float = 3.0) -> Float64Map:
    """Convolves an (H, W) map with a Gaussian of sum 1, the borders mirrored ("dcba|abcd|dcba").

    Args:
        saliency_map: (H, W), any real values.
        sigma_pixels: Standard deviation.
        truncate: Where the kernel ends, in standard deviations. 3 and sigma 2 give MATLAB's
            `fspecial('gaussian', 13, 2)`.
    """
    values = np.asarray(saliency_map, dtype=np.float64)
    return np.asarray(gaussian_filter(values, sigma_pixels, truncate=truncate, mode="reflect"))


def postprocess(prediction: Array) -> Float64Map:
    """What the published scoring does to a prediction, at the prediction's own size, before it is resized.

    Stretched to 0..1, then blurred with a Gaussian of 2 pixels. So the values' scale does not matter, 8-bit or 0..1.

    Args:
        prediction: (h, w); negative values count as 0.

    Returns:
        (h, w) in 0..1. All nan when no value is above 0 (a map without a prediction: every score of it is nan); 0.5
        when all values are the same.

    Raises:
        ValueError: The map is not two-dimensional.
    """
    values = np.asarray(prediction, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"a prediction is (h, w), not {values.shape}")
    values = np.maximum(values, 0.0)
    lowest, highest = values.min(), values.max()
    if not highest > 0:
        return np.full(values.shape, np.nan)
    if lowest == highest:
        return np.full(values.shape, 0.5)
    return blur((values - lowest) / (highest - lowest), POSTPROCESSING_SIGMA)


def density_from_fixations(fixation_map: Array, sigma_pixels: float) -> Float64Map:
    """Blurs fixations with a Gaussian into a density map, as ground truth is made.

    Each fixation adds a Gaussian of sum 1, not truncated; what of it falls outside the image is lost.

    Args:
        fixation_map: (H, W), booleans or numbers of fixations.
        sigma_pixels: Standard deviation: by convention about one degree of visual angle.

    Returns:
        (H, W), >= 0. `to_8bit` gives the form in which it is stored.

    Raises:
        ValueError: The map is not two-dimensional, or sigma is not above 0.
    """
    if fixation_map.ndim != 2:
        raise ValueError(f"a fixation map is (H, W), not {fixation_map.shape}")
    if not sigma_pixels > 0:
        raise ValueError(f"sigma_pixels is {sigma_pixels}; it must be above 0")
    # Separable, and only rows and columns with fixations contribute: a product of thin matrices is exact and fast.
    counts = np.asarray(fixation_map, dtype=np.float64)
    rows = np.flatnonzero(counts.any(axis=1))
    columns = np.flatnonzero(counts.any(axis=0))
    height, width = counts.shape
    down = _gaussian_columns(height, rows, sigma_pixels)
    across = _gaussian_columns(width, columns, sigma_pixels)
    return down @ (counts[np.ix_(rows, columns)] @ across.T)


def _gaussian_columns(length: int, centres: npt.NDArray[np.intp], sigma_pixels: float) -> Float64Map:
    """(length, len(centres)): in each column a Gaussian around its centre, whose sum over all integers would be 1."""
    radius = math.ceil(10 * sigma_pixels)
    total = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_pixels) ** 2).sum()
    return np.asarray(np.exp(-0.5 * ((np.arange(length)[:, None] - centres) / sigma_pixels) ** 2) / total)
