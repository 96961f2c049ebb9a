"""How far the approximate modes of `stavis predict` are from the exact maps, and how much faster.

    python benchmarks/precision.py VIDEO [--weights WEIGHTS] [--gaze FILE.mat] [--seconds 8]

Predicts the video's first seconds exactly and in every approximate mode that this machine has, in one run, and prints a
table in Markdown: CC and SIM of the approximate maps to the exact ones (mean and lowest over the frames), the mean NSS
of both on the same fixations, and frames per second, decoding included, set-up (compiling, quantizing) not. The
fixations are the recorded ones of a MATLAB file with one cell an observer, each (frames, 2) of x, y in pixels from 1;
without a file, twenty a frame are drawn from the exact maps.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from stavis import media
from stavis.engine import Engine, EngineFactory, Example
from stavis.errors import StavisError
from stavis.metrics import cc, nss, sim
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import stream_video
from stavis.weights.names import load_network

MODES = {
    "exact": {},
    "bf16": {"precision": "bf16"},
    "int8": {"precision": "int8"},
    "stride 2": {"stride": 2},
    "stride 4": {"stride": 4},
    "stride 8": {"stride": 8},
    "int8, stride 2": {"precision": "int8", "stride": 2},
}
DRAWN_FIXATIONS = 20

Maps = npt.NDArray[np.float64]


def predict(model: object, video: Path, options: PredictOptions) -> tuple[Maps, float]:
    """The maps, and the frames per second from when the engine was ready."""
    factory = EngineFactory(model, options.engine, options.precision)
    began = 0.0

    def make_engine(
        num_windows: int | None = None, examples: Callable[[], Sequence[Example]] | None = None
    ) -> Engine:
        nonlocal began
        engine = factory(num_windows, examples)
        began = time.perf_counter()
        return engine

    frames = stream_video(model, video, options, make_engine=make_engine)
    maps = np.stack([frame.saliency for frame in frames]).astype(np.float64)
    return maps, len(maps) / (time.perf_counter() - began)


def read_gaze(path: Path, video: Path, shape: tuple[int, int]) -> list[npt.NDArray[np.bool_]]:
    """A fixation map of the maps' size for every frame."""
    info = media.probe(video)
    cells = next(value for name, value in loadmat(path).items() if not name.startswith("__"))
    observers = np.stack([np.asarray(cell, dtype=float) for cell in cells.ravel()]) - 0.5
    fixated = np.zeros((observers.shape[1], *shape), dtype=bool)
    xs = np.floor(observers[..., 0] / info.width * shape[1])
    ys = np.floor(observers[..., 1] / info.height * shape[0])
    inside = (xs >= 0) & (xs < shape[1]) & (ys >= 0) & (ys < shape[0])
    for observer, frame in zip(*np.nonzero(inside), strict=True):
        fixated[frame, int(ys[observer, frame]), int(xs[observer, frame])] = True
    return list(fixated)


def draw_fixations(maps: Maps) -> list[npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    fixated = []
    for saliency in maps:
        share = saliency.ravel() / saliency.sum()
        one = np.zeros(saliency.size, dtype=bool)
        one[rng.choice(saliency.size, DRAWN_FIXATIONS, p=share)] = True
        fixated.append(one.reshape(saliency.shape))
    return fixated


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--weights", default="untrained")
    parser.add_argument("--gaze", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    network = load_network(options.weights, modality=None, device=options.device)
    base = PredictOptions(engine=options.engine, end_seconds=options.seconds)
    exact, exact_rate = np.empty(0), 0.0
    fixations: list[npt.NDArray[np.bool_]] = []
    config = network.model.config
    print(
        f"{options.video.name}, first {options.seconds:g} s, {network.name}, depth {config.depth}, {config.modality}"
    )
    print("\n| mode | frames/s | times exact | CC mean | lowest | SIM mean | lowest | NSS | of exact |")
    print("|---|---|---|---|---|---|---|---|---|")
    for mode, changes in MODES.items():
        try:
            maps, rate = predict(network.model, options.video, replace(base, **changes))
        except StavisError as error:
            print(f"| {mode} | {error} |")
            continue
        if mode == "exact":
            exact, exact_rate = maps, rate
            shape = (maps.shape[1], maps.shape[2])
            fixations = (
                read_gaze(options.gaze, options.video, shape) if options.gaze else draw_fixations(maps)
            )
        ccs = [cc(a, b) for a, b in zip(maps, exact, strict=True)]
        sims = [sim(a, b) for a, b in zip(maps, exact, strict=True)]
        own, reference = (
            np.nanmean([nss(one, fixated) for one, fixated in zip(which, fixations, strict=False)])
            for which in (maps, exact)
        )
        print(
            f"| {mode} | {rate:.1f} | {rate / exact_rate:.2f} | {np.mean(ccs):.4f} | {np.min(ccs):.4f} "
            f"| {np.mean(sims):.4f} | {np.min(sims):.4f} | {own:.3f} | {reference:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
