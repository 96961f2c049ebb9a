"""Scores of a video's frames, and the file that stores them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stavis.errors import StavisError
from stavis.metrics.frame import FrameScores
from stavis.runtime.files import write_text

Float64 = npt.NDArray[np.float64]

METRICS: tuple[str, ...] = FrameScores._fields
"""The metrics of the protocols of data in the published layout; others have a selection of their own."""
PREDICTIONS = "predictions"
"""The method whose maps were given; the others are baselines."""


@dataclass(frozen=True)
class VideoScores:
    """Scores of one method's maps of one video."""

    method: str  # `PREDICTIONS` or a baseline's name
    database: str  # the video's database
    video: str  # its name
    split: int | None  # the split that the maps belong to; None if they are the same in all
    num_frames: int  # number of the video's frames
    frame_rate: float  # frames per second
    frames: npt.NDArray[np.int64]  # (n,) the scored frames, from 0, ascending
    scores: Mapping[str, Float64]  # metric -> (n,) scores; nan where undefined
    missing: tuple[int, ...]  # frames that should have been scored and have no map
    num_beyond: int  # number of maps beyond the last frame
    source: str  # where the maps are
    notes: tuple[str, ...] = ()  # what a reader of the scores must know

    def mean(self, metric: str) -> float:
        """The mean over the frames where the metric is defined; nan if there are none."""
        return mean_of_defined(self.scores[metric])

    def num_undefined(self, metric: str) -> int:
        """The number of frames where the metric is undefined."""
        return int(np.isnan(self.scores[metric]).sum())


_STORED_AS_THEY_ARE = ("method", "database", "video", "split", "num_frames", "frame_rate", "source")


def mean_of_defined(values: Float64) -> float:
    """The mean without nan; nan if nothing is left."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def none_if_nan(value: float) -> float | None:
    """The value, or None for nan, which JSON lacks."""
    return None if math.isnan(value) else value


def write_scores(path: Path, video: VideoScores, identity: dict[str, Any]) -> None:
    """Writes the scores together with what they depend on (`identity`)."""
    record = {
        "identity": identity,
        **{name: getattr(video, name) for name in _STORED_AS_THEY_ARE},
        "notes": list(video.notes),
        "missing_frames": list(video.missing),
        "num_maps_beyond": video.num_beyond,
        "mean": {metric: none_if_nan(video.mean(metric)) for metric in video.scores},
        "num_undefined": {metric: video.num_undefined(metric) for metric in video.scores},
        "frames": video.frames.tolist(),
        "scores": {m: [none_if_nan(v) for v in values.tolist()] for m, values in video.scores.items()},
    }
    write_text(path, json.dumps(record, allow_nan=False) + "\n")


def read_scores(path: Path) -> tuple[VideoScores, dict[str, Any]] | None:
    """Reads scores and identity as `write_scores` wrote them; None if there is no such file.

    Raises StavisError if the file is of another kind.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        frames = np.array(record["frames"], dtype=np.int64)
        # None becomes nan.
        scores = {m: np.array(values, dtype=np.float64) for m, values in record["scores"].items()}
        if any(values.shape != frames.shape for values in scores.values()):
            raise ValueError
        video = VideoScores(
            **{name: record[name] for name in _STORED_AS_THEY_ARE},
            frames=frames,
            scores=scores,
            missing=tuple(record["missing_frames"]),
            num_beyond=record["num_maps_beyond"],
            notes=tuple(record.get("notes", ())),
        )
        return video, dict(record["identity"])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StavisError(
            f"{path}: not the scores of a video; remove it, or evaluate with overwrite=True"
        ) from None
