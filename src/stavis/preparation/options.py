"""Options, inputs and outcome of a preparation."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stavis.gaze import (
    GazeOptions,
)

SamplePolicy = Literal["auto", "all", "one-per-observer"]


@dataclass(frozen=True)
class PrepareOptions:
    """How videos are prepared.

    Attributes:
        sigma_pixels: Of the Gaussian that blurs fixations, in pixels of the video.
        sigma_degrees: The same in degrees of visual angle; needs the three below and the screen's resolution.
        screen_size_cm: Width and height of the screen.
        distance_cm: From the eyes to the screen.
        samples: Which of an observer's samples in a frame are fixations: "all"; "one-per-observer", their median;
            "auto" is "all" of gaze recorded by frame and "one-per-observer" of gaze recorded by time.
        frame_rate: Frames per second to write, of an image folder those that it has; None keeps a video's own.
        audio_stream: Which of a video's sound streams, from 0; its default one if None.
        quality: JPEG quality of frames and density maps.
        gaze: How gaze files are read.
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


@dataclass(frozen=True)
class Source:
    """A video to prepare.

    Attributes:
        name: Of its folders in the layout.
        video: The video file or image folder.
        gaze: Its gaze files and folders; none for prediction only.
        options: How it is prepared.
    """

    name: str
    video: Path
    gaze: tuple[Path, ...]
    options: PrepareOptions


@dataclass(frozen=True)
class Outcome:
    """What became of a source: `record` as in its `prepare.json`, or `error` in one line.

    Attributes:
        source: The source.
        record: What was made, None if it failed.
        error: Why it failed.
        was_finished: An earlier run had made it.
    """

    source: Source
    record: dict[str, Any] | None = None
    error: str | None = None
    was_finished: bool = False


def video_stem(path: Path) -> str:
    """A video's name: its file's without the suffix, or its folder's."""
    return path.name if path.is_dir() else path.stem
