"""Saliency, density and fixation maps: files, MATLAB-compatible resizing and blurring, post-processing, overlays."""

from stavis.maps.arrays import Array as Array
from stavis.maps.arrays import Float64Map as Float64Map
from stavis.maps.files import FIXATION_VARIABLE as FIXATION_VARIABLE
from stavis.maps.files import JPEG_QUALITY as JPEG_QUALITY
from stavis.maps.files import MAP_FORMATS as MAP_FORMATS
from stavis.maps.files import read_density_map as read_density_map
from stavis.maps.files import read_fixation_map as read_fixation_map
from stavis.maps.files import read_map as read_map
from stavis.maps.files import read_prediction as read_prediction
from stavis.maps.files import to_8bit as to_8bit
from stavis.maps.files import write_fixation_map as write_fixation_map
from stavis.maps.files import write_map as write_map
from stavis.maps.fixations import density_from_fixations as density_from_fixations
from stavis.maps.fixations import fixated_pixels as fixated_pixels
from stavis.maps.fixations import other_fixations as other_fixations
from stavis.maps.fixations import union_of_fixations as union_of_fixations
from stavis.maps.postprocess import POSTPROCESSING_SIGMA as POSTPROCESSING_SIGMA
from stavis.maps.postprocess import blur as blur
from stavis.maps.postprocess import postprocess as postprocess
from stavis.maps.resize import TILE_SIZE as TILE_SIZE
from stavis.maps.resize import TiledResize as TiledResize
from stavis.maps.resize import resize as resize
from stavis.maps.resize import resize_weights as resize_weights
