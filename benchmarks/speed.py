"""How far the modes that `stavis predict --speed` chooses from are from the exact maps.

    python benchmarks/speed.py VIDEO... [--seconds 6] [--precisions float32 bf16 int8]

Predicts the first seconds of each video with the default weights exactly and in every precision that this machine
has, derives the maps of longer strides from these as `stavis predict` does, and writes CC and SIM to the exact maps
(mean and lowest over all frames) and the largest difference of a video's mean NSS, on 20 fixations per frame that are
drawn from the exact maps, to src/stavis/prediction/speed.json. Numbers of other precisions in this file are kept.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

import stavis
from stavis.engine import EngineFactory, Precision
from stavis.errors import StavisError
from stavis.metrics import cc, nss, sim
from stavis.prediction.speed import MEASURED_FILE, STRIDES
from stavis.runtime.files import write_text
from stavis.weights.names import load_network

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "int8")  # exact first
NUM_FIXATIONS = 20

Maps = npt.NDArray[np.float32]


def interpolate(maps: Maps, stride: int) -> Maps:
    """The maps that a stride gives: every `stride`-th and the last, linear in between."""
    num = len(maps)
    computed = np.unique([*range(0, num, stride), num - 1])
    after = np.searchsorted(computed, np.arange(num))
    before = np.maximum(after - 1, 0)
    span = np.maximum(computed[after] - computed[before], 1)
    weight = ((np.arange(num) - computed[before]) / span)[:, None, None]
    return ((1 - weight) * maps[computed[before]] + weight * maps[computed[after]]).astype(np.float32)


def draw_fixations(exact: Maps) -> npt.NDArray[np.bool_]:
    rng = np.random.default_rng(0)
    fixated = np.zeros(exact.shape, bool)
    for one, frame in zip(exact, fixated, strict=True):
        chances = one.ravel().astype(np.float64)
        frame.ravel()[rng.choice(chances.size, NUM_FIXATIONS, p=chances / chances.sum())] = True
    return fixated


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--output", type=Path, default=MEASURED_FILE)
    arguments = parser.parse_args()
    network = load_network("default", modality=None, device="cpu")
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    for video in arguments.videos:
        exact: Maps | None = None
        for precision in dict.fromkeys(("float32", *arguments.precisions)):
            try:
                EngineFactory(network.model, precision=precision)
            except StavisError as error:
                print(f"{precision}: {error}")
                continue
            maps = stavis.predict(
                network.model, video, precision=precision, end_seconds=arguments.seconds
            ).saliency
            exact = maps if exact is None else exact
            fixated = draw_fixations(exact)
            for stride in STRIDES:
                rows = [
                    (cc(a, b), sim(a, b), nss(a, f), nss(b, f))
                    for a, b, f in zip(interpolate(maps, stride), exact, fixated, strict=True)
                ]
                found.setdefault(f"{precision}, stride {stride}", []).append(np.array(rows))
                print(
                    f"{video.name}, {precision}, stride {stride}: CC {np.mean(rows, axis=0)[0]:.4f}",
                    flush=True,
                )
    modes = json.loads(arguments.output.read_text())["modes"] if arguments.output.exists() else {}
    for mode, videos in found.items():
        rows = np.concatenate(videos)
        modes[mode] = {
            "cc": round(float(rows[:, 0].mean()), 4),
            "lowest_cc": round(float(rows[:, 0].min()), 4),
            "sim": round(float(rows[:, 1].mean()), 4),
            "nss_difference": round(max(abs(float((one[:, 2] - one[:, 3]).mean())) for one in videos), 4),
        }
    record = {
        "weights_sha256": network.sha256,
        "videos": sorted(video.name for video in arguments.videos),
        "seconds": arguments.seconds,
        "modes": modes,
    }
    write_text(arguments.output, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
