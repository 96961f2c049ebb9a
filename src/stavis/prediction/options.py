"""Options of a prediction."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stavis.clips import Edges
from stavis.engine import EngineName, Precision

Quirks = Literal["fixed", "reference"]


@dataclass(frozen=True)
class PredictOptions:
    """How a video is predicted.

    Attributes:
        stride: Compute every `stride`-th frame; the maps between are linear in between.
        edges: "repeat": every frame gets a map, the first and last frames being repeated around the ends. "reference":
            the first 8 frames get none, and clips that run over the end are looped, as published.
        quirks: "reference" does everything as the published test run: edges, sound at the file's own rate, and the
            maps whose target lies behind the last frame.
        batch_size: Windows that go through the network at once; None for 1 on a CPU, which is fastest there, and 8 on a
            GPU. As many pictures more are held in memory.
        engine: What runs the network: see `stavis.engine.EngineFactory`. All give the same maps to 1e-4.
        precision: "float32"; or an approximation, faster where the processor has instructions for it: "bf16", "int8",
            on GPUs "bf16", "fp16". See `stavis.engine.EngineFactory`.
        frame_rate: Frames per second, for image folders.
        audio_path: A file whose sound is used instead of the input's own.
        audio_stream: Which of the input's sound streams, from 0; its default one if None.
        silent: Predict as if there were no sound.
        start_seconds: Where to begin; from the beginning if None.
        end_seconds: Where to end; at the end if None.
    """

    stride: int = 1
    edges: Edges = "repeat"
    quirks: Quirks = "fixed"
    batch_size: int | None = None
    engine: EngineName = "auto"
    precision: Precision = "float32"
    frame_rate: float | None = None
    audio_path: Path | None = None
    audio_stream: int | None = None
    silent: bool = False
    start_seconds: float | None = None
    end_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("stride", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more")
        for name, allowed in (("edges", ("repeat", "reference")), ("quirks", ("fixed", "reference"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
