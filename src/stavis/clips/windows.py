"""Windows: the frames of a clip, the frame it predicts and the audio samples it covers. Pure arithmetic.

Frame indices are 0-based. The published files count from 1; only `stavis.datasets.layout` converts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

CLIP_LENGTH = 16  # frames
TARGET_OFFSET = 8  # the window starting at frame s predicts frame s + 8

TRAINING_WINDOW_STEP = 74  # frames between the starts of training windows
TRAINING_WINDOW_LENGTH = 90  # frames at most

Edges = Literal["repeat", "reference"]


@dataclass(frozen=True)
class Window:
    """The frames from which the network predicts one of them.

    Attributes:
        frames: Frame indices in the order the network sees them, some repeated at the edges.
        target: Index of the predicted frame. Under the published rule it can lie after the last frame of the video.
    """

    frames: tuple[int, ...]
    target: int


def loop_to_length(frames: Sequence[int], length: int) -> tuple[int, ...]:
    """Repeats `frames` from the start until there are `length` of them: the published padding of short clips."""
    if not frames:
        raise ValueError("cannot loop an empty list of frames")
    return tuple(frames[i % len(frames)] for i in range(length))


def repeat_window(target: int, num_frames: int, clip_length: int = CLIP_LENGTH) -> Window:
    """Returns the window that predicts frame `target`, repeating the first and last frame beyond the ends of the video.

    A window that lies entirely inside the video equals the published one.
    """
    if not 0 <= target < num_frames:
        raise ValueError(f"target frame {target} is outside the video's frames 0..{num_frames - 1}")
    start = target - clip_length // 2
    return Window(tuple(min(max(i, 0), num_frames - 1) for i in range(start, start + clip_length)), target)


def reference_window(start: int, num_frames: int, clip_length: int = CLIP_LENGTH) -> Window:
    """Returns the published test window starting at frame `start`, looped if the video ends before it is full."""
    if not 0 <= start < num_frames:
        raise ValueError(f"window start {start} is outside the video's frames 0..{num_frames - 1}")
    stop = min(start + clip_length, num_frames)
    return Window(loop_to_length(range(start, stop), clip_length), start + clip_length // 2)


def reference_windows(num_frames: int, clip_length: int = CLIP_LENGTH) -> Iterator[Window]:
    """Returns all windows of the published test run in order: one starting at every frame but the last.

    The first `clip_length // 2` frames are never targets; the last targets lie after the end of the video.
    """
    return (reference_window(start, num_frames, clip_length) for start in range(num_frames - 1))


def middle_frame(frames: Sequence[int]) -> int:
    """Returns the frame whose maps the prediction of a clip is compared with: the entry at `TARGET_OFFSET`.

    Unless the clip is looped, the published test run names the prediction after this frame.
    """
    return frames[len(frames) // 2]


def target_frame(frames: Sequence[int]) -> int:
    """Returns the frame whose maps the published training loss compares with the prediction of a clip.

    It is the median of the looped list of *1-based* frames, rounded half to even. So starts 1, 2, 3, 4 (1-based) give
    frames 8, 10, 10, 12. `middle_frame` does not alternate like this.
    """
    ordered = sorted(frames)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    twice_median = (ordered[middle - 1] + 1) + (ordered[middle] + 1)
    return round(twice_median / 2) - 1


def training_windows(num_frames: int) -> list[range]:
    """Returns the published training windows of a video: one every 74 frames, up to 90 frames long.

    None starts at the last frame, so a video with a single frame has none.
    """
    return [
        range(start, min(start + TRAINING_WINDOW_LENGTH, num_frames))
        for start in range(0, num_frames - 1, TRAINING_WINDOW_STEP)
    ]


def crop_window(window: range, begin: int, clip_length: int = CLIP_LENGTH) -> tuple[int, ...]:
    """Returns the clip that begins `begin` frames into `window`, looped if the window ends before it is full."""
    return loop_to_length(window[begin : begin + clip_length], clip_length)


def num_crop_begins(window_length: int, clip_length: int = CLIP_LENGTH) -> int:
    """Returns the number of possible begins of a random crop, which are 0 up to but excluding this number.

    The published loader omits the last possible begin in windows longer than a clip.
    """
    return max(0, window_length - clip_length - 1) + 1


def center_crop_begin(window_length: int, clip_length: int = CLIP_LENGTH) -> int:
    """Returns the begin of the center crop, relative to the begin of the window."""
    return max(0, window_length // 2 - clip_length // 2)


@dataclass(frozen=True)
class SampleRange:
    """Audio samples `start` up to but excluding `stop`, at the requested rate."""

    start: int
    stop: int


def frame_samples(frame: int, frame_rate: float, sample_rate: float, num_samples: int) -> tuple[int, int]:
    """Returns the first and last sample (inclusive) that belong to `frame`: half a frame around its time.

    The first is at least 0, the last at most `num_samples`; both are truncated to integers. As published.
    """
    # Multiply by the inverse as published: at 25 frames per second and 22050 Hz, dividing gives another integer for
    # one frame in seventeen, whose exact ends are integers.
    center = frame * (1.0 / frame_rate) * sample_rate
    half = sample_rate / frame_rate / 2
    return int(max(0.0, center - half)), int(min(float(num_samples), center + half))


def clip_samples(
    frames: Sequence[int], frame_rate: float, sample_rate: float, num_samples: int
) -> SampleRange:
    """Returns the samples of a clip: from the first sample of its first entry to the last sample of its *last entry*.

    The last entry of a looped clip is not its latest frame, so its audio is shorter than its video. If the audio ends
    before the clip begins, the range is empty.
    """
    start, _ = frame_samples(frames[0], frame_rate, sample_rate, num_samples)
    _, last = frame_samples(frames[-1], frame_rate, sample_rate, num_samples)
    return SampleRange(start, max(start, min(last + 1, num_samples)))
