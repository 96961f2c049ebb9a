"""Published post-processing of predictions.

Maps are (H, W) arrays. 8-bit maps are uint8, 0..255; computed maps are float64.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from stavis.maps.arrays import Array, Float64Map

POSTPROCESSING_SIGMA = 2.0  # pixels of the prediction


def blur(saliency_map: Array, sigma_pixels: float, *, truncate: float = 3.0) -> Float64Map:
    """Convolves an (H, W) map with a normalized Gaussian, mirroring at the borders ("dcba|abcd|dcba").

    Args:
        saliency_map: (H, W), any real values.
        sigma_pixels: Standard deviation.
        truncate: Kernel radius in standard deviations. 3 with sigma 2 equals MATLAB's `fspecial('gaussian', 13, 2)`.
    """
    values = np.asarray(saliency_map, dtype=np.float64)
    return np.asarray(gaussian_filter(values, sigma_pixels, truncate=truncate, mode="reflect"))


def postprocess(prediction: Array) -> Float64Map:
    """Applies the published post-processing to a prediction, before it is resized to the ground truth.

    The map is stretched to 0..1 and blurred with a Gaussian of 2 pixels, so the scale of its values is irrelevant.

    Args:
        prediction: (h, w); negative values are set to 0.

    Returns:
        (h, w) in 0..1. All NaN if no value is above 0 (an empty prediction, whose scores are all NaN) or one is not
        finite; 0.5 if all values are equal.

    Raises:
        ValueError: The map is not two-dimensional.
    """
    values = np.asarray(prediction, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"a prediction is (h, w), not {values.shape}")
    values = np.maximum(values, 0.0)
    lowest, highest = values.min(), values.max()
    if not 0 < highest < np.inf:
        return np.full(values.shape, np.nan)
    if lowest == highest:
        return np.full(values.shape, 0.5)
    return blur((values - lowest) / (highest - lowest), POSTPROCESSING_SIGMA)
