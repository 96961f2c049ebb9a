"""Gaze samples, and their conversion from a screen and a clock to the pixels and frames of a video.

Coordinates are floats, x to the right and y down, both 0 at the top left corner of the picture. A point belongs to the
pixel it lies in, `(floor(x), floor(y))`, so a picture of W x H pixels contains the points 0 <= x < W, 0 <= y < H.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MappingMode = Literal["letterbox", "stretch", "center", "none"]
Coordinates = Literal["screen", "video"]
Origin = Literal["top-left", "bottom-left", "center"]
MAPPING_MODES: tuple[MappingMode, ...] = ("letterbox", "stretch", "center", "none")


class Event(IntEnum):
    """What the eye did during a sample, according to the eye tracker. Ordered from good to bad."""

    FIXATION = 0
    SACCADE = 1
    BLINK = 2
    ERROR = 3
    UNCLASSIFIED = 4


@dataclass(frozen=True)
class Recording:
    """Samples as recorded, before any is dropped. Exactly one of `frame` and `time_seconds` is given.

    Attributes:
        observers: Names of the observers; ("unknown",) where the format does not distinguish observers.
        observer: (N,) index into `observers` of each sample.
        x, y: (N,) in pixels of the screen or video, from 0; nan where the tracker had no gaze.
        frame: (N,) video frame of each sample, from 0.
        time_seconds: (N,) time of each sample from the start of the video.
        event: (N,) `Event` codes; None where the format has none and every sample counts as gaze.
        coordinates: Whether x and y are in pixels of the screen or of the video, where the format says so.
        size: Width and height in pixels of that screen or video, where the file or the format gives them.
        mode: How the video was shown on the screen, where the format says so.
        observers_known: Whether `observer` distinguishes observers.
        normalized: Whether x and y are fractions of the screen or video instead of pixels.
        origin: Where x and y are 0; y counts upward unless it is "top-left".
        confidence: (N,) the tracker's confidence in each sample, 0..1, where the format has it.
        min_confidence: The format's own limit: samples below it do not count.
        named_by_file: Whether the observer's name is only the file's.
        unit_assumed: Whether nothing says that the times are in seconds.
        warnings: Doubts about the recording, for the user.
    """

    observers: tuple[str, ...]
    observer: IntArray
    x: FloatArray
    y: FloatArray
    frame: IntArray | None = None
    time_seconds: FloatArray | None = None
    event: NDArray[np.uint8] | None = None
    coordinates: Coordinates | None = None
    size: tuple[int, int] | None = None
    mode: MappingMode | None = None
    observers_known: bool = True
    normalized: bool = False
    origin: Origin = "top-left"
    confidence: FloatArray | None = None
    min_confidence: float | None = None
    named_by_file: bool = False
    unit_assumed: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert (self.frame is None) != (self.time_seconds is None)


@dataclass(frozen=True)
class Gaze:
    """Gaze on a video: the samples inside its picture, and how many others were dropped for which reason.

    Exactly one of `frame` and `time_seconds` is given; `assign_frames` replaces times by frames.

    Attributes:
        observers: Names of the observers, including those without any sample left.
        observer: (N,) index into `observers` of each sample.
        x, y: (N,) in pixels of the video, 0 <= x < width, 0 <= y < height.
        frame: (N,) video frame of each sample, from 0.
        time_seconds: (N,) time of each sample from the start of the video.
        num_read: Number of samples in the files.
        dropped: Reason -> number of samples dropped for it; `num_read` is N plus all of these, until
            `median_per_observer` merges samples.
        observers_known: Whether the format distinguishes observers.
        unit_assumed: Whether nothing says that the times are in seconds.
        warnings: Doubts about the gaze, for the user.
    """

    observers: tuple[str, ...]
    observer: IntArray
    x: FloatArray
    y: FloatArray
    frame: IntArray | None
    time_seconds: FloatArray | None
    num_read: int
    dropped: dict[str, int]
    observers_known: bool = True
    unit_assumed: bool = False
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class ScreenMapping:
    """Mapping from pixels of the screen on which gaze was recorded to pixels of the video shown there.

    A point becomes `(point - offset) * scale`, with the offset in screen pixels.

    Attributes:
        screen_width: Width of the screen in pixels.
        screen_height: As `screen_width`.
        video_width: Width of the video in pixels, as displayed.
        video_height: As `video_width`.
        mode: "letterbox": as large as fits, aspect ratio kept, centered. "stretch": fills the screen. "center": at its
            own size in the middle. "none": at its own size at the top left, so that screen and video pixels agree.
        explicit_scale: Replaces the mode's scale: video pixels per screen pixel, horizontal and vertical.
        explicit_offset: Replaces the mode's offset: the screen pixel at the picture's top left corner.
    """

    screen_width: float
    screen_height: float
    video_width: float
    video_height: float
    mode: MappingMode = "letterbox"
    explicit_scale: tuple[float, float] | None = None
    explicit_offset: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        sizes = (self.screen_width, self.screen_height, self.video_width, self.video_height)
        if not all(0 < size < math.inf for size in sizes):
            raise ValueError(f"sizes must be positive, not {sizes}")
        if self.mode not in MAPPING_MODES:
            raise ValueError(f"unknown mode {self.mode!r}; allowed: {', '.join(MAPPING_MODES)}")
        if self.explicit_scale is not None and not all(0 < scale < math.inf for scale in self.explicit_scale):
            raise ValueError(f"scale must be positive, not {self.explicit_scale}")

    @property
    def scale(self) -> tuple[float, float]:
        """Video pixels per screen pixel, horizontal and vertical."""
        if self.explicit_scale is not None:
            return self.explicit_scale
        horizontal, vertical = self.video_width / self.screen_width, self.video_height / self.screen_height
        if self.mode == "letterbox":
            return (max(horizontal, vertical),) * 2
        if self.mode == "stretch":
            return horizontal, vertical
        return 1.0, 1.0

    @property
    def offset(self) -> tuple[float, float]:
        """The screen pixel, from 0, at the picture's top left corner."""
        if self.explicit_offset is not None:
            return self.explicit_offset
        if self.mode in ("stretch", "none"):
            return 0.0, 0.0
        scale_x, scale_y = self.scale
        return (
            (self.screen_width - self.video_width / scale_x) / 2,
            (self.screen_height - self.video_height / scale_y) / 2,
        )

    def to_video(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points in video pixels; those outside the picture get values below 0 or not below the picture's size."""
        (scale_x, scale_y), (offset_x, offset_y) = self.scale, self.offset
        return (x - offset_x) * scale_x, (y - offset_y) * scale_y


def from_top_left(recording: Recording, origin: Origin | None, size: tuple[int, int]) -> Recording:
    """Converts x and y to pixels counted from the top left corner of a screen or video of `size` (width, height).

    `origin` is where x and y are 0; None takes the recording's own. A whole number counted from below stands for a row
    of pixels: 0 is the lowest.
    """
    width, height = size
    x, y = recording.x, recording.y
    if recording.normalized:
        x, y = x * width, y * height
    match origin or recording.origin:
        case "bottom-left":
            y = np.nextafter(height - y, -np.inf)
        case "center":
            x, y = x + width / 2, height / 2 - y
    return replace(recording, x=x, y=y, normalized=False, origin="top-left")


def gaze_on_video(
    recording: Recording,
    mapping: ScreenMapping,
    *,
    keep: frozenset[Event],
    min_confidence: float | None = None,
) -> Gaze:
    """Converts a recording to pixels of the video, and drops and counts what is not gaze on its picture.

    Args:
        recording: Samples, counted from the top left.
        mapping: How the video was shown on the screen.
        keep: Events whose samples count as gaze. Blinks and errors never do.
        min_confidence: Samples with a lower confidence do not count; None takes the recording's own limit.

    Returns:
        The gaze; `dropped` counts "blink", "error", "saccade", "unclassified" (by event, if not kept), then
        "low_confidence", "invalid" (nan) and "outside_picture" among the others.
    """
    num = len(recording.x)
    dropped: dict[str, int] = {}
    kept = np.ones(num, bool)
    if recording.event is not None:
        for event in Event:
            if event not in keep:
                matches = recording.event == event
                dropped[event.name.lower()] = int(matches.sum())
                kept &= ~matches
    limit = recording.min_confidence if min_confidence is None else min_confidence
    if recording.confidence is not None and limit is not None:
        low = kept & ~(recording.confidence >= limit)
        dropped["low_confidence"] = int(low.sum())
        kept &= ~low
    valid = np.isfinite(recording.x) & np.isfinite(recording.y)
    if recording.time_seconds is not None:
        valid &= np.isfinite(recording.time_seconds)
    dropped["invalid"] = int((kept & ~valid).sum())
    kept &= valid
    x, y = mapping.to_video(recording.x, recording.y)
    inside = (x >= 0) & (x < mapping.video_width) & (y >= 0) & (y < mapping.video_height)
    dropped["outside_picture"] = int((kept & ~inside).sum())
    kept &= inside
    return Gaze(
        observers=recording.observers,
        observer=recording.observer[kept],
        x=x[kept],
        y=y[kept],
        frame=None if recording.frame is None else recording.frame[kept],
        time_seconds=None if recording.time_seconds is None else recording.time_seconds[kept],
        num_read=num,
        dropped=dropped,
        observers_known=recording.observers_known,
        unit_assumed=recording.unit_assumed,
        warnings=recording.warnings,
    )


def merge_gaze(parts: Sequence[Gaze]) -> Gaze:
    """Joins the gaze of several files on one video; an observer with the same name in two of them is one observer.

    Raises:
        ValueError: There are no parts, or some have frames and some have times.
    """
    if not parts:
        raise ValueError("no gaze to merge")
    if len({part.frame is None for part in parts}) != 1:
        raise ValueError("some gaze has frames and some has times")
    names = tuple(dict.fromkeys(name for part in parts for name in part.observers))
    number = {name: i for i, name in enumerate(names)}
    indices = [np.array([number[name] for name in part.observers], np.int64)[part.observer] for part in parts]
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, num in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + num
    frames = [part.frame for part in parts if part.frame is not None]
    times = [part.time_seconds for part in parts if part.time_seconds is not None]
    return Gaze(
        observers=names,
        observer=np.concatenate(indices),
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        frame=np.concatenate(frames) if frames else None,
        time_seconds=np.concatenate(times) if times else None,
        num_read=sum(part.num_read for part in parts),
        dropped=dropped,
        observers_known=all(part.observers_known for part in parts),
        unit_assumed=any(part.unit_assumed for part in parts),
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )


def assign_frames(gaze: Gaze, frame_starts: FloatArray, end_seconds: float) -> Gaze:
    """Assigns every sample to the frame that was on display at its time.

    Args:
        gaze: With times or frames; of gaze with frames, only samples of frames that do not exist are dropped.
        frame_starts: (F,) time in seconds at which each frame appears, ascending.
        end_seconds: Time at which the last frame disappears.

    Returns:
        Gaze with frames. Frame i gets the samples with `frame_starts[i] <= time < frame_starts[i + 1]`; `dropped`
        counts those before the first frame and after the last one as "outside_time".
    """
    num_frames = len(frame_starts)
    if gaze.time_seconds is not None:
        frame = np.searchsorted(frame_starts, gaze.time_seconds, side="right").astype(np.int64) - 1
        inside = (frame >= 0) & (gaze.time_seconds < end_seconds)
    else:
        assert gaze.frame is not None
        frame = gaze.frame
        inside = (frame >= 0) & (frame < num_frames)
    return replace(
        gaze,
        observer=gaze.observer[inside],
        x=gaze.x[inside],
        y=gaze.y[inside],
        frame=frame[inside],
        time_seconds=None,
        dropped={**gaze.dropped, "outside_time": int((~inside).sum())},
    )


def median_per_observer(gaze: Gaze) -> Gaze:
    """Merges the samples of each observer in each frame into one, at the median of their x and of their y.

    Args:
        gaze: With frames, of a format that distinguishes observers.

    Returns:
        Gaze ordered by observer, then frame.
    """
    if gaze.frame is None or not gaze.observers_known:
        raise ValueError("needs gaze with frames that distinguishes observers")
    if not len(gaze):
        return gaze
    keys = np.stack([gaze.observer, gaze.frame])
    groups, group = np.unique(keys, axis=1, return_inverse=True)
    group = group.reshape(-1)
    sizes = np.bincount(group)
    begins = np.cumsum(sizes) - sizes

    def median(values: FloatArray) -> FloatArray:
        ordered = values[np.lexsort((values, group))]
        lower, upper = ordered[begins + (sizes - 1) // 2], ordered[begins + sizes // 2]
        return np.asarray((lower + upper) / 2, np.float64)

    return replace(gaze, observer=groups[0], x=median(gaze.x), y=median(gaze.y), frame=groups[1])


def fixation_counts(x: FloatArray, y: FloatArray, height: int, width: int) -> IntArray:
    """Number of points in each pixel.

    Args:
        x, y: (N,) points in pixels of the picture, all inside it.
        height, width: Size of the picture.

    Returns:
        (height, width) counts.
    """
    counts = np.zeros((height, width), np.int64)
    np.add.at(counts, (np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)), 1)
    return counts


def pixels_per_degree(
    distance_cm: float, size_cm: tuple[float, float], resolution: tuple[int, int]
) -> tuple[float, float]:
    """Screen pixels per degree of visual angle at the middle of the screen, horizontally and vertically.

    Computed as `2 * distance * tan(0.5 degrees) * resolution / size`.

    Args:
        distance_cm: Distance from the eye to the screen.
        size_cm: Width and height of the screen.
        resolution: Width and height of the screen in pixels.
    """
    degree_cm = 2 * distance_cm * math.tan(math.radians(0.5))
    return degree_cm * resolution[0] / size_cm[0], degree_cm * resolution[1] / size_cm[1]


def sigma_in_video_pixels(
    sigma_degrees: float, per_degree: tuple[float, float], scale: tuple[float, float]
) -> float:
    """Converts the sigma of a Gaussian from degrees of visual angle to pixels of the video.

    Args:
        sigma_degrees: Sigma on the screen.
        per_degree: Screen pixels per degree, horizontal and vertical.
        scale: Video pixels per screen pixel, horizontal and vertical.

    Returns:
        The geometric mean of both directions, which are equal if pixels are square.
    """
    horizontal, vertical = per_degree[0] * scale[0], per_degree[1] * scale[1]
    return sigma_degrees * math.sqrt(horizontal * vertical)
