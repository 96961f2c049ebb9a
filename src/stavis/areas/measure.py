"""Attention of areas: predicted shares of each area in every frame, and what real gaze says."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.areas.area import Area, FloatArray, contains, coverage
from stavis.areas.read import read_areas
from stavis.errors import StavisError, counted
from stavis.gaze import Gaze, assign_frames
from stavis.maps.overlay import peak_position
from stavis.model import STAViS
from stavis.prediction.map_source import frames_with_maps
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import FrameSaliency, expected_frames
from stavis.runtime.progress import track
from stavis.storage.remote import as_path

if TYPE_CHECKING:
    import pandas


@dataclass(slots=True)
class AreaFrame:
    """An area in a frame: a row of `areas.csv`."""

    frame: int  # from 0
    time_seconds: float  # presentation time
    area: str  # the area's name
    visible: int  # 1 where it is, at least in part, in the picture
    share: float  # share of the map's mass inside it, 0..1
    picture_share: float  # its share of the picture
    ratio: float  # `share` over `picture_share`: above 1 it attracts more than its size; nan where it is not visible
    rank: int  # 1 for the visible area of the largest share; 0 where it is not visible
    peak_inside: int  # 1 where the map's maximum lies inside it
    gaze_share: float = float(
        "nan"
    )  # share of the observers' points inside it; nan without gaze in that frame
    num_gaze: int = 0  # points of gaze in the frame


@dataclass(frozen=True, slots=True)
class AreaSummary:
    """An area in the whole video. Times are in seconds; nan where there is none."""

    area: str  # its name
    share: float  # mean share of attention while it is visible
    picture_share: float  # mean share of the picture while it is visible
    ratio: float  # the first over the second
    mean_rank: float  # while it is visible
    visible_seconds: float  # how long it is visible
    lead_seconds: float  # how long it has the largest share
    first_peak_seconds: float  # when the map's maximum first lies inside it
    gaze_share: float = float("nan")  # share of all points of gaze inside it
    dwell_seconds: float = float("nan")  # how long an observer looks at it, on average
    observers_share: float = float("nan")  # share of the observers who ever look at it
    first_gaze_seconds: float = float("nan")  # when the first observer does


@dataclass(frozen=True, repr=False)
class AreaAttention:
    """Attention of a video's areas.

    Attributes:
        areas: The areas.
        rows: One per frame and area, frame by frame.
        summary: One per area.
    """

    areas: list[Area]
    rows: list[AreaFrame]
    summary: list[AreaSummary]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table of one row per frame and area, with the columns of `areas.csv`. Raises ImportError without pandas."""
        import pandas

        return pandas.DataFrame(self.rows)

    def summary_to_pandas(self) -> "pandas.DataFrame":
        """A table of one row per area. Raises ImportError if pandas is not installed."""
        import pandas

        return pandas.DataFrame(self.summary)

    def __repr__(self) -> str:
        num_frames = len(self.rows) // max(1, len(self.areas))
        return f"AreaAttention({counted(len(self.areas), 'areas')}, {counted(num_frames, 'frames')})"


def measure_areas(
    video: str | Path,
    areas: str | Path | Sequence[Area],
    model: STAViS | None = None,
    *,
    gaze: Gaze | None = None,
    options: PredictOptions | None = None,
    maps: Path | npt.NDArray[np.floating] | None = None,
    on_frame: Callable[[FrameSaliency, list[AreaFrame]], None] | None = None,
    quiet: bool = True,
) -> AreaAttention:
    """Measures how much attention each area of a video gets.

    Args:
        video: Any file FFmpeg can read, or a folder of numbered images.
        areas: A file for `read_areas`, or areas.
        model: The network that predicts where people look; not needed with `maps`.
        gaze: Real gaze on the video, as `stavis.gaze.read_gaze` gives it.
        options: How maps are predicted.
        maps: Maps to use instead of predictions: (N, h, w), or an .npz file with such an array `saliency`.
        on_frame: Called with each frame and its rows, before gaze is counted.
        quiet: Show no progress.

    Raises:
        ValueError: Neither `model` nor `maps` is given.
        StavisError: The video, the areas or the maps cannot be read.
    """
    video, options = as_path(video), options or PredictOptions()
    info = media.probe(video, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    size = (info.width, info.height)
    chosen = read_areas(areas, size) if isinstance(areas, str | Path) else list(areas)
    if not chosen:
        raise ValueError("`areas` is empty")
    meter = _Meter(chosen, size)
    rows: list[AreaFrame] = []
    times: list[float] = []
    source = frames_with_maps(video, model, options, maps)
    with track(f"{video.name}: maps", expected_frames(info, options), unit="frames", quiet=quiet) as advance:
        for frame in source:
            here = meter.measure(frame)
            rows += here
            times.append(frame.time_seconds)
            if on_frame is not None:
                on_frame(frame, here)
            advance()
    if not times:
        raise StavisError(f"{video}: none of its frames has a map")
    durations = np.diff(times, append=times[-1] + 1 / float(info.frame_rate))
    looks: list[_Looks | None] = [None] * len(chosen)
    if gaze is not None:
        looks = [*_count_gaze(chosen, rows, np.array(times), durations, gaze, video)]
    summary = [
        _summarize(area.name, rows[number :: len(chosen)], durations, looks[number])
        for number, area in enumerate(chosen)
    ]
    return AreaAttention(chosen, rows, summary)


class _Meter:
    """Shares of areas, frame by frame; the cells that an area covers are kept while it stands still."""

    def __init__(self, areas: Sequence[Area], size: tuple[int, int]) -> None:
        self.areas, self.size = areas, size
        self._cells: dict[int, tuple[FloatArray, FloatArray]] = {}

    def measure(self, frame: FrameSaliency) -> list[AreaFrame]:
        saliency = np.asarray(frame.saliency, float)
        total = saliency.sum()
        values = saliency / total if total > 0 else np.full(saliency.shape, 1 / saliency.size)
        x, y = (np.array([part]) for part in peak_position(np.asarray(frame.saliency, np.float32)))
        rows = []
        for number, area in enumerate(self.areas):
            points = area.polygon(frame.index, frame.time_seconds)
            cells = None if points is None else self._covered(number, points, saliency.shape)
            picture_share = 0.0 if cells is None else float(cells.mean())
            visible = picture_share > 0
            share = float((values * cells).sum()) if cells is not None else 0.0
            peak = visible and points is not None and contains(points, x * self.size[0], y * self.size[1])[0]
            ratio = share / picture_share if visible else float("nan")
            shares = (share, picture_share, ratio)
            rows.append(
                AreaFrame(frame.index, frame.time_seconds, area.name, int(visible), *shares, 0, int(peak))
            )
        for row in rows:
            if row.visible:
                row.rank = 1 + sum(other.visible and other.share > row.share for other in rows)
        return rows

    def _covered(self, number: int, points: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        kept = self._cells.get(number)
        if kept is None or kept[0] is not points or kept[1].shape != shape:
            kept = self._cells[number] = (points, coverage(points, self.size, (shape[0], shape[1])))
        return kept[1]


_Looks = tuple[float, float, float, float]
"""Gaze on one area in the whole video: `gaze_share`, `dwell_seconds`, `observers_share`, `first_gaze_seconds`."""


def _count_gaze(
    areas: Sequence[Area],
    rows: list[AreaFrame],
    times: FloatArray,
    durations: FloatArray,
    gaze: Gaze,
    video: Path,
) -> list[_Looks]:
    """Fills in the rows' gaze; a point stands for its share of the observer's points in its frame."""
    placed = assign_frames(gaze, times, float(times[-1] + durations[-1]))
    if placed.frame is None or not len(placed):
        raise StavisError(f"{video}: no gaze falls on the frames that have maps")
    looks = []
    per_frame = np.bincount(placed.frame, minlength=len(times))
    keys = placed.observer * len(times) + placed.frame
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    seconds = durations[placed.frame] / sizes[group]
    num_observers = len(gaze.observers)
    for number, area in enumerate(areas):
        inside = np.zeros(len(placed), bool)
        for frame in np.unique(placed.frame):
            points = area.polygon(int(frame), float(times[frame]))
            if points is not None:
                here = np.flatnonzero(placed.frame == frame)
                inside[here] = contains(points, placed.x[here], placed.y[here])
        hits = np.bincount(placed.frame[inside], minlength=len(times))
        for row, num, hit in zip(rows[number :: len(areas)], per_frame, hits, strict=True):
            row.num_gaze = int(num)
            row.gaze_share = hit / num if num else float("nan")
        observers = len(np.unique(placed.observer[inside]))
        known = gaze.observers_known
        looks.append(
            (
                float(inside.mean()),
                float(seconds[inside].sum() / num_observers) if known else float("nan"),
                observers / num_observers if known else float("nan"),
                float(times[placed.frame[inside].min()]) if inside.any() else float("nan"),
            )
        )
    return looks


def _summarize(
    name: str, rows: Sequence[AreaFrame], durations: FloatArray, looks: _Looks | None
) -> AreaSummary:
    visible = np.array([row.visible for row in rows], bool)
    weights = durations * visible
    seconds = float(weights.sum())

    def mean(values: Iterator[float]) -> float:
        return float((np.array(list(values)) * weights).sum() / seconds) if seconds else float("nan")

    share, picture_share = mean(row.share for row in rows), mean(row.picture_share for row in rows)
    return AreaSummary(
        name,
        share,
        picture_share,
        share / picture_share if seconds else float("nan"),
        mean(float(row.rank) for row in rows),
        seconds,
        float((durations * np.array([row.rank == 1 for row in rows])).sum()),
        next((row.time_seconds for row in rows if row.peak_inside), float("nan")),
        *(looks or ()),
    )
