"""Times the scoring of one frame, step by step, on one core, beside that of MATLAB code in Octave.

    python benchmarks/metrics.py                     # 1280x720 and 35 fixations, then the sizes timed in Octave
    python benchmarks/metrics.py --frames 200        # steadier
    python benchmarks/metrics.py --sizes 1           # 1280x720 alone

Every frame is read from files: a 112x112 prediction (JPEG), an 8-bit density map (JPEG), a fixation map (.mat). Times
are processor times, so that other work on the machine matters less; on an idle machine they equal wall-clock times.

Where Octave with its image package is installed (apt-get install octave octave-image), the same frames are scored in
the same run by metrics.m, our own writing of the same steps in the style of the published MATLAB code, and its scores
are checked. Beside it stand times recorded on another day from the published code, which does more than those steps.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import PIL
import scipy

from stavis import maps, metrics
from stavis.maps import matfile
from stavis.metrics.frame import score_frame
from stavis.metrics.negatives import SameVideoNegatives, VideoFixations, pixels_of

T = TypeVar("T")

# Seconds per frame of the published code in Octave 7.3 (one process, OpenBLAS on one thread), reading of fixation files
# not included: (height, width, fixations) -> total. 35 fixations lie between two numbers that were timed.
OCTAVE_SECONDS = {
    (480, 640, 15): 0.151,
    (480, 640, 60): 0.178,
    (720, 1280, 15): 0.328,
    (720, 1280, 60): 0.440,
    (1080, 1920, 60): 0.884,
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
FRAME_EVALUATIONS = 299_716  # of the six databases in the published protocol
OCTAVE_ROUNDS = 2


class Frame(NamedTuple):
    """A frame's files."""

    prediction: Path
    density_map: Path
    fixation_map: Path


class Video(NamedTuple):
    """Frames, where any frame is fixated, and the negatives of the shuffled AUC as the evaluation finds them."""

    frames: list[Frame]
    union: np.ndarray
    negatives: SameVideoNegatives


def make_video(folder: Path, height: int, width: int, num_fixations: int, num_frames: int) -> Video:
    """Made-up frames whose fixations gather around two moving centers, and predictions that find them roughly."""
    rng = np.random.default_rng(0)
    frames, fixation_maps = [], []
    for i in range(num_frames):
        centers = rng.uniform(0.2, 0.8, (2, 2)) * (height, width)
        positions = rng.normal(centers[rng.integers(0, 2, num_fixations)], 0.07 * height).astype(int)
        positions = positions.clip(0, (height - 1, width - 1))
        fixations = np.zeros((height, width), dtype=np.uint8)
        fixations[tuple(positions.T)] = 1
        density = maps.to_8bit(maps.density_from_fixations(fixations, height / 24))
        small = maps.resize(density, (112, 112)).clip(0) + 20 * maps.blur(rng.random((112, 112)), 5)
        frame = Frame(
            *(folder / f"{i}_{name}" for name in ("prediction.jpg", "density.jpg", "fixations.mat"))
        )
        maps.write_map(frame.prediction, maps.to_8bit(maps.blur(small, 3)))
        maps.write_map(frame.density_map, density)
        maps.write_fixation_map(frame.fixation_map, fixations)
        frames.append(frame)
        fixation_maps.append(fixations)
    fixations = VideoFixations((height, width), [pixels_of(one) for one in fixation_maps])
    union = maps.union_of_fixations(fixation_maps)
    return Video(frames, union, SameVideoNegatives(fixations, "reference"))


def time_frames(video: Video, num_rounds: int) -> list[float]:
    """Seconds of every frame, from files to scores."""
    seconds = []
    for frame in video.frames * (num_rounds + 1):  # the first round warms up
        begin = time.process_time()
        fixated = pixels_of(maps.read_fixation_map(frame.fixation_map))
        prediction, density = maps.read_map(frame.prediction), maps.read_density_map(frame.density_map)
        score_frame(prediction, density, fixated, video.negatives.of_frame(fixated))
        seconds.append(time.process_time() - begin)
    return seconds[len(video.frames) :]


def time_steps(video: Video, num_rounds: int) -> dict[str, list[float]]:
    """Seconds of every step for every frame."""
    seconds = defaultdict(list)

    def timed(step: str, work: Callable[[], T]) -> T:
        begin = time.process_time()
        result = work()
        seconds[step].append(time.process_time() - begin)
        return result

    for frame in video.frames * (num_rounds + 1):
        prediction = timed("read prediction", lambda frame=frame: maps.read_map(frame.prediction))
        density = timed("read density map", lambda frame=frame: maps.read_density_map(frame.density_map))
        fixations = timed("read fixation map", lambda frame=frame: maps.read_fixation_map(frame.fixation_map))
        fixated = timed("find fixated pixels", lambda f=fixations: pixels_of(f))
        others = timed("find other pixels", lambda f=fixated: video.negatives.of_frame(f))
        processed = timed("postprocess", lambda p=prediction: maps.postprocess(p))
        saliency = timed("resize", lambda p=processed, d=density: maps.resize(p, d.shape))
        timed("score_frame", lambda p=prediction, d=density, f=fixated, o=others: score_frame(p, d, f, o))
        other_map = maps.other_fixations(video.union, fixations)
        timed("metrics.cc", lambda s=saliency, d=density: metrics.cc(s, d))
        timed("metrics.sim", lambda s=saliency, d=density: metrics.sim(s, d))
        timed("metrics.nss", lambda s=saliency, f=fixations: metrics.nss(s, f))
        timed("metrics.auc_judd", lambda s=saliency, f=fixations: metrics.auc_judd(s, f))
        timed(
            "metrics.auc_shuffled", lambda s=saliency, f=fixations, o=other_map: metrics.auc_shuffled(s, f, o)
        )
    return {step: values[len(video.frames) :] for step, values in seconds.items()}


def time_octave(folder: Path, video: Video) -> list[float]:
    """Seconds of every frame in Octave; none where it is not installed."""
    if shutil.which("octave-cli") is None:
        return []
    script = Path(__file__).with_suffix(".m")
    command = ["octave-cli", "--no-gui", str(script), str(folder), str(OCTAVE_ROUNDS)]
    printed = subprocess.run(command, capture_output=True, text=True).stdout
    rows = np.array([line.split() for line in printed.splitlines()], dtype=np.float64)
    if len(rows) != OCTAVE_ROUNDS * len(video.frames):
        raise SystemExit("Octave failed; is octave-image installed?")
    for frame, row in zip(video.frames, rows, strict=False):
        fixated = pixels_of(maps.read_fixation_map(frame.fixation_map))
        prediction, density = maps.read_map(frame.prediction), maps.read_density_map(frame.density_map)
        ours = score_frame(prediction, density, fixated, video.negatives.of_frame(fixated))
        # 100 draws of negatives leave the last one uncertain.
        if (np.abs(row[1:] - ours) > (1e-8, 1e-8, 1e-8, 1e-6, 0.02)).any():
            raise SystemExit(f"{frame.prediction.name}: {ours}, and in Octave {row[1:]}")
    return rows[:, 0].tolist()


def recorded_seconds(height: int, width: int, num_fixations: int) -> float:
    """Recorded, or on the line between the two numbers of fixations that were timed."""
    timed = sorted((n, s) for (h, w, n), s in OCTAVE_SECONDS.items() if (h, w) == (height, width))
    return float(np.interp(num_fixations, *zip(*timed, strict=True)))


def describe(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.1f} ({min(seconds) * 1e3:.1f})"


def main() -> None:
    if not ONE_THREAD.items() <= os.environ.items():  # numpy reads these when it is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=60, help="timings of each step (default: %(default)s)")
    parser.add_argument("--sizes", type=int, default=6, help="number of sizes (default: %(default)s)")
    arguments = parser.parse_args()
    num_frames = 10
    num_rounds = max(1, arguments.frames // num_frames)

    print(f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, ", end="")
    print(f"Pillow {PIL.__version__}, fixation files unpacked by {matfile.zlib.__name__}")
    sizes = [(720, 1280, 35), *OCTAVE_SECONDS][: arguments.sizes]
    results, octave = {}, {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            video = make_video(Path(folder), *size, num_frames)
            # Before, between and after the rest: a busy machine is not equally busy all the time.
            whole = time_frames(video, num_rounds)
            steps = time_steps(video, num_rounds)
            whole += time_frames(video, num_rounds)
            octave[size] = time_octave(Path(folder), video)
            whole += time_frames(video, num_rounds)
            results[size] = {"whole frame": whole, **steps}

    steps = results[sizes[0]]
    print("\nMilliseconds at 1280x720 with 35 fixations: median (lowest)\n")
    print("| step | |\n|---|---|")
    for step, values in steps.items():
        print(f"| {step} | {statistics.median(values) * 1e3:.2f} ({min(values) * 1e3:.2f}) |")

    print("\nThe whole frame, files to five scores; in ms: median (lowest)\n")
    print("| size, fixations | stavis | metrics.m in Octave | times faster | published code, recorded |")
    print("|---|---|---|---|---|")
    for (height, width, num_fixations), timings in results.items():
        values, theirs = timings["whole frame"], octave[height, width, num_fixations]
        cells = [describe(values), "-", "-", f"{recorded_seconds(height, width, num_fixations) * 1e3:.0f}"]
        if theirs:
            ratio = statistics.median(theirs) / statistics.median(values)
            cells[1:3] = describe(theirs), f"{ratio:.0f} ({min(theirs) / min(values):.0f})"
        print(f"| {width}x{height}, {num_fixations} | {' | '.join(cells)} |")
    hours = FRAME_EVALUATIONS * statistics.median(steps["whole frame"]) / 3600
    print(f"\nThe six databases' {FRAME_EVALUATIONS:,} frames, all at 1280x720 with 35 fixations: ", end="")
    print(
        f"{hours:.2f} hours on one core (Octave: {FRAME_EVALUATIONS * recorded_seconds(*sizes[0]) / 3600:.0f})"
    )


if __name__ == "__main__":
    main()
