"""Measures reframing to 9:16 against real gaze: how much of what people look at stays in the window, how it moves.

    python benchmarks/reframing.py --output reframing [--weights W] [--shared ../shared]

For each of two real clips: the share of fixations inside of the 9:16 window, the window's mean speed and root mean
square jerk in picture widths, for the camera on predicted maps and on the gaze of half of the observers (scored by the
other half, so that the maps' quality and the camera's can be told apart), against the center crop, the best fixed
crop (an oracle: it is chosen by the gaze that scores it) and a window that follows each map's maximum.

    python benchmarks/reframing.py --output reframing --choose default-weights/data

gives what the costs of moving were chosen by instead: on generated test videos, at most 24 of each database, what
moving the window gains over a window at rest (95 % intervals over videos), and what the maps claim that it gains.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

import stavis
from real_gaze import GAZE_CLIPS, Points, density_maps, predicted_or_cached, read_points
from stavis.maps.overlay import peak_position
from stavis.reframing.camera import GRID, CameraSettings, plan_windows, shrink_map, window_size
from stavis.reframing.reframe import plan_reframing
from stavis.runtime.files import write_text
from stavis.weights import DEFAULT

FloatArray = npt.NDArray[np.float64]
NUM_RESAMPLES = 1000
DATABASES = ("real-speech", "real-scenes", "mixed", "sight-decides", "unrelated", "sound-decides")
CHOICES = (1000.0, 3.0, 1.5, 1.2, 1.0, 0.8)  # smoothness; at 1000 no window moves


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", default=DEFAULT)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--aspect", type=float, default=9 / 16)
    parser.add_argument("--choose", type=Path, help="data folder with the databases of the default weights")
    arguments = parser.parse_args()
    if arguments.choose is not None:
        choose(arguments.choose, arguments.output, arguments.weights, CameraSettings(aspect=arguments.aspect))
        return
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


def choose(data: Path, output: Path, weights: str, settings: CameraSettings) -> None:
    """Prints what moving gains on generated test videos, by smoothness. They stand for pictures of 1280x720."""
    size, model = (1280, 720), stavis.load_model(weights)
    share = window_size(*size, settings.aspect, settings.bounds)[0] / size[0]
    rows: dict[float, list[tuple[float, ...]]] = {smoothness: [] for smoothness in CHOICES}
    for database in DATABASES:
        videos = [video for video in stavis.Database(data, database) if (1, "test") in video.lists]
        for video in videos[:: -(-len(videos) // 24)]:
            cached = output / "choose" / f"{database}-{video.name}.npy"
            if not cached.exists():
                cached.parent.mkdir(parents=True, exist_ok=True)
                frames = stavis.predict_frames(
                    model, list(video.frames()), frame_rate=video.frame_rate, audio=video.audio(), stride=6
                )
                np.save(cached, np.stack([shrink_map(frame.saliency) for frame in frames]))
            maps, times = np.load(cached), np.arange(video.num_frames) / video.frame_rate
            looked = [np.nonzero(video.fixations(index))[1] + 0.5 for index in range(video.num_frames)]
            width = video.fixations(0).shape[1]
            still = (0.0, 0.0)
            for smoothness in CHOICES:
                windows = plan_windows(maps, times, [0], size, replace(settings, smoothness=smoothness))
                lefts = np.array([window.x for window in windows]) / size[0]
                hits = [
                    (x / width >= left) & (x / width < left + share)
                    for x, left in zip(looked, lefts, strict=True)
                ]
                kept = float(np.concatenate(hits).mean()), claimed(maps, lefts, share)
                still = kept if smoothness == CHOICES[0] else still
                speed = motion(lefts, times)[0]
                rows[smoothness].append((kept[0], kept[0] - still[0], kept[1] - still[1], speed))
    print("| smoothness | fixations inside | gain of moving | claimed gain | speed (widths/s) |")
    print("|---|---:|---:|---:|---:|")
    for smoothness, found in rows.items():
        inside, gain, claim, speed = np.mean(found, axis=0)
        half = 1.96 * np.std([row[1] for row in found], ddof=1) / len(found) ** 0.5
        print(f"| {smoothness:g} | {inside:.3f} | {gain:+.4f} ± {half:.4f} | {claim:+.4f} | {speed:.4f} |")


def claimed(maps: npt.NDArray[np.floating], lefts: FloatArray, share: float) -> float:
    """The mean share of the maps' mass in windows of a width, both as shares of the picture's width."""
    edges = np.linspace(0, 1, GRID + 1)
    masses = []
    for one, left in zip(maps, lefts, strict=True):
        profile = np.concatenate([[0], one.astype(float).sum(axis=0).cumsum()])
        low, high = np.interp([left, left + share], edges, profile / profile[-1])
        masses.append(high - low)
    return float(np.mean(masses))


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
