"""Eye-tracking recordings: a reader per family of formats, all returning gaze in pixels and frames of a video."""

from stavis.gaze.checks import check_time as check_time
from stavis.gaze.observers import Observers as Observers
from stavis.gaze.observers import read_observers as read_observers
from stavis.gaze.observers import write_observers as write_observers
from stavis.gaze.read import FORMATS as FORMATS
from stavis.gaze.read import GazeOptions as GazeOptions
from stavis.gaze.read import describe_counts as describe_counts
from stavis.gaze.read import detect_format as detect_format
from stavis.gaze.read import gaze_files as gaze_files
from stavis.gaze.read import holds_several_videos as holds_several_videos
from stavis.gaze.read import read_gaze as read_gaze
from stavis.gaze.recording import MAPPING_MODES as MAPPING_MODES
from stavis.gaze.recording import Event as Event
from stavis.gaze.recording import Gaze as Gaze
from stavis.gaze.recording import Recording as Recording
from stavis.gaze.recording import ScreenMapping as ScreenMapping
from stavis.gaze.recording import assign_frames as assign_frames
from stavis.gaze.recording import fixation_counts as fixation_counts
from stavis.gaze.recording import gaze_on_video as gaze_on_video
from stavis.gaze.recording import median_per_observer as median_per_observer
from stavis.gaze.recording import merge_gaze as merge_gaze
from stavis.gaze.recording import pixels_per_degree as pixels_per_degree
from stavis.gaze.recording import sigma_in_video_pixels as sigma_in_video_pixels
