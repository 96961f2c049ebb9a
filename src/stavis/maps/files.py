"""Map files: 8-bit JPEG and PNG maps, fixation maps in MATLAB files."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image

from stavis.errors import StavisError
from stavis.maps.arrays import Array
from stavis.maps.matfile import read_matrix
from stavis.runtime.files import atomic_path

FIXATION_VARIABLE = "eyeMap"  # variable name in the published fixMap_*.mat files
_MAT_DESCRIPTION = b"MATLAB 5.0 MAT-file, a fixation map".ljust(116)  # the header's text field
MAP_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
JPEG_QUALITY = 75  # Pillow's default, used for the published maps


# --- 8-bit maps -------------------------------------------------------------------------------------------------------


def read_map(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Reads an 8-bit JPEG or PNG map. Of a color image, the first channel is used, as in the published scoring.

    Returns:
        (H, W) uint8, 0..255. A bilevel image gives 0 and 255.

    Raises:
        StavisError: The file is missing, unreadable, truncated, not a JPEG or PNG, or not 8-bit.
    """
    return _read(Path(path), color_allowed=True)


def read_prediction(path: str | os.PathLike[str]) -> Array:
    """Reads a predicted map with all its channels: an 8-bit JPEG or PNG, or a 16-bit gray PNG.

    Returns:
        (H, W) or in color (H, W, channels); uint8 or uint16.

    Raises:
        StavisError: The file is missing, unreadable, truncated or not a JPEG or PNG.
    """
    return _read(Path(path), color_allowed=True, prediction=True)


def read_density_map(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Reads a ground-truth density map: an 8-bit gray JPEG or PNG. Color is an error, as in the published scoring.

    Returns:
        (H, W) uint8, 0..255.

    Raises:
        StavisError: As `read_map`, or the image is in color.
    """
    return _read(Path(path), color_allowed=False)


def _read(path: Path, *, color_allowed: bool, prediction: bool = False) -> Array:
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as file:
            file.load()
            image: Image.Image = file
    except FileNotFoundError:
        raise StavisError(f"{path}: map not found") from None
    except Image.DecompressionBombError:
        raise StavisError(f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels") from None
    # Pillow reports broken files as OSError (UnidentifiedImageError among them), SyntaxError or ValueError.
    except (OSError, SyntaxError, ValueError) as error:
        raise StavisError(f"{path}: cannot be read ({error}); expected an 8-bit JPEG or PNG") from None
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGB")
    if image.mode == "L":
        return np.asarray(image)
    # Pillow 10 opens 16-bit PNGs as "I", later versions as "I;16".
    if prediction and image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode not in ("LA", "RGB", "RGBA"):
        raise StavisError(f"{path}: has Pillow mode {image.mode!r}; expected an 8-bit gray JPEG or PNG")
    if not color_allowed:
        raise StavisError(
            f"{path}: has {len(image.getbands())} channels ({image.mode}); ground truth must be gray"
        )
    return np.asarray(image if prediction else image.getchannel(0))


def write_map(
    path: str | os.PathLike[str], saliency_map: npt.NDArray[np.uint8], *, quality: int = JPEG_QUALITY
) -> None:
    """Writes an (H, W) uint8 map atomically as a gray JPEG or PNG, depending on the suffix.

    Raises:
        StavisError: The suffix is not .jpg, .jpeg or .png.
        ValueError: The array is not (H, W) uint8.
    """
    path, saliency_map = Path(path), np.asarray(saliency_map)
    file_format = MAP_FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise StavisError(f"{path}: cannot write a map as {path.suffix!r}; allowed: {', '.join(MAP_FORMATS)}")
    if saliency_map.dtype != np.uint8 or saliency_map.ndim != 2:
        raise ValueError(f"a map is (H, W) uint8, not {saliency_map.shape} {saliency_map.dtype}")
    with atomic_path(path) as temporary:
        Image.fromarray(saliency_map).save(temporary, format=file_format, quality=quality)


def to_8bit(density_map: Array) -> npt.NDArray[np.uint8]:
    """Scales a nonnegative map to a maximum of 255 and rounds it, as density maps are stored. Zeros stay zeros."""
    values = np.asarray(density_map, dtype=np.float64)
    highest = values.max(initial=0.0)
    if highest <= 0:
        return np.zeros(values.shape, dtype=np.uint8)
    return np.asarray(np.rint(values * (255.0 / highest)).clip(0, 255), dtype=np.uint8)


# --- Fixation maps ----------------------------------------------------------------------------------------------------


def read_fixation_map(path: str | os.PathLike[str]) -> Array:
    """Reads the variable `eyeMap` from a MATLAB file.

    Returns:
        (H, W) of any numeric type; pixels above 0 are fixated.

    Raises:
        StavisError: The file is missing, damaged, in MATLAB 7.3 format, or has no such numeric matrix.
    """
    path = Path(path)
    fixation_map = read_matrix(path, FIXATION_VARIABLE)
    if fixation_map.ndim != 2 or fixation_map.size == 0:
        raise StavisError(
            f"{path}: '{FIXATION_VARIABLE}' has shape {fixation_map.shape}; expected (height, width)"
        )
    return fixation_map


def write_fixation_map(path: str | os.PathLike[str], fixation_map: Array) -> None:
    """Writes a fixation map atomically as variable `eyeMap` of a compressed MATLAB 5 file.

    Args:
        path: File to write.
        fixation_map: (H, W); booleans are stored as 0 and 1 in 8 bits.
    """
    fixation_map = np.asarray(fixation_map)
    if fixation_map.ndim != 2:
        raise ValueError(f"a fixation map is (H, W), not {fixation_map.shape}")
    if fixation_map.dtype == np.bool_:
        fixation_map = fixation_map.astype(np.uint8)
    with atomic_path(Path(path)) as temporary:
        scipy.io.savemat(temporary, {FIXATION_VARIABLE: fixation_map}, appendmat=False, do_compression=True)
        with temporary.open("r+b") as file:
            # scipy writes the current time here; equal maps must give equal bytes.
            file.write(_MAT_DESCRIPTION)
