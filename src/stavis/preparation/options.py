"""Options, inputs and results of a preparation."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stavis.errors import counted
from stavis.gaze import GazeOptions
from stavis.gaze.read import describe_dropped

SamplePolicy = Literal["auto", "all", "one-per-observer"]


@dataclass(frozen=True)
class PrepareOptions:
    """How videos are prepared.

    Attributes:
        sigma_pixels: Standard deviation of the Gaussian that blurs fixations, in pixels of the video.
        sigma_degrees: The same in degrees of visual angle; needs the next two and the screen's resolution.
        screen_size_cm: Width and height of the screen in cm.
        distance_cm: Distance from the eyes to the screen in cm.
        samples: Which samples of an observer in a frame become fixations: "all"; "one-per-observer", their median;
            "auto" is "all" for gaze with frame numbers and "one-per-observer" for gaze with times.
        frame_rate: Frames per second to write, or of an image folder; None keeps a video's own.
        audio_stream: Audio stream of the video, from 0; None takes its default one.
        quality: JPEG quality of frames and density maps, 1 to 100.
        gaze: How gaze files are read.

    Raises:
        ValueError: A number is out of its range.
    """

    sigma_pixels: float | None = None
    sigma_degrees: float | None = None
    screen_size_cm: tuple[float, float] | None = None
    distance_cm: float | None = None
    samples: SamplePolicy = "auto"
    frame_rate: float | None = None
    audio_stream: int | None = None
    quality: int = 95
    gaze: GazeOptions = field(default_factory=GazeOptions)

    def __post_init__(self) -> None:
        for name in ("sigma_pixels", "sigma_degrees", "distance_cm", "frame_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`{name}={value}` must be above 0")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"`quality={self.quality}` must be in 1 to 100")


@dataclass(frozen=True)
class Source:
    """A video to prepare."""

    name: str  # name of its folders in the layout
    video: Path  # the video file or image folder
    gaze: tuple[Path, ...]  # its gaze files and folders; none for prediction only
    options: PrepareOptions  # how it is prepared


@dataclass(frozen=True)
class PreparedVideo:
    """Result for one video: either its `record`, as in `prepare.json`, or an `error` of one line.

    Attributes:
        source: The video with its gaze and options.
        record: What was written, and how; None if it failed.
        error: Why it failed.
        was_finished: Whether an earlier run had prepared it.
    """

    source: Source
    record: dict[str, Any] | None = None
    error: str | None = None
    was_finished: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Doubts about the video's gaze."""
        return tuple((self.record or {}).get("warnings", ()))

    def __str__(self) -> str:
        record = self.record
        if record is None:
            error = " ".join((self.error or "").split())
            return error if str(self.source.video) in error else f"{self.source.video}: {error}"
        line = f"{record['video']}: {counted(record['num_frames'], 'frames')} of {record['width']}x{record['height']}"
        line += f" at {record['frame_rate']:.3f} per second"
        if before := record["resampled_from"]:
            line += f" (from {before['num_frames']})"
        if record["sound"].startswith("none"):
            line += ", no audio"
        if gaze := record["gaze"]:
            observers = (
                f" of {counted(gaze['num_observers'], 'observers')}" if gaze["observers_known"] else ""
            )
            line += f"; gaze: {counted(gaze['num_read'], 'samples')} read{observers}, "
            line += f"dropped: {describe_dropped(gaze['dropped'])}; "
            line += f"{counted(gaze['num_fixations'], 'fixations')} in "
            line += f"{counted(gaze['num_frames_with_fixations'], 'frames')}, "
            line += f"sigma {gaze['sigma_pixels']:.1f} pixels"
        return line + (" (finished before)" if self.was_finished else "")


@dataclass(frozen=True)
class Preparation:
    """Result of a preparation.

    Attributes:
        videos: One result per video, in the order of the inputs.
        lists: Paths of the fold lists of the database; none if no video is finished.
        num_folds: Number of folds in them.
        num_listed: Number of videos in them, those of earlier runs included.
        unlisted: Finished videos that given fold lists do not name.
    """

    videos: tuple[PreparedVideo, ...]
    lists: tuple[Path, ...] = ()
    num_folds: int = 0
    num_listed: int = 0
    unlisted: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[PreparedVideo, ...]:
        return tuple(video for video in self.videos if video.record is None)


def check_database(name: str) -> None:
    """Raises ValueError if `name` cannot be a database's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"`database={name}`: letters, digits, '.', '_' and '-' are allowed")


def video_stem(path: Path) -> str:
    """A video's name: its file's without the suffix, or its folder's."""
    return path.name if path.is_dir() else path.stem
