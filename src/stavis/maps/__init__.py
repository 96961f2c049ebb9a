"""Saliency, density and fixation maps: files, MATLAB-compatible resizing and blurring, post-processing, overlays."""

from stavis.maps.arrays import Array, Float64Map
from stavis.maps.files import (
    FIXATION_VARIABLE,
    JPEG_QUALITY,
    MAP_FORMATS,
    read_density_map,
    read_fixation_map,
    read_map,
    read_prediction,
    to_8bit,
    write_fixation_map,
    write_map,
)
from stavis.maps.fixations import density_from_fixations, fixated_pixels, other_fixations, union_of_fixations
from stavis.maps.postprocess import POSTPROCESSING_SIGMA, blur, postprocess
from stavis.maps.resize import TILE_SIZE, TiledResize, resize, resize_weights

__all__ = [
    "FIXATION_VARIABLE",
    "JPEG_QUALITY",
    "MAP_FORMATS",
    "POSTPROCESSING_SIGMA",
    "TILE_SIZE",
    "Array",
    "Float64Map",
    "TiledResize",
    "blur",
    "density_from_fixations",
    "fixated_pixels",
    "other_fixations",
    "postprocess",
    "read_density_map",
    "read_fixation_map",
    "read_map",
    "read_prediction",
    "resize",
    "resize_weights",
    "to_8bit",
    "union_of_fixations",
    "write_fixation_map",
    "write_map",
]
