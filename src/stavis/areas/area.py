"""Areas of interest: polygons that may move, and how much of a map they cover."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SUBROWS = 4  # sampled per row of a map; along rows, coverage is exact


class KeyFrame(NamedTuple):
    """The shape of an area from some moment on."""

    position: float  # frame, from 0, or seconds, as the area's `unit` says
    points: FloatArray | None  # (K, 2) corners in pixels of the picture as displayed; None hides the area


@dataclass(frozen=True)
class Area:
    """An area of interest.

    Attributes:
        name: What it is called.
        keys: Ascending key frames, at least one. Before the first the area is hidden; the last is held. Between two of
            as many corners the area moves linearly; between others the first is held.
        unit: What positions of key frames are.
    """

    name: str
    keys: tuple[KeyFrame, ...]
    unit: Literal["frame", "seconds"] = "frame"

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError(f"area {self.name!r} has no key frame")

    def polygon(self, index: int, time_seconds: float) -> FloatArray | None:
        """The (K, 2) corners at a frame; None where the area is hidden."""
        position = index if self.unit == "frame" else time_seconds
        after = bisect.bisect_right([key.position for key in self.keys], position)
        if after == 0:
            return None
        before, points = self.keys[after - 1]
        if points is None or after == len(self.keys):
            return points
        then, others = self.keys[after]
        if others is None or others.shape != points.shape or not math.isfinite(before):
            return points
        share = (position - before) / (then - before)
        return points + share * (others - points)


def fixed_area(name: str, points: Sequence[Sequence[float]] | FloatArray) -> Area:
    """An area that does not move: (K, 2) corners in pixels."""
    return Area(name, (KeyFrame(-math.inf, np.asarray(points, float)),))


def rectangle(x: float, y: float, width: float, height: float) -> FloatArray:
    """The (4, 2) corners of a rectangle."""
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], float)


def coverage(points: FloatArray, size: tuple[int, int], shape: tuple[int, int]) -> FloatArray:
    """The share in 0..1 of each cell of a map of `shape` (rows, columns) that a polygon covers, by the even-odd rule.

    `points` are its (K, 2) corners in pixels of a picture of `size` (width, height), which the map covers; parts
    outside of the picture do not count.
    """
    rows, columns = shape
    x, y = points[:, 0] / size[0] * columns, points[:, 1] / size[1] * rows
    result = np.zeros(shape)
    first, last = max(0, math.floor(y.min())), min(rows, math.ceil(y.max()))
    if first >= last:
        return result
    lines = first + (np.arange((last - first) * SUBROWS) + 0.5) / SUBROWS
    crossings = _crossings(x, y, lines)
    num = np.isfinite(crossings).sum(axis=1, keepdims=True)
    order = np.arange(crossings.shape[1])
    signs = np.where(order < num, np.where(order % 2, 1.0, -1.0), 0.0)
    # What lies left of a crossing within each cell; a span is the difference of its two ends.
    left = (np.where(order < num, crossings, 0.0)[:, :, None] - np.arange(columns)).clip(0, 1)
    covered = np.einsum("lk,lkc->lc", signs, left)
    result[first:last] = covered.reshape(last - first, SUBROWS, columns).mean(axis=1)
    return result


def contains(points: FloatArray, x: FloatArray, y: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether (N,) points lie in a polygon, by the even-odd rule."""
    crossings = _crossings(points[:, 0], points[:, 1], y)
    return np.asarray((crossings <= x[:, None]).sum(axis=1) % 2 == 1)


def _crossings(x: FloatArray, y: FloatArray, lines: FloatArray) -> FloatArray:
    """(L, K) ascending x at which a polygon's edges cross L horizontal lines, filled up with infinity."""
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    level = lines[:, None]
    crosses = (y <= level) != (next_y <= level)
    rise = np.where(next_y == y, 1.0, next_y - y)
    at = x + (level - y) / rise * (next_x - x)
    return np.sort(np.where(crosses, at, np.inf), axis=1)
