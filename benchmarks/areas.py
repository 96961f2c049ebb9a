"""Measures predicted shares of attention of four faces against those of 39 real observers.

    python benchmarks/areas.py --output areas [--weights W] [--shared ../shared]

The faces of find_012 were boxed by hand every 44 frames (find_012_faces.csv). Maps are the predictions, and the gaze
density of every other observer, scored by the remaining ones. It gives the correlation of the faces' shares with those
of real gaze over all frames and faces, and of their shares among the faces only. Intervals are from 1,000 resamples of
one-second blocks. areas.png and areas.mp4 are in OUTPUT, to be looked at.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from real_gaze import GAZE_CLIPS, Points, density_maps, predicted_or_cached, read_points
from stavis.areas.measure import AreaAttention
from stavis.areas.output import write_areas
from stavis.gaze import Gaze
from stavis.runtime.files import write_text
from stavis.weights import DEFAULT

FACES = Path(__file__).with_name("find_012_faces.csv")
BLOCK_FRAMES = 24  # a second
NUM_RESAMPLES = 1000

FloatArray = npt.NDArray[np.float64]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", default=DEFAULT)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    arguments = parser.parse_args()
    clip = GAZE_CLIPS[0]
    video = arguments.shared / "media" / clip.video
    points = read_points(arguments.shared, clip)
    even = np.arange(points.num_observers) % 2 == 0
    predicted = predicted_or_cached(arguments.output / "maps", video, arguments.weights, arguments.stride)
    sources = {
        "predicted maps": (predicted, points),
        "gaze of every other observer": (
            density_maps(points.of_observers(even), clip.sigma_share),
            points.of_observers(~even),
        ),
    }
    shares = [
        "| area | maps | share | share of real gaze | size | dwell (s) | observers |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    results = ["| maps | correlation of shares | of shares among the faces |", "|---|---:|---:|"]
    for name, (maps, scored) in sources.items():
        attention = write_areas(
            video,
            FACES,
            arguments.output / name.replace(" ", "-"),
            maps=maps,
            gaze=as_gaze(scored),
            overlay=name == "predicted maps",
        )
        for row in attention.summary:
            shares.append(
                f"| {row.area} | {name} | {row.share:.1%} | {row.gaze_share:.1%} | {row.picture_share:.1%} "
                f"| {row.dwell_seconds:.2f} | {row.observers_share:.0%} |"
            )
        cells = []
        for among_faces in (False, True):
            before, real = share_tables(attention, among_faces)
            low, high = interval(before, real)
            cells.append(f"{correlation(before, real):.3f} ({low:.3f}..{high:.3f})")
        results.append(f"| {name} | {' | '.join(cells)} |")
    text = "\n".join([*shares, "", *results]) + "\n"
    write_text(arguments.output / "table.md", text)
    print(text, end="")


def as_gaze(points: Points) -> Gaze:
    """Points as gaze whose observers are those that have points."""
    observers, index = np.unique(points.observer, return_inverse=True)
    names = tuple(f"observer {number}" for number in observers)
    return Gaze(names, index, points.x, points.y, points.frame, None, len(points.x), {})


def share_tables(attention: AreaAttention, among_faces: bool) -> tuple[FloatArray, FloatArray]:
    """(frames, areas) predicted and real shares of the frames with gaze; `among_faces` makes each frame sum to 1."""
    num = len(attention.areas)
    tables = [
        np.array([getattr(row, kind) for row in attention.rows]).reshape(-1, num)
        for kind in ("share", "gaze_share")
    ]
    used = np.isfinite(tables[1]).all(axis=1)
    if among_faces:
        used &= tables[1].sum(axis=1) > 0
    tables = [table[used] for table in tables]
    if among_faces:
        tables = [table / table.sum(axis=1, keepdims=True) for table in tables]
    return tables[0], tables[1]


def correlation(before: FloatArray, real: FloatArray) -> float:
    """Pearson's, over all frames and areas."""
    return float(np.corrcoef(before.ravel(), real.ravel())[0, 1])


def interval(before: FloatArray, real: FloatArray) -> tuple[float, float]:
    """95 % interval over resampled blocks of frames."""
    blocks = [
        np.arange(begin, min(begin + BLOCK_FRAMES, len(real))) for begin in range(0, len(real), BLOCK_FRAMES)
    ]
    rng = np.random.default_rng(0)
    values = []
    for _ in range(NUM_RESAMPLES):
        chosen = np.concatenate([blocks[number] for number in rng.integers(0, len(blocks), len(blocks))])
        values.append(correlation(before[chosen], real[chosen]))
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


if __name__ == "__main__":
    main()
