"""Measures reframing to 9:16 against real gaze: how much of what people look at stays in the window, how it moves.

    python benchmarks/reframing.py --output reframing [--weights W] [--shared ../shared]

For each of two real clips: the share of fixations inside of the 9:16 window, the window's mean speed and root mean
square jerk in picture widths, for the camera on predicted maps and on the gaze of half of the observers (scored by the
other half, so that the maps' quality and the camera's can be told apart), against the center crop, the best fixed
crop (an oracle: it is chosen by the gaze that scores it) and a window that follows each map's maximum.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from real_gaze import GAZE_CLIPS, Points, density_maps, predicted_or_cached, read_points
from stavis.maps.overlay import peak_position
from stavis.reframing.camera import CameraSettings, window_size
from stavis.reframing.reframe import plan_reframing
from stavis.runtime.files import write_text
from stavis.weights import DEFAULT

FloatArray = npt.NDArray[np.float64]
NUM_RESAMPLES = 1000


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", default=DEFAULT)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--aspect", type=float, default=9 / 16)
    arguments = parser.parse_args()
    lines = [
        "| clip | window | fixations inside | 95 % interval | speed (widths/s) | jerk (widths/s^3) | jerk of argmax |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    settings = CameraSettings(aspect=arguments.aspect)
    for clip in GAZE_CLIPS:
        points = read_points(arguments.shared, clip)
        video = arguments.shared / "media" / clip.video
        predicted = predicted_or_cached(arguments.output / "maps", video, arguments.weights, arguments.stride)
        even = np.arange(points.num_observers) % 2 == 0
        scoring = points.of_observers(~even)
        gaze = density_maps(points.of_observers(even), clip.sigma_share)
        width = window_size(*points.size, settings.aspect, settings.bounds)[0]
        last = points.size[0] - width
        num = points.num_frames
        times = np.array(
            [w.time_seconds for w in plan_reframing(video, maps=gaze, settings=settings).windows]
        )

        def follow(
            maps: npt.NDArray[np.floating], width: int = width, last: int = last, full: int = points.size[0]
        ) -> FloatArray:
            centers = np.array([peak_position(one)[0] for one in maps]) * full
            return (centers - width / 2).clip(0, last)

        def plan(maps: npt.NDArray[np.floating], video: Path = video) -> FloatArray:
            return np.array([w.x for w in plan_reframing(video, maps=maps, settings=settings).windows])

        fixed = max(range(last + 1), key=lambda left: inside(points, np.full(num, float(left)), width).mean())
        argmax = follow(predicted)
        rows = [
            ("center crop", np.full(num, last / 2), points),
            ("best fixed crop (oracle)", np.full(num, float(fixed)), points),
            ("argmax of predicted maps", argmax, points),
            ("ours, predicted maps", plan(predicted), points),
            ("argmax of half the observers' gaze", follow(gaze), scoring),
            ("ours, half the observers' gaze", plan(gaze), scoring),
        ]
        for name, lefts, scored in rows:
            hits = inside(scored, lefts, width)
            low, high = interval(scored, hits)
            speed, jerk = motion(lefts / points.size[0], times)
            reference = motion((argmax if scored is points else follow(gaze)) / points.size[0], times)[1]
            lines.append(
                f"| {clip.name} | {name} | {hits.mean():.3f} | {low:.3f}..{high:.3f} | {speed:.3f} | {jerk:.1f} "
                f"| {jerk / reference:.3f} |"
            )
    text = "\n".join(lines) + "\n"
    write_text(arguments.output / "table.md", text)
    print(text, end="")


def inside(points: Points, lefts: FloatArray, width: int) -> npt.NDArray[np.bool_]:
    """(N,) whether each point lies in its frame's window."""
    left = lefts[points.frame]
    return (points.x >= left) & (points.x < left + width)


def interval(points: Points, hits: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """95 % interval of the share over observers, or over seconds of 24 frames where there are under 8 observers."""
    by_observer = points.num_observers >= 8
    groups = points.observer if by_observer else points.frame // 24
    totals = np.bincount(groups).astype(float)
    sums = np.bincount(groups, weights=hits)
    used = totals > 0
    totals, sums = totals[used], sums[used]
    drawn = np.random.default_rng(0).integers(0, len(totals), (NUM_RESAMPLES, len(totals)))
    shares = sums[drawn].sum(axis=1) / totals[drawn].sum(axis=1)
    return float(np.quantile(shares, 0.025)), float(np.quantile(shares, 0.975))


def motion(positions: FloatArray, times: FloatArray) -> tuple[float, float]:
    """Mean speed per second, and root mean square jerk per second cubed."""
    step = float(np.median(np.diff(times)))
    derivative: Callable[[int], FloatArray] = lambda order: np.diff(positions, order) / step**order  # noqa: E731
    return float(np.abs(derivative(1)).mean()), float(np.sqrt(np.square(derivative(3)).mean()))


if __name__ == "__main__":
    main()
