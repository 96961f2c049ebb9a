"""Speed of `stavis predict` against a loop that works as the published test run does. Ratios in one run.

    python benchmarks/inference.py [--frames 300] [--size 1280x720] [--engines plain,torch,openvino] [--device cuda]

The yardstick decodes the 16 JPEGs of every window, resizes them, runs the whole forward pass and writes a JPEG, one
window after the other; it is timed on a sample of the windows. Ours starts from the same JPEGs and wave, decodes each
once, and writes the same files. Both use the same weights, threads and precision. The network part is timed by itself
on windows in memory. The rate of a large float32 matrix product, measured before and after each row, is the machine's
practical peak.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import stavis
from stavis import media
from stavis.bench.machine import count_work, matrix_rate, moving_pictures
from stavis.bench.measure import time_network
from stavis.clips import clip_samples, reference_windows
from stavis.clips.preprocess import audio_excerpt, make_clip, resize_frame
from stavis.engine import EngineFactory
from stavis.prediction.options import PredictOptions
from stavis.prediction.outputs import write_published_map
from stavis.prediction.predict import stream_video

FRAME_RATE = 25.0


def make_data(folder: Path, num_frames: int, size: tuple[int, int]) -> Path:
    """Textured JPEGs with a moving spot, and a wave."""
    frames = folder / "frames"
    frames.mkdir()
    rng = np.random.default_rng(0)
    for i, picture in enumerate(moving_pictures(num_frames, size)):
        Image.fromarray(picture).save(frames / f"img_{i + 1:05d}.jpg", quality=90)
    samples = rng.normal(0, 0.1, int(num_frames / FRAME_RATE * 22050)).astype(np.float32)
    media.write_wave(frames / "frames.wav", samples, 22050)
    return frames


def run_yardstick(model: stavis.STAViS, frames: Path, output: Path, num: int) -> tuple[float, float]:
    """Seconds a window of the published way of working: in all, and of the network."""
    p = model.config.preprocessing
    device = next(model.parameters()).device
    paths = sorted(frames.glob("*.jpg"))
    samples, rate = media.read_wave(frames / "frames.wav")
    windows = list(reference_windows(len(paths)))
    windows = windows[:: max(1, len(windows) // num)][:num]
    output.mkdir()
    in_network = 0.0
    began = time.perf_counter()
    with torch.inference_mode():
        for window in windows:
            pictures = [
                resize_frame(np.asarray(Image.open(paths[i]).convert("RGB")), p) for i in window.frames
            ]
            clip = torch.from_numpy(make_clip(pictures, p))[None].to(device)
            heard = clip_samples(window.frames, FRAME_RATE, rate, len(samples))
            audio = torch.from_numpy(audio_excerpt(samples[heard.start : heard.stop], p))[None].to(device)
            start = time.perf_counter()
            saliency = torch.sigmoid(model(clip, audio).logits)[0, 0].cpu().numpy()
            in_network += time.perf_counter() - start
            stretched = (saliency - saliency.min()) / (saliency.max() - saliency.min())
            gray = (stretched * 255).astype(np.uint8)
            Image.fromarray(gray).save(output / f"pred_sal_{window.target + 1:06d}.jpg")
    return (time.perf_counter() - began) / len(windows), in_network / len(windows)


def run_ours(frames: Path, output: Path, make_engine: EngineFactory, num_frames: int) -> float:
    """Seconds a frame of the predict path, from files to files."""
    options = PredictOptions(edges="reference", frame_rate=FRAME_RATE)
    output.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    for frame in stream_video(make_engine.model, frames, options, make_engine=make_engine):
        write_published_map(output, frame)
    return (time.perf_counter() - began) / (num_frames - 8)


def measure(function: Callable[[], float], rounds: int) -> float:
    return min(function() for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--engines", default="plain,torch,openvino")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--window-sample", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    torch.manual_seed(0)
    model = stavis.STAViS().to(options.device).eval()
    peaks = [matrix_rate(options.device)]
    gflop = {shared: count_work(model.config, shared_stem=shared).flop / 1e9 for shared in (False, True)}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = temporary  # not what was compiled before
        frames = make_data(folder, options.frames, (width, height))
        whole, network = run_yardstick(model, frames, folder / "yardstick", options.window_sample)
        peaks.append(matrix_rate(options.device))
        rows.append({"what": "published way", "network": network, "whole": whole})
        for name in options.engines.split(","):
            factory = EngineFactory(model, name)
            factory()
            seconds = measure(lambda factory=factory: time_network(factory), 2)  # type: ignore[misc]
            peaks.append(matrix_rate(options.device))
            total = run_ours(frames, folder / name, factory, options.frames)
            rows.append({"what": name, "network": seconds, "whole": total})
    print(
        f"{options.size}, {options.frames} frames, {torch.get_num_threads()} threads, matrix product "
        f"{min(peaks):.0f} to {max(peaks):.0f} GFLOP/s"
    )
    print(f"{'':16}{'network s':>10}{'ratio':>8}{'of peak':>9}{'in all s':>10}{'ratio':>8}")
    for row, peak in zip(rows, map(statistics.mean, pairwise(peaks)), strict=True):
        flops = gflop[row["what"] in ("torch", "openvino")]
        print(
            f"{row['what']:16}{row['network']:10.3f}{network / row['network']:8.2f}"
            f"{flops / row['network'] / peak:9.0%}{row['whole']:10.3f}{whole / row['whole']:8.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"peak_gflops": peaks, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
