"""Saliency, density and fixation maps: files, resizing and blurring as MATLAB does it, the published post-processing.

Maps are arrays (H, W). 8-bit maps are uint8 in 0..255; everything computed is float64.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from stavis.maps.arrays import Array, Float64Map

POSTPROCESSING_SIGMA = 2.0  # pixels of the prediction


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
