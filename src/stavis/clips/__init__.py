"""Index arithmetic and preprocessing of clips: the frames and audio samples that a prediction sees."""

from stavis.clips.windows import CLIP_LENGTH as CLIP_LENGTH
from stavis.clips.windows import TARGET_OFFSET as TARGET_OFFSET
from stavis.clips.windows import TRAINING_WINDOW_LENGTH as TRAINING_WINDOW_LENGTH
from stavis.clips.windows import TRAINING_WINDOW_STEP as TRAINING_WINDOW_STEP
from stavis.clips.windows import Edges as Edges
from stavis.clips.windows import SampleRange as SampleRange
from stavis.clips.windows import Window as Window
from stavis.clips.windows import center_crop_begin as center_crop_begin
from stavis.clips.windows import clip_samples as clip_samples
from stavis.clips.windows import crop_window as crop_window
from stavis.clips.windows import frame_samples as frame_samples
from stavis.clips.windows import loop_to_length as loop_to_length
from stavis.clips.windows import middle_frame as middle_frame
from stavis.clips.windows import num_crop_begins as num_crop_begins
from stavis.clips.windows import reference_window as reference_window
from stavis.clips.windows import reference_windows as reference_windows
from stavis.clips.windows import repeat_window as repeat_window
from stavis.clips.windows import target_frame as target_frame
from stavis.clips.windows import training_windows as training_windows
