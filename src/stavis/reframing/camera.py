"""The virtual camera: where the window stands in every frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stavis.maps import resize
from stavis.reframing.path import CELLS, FloatArray, MotionCosts, best_path, smooth_path

GRID = 32  # cells across and down of the maps that the camera plans with
STEP_SECONDS = 0.2  # of a path's steps, at least
ZOOM_LEVELS = 24
ZOOM_GAIN = (
    0.25  # reward for halving the window's width, per second: more of the target against less around it
)
ZOOM_SMOOTHNESS = 3.0  # zooming is more noticeable than moving
ZOOM_SPEED = 0.15  # of the range of zoom, per second


class CropWindow(NamedTuple):
    """A frame's window, in pixels of the picture as displayed.

    Attributes:
        index: The frame, from 0.
        time_seconds: Its presentation time.
        x: Left edge.
        y: Top edge.
        width: Width in pixels; fractions occur with zoom only.
        height: Height in pixels.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    time_seconds: float
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class CameraSettings:
    """How the window is shaped and moves.

    Attributes:
        aspect: Width over height of the window, such as 9 / 16.
        max_zoom: How much smaller than the largest possible window it may become; 1 does not zoom.
        smoothness: Multiplies the costs of moving: above 1 the window moves less, below 1 it follows more closely.
        max_speed: In picture widths (or heights) per second.
        bounds: (left, top, right, bottom) as fractions of the picture that the window never leaves.
        costs: Costs of moving at a smoothness of 1.
    """

    aspect: float = 9 / 16
    max_zoom: float = 1.0
    smoothness: float = 1.0
    max_speed: float = 0.4
    bounds: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    costs: MotionCosts = field(default_factory=MotionCosts)

    def __post_init__(self) -> None:
        if not (0 < self.aspect < math.inf):
            raise ValueError(f"`aspect={self.aspect}`: must be above 0")
        if not 1 <= self.max_zoom <= 8:
            raise ValueError(f"`max_zoom={self.max_zoom}`: must be 1 to 8")
        if not 0 < self.smoothness < math.inf:
            raise ValueError(f"`smoothness={self.smoothness}`: must be above 0")
        if not 0 < self.max_speed < math.inf:
            raise ValueError(f"`max_speed={self.max_speed}`: must be above 0")
        left, top, right, bottom = self.bounds
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"`bounds={self.bounds}`: must be left < right and top < bottom within 0..1")


def shrink_map(saliency: npt.NDArray[np.floating]) -> npt.NDArray[np.float16]:
    """The (32, 32) map that the camera plans with: shares of the frame's saliency above its median."""
    values = resize(saliency, (GRID, GRID))
    values = np.maximum(values - np.median(values), 0.0)
    total = values.sum()
    # Shares are scaled to a mean of 1, as 16-bit floats are coarse near 0.
    return (values / total * GRID**2 if total > 0 else np.ones_like(values)).astype(np.float16)


def window_size(
    width: int, height: int, aspect: float, bounds: tuple[float, float, float, float]
) -> tuple[int, int]:
    """The largest (width, height) in pixels of that aspect inside the bounds; even numbers where there is room."""
    free_width = max(1, math.floor((bounds[2] - bounds[0]) * width))
    free_height = max(1, math.floor((bounds[3] - bounds[1]) * height))
    if free_width / free_height > aspect:
        size = (max(1, round(free_height * aspect)), free_height)
    else:
        size = (free_width, max(1, round(free_width / aspect)))
    even_width, even_height = (
        min(n, limit) // 2 * 2 or 1 for n, limit in zip(size, (free_width, free_height), strict=True)
    )
    return even_width, even_height


def plan_windows(
    maps: Sequence[npt.NDArray[np.floating]] | npt.NDArray[np.floating],
    time_seconds: Sequence[float],
    shot_starts: Sequence[int],
    size: tuple[int, int],
    settings: CameraSettings,
) -> list[CropWindow]:
    """Plans the window of every frame, shot by shot.

    Args:
        maps: One map per frame, from `shrink_map`.
        time_seconds: Presentation time of each frame.
        shot_starts: First frame of each shot, ascending, the first 0.
        size: (width, height) of the picture in pixels.
        settings: Shape and motion.

    Returns:
        One window per frame. Without zoom all are of one size and stand on whole pixels.
    """
    times = np.asarray(time_seconds, float)
    width, height = window_size(*size, settings.aspect, settings.bounds)
    windows: list[CropWindow] = []
    ends = [*shot_starts[1:], len(times)]
    for begin, end in zip(shot_starts, ends, strict=True):
        shot = np.stack([np.asarray(one, float) for one in maps[begin:end]]) / GRID**2
        centers, scales = _plan_shot(shot, times[begin:end], (width / size[0], height / size[1]), settings)
        for offset in range(end - begin):
            frame = begin + offset
            windows.append(
                _place(frame, times[frame], centers[offset], scales[offset], (width, height), size, settings)
            )
    return windows


def _place(
    index: int,
    time_seconds: float,
    center: FloatArray,
    scale: float,
    window: tuple[int, int],
    size: tuple[int, int],
    settings: CameraSettings,
) -> CropWindow:
    corner, extent = [], []
    for axis in (0, 1):
        length = window[axis] * scale
        low, high = settings.bounds[axis] * size[axis], settings.bounds[axis + 2] * size[axis] - length
        position = center[axis] * size[axis] - length / 2
        if settings.max_zoom == 1:
            position = round(position)
            low, high = math.ceil(low), math.floor(high)
        # Bounds of less than a pixel have no place for a window.
        low = min(low, size[axis] - length)
        corner.append(float(min(max(position, low), max(low, high))))
        extent.append(float(length))
    return CropWindow(index, float(time_seconds), corner[0], corner[1], extent[0], extent[1])


def _plan_shot(
    maps: FloatArray, times: FloatArray, window: tuple[float, float], settings: CameraSettings
) -> tuple[FloatArray, FloatArray]:
    """(T, 2) centers as fractions of the picture, and (T,) scales of the window, of a shot's T frames."""
    left, top, right, bottom = settings.bounds
    duration = float(times[-1] - times[0])
    # Steps of a slow camera are longer, as the least motion is a cell per step.
    num_steps = max(1, math.floor(min(round(duration / STEP_SECONDS), duration * CELLS * settings.max_speed)))
    step_seconds = duration / num_steps if duration > 0 else STEP_SECONDS
    step_of_frame = np.minimum(((times - times[0]) / step_seconds).astype(int), num_steps - 1)
    counts = np.bincount(step_of_frame, minlength=num_steps)
    means = np.zeros((num_steps, *maps.shape[1:]))
    np.add.at(means, step_of_frame, maps)
    means /= np.maximum(counts, 1)[:, None, None]
    # Steps without a frame, in videos of few frames per second, decide nothing.
    step_times = times[0] + (np.arange(num_steps) + 0.5) * step_seconds

    scales = np.ones(num_steps)
    if settings.max_zoom > 1:
        scales = _plan_zoom(means, window, step_seconds, settings)
    centers = np.tile([(left + right) / 2, (top + bottom) / 2], (num_steps, 1))
    free = [
        axis for axis in (0, 1) if window[axis] * scales.min() < (right - left, bottom - top)[axis] - 1e-9
    ]
    # Each axis sees the saliency that the other one's window lets through, so two free axes take turns.
    for axis in free * 2 if len(free) > 1 else free:
        other = 1 - axis
        visible = np.ones((num_steps, GRID))
        if other in free and axis != free[0]:
            visible = _coverage(centers[:, other], window[other] * scales)
        # Maps are (rows, columns): axis 0, x, runs along the columns.
        profiles = np.einsum("krc,kr->kc" if axis == 0 else "krc,kc->kr", means, visible)
        centers[:, axis] = _plan_axis(profiles, window[axis] * scales, axis, step_seconds, settings)
    smooth = [smooth_path(step_times, centers[:, axis], times) for axis in (0, 1)]
    return np.stack(smooth, axis=1), smooth_path(step_times, scales, times, seconds=0.5)


def _plan_axis(
    profiles: FloatArray, lengths: FloatArray, axis: int, step_seconds: float, settings: CameraSettings
) -> FloatArray:
    """(K,) centers of windows of (K,) lengths along (K, GRID) shares of saliency, as fractions of the picture."""
    low, high = settings.bounds[axis], settings.bounds[axis + 2]
    positions = low + (high - low) * (np.arange(CELLS) + 0.5) / CELLS
    cumulative = np.concatenate([np.zeros((len(profiles), 1)), np.cumsum(profiles, axis=1)], axis=1)
    edges = np.linspace(0, 1, GRID + 1)
    rewards = np.empty((len(profiles), CELLS))
    clamped = np.empty((len(profiles), CELLS))
    for step, length in enumerate(lengths):
        clamped[step] = positions.clip(low + length / 2, max(low + length / 2, high - length / 2))
        ends = [
            np.interp(clamped[step] + half, edges, cumulative[step]) for half in (-length / 2, length / 2)
        ]
        rewards[step] = ends[1] - ends[0]
    middle = (low + high) / 2
    off_center = ((positions - middle) / ((high - low) / 2)) ** 2
    rewards = (rewards - settings.costs.off_center * off_center) * step_seconds
    path = best_path(rewards, step_seconds, settings.costs.scaled(settings.smoothness), settings.max_speed)
    return clamped[np.arange(len(path)), path]


def _plan_zoom(
    means: FloatArray, window: tuple[float, float], step_seconds: float, settings: CameraSettings
) -> FloatArray:
    """(K,) scales of the window, 1 for the largest."""
    scales = np.geomspace(1.0, 1.0 / settings.max_zoom, ZOOM_LEVELS)
    kept = np.empty((len(means), ZOOM_LEVELS))
    table = np.zeros((len(means), GRID + 1, GRID + 1))
    table[:, 1:, 1:] = means.cumsum(axis=1).cumsum(axis=2)
    for level, scale in enumerate(scales):
        columns, rows = (max(1, round(length * scale * GRID)) for length in window)
        sums = (
            table[:, rows:, columns:]
            - table[:, :-rows, columns:]
            - table[:, rows:, :-columns]
            + table[:, :-rows, :-columns]
        )
        kept[:, level] = sums.max(axis=(1, 2))
    rewards = (kept - ZOOM_GAIN * np.log2(scales)) * step_seconds
    costs = settings.costs.scaled(ZOOM_SMOOTHNESS * settings.smoothness)
    path = best_path(rewards, step_seconds, costs, ZOOM_SPEED)
    return scales[path]


def _coverage(centers: FloatArray, lengths: FloatArray) -> FloatArray:
    """(K, GRID) share of each cell of the axis that a window covers."""
    edges = np.linspace(0, 1, GRID + 1)
    begin, end = (centers - lengths / 2)[:, None], (centers + lengths / 2)[:, None]
    covered = np.minimum(end, edges[1:]) - np.maximum(begin, edges[:-1])
    return np.asarray(covered.clip(0, None) * GRID)
