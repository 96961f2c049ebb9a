"""Which frames make a clip, which frame it predicts, which audio samples belong to it. Pure arithmetic.

Frames are 0-based here. The published files count from 1; `stavis.datasets.layout` alone converts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

CLIP_LENGTH = 16  # frames
TARGET_OFFSET = 8  # the window that starts at frame s gives the saliency map of frame s + 8

TRAINING_WINDOW_STEP = 74  # frames from one training window's start to the next one's
TRAINING_WINDOW_LENGTH = 90  # frames at most

Edges = Literal["repeat", "reference"]


@dataclass(frozen=True)
class Window:
    """The frames that a network sees to predict one of them.

    Attributes:
        frames: The clip's frame indices in the order in which the network sees them, some repeated at the
            edges.
        target: The index of the frame that the saliency map is for. Under the published rule it can lie
            behind the video's last frame.
    """

    frames: tuple[int, ...]
    target: int


def loop_to_length(frames: Sequence[int], length: int) -> tuple[int, ...]:
    """Repeats `frames` from their beginning until there are `length`: the published padding of short clips."""
    if not frames:
        raise ValueError("cannot loop an empty list of frames")
    return tuple(frames[i % len(frames)] for i in range(length))


def repeat_window(target: int, num_frames: int, clip_length: int = CLIP_LENGTH) -> Window:
    """The window that predicts frame `target`, the first and the last frame repeated beyond the video's ends.

    Wherever the window lies inside the video, it is the published one.
    """
    if not 0 <= target < num_frames:
        raise ValueError(f"target frame {target} is outside the video's frames 0..{num_frames - 1}")
    start = target - clip_length // 2
    return Window(tuple(min(max(i, 0), num_frames - 1) for i in range(start, start + clip_length)), target)


def reference_window(start: int, num_frames: int, clip_length: int = CLIP_LENGTH) -> Window:
    """The published test run's window: from frame `start` on, looped where the video ends before it is full."""
    if not 0 <= start < num_frames:
        raise ValueError(f"window start {start} is outside the video's frames 0..{num_frames - 1}")
    stop = min(start + clip_length, num_frames)
    return Window(loop_to_length(range(start, stop), clip_length), start + clip_length // 2)


def reference_windows(num_frames: int, clip_length: int = CLIP_LENGTH) -> Iterator[Window]:
    """All windows of the published test run, in order: one from every frame but the last.

    The first `clip_length // 2` frames are no window's target; the last targets lie behind the video's end.
    """
    return (reference_window(start, num_frames, clip_length) for start in range(num_frames - 1))


def middle_frame(frames: Sequence[int]) -> int:
    """The frame whose maps a clip's prediction is compared with: the entry that `TARGET_OFFSET` leads to.

    For a clip that was not looped it is the frame that the published test run names the prediction after.
    """
    return frames[len(frames) // 2]


def target_frame(frames: Sequence[int]) -> int:
    """The frame whose maps the published training loss compares with a clip's prediction.

    It is the rounded median of the clip's *1-based* frames, half-way cases going to the even frame, over the
    looped list. So starts 1, 2, 3, 4 (1-based) give frames 8, 10, 10, 12. `middle_frame` has no such
    alternation.
    """
    ordered = sorted(frames)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    twice_median = (ordered[middle - 1] + 1) + (ordered[middle] + 1)
    return round(twice_median / 2) - 1


def training_windows(num_frames: int) -> list[range]:
    """The ranges of frames that a training video is cut into, as published: one every 74, up to 90 long.

    None starts at the last frame, so a video of a single frame has none.
    """
    return [
        range(start, min(start + TRAINING_WINDOW_LENGTH, num_frames))
        for start in range(0, num_frames - 1, TRAINING_WINDOW_STEP)
    ]


def crop_window(window: range, begin: int, clip_length: int = CLIP_LENGTH) -> tuple[int, ...]:
    """The clip that begins `begin` frames into `window`, looped where the window ends before it is full."""
    return loop_to_length(window[begin : begin + clip_length], clip_length)


def num_crop_begins(window_length: int, clip_length: int = CLIP_LENGTH) -> int:
    """How many begins there are for a random crop, drawn uniformly: 0 to this, this excluded.

    The published loader leaves out the last possible begin of a window longer than a clip.
    """
    return max(0, window_length - clip_length - 1) + 1


def center_crop_begin(window_length: int, clip_length: int = CLIP_LENGTH) -> int:
    """Where the center crop of a window begins, counted from the window's own begin."""
    return max(0, window_length // 2 - clip_length // 2)


@dataclass(frozen=True)
class SampleRange:
    """Audio samples `start` to `stop`, `stop` excluded, at whatever rate they were asked for."""

    start: int
    stop: int


def frame_samples(frame: int, frame_rate: float, sample_rate: float, num_samples: int) -> tuple[int, int]:
    """First and last sample, both included, that `frame` owns: half a frame to either side of its time.

    The first is at least 0, the last at most `num_samples`; both are cut to integers. As published.
    """
    # Multiplied by the inverse as published: dividing gives another integer for one frame in seventeen at 25
    # frames per second and 22050 Hz, where the exact ends are integers themselves.
    center = frame * (1.0 / frame_rate) * sample_rate
    half = sample_rate / frame_rate / 2
    return int(max(0.0, center - half)), int(min(float(num_samples), center + half))


def clip_samples(
    frames: Sequence[int], frame_rate: float, sample_rate: float, num_samples: int
) -> SampleRange:
    """The samples that go with a clip: from its first entry's first to its *last entry's* last.

    The last entry of a looped clip is not its latest frame, so its sound is shorter than its pictures. Where
    the sound ends before the clip begins, the range is empty.
    """
    start, _ = frame_samples(frames[0], frame_rate, sample_rate, num_samples)
    _, last = frame_samples(frames[-1], frame_rate, sample_rate, num_samples)
    return SampleRange(start, max(start, min(last + 1, num_samples)))
