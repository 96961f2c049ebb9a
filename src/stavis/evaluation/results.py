"""The scores of a video's frames, and the file that keeps them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stavis.errors import StavisError
from stavis.metrics.frame import FrameScores
from stavis.runtime.files import write_text

METRICS: tuple[str, ...] = FrameScores._fields
PREDICTIONS = "predictions"
"""The method whose maps were given; the others are baselines."""


@dataclass(frozen=True)
class VideoScores:
    """How well one method's maps of one video score.

    Attributes:
        method: `PREDICTIONS` or a baseline's name.
        database: The video's database.
        video: Its name.
        split: Of which split the maps are; None if they are the same in all.
        num_frames: Of the video.
        frame_rate: Frames per second.
        frames: (n,) the frames with a score, from 0, ascending.
        scores: (n, 5), a column a metric in the order of `METRICS`; nan where undefined.
        missing: Frames that should have been scored, and have no map.
        num_beyond: Maps beyond the last frame.
        source: Where the maps are, in words.
    """

    method: str
    database: str
    video: str
    split: int | None
    num_frames: int
    frame_rate: float
    frames: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    missing: tuple[int, ...]
    num_beyond: int
    source: str

    def of_metric(self, metric: str) -> npt.NDArray[np.float64]:
        """(n,) scores of the frames."""
        return np.asarray(self.scores[:, METRICS.index(metric)])

    def mean(self, metric: str) -> float:
        """The mean over the frames where the metric is defined; nan if it is nowhere."""
        defined = self.of_metric(metric)
        defined = defined[~np.isnan(defined)]
        return float(defined.mean()) if defined.size else math.nan

    def num_undefined(self, metric: str) -> int:
        """In how many frames the metric is undefined."""
        return int(np.isnan(self.of_metric(metric)).sum())


def write_scores(path: Path, video: VideoScores, identity: dict[str, Any]) -> None:
    """Writes the scores with what they depend on, whole or not at all."""
    record = {
        "identity": identity,
        "method": video.method,
        "database": video.database,
        "video": video.video,
        "split": video.split,
        "num_frames": video.num_frames,
        "frame_rate": video.frame_rate,
        "source": video.source,
        "missing_frames": list(video.missing),
        "num_maps_beyond": video.num_beyond,
        "mean": {metric: _or_none(video.mean(metric)) for metric in METRICS},
        "num_undefined": {metric: video.num_undefined(metric) for metric in METRICS},
        "frames": video.frames.tolist(),
        "scores": {m: [_or_none(v) for v in video.of_metric(m).tolist()] for m in METRICS},
    }
    write_text(path, json.dumps(record, allow_nan=False) + "\n")


def read_scores(path: Path) -> tuple[VideoScores, dict[str, Any]] | None:
    """What `write_scores` wrote, or None if there is nothing.

    Raises:
        StavisError: The file is something else.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise StavisError(f"{path}: not the scores of a video; remove it, or give --overwrite") from None
    try:
        columns = [np.array(record["scores"][m], dtype=np.float64) for m in METRICS]  # None becomes nan
        video = VideoScores(
            method=record["method"],
            database=record["database"],
            video=record["video"],
            split=record["split"],
            num_frames=record["num_frames"],
            frame_rate=record["frame_rate"],
            frames=np.array(record["frames"], dtype=np.int64),
            scores=np.stack(columns, axis=1),
            missing=tuple(record["missing_frames"]),
            num_beyond=record["num_maps_beyond"],
            source=record["source"],
        )
        if video.scores.shape != (video.frames.size, len(METRICS)):
            raise ValueError
        return video, dict(record["identity"])
    except (KeyError, TypeError, ValueError):
        raise StavisError(f"{path}: not the scores of a video; remove it, or give --overwrite") from None


def _or_none(value: float) -> float | None:
    """JSON has no nan."""
    return None if math.isnan(value) else value
