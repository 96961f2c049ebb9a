"""Options of a prediction."""

import inspect
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from numbers import Real
from pathlib import Path
from typing import TypedDict, TypeVar, get_args

from stavis.clips import Edges
from stavis.engine import EngineName, Precision
from stavis.metrics.negatives import Quirks as Quirks

MAX_FRAME_RATE = 1000  # frames per second


@dataclass(frozen=True)
class PredictOptions:
    """How a video is predicted.

    Attributes:
        stride: Compute every `stride`-th frame and interpolate the maps in between linearly.
        edges: "repeat": every frame gets a map; the first and last frames are repeated beyond the ends. "reference": as
            published: the first 8 frames get no map, and clips that run past the end are looped.
        quirks: "reference" reproduces the published test run: its edges, audio at the file's own rate, and the maps
            whose target frame lies past the end of the video.
        batch_size: Windows per forward pass. None: 1 on a CPU, which is fastest there, and 8 on a GPU. Memory holds as
            many additional frames.
        engine: What runs the network, see `stavis.engine.EngineFactory`. All give the same maps within 1e-4.
        precision: "float32" is exact. "bf16", "fp16" and "int8" are faster approximations on hardware that supports
            them, see `stavis.engine.EngineFactory`.
        frame_rate: Frames per second of a folder of images. None: 25, with a warning.
        audio_path: A file whose audio replaces the input's own.
        audio_stream: Which audio stream of the input, from 0. None: its default one.
        audio_channel: The only audio channel to use, from 0. None: all are mixed.
        silent: Predict as if there were no audio.
        start_seconds: Start of the excerpt to predict. None: the beginning.
        end_seconds: End of the excerpt. None: the end of the video.
        keep_gaps: Keep gaps of more than five minutes between frames instead of closing them up (docs/media.md).
        context: Predict the excerpt as a part of the whole video: the windows of its first and last frames contain what
            lies beyond, so that its maps equal those of the whole video.

    Raises:
        ValueError: An option is out of range, or two exclude each other.
    """

    stride: int = 1
    edges: Edges = "repeat"
    quirks: Quirks = "fixed"
    batch_size: int | None = None
    engine: EngineName = "auto"
    precision: Precision = "float32"
    frame_rate: float | None = None
    audio_path: str | Path | None = None
    audio_stream: int | None = None
    audio_channel: int | None = None
    silent: bool = False
    start_seconds: float | None = None
    end_seconds: float | None = None
    keep_gaps: bool = False
    context: bool = False

    def __post_init__(self) -> None:
        least = {"stride": 1, "batch_size": 1, "audio_stream": 0, "audio_channel": 0, "start_seconds": 0}
        for name in (*least, "end_seconds", "frame_rate"):
            value = getattr(self, name)
            is_number = isinstance(value, Real)
            if value is not None and not is_number:
                raise ValueError(f"`{name}={value!r}`: must be a number")
            if value is not None and name in least and not least[name] <= value < math.inf:
                raise ValueError(f"`{name}={value}`: must be {least[name]} or more")
        for name, allowed in (
            ("edges", get_args(Edges)),
            ("quirks", get_args(Quirks)),
            ("engine", get_args(EngineName)),
            ("precision", get_args(Precision)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}={getattr(self, name)}`: allowed are {', '.join(allowed)}")
        if self.frame_rate is not None and not 0 < self.frame_rate <= MAX_FRAME_RATE:
            raise ValueError(f"`frame_rate={self.frame_rate}`: must be above 0 and at most {MAX_FRAME_RATE}")
        if self.end_seconds is not None and not self.end_seconds > (self.start_seconds or 0):
            raise ValueError(
                f"`end_seconds={self.end_seconds}`: must be greater than `start_seconds={self.start_seconds or 0}`"
            )
        if self.silent and self.audio_path is not None:
            raise ValueError("`silent=True` and `audio_path` exclude each other")
        if self.context and (self.stride, self.edges, self.quirks) != (1, "repeat", "fixed"):
            raise ValueError("segments (`context=True`) need `stride=1`, `edges=repeat` and `quirks=fixed`")


class NetworkKeywords(TypedDict, total=False):
    """The attributes of `PredictOptions` that apply to any source of frames, as keyword arguments."""

    stride: int
    edges: Edges
    quirks: Quirks
    batch_size: int | None
    engine: EngineName
    precision: Precision


class PredictKeywords(NetworkKeywords, total=False):
    """All attributes of `PredictOptions`, as keyword arguments."""

    frame_rate: float | None
    audio_path: str | Path | None
    audio_stream: int | None
    audio_channel: int | None
    silent: bool
    start_seconds: float | None
    end_seconds: float | None
    keep_gaps: bool
    context: bool


Function = TypeVar("Function", bound=Callable[..., object])


def show_keywords(keywords: type[NetworkKeywords] | type[PredictKeywords]) -> Callable[[Function], Function]:
    """Replaces `**options: Unpack[keywords]` in a function's signature by the keywords it accepts, for `help()`."""
    defaults = {one.name: one.default for one in fields(PredictOptions) if one.default is not MISSING}

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        shown = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kind)
            for name, kind in keywords.__annotations__.items()
        ]
        function.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]
        return function

    return decorate
