"""Eye-tracking recordings: one module a family of formats, all giving gaze on the pixels and frames of a video."""

from stavis.data.gaze.read import FORMATS, GazeOptions, describe_counts, detect_format, gaze_files, read_gaze
from stavis.data.gaze.recording import (
    MAPPING_MODES,
    Event,
    Gaze,
    Recording,
    ScreenMapping,
    assign_frames,
    fixation_counts,
    gaze_on_video,
    merge_gaze,
    one_per_observer,
    pixels_per_degree,
    sigma_in_video_pixels,
)

__all__ = [
    "FORMATS",
    "MAPPING_MODES",
    "Event",
    "Gaze",
    "GazeOptions",
    "Recording",
    "ScreenMapping",
    "assign_frames",
    "describe_counts",
    "detect_format",
    "fixation_counts",
    "gaze_files",
    "gaze_on_video",
    "merge_gaze",
    "one_per_observer",
    "pixels_per_degree",
    "read_gaze",
    "sigma_in_video_pixels",
]
