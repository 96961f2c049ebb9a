"""Measures in generated videos whether the designed shares can be recovered, and the bounds for any model.

    python benchmarks/synthetic_truth.py [--videos 12] [--seconds 10] [--presets mixed,sound-decides]

prints the tables of docs/synthetic.md. Everything depends on the seed only, except the speed.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stavis.maps import density_from_fixations
from stavis.metrics import nss
from stavis.synthetic import DRIVES, PRESETS, ROUTES, Settings, Truth, write_databases
from stavis.synthetic.generator import ClipMaker
from stavis.synthetic.oracle import drive_densities, fresh_observers, oracle_density, settled_frames

NUM_FRESH = 200  # observers that make the ceiling
FRAME_STEP = 5  # every so many frames are scored
NUM_RESAMPLES = 2000  # of the bootstrap over videos
SIZE = (160, 120)
FRAME_RATE = 25.0

Array = npt.NDArray[np.float64]


@dataclass
class Video:
    """What is measured on one video.

    Attributes:
        route_seconds: Route -> seconds.
        only_sound: Mean over the frames of the share that only the sound can tell.
        likelihoods: (N, 5) of each settled sample under each drive.
        scores: Name of a map -> NSS of the video, over all frames.
        settled: The same over the frames whose source has sounded for a while.
        designed_gain: What of the last is expected from the mixture itself: with the sound, without it.
    """

    route_seconds: dict[str, float]
    only_sound: float
    likelihoods: Array
    scores: dict[str, float]
    settled: dict[str, float]
    designed_gain: tuple[float, float]


def measure(task: tuple[str, int, float, int]) -> Video:
    """Generates a video and scores maps of those who know the world on its observers."""
    name, index, seconds, seed = task
    settings = Settings(name, seconds=seconds, size=SIZE, frame_rate=FRAME_RATE, seed=seed)
    maker, num_frames = ClipMaker(settings, ("benchmark", index)), settings.num_frames
    for _ in maker.frames():
        pass
    truth = maker.truth()
    fresh = fresh_observers(truth, NUM_FRESH)
    fixations = truth.gaze.fixation_maps(num_frames, SIZE)
    settled = set(settled_frames(truth))
    rows: dict[str, dict[int, float]] = {
        name: {}
        for name in ("other observers", "one of them left out", "with sound", "without sound", "center")
    }
    expected, likelihoods = [], [np.zeros((0, len(DRIVES)))]
    for frame in range(FRAME_STEP, num_frames, FRAME_STEP):
        drives = drive_densities(truth, frame)
        hearing, deaf = (oracle_density(truth, frame, hears=hears) for hears in (True, False))
        rows["other observers"][frame] = nss(
            fresh.density_map(frame, (truth.width, truth.height), truth.sigma_pixels), fixations[frame]
        )
        rows["one of them left out"][frame] = _leave_one_out(truth, frame)
        rows["with sound"][frame] = nss(hearing, fixations[frame])
        rows["without sound"][frame] = nss(deaf, fixations[frame])
        rows["center"][frame] = nss(drives[DRIVES.index("center")], fixations[frame])
        if frame in settled:
            expected.append([(hearing * _standardized(density)).sum() for density in (hearing, deaf)])
            now = truth.gaze.frame == frame
            likelihoods.append(drives[:, truth.gaze.y[now].astype(int), truth.gaze.x[now].astype(int)].T)
    scores = {name: float(np.nanmean(list(values.values()))) for name, values in rows.items()}
    at_settled = {
        name: float(np.nanmean([v for frame, v in values.items() if frame in settled]))
        if expected
        else np.nan
        for name, values in rows.items()
    }
    return Video(
        route_seconds={
            route: sum(
                (shot["stop_frame"] - shot["start_frame"]) / FRAME_RATE
                for shot in truth.shots
                if shot["route"] == route
            )
            for route in ROUTES
        },
        only_sound=float(np.mean([truth.only_sound_share(frame) for frame in range(num_frames)])),
        likelihoods=np.concatenate(likelihoods),
        scores=scores,
        settled=at_settled,
        designed_gain=tuple(np.mean(expected, axis=0)) if expected else (np.nan, np.nan),
    )


def _standardized(density: Array) -> Array:
    return np.asarray((density - density.mean()) / density.std(ddof=1))


def _leave_one_out(truth: Truth, frame: int) -> float:
    """NSS of the density of all observers but one at that one's sample, averaged."""
    now = truth.gaze.frame == frame
    rows, columns = truth.gaze.y[now].astype(int), truth.gaze.x[now].astype(int)
    values = []
    for left_out in range(len(rows)):
        others = np.arange(len(rows)) != left_out
        counts = np.zeros((truth.height, truth.width))
        np.add.at(counts, (rows[others], columns[others]), 1)
        density = density_from_fixations(counts, truth.sigma_pixels)
        values.append(_standardized(density)[rows[left_out], columns[left_out]])
    return float(np.mean(values)) if len(values) > 1 else float("nan")


def fit_shares(likelihoods: Array) -> Array:
    """The mixture of drives under which the samples are likeliest, by expectation maximization."""
    shares = np.full(len(DRIVES), 1 / len(DRIVES))
    for _ in range(200):
        weighted = likelihoods * shares
        shares = (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def interval(values: list[float]) -> str:
    """The mean over videos with its 95 % bootstrap interval."""
    kept = np.array([value for value in values if np.isfinite(value)])
    if not len(kept):
        return "-"
    rng = np.random.default_rng(0)
    means = kept[rng.integers(0, len(kept), (NUM_RESAMPLES, len(kept)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{kept.mean():.2f} [{low:.2f}, {high:.2f}]"


def share_interval(videos: list[Video]) -> tuple[Array, Array]:
    """Fitted shares and their standard error, by a bootstrap over videos."""
    rng = np.random.default_rng(0)
    parts = [video.likelihoods for video in videos if len(video.likelihoods)]
    resampled = [
        fit_shares(np.concatenate([parts[i] for i in rng.integers(0, len(parts), len(parts))]))
        for _ in range(40)
    ]
    return fit_shares(np.concatenate(parts)), np.std(resampled, axis=0)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--presets", default=",".join(PRESETS))
    arguments = parser.parse_args()
    names = arguments.presets.split(",")
    measured: dict[str, list[Video]] = {}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for name in names:
            tasks = [(name, index, arguments.seconds, arguments.seed) for index in range(arguments.videos)]
            measured[name] = list(pool.map(measure, tasks))
    _print_routes(measured)
    _print_shares(measured)
    _print_scores(measured)
    _print_speed(arguments.seed)


def _print_routes(measured: dict[str, list[Video]]) -> None:
    print(
        "Share of the time that each route holds: designed, found; share of fixations that only sound can place\n"
    )
    print("| preset | " + " | ".join(ROUTES) + " | only sound |")
    print("|---|" + "---|" * (len(ROUTES) + 1))
    for name, videos in measured.items():
        seconds = {route: sum(video.route_seconds[route] for video in videos) for route in ROUTES}
        total = sum(seconds.values())
        cells = [f"{PRESETS[name].routes[route]:.2f}, {seconds[route] / total:.2f}" for route in ROUTES]
        print(f"| {name} | {' | '.join(cells)} | {np.mean([video.only_sound for video in videos]):.2f} |")


def _print_shares(measured: dict[str, list[Video]]) -> None:
    print("\nShares of the drives while an object on the screen sounds: designed, fitted ± standard error\n")
    print("| preset | " + " | ".join(DRIVES) + " |")
    print("|---|" + "---|" * len(DRIVES))
    for name, videos in measured.items():
        if not any(len(video.likelihoods) for video in videos):
            continue
        shares, errors = share_interval(videos)
        designed = [PRESETS[name].drives[drive] for drive in DRIVES]
        cells = [f"{a:.2f}, {b:.2f} ± {c:.2f}" for a, b, c in zip(designed, shares, errors, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


def _print_scores(measured: dict[str, list[Video]]) -> None:
    print("\nNSS on 20 observers, all frames: mean over videos [95 % interval]\n")
    columns = list(next(iter(measured.values()))[0].scores)
    print("| preset | " + " | ".join(columns) + " | gain by sound |")
    print("|---|" + "---|" * (len(columns) + 1))
    for name, videos in measured.items():
        cells = [interval([video.scores[column] for video in videos]) for column in columns]
        gain = interval([video.scores["with sound"] - video.scores["without sound"] for video in videos])
        print(f"| {name} | {' | '.join(cells)} | {gain} |")
    print("\nThe same gain where eyes have answered the sound: expected from the mixture, measured\n")
    print("| preset | expected | measured |")
    print("|---|---|---|")
    for name, videos in measured.items():
        expected = interval([video.designed_gain[0] - video.designed_gain[1] for video in videos])
        found = interval([video.settled["with sound"] - video.settled["without sound"] for video in videos])
        print(f"| {name} | {expected} | {found} |")


def _print_speed(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        write_databases(Path(folder), ["DIEM"], Settings(seed=seed), num_videos=4, quiet=True)
        spent = time.process_time() - began
    print(f"\n{4 * 200 / spent:.0f} frames per second of one core, 320x240, all files written.")


if __name__ == "__main__":
    main()
