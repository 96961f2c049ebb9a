"""Paths of least cost along one axis, by dynamic programming."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CELLS = 160  # positions of the window's center across the picture
MAX_ACCELERATION = 3  # cells per step and step
SMOOTHING_SECONDS = 0.2  # of the Gaussian that rounds a path's corners
SMOOTHING_RATE = 50.0  # samples per second of the path that is smoothed


@dataclass(frozen=True)
class MotionCosts:
    """Costs of moving, in the currency of saliency: 1 is all of a frame's saliency for one second.

    Predicted maps change too little over time: moving gains about 3 times what they claim (docs/reframing.md). The
    costs of moving are divided by that. For maps of real gaze, a smoothness of 3 makes up for it.

    Attributes:
        start: Of setting the window in motion: a move must gain at least this much. This is the dead zone: small
            and short displacements of the target never move the window.
        distance: Per picture width (or height) that the window travels.
        acceleration: Of a change of speed, per squared change, in units of the largest change of one step.
        off_center: Per second that the window stands at the edge of the picture, growing with the squared distance
            from the middle: decides where the maps do not.
    """

    start: float = 0.08
    distance: float = 0.17
    acceleration: float = 0.007
    off_center: float = 0.02

    def scaled(self, smoothness: float) -> "MotionCosts":
        """The costs of moving multiplied by `smoothness`."""
        return MotionCosts(
            self.start * smoothness,
            self.distance * smoothness,
            self.acceleration * smoothness,
            self.off_center,
        )


class _Moves(NamedTuple):
    """Speeds in cells per step, and what it costs to change from one to another."""

    speeds: npt.NDArray[np.int64]
    change_cost: FloatArray  # (2A + 1, S): by change of speed, by new speed
    travel_cost: FloatArray  # (S,)


def best_path(
    rewards: FloatArray,
    step_seconds: float,
    costs: MotionCosts,
    max_speed: float,
) -> npt.NDArray[np.int64]:
    """Finds the sequence of positions that collects the most reward at the least cost of motion.

    Exact over all sequences whose speed changes by at most `MAX_ACCELERATION` cells per step and which start at rest.

    Args:
        rewards: (K, G) reward of each of G positions in each of K steps.
        step_seconds: Duration of a step.
        costs: Costs of moving.
        max_speed: Limit of the speed, in ranges of G positions per second.

    Returns:
        (K,) positions, 0 to G - 1.
    """
    num_steps, num_cells = rewards.shape
    moves = _make_moves(num_cells, step_seconds, costs, max_speed)
    num_speeds = len(moves.speeds)
    rest = num_speeds // 2
    source = np.arange(num_cells)[:, None] - moves.speeds
    inside = (source >= 0) & (source < num_cells)
    source = source.clip(0, num_cells - 1)
    columns = np.arange(num_speeds)
    value = np.full((num_cells, num_speeds), -np.inf)
    value[:, rest] = rewards[0]
    choices = np.zeros((num_steps, num_cells, num_speeds), np.int8)
    reach = min(MAX_ACCELERATION, num_speeds - 1)
    for step in range(1, num_steps):
        best = np.full_like(value, -np.inf)
        choice = np.zeros(value.shape, np.int8)
        for change in range(-reach, reach + 1):
            # From speed s - change to s.
            new = slice(max(0, change), num_speeds + min(0, change))
            old = slice(max(0, -change), num_speeds + min(0, -change))
            candidate = value[:, old] - moves.change_cost[change + reach, new]
            better = candidate > best[:, new]
            best[:, new] = np.where(better, candidate, best[:, new])
            choice[:, new] = np.where(better, np.int8(change), choice[:, new])
        value = np.where(inside, best[source, columns], -np.inf) - moves.travel_cost + rewards[step][:, None]
        choices[step] = choice[source, columns]
    cell, speed = np.unravel_index(int(np.argmax(value)), value.shape)
    path = np.empty(num_steps, np.int64)
    for step in range(num_steps - 1, -1, -1):
        path[step] = cell
        change = choices[step, cell, speed]
        cell, speed = cell - moves.speeds[speed], speed - change
    return path


def _make_moves(num_cells: int, step_seconds: float, costs: MotionCosts, max_speed: float) -> _Moves:
    fastest = math.floor(min(max(1.0, max_speed * num_cells * step_seconds), num_cells - 1))
    speeds = np.arange(-fastest, fastest + 1)
    reach = min(MAX_ACCELERATION, len(speeds) - 1)
    changes = np.arange(-reach, reach + 1)
    change_cost = np.repeat(
        costs.acceleration * (changes[:, None] / MAX_ACCELERATION) ** 2, len(speeds), axis=1
    )
    starts = (speeds - changes[:, None] == 0) & (speeds != 0)
    return _Moves(speeds, change_cost + costs.start * starts, costs.distance * np.abs(speeds) / num_cells)


def smooth_path(
    step_times: FloatArray, positions: FloatArray, times: FloatArray, *, seconds: float = SMOOTHING_SECONDS
) -> FloatArray:
    """Interpolates a path at other times, its corners rounded by a Gaussian. Values stay within the path's range.

    Args:
        step_times: (K,) ascending times of the path's points, in seconds.
        positions: (K,) the path; it is held before its first and after its last point.
        times: (T,) ascending times at which it is evaluated.
        seconds: Standard deviation of the Gaussian.

    Returns:
        (T,) positions.
    """
    if positions.min() == positions.max():
        return np.full(len(times), positions[0])
    reach = math.ceil(4 * seconds * SMOOTHING_RATE)
    first, last = times[0], times[-1]
    num = math.ceil((last - first) * SMOOTHING_RATE) + 1
    dense = first + (np.arange(-reach, num + reach)) / SMOOTHING_RATE
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (seconds * SMOOTHING_RATE)) ** 2)
    values = np.interp(dense, step_times, positions)
    smooth = np.convolve(values, kernel / kernel.sum(), mode="valid")
    return np.asarray(np.interp(times, dense[reach : reach + num], smooth))
