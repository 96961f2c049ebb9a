"""Eye-tracking recordings: a reader per family of formats, all returning gaze in pixels and frames of a video."""

from stavis.gaze.checks import check_time
from stavis.gaze.observers import Observers, read_observers, write_observers
from stavis.gaze.read import (
    FORMATS,
    GazeOptions,
    describe_counts,
    detect_format,
    gaze_files,
    holds_several_videos,
    read_gaze,
)
from stavis.gaze.recording import (
    MAPPING_MODES,
    Event,
    Gaze,
    Recording,
    ScreenMapping,
    assign_frames,
    fixation_counts,
    gaze_on_video,
    median_per_observer,
    merge_gaze,
    pixels_per_degree,
    sigma_in_video_pixels,
)

__all__ = [
    "FORMATS",
    "MAPPING_MODES",
    "Event",
    "Gaze",
    "GazeOptions",
    "Observers",
    "Recording",
    "ScreenMapping",
    "assign_frames",
    "check_time",
    "describe_counts",
    "detect_format",
    "fixation_counts",
    "gaze_files",
    "gaze_on_video",
    "holds_several_videos",
    "median_per_observer",
    "merge_gaze",
    "pixels_per_degree",
    "read_gaze",
    "read_observers",
    "sigma_in_video_pixels",
    "write_observers",
]
