"""Everything about GPUs that is to be measured, in a few minutes, each step in a process of its own.

    python benchmarks/gpu.py --output gpu [--device cuda] [--quick] [--seconds 360]

Steps that run out of memory or fail say so and do not stop the others. Each writes its result to `gpu/STEP.json` at
once and is skipped when run again; `gpu/results.md` holds all of them in tables:

- maps per second of the network by precision, batch size, channels-last layout, torch.compile and CUDA graphs, frames
  at the network's size in, maps out, with the memory that it takes;
- the share of decoding in the prediction of a 1280x720 video, in float32 and bf16;
- how far bf16 and fp16 maps are from exact ones (CC, SIM);
- training clips per second at the published batch in float32, bf16 and compiled, the share of waiting for clips, and
  the memory per clip;
- the published test loop and the published training loop.

`--quick` takes a small network and few windows; with `--device cpu` it shows that the code runs. Steps left when
`--seconds` are over are not started.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import inference
import training
from loader import write_data_set
from stavis import media
from stavis.bench.machine import matrix_rate, write_clip
from stavis.clips import reference_windows
from stavis.clips.preprocess import Preprocessing
from stavis.datasets.layout import Layout
from stavis.engine.factory import HALVES
from stavis.engine.folded import FoldedNetwork, FoldedSoundNet
from stavis.engine.plain import PlainEngine
from stavis.engine.precision import AutocastBackend
from stavis.engine.protocol import Engine
from stavis.engine.streaming import StreamingEngine
from stavis.metrics import cc, sim
from stavis.model import ModelConfig, STAViS
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import stream_video
from stavis.training.distributed import Processes
from stavis.training.recipe import PUBLISHED, Recipe
from stavis.training.recipe_file import change_recipe
from stavis.training.samples import open_clips
from stavis.weights import load_model

VARIANTS = ("plain", "channels-last", "compile", "graphs")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
TRAINING = {
    "float32": [],
    "bf16": ["runtime.precision=bfloat16"],
    "bf16-compile": ["runtime.precision=bfloat16", "runtime.compile=true"],
}
STEPS = (
    "machine",
    *(f"maps-{precision}-plain" for precision in ("float32", *HALVES)),
    *(f"maps-{precision}-{variant}" for precision in ("bf16", "float32") for variant in VARIANTS[1:]),
    "decoding-float32",
    "decoding-bf16",
    "deviation",
    *(f"training-{way}" for way in TRAINING),
    "published-test",
    "published-training",
)


class Setting:
    """What a step measures with: the device, and sizes that are small with `--quick`."""

    def __init__(self, device: str, quick: bool) -> None:
        self.device, self.quick = torch.device(device), quick
        self.is_gpu = self.device.type == "cuda"
        self.is_trained = False
        self.batches = (1, 2) if quick else BATCHES
        self.num_rounds = 1 if quick else 10
        self.num_frames = 18 if quick else 250
        self.size = (160, 96) if quick else (1280, 720)

    def model(self) -> STAViS:
        if self.is_trained:
            return load_model("default", device=str(self.device)).eval()
        torch.manual_seed(0)
        config = (
            ModelConfig(depth=10, preprocessing=Preprocessing(input_size=(64, 64)))
            if self.quick
            else ModelConfig()
        )
        return STAViS(config).to(self.device).eval()

    def synchronize(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    def peak_megabytes(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 1e6 if self.is_gpu else None


class Graphed:
    """A network behind the stem as one CUDA graph per shape of its inputs."""

    def __init__(self, network: Callable[..., torch.Tensor]) -> None:
        self.network = network
        self.graphs: dict[Any, tuple[Any, list[torch.Tensor | None], torch.Tensor]] = {}

    def __call__(self, *inputs: torch.Tensor | None) -> torch.Tensor:
        key = tuple(None if one is None else one.shape for one in inputs)
        if key not in self.graphs:
            copies = [None if one is None else one.clone() for one in inputs]
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.network(*copies)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = self.network(*copies)
            self.graphs[key] = graph, copies, result
        graph, copies, result = self.graphs[key]
        for copy, one in zip(copies, inputs, strict=True):
            if copy is not None and one is not None:
                copy.copy_(one)
        graph.replay()
        return result.clone()


def make_engine(setting: Setting, precision: str, variant: str = "plain") -> Engine:
    if precision == "fp16" and not setting.is_gpu:
        raise RuntimeError("fp16 needs a GPU: on a CPU a map takes seconds")
    model = setting.model()
    network = FoldedNetwork(model) if precision == "float32" else AutocastBackend(model, HALVES[precision])
    backend: Any = network
    if variant == "channels-last":
        module = network if isinstance(network, torch.nn.Module) else network.network
        for parameter in module.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)

        def backend(pooled: torch.Tensor, *others: Any) -> torch.Tensor:
            return network(pooled.contiguous(memory_format=torch.channels_last_3d), *others)

    elif variant == "compile":
        torch._dynamo.config.recompile_limit = 64  # one for each kind of convolution
        # Compiling takes minutes on a CPU; the code around it is the same without.
        backend = torch.compile(network, backend="eager" if setting.quick else "inductor")
    elif variant == "graphs":
        if not setting.is_gpu:
            raise RuntimeError("CUDA graphs need a GPU")
        backend = Graphed(network)
    return StreamingEngine(model, backend, FoldedSoundNet(model.soundnet8))


def measure_machine(setting: Setting) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if setting.is_gpu else "CPU"
    rate = matrix_rate(
        str(setting.device), size=256 if setting.quick else 4096, rounds=1 if setting.quick else 15
    )
    return {"device": name, "torch": torch.__version__, "float32 GFLOP/s": round(rate)}


def measure_maps(setting: Setting, precision: str, variant: str) -> dict[str, Any]:
    engine = make_engine(setting, precision, variant)
    p = setting.model().config.preprocessing
    rng = np.random.default_rng(0)
    rates = {}
    index = 0
    total = p.clip_length + sum(size * (setting.num_rounds + 2) for size in setting.batches)
    every = list(reference_windows(total + p.clip_length, p.clip_length))
    frame = rng.integers(0, 255, (*p.input_size, 3), dtype=np.uint8)
    for index in range(p.clip_length - 1):
        engine.add_frame(index, frame)
    at = 0
    for size in setting.batches:
        audio = rng.normal(0, 30, (size, p.num_audio_samples)).astype(np.float32)
        seconds = []
        for _ in range(setting.num_rounds + 2):
            setting.synchronize()
            began = time.perf_counter()
            batch = every[at : at + size]
            for index in range(at + p.clip_length - 1, at + p.clip_length - 1 + size):
                engine.add_frame(index, frame)
            engine.predict(batch, audio)
            at += size
            engine.drop_frames_before(at)
            setting.synchronize()
            seconds.append(time.perf_counter() - began)
        rates[size] = round(size / float(np.median(seconds[2:])), 1)
    return {"maps per second": rates, "peak MB": setting.peak_megabytes()}


@contextmanager
def video(setting: Setting) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, setting.num_frames, setting.size)
        yield path


def predict(setting: Setting, path: Path, engine: Engine) -> np.ndarray:
    options = PredictOptions(batch_size=min(8, setting.batches[-1]))
    frames = stream_video(setting.model(), path, options, make_engine=lambda *_: engine)
    return np.stack([frame.saliency for frame in frames])


def measure_decoding(setting: Setting, precision: str) -> dict[str, Any]:
    with video(setting) as path:
        predict(setting, path, make_engine(setting, precision))  # warms up
        engine = make_engine(setting, precision)
        began = time.perf_counter()
        num = len(predict(setting, path, engine))
        whole = time.perf_counter() - began
        began = time.perf_counter()
        for _ in media.read_frames(path):
            pass
        decoding = time.perf_counter() - began
    return {
        "frames per second": round(num / whole, 1),
        "decoding alone, frames per second": round(num / decoding, 1),
        "share of decoding": round(decoding / whole, 3),
    }


def measure_deviation(setting: Setting) -> dict[str, Any]:
    setting.is_trained = not setting.quick  # random maps are too flat to deviate
    with video(setting) as path:
        exact = predict(setting, path, PlainEngine(setting.model())).astype(np.float64)
        found = {}
        for precision in ("float32", *(HALVES if setting.is_gpu else ["bf16"])):
            maps = predict(setting, path, make_engine(setting, precision)).astype(np.float64)
            pairs = list(zip(maps, exact, strict=True))
            found[precision] = {
                "CC": round(float(np.mean([cc(a, b) for a, b in pairs])), 6),
                "SIM": round(float(np.mean([sim(a, b) for a, b in pairs])), 6),
                "largest difference": float(f"{np.abs(maps - exact).max():.2g}"),
            }
    return found


@contextmanager
def recipe(setting: Setting) -> Iterator[Recipe]:
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder) / "data")
        write_data_set(layout, 1 if setting.quick else 2, 40 if setting.quick else 250)
        changes = [
            "initial_weights=[]",
            "validation.on=none",
            f"data.root={layout.root}",
            f"data.workers={0 if setting.quick else min(8, os.cpu_count() or 1)}",
            f"runtime.device={setting.device}",
        ]
        if setting.quick:
            changes += ["model.depth=10", "batch.size=2"]
        made = change_recipe(PUBLISHED["audiovisual"], changes)
        open_clips(made, Processes(), quiet=True)  # makes the cache
        yield made


def measure_training(setting: Setting, way: str | None) -> dict[str, Any]:
    """Of our loop one of the ways, or of the published loop."""
    processes = Processes(device=setting.device)
    with recipe(setting) as whole:
        # Training in 16 bits needs a GPU, and compiling for a CPU takes minutes.
        changed = change_recipe(whole, TRAINING[way] if way and setting.is_gpu else [])
        loop = training.published_loop if way is None else training.our_loop
        with loop(changed, processes) as step:
            speed = training.time_steps(step, 1 if setting.quick else 6, changed.batch.size, setting.device)
    peak = setting.peak_megabytes()
    return {
        "batch": changed.batch.size,
        "clips per second": round(speed.clips_per_second, 2),
        "share of waiting": round(speed.waiting_share, 3),
        "MB per clip": None if peak is None else round(peak / changed.batch.size, 1),
    }


def measure_published_test(setting: Setting) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        frames = inference.make_data(Path(folder), setting.num_frames, setting.size)
        num = 2 if setting.quick else 60
        inference.run_yardstick(setting.model(), frames, Path(folder) / "warm", 2)
        whole, network = inference.run_yardstick(setting.model(), frames, Path(folder) / "maps", num)
    return {"maps per second": round(1 / whole, 2), "network alone, maps per second": round(1 / network, 2)}


def measure(step: str, setting: Setting) -> dict[str, Any]:
    kind, _, rest = step.partition("-")
    if step == "machine":
        return measure_machine(setting)
    if kind == "maps":
        return measure_maps(setting, *rest.split("-", 1))
    if kind == "decoding":
        return measure_decoding(setting, rest)
    if kind == "deviation":
        return measure_deviation(setting)
    if step == "published-test":
        return measure_published_test(setting)
    return measure_training(setting, rest if kind == "training" else None)


def write_tables(output: Path) -> None:
    paths = {step: output / f"{step}.json" for step in STEPS}
    found = {step: json.loads(path.read_text()) for step, path in paths.items() if path.exists()}
    lines = [
        "| maps per second, batch of | " + " | ".join(map(str, BATCHES)) + " | peak MB |",
        "|---|" + "---:|" * 8,
    ]
    for step, result in found.items():
        if step.startswith("maps-") and "maps per second" in result:
            rates = [str(result["maps per second"].get(str(size), "")) for size in BATCHES]
            peak = result["peak MB"]
            lines.append(f"| {step[5:]} | {' | '.join(rates)} | {'' if peak is None else round(peak)} |")
    lines += ["", "| step | result |", "|---|---|"]
    for step, result in found.items():
        if not (step.startswith("maps-") and "maps per second" in result):
            lines.append(f"| {step} | {'; '.join(f'{name}: {value}' for name, value in result.items())} |")
    (output / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--steps", default=",".join(STEPS), help="separated by commas")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    steps = options.steps.split(",")
    if unknown := set(steps) - set(STEPS):
        parser.error(f"unknown steps: {', '.join(sorted(unknown))}; allowed: {', '.join(STEPS)}")
    options.output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.seconds
    for step in steps:
        path = options.output / f"{step}.json"
        if options.in_this_process:
            try:
                result = measure(step, Setting(options.device, options.quick))
            except Exception as error:
                result = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
            path.write_text(json.dumps(result, indent=2) + "\n")
            continue
        left = end - time.monotonic()
        if path.exists() or left <= 0:
            continue
        command = [
            sys.executable,
            __file__,
            "--in-this-process",
            "--steps",
            step,
            "--output",
            str(options.output),
        ]
        command += ["--device", options.device, *(["--quick"] if options.quick else [])]
        began = time.monotonic()
        try:
            status = subprocess.run(command, timeout=left).returncode
        except subprocess.TimeoutExpired:
            status = -1
        if not path.exists():
            path.write_text(
                json.dumps({"failed": "out of time" if status == -1 else f"exit status {status}"}) + "\n"
            )
        print(f"{step} ({time.monotonic() - began:.0f} s): {json.loads(path.read_text())}", flush=True)
    if not options.in_this_process:
        write_tables(options.output)


if __name__ == "__main__":
    main()
