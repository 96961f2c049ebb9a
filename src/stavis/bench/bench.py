"""Prediction speed of this machine: per step and per engine, and compared with what the hardware allows."""

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stavis.bench.machine import MachineSpeed, write_clip
from stavis.bench.measure import EngineSpeed, MediaSpeed, Task, measure_engine, measure_machine, measure_media
from stavis.engine.factory import EngineName
from stavis.engine.precision import Precision
from stavis.runtime.files import atomic_path

NUM_FRAMES = 64

Result = TypeVar("Result")


@dataclass(frozen=True)
class BenchReport:
    """Everything that was measured, and with which network, video and machine."""

    stavis: str
    torch: str
    weights: str
    depth: int
    modality: str
    video: str
    width: int
    height: int
    num_frames: int
    machine: MachineSpeed
    media: MediaSpeed
    engines: tuple[EngineSpeed, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_engines(device: str) -> list[tuple[EngineName, Precision]]:
    """Lists the engines and precisions to try on `device`. Some may turn out not to be installed."""
    if device == "cpu":
        return [
            ("plain", "float32"),
            ("torch", "float32"),
            ("openvino", "float32"),
            ("openvino", "bf16"),
            ("openvino", "int8"),
        ]
    return [("plain", "float32"), ("torch", "float32"), ("torch", "bf16"), ("torch", "fp16")]


def run_bench(
    weights: str,
    *,
    device: str = "auto",
    video: Path | None = None,
    num_frames: int = NUM_FRAMES,
    num_threads: int | None = None,
    advance: Callable[[str], None] = lambda step: None,
) -> BenchReport:
    """Measures decoding, the network and writing, separately and end to end, with every engine that works here.

    Every engine runs in its own process, so that its peak memory can be measured. `weights` are as for --weights on the
    command line. Without a `video`, a 1280x720 clip with sound is generated. `num_threads` are those of PyTorch and
    OpenVINO, None for all cores. `advance` is called with the name of each step when it starts.

    Raises StavisError if the weights or the video cannot be read, or the device does not exist.
    """
    with tempfile.TemporaryDirectory() as folder:
        if video is None:
            advance("generating a clip")
            video = Path(folder) / "generated.mp4"
            write_clip(video, num_frames)
            shown = "generated"
        else:
            shown = str(video)
        task = Task(weights, device, video, num_frames, num_threads)
        advance("the machine")
        machine, facts = _in_own_process(measure_machine, task)
        task = replace(task, device=machine.device)
        advance("decoding and writing")
        media_speed = _in_own_process(measure_media, task)
        engines = []
        for engine, precision in list_engines(machine.device.partition(":")[0]):
            advance(f"{engine} {precision}")
            speed = _in_own_process(measure_engine, task, engine, precision)
            if speed is not None:
                engines.append(speed)
    return BenchReport(
        **facts,
        video=shown,
        num_frames=num_frames,
        machine=machine,
        media=media_speed,
        engines=tuple(engines),
    )


def _in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def draw_roofline(report: BenchReport, path: Path) -> None:
    """Draws the roofline of the machine (attainable FLOP/s over FLOP per byte) with the engines in it, as a PNG."""
    from matplotlib.figure import Figure

    machine = report.machine
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.subplots()
    ridge = machine.matrix_gflops / machine.bandwidth
    xs = np.geomspace(min(1.0, ridge / 4), max(4 * e.intensity for e in report.engines), 200)
    roof = np.minimum(machine.matrix_gflops, xs * machine.bandwidth)
    axes.plot(xs, roof, color="0.25", linewidth=2)
    axes.annotate(
        f"float32 matrix product {machine.matrix_gflops:.0f} GFLOP/s",
        (ridge * 1.1, machine.matrix_gflops),
        xytext=(0, 5),
        textcoords="offset points",
        fontsize=9,
    )
    axes.annotate(
        f"memory {machine.bandwidth:.0f} GB/s",
        (xs[0] * 1.1, roof[0] * 1.1),
        xytext=(8, -2),
        textcoords="offset points",
        fontsize=9,
    )
    for number, engine in enumerate(report.engines):
        label = f"{engine.engine} {engine.precision}: {engine.gflops:.0f} GFLOP/s, {engine.network_fps:.1f} frames/s"
        axes.plot(
            engine.intensity,
            engine.gflops,
            marker="osD^v"[number % 5],
            markersize=9,
            linestyle="none",
            label=label,
            color=f"C{number}",
        )
    top = max(machine.matrix_gflops, *(e.gflops for e in report.engines))
    bottom = min(roof[0], *(e.gflops for e in report.engines))
    axes.set(xscale="log", yscale="log", ylabel="GFLOP/s", ylim=(bottom / 1.5, top * 1.8))
    axes.set_xlabel("FLOP per byte, if every layer reads its input and weights and writes its output once")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(which="both", alpha=0.2)
    axes.legend(loc="lower right", fontsize=8)
    axes.set_title(
        f"Network on {machine.name}, {machine.num_threads} threads (depth {report.depth}, {report.modality})",
        fontsize=10,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
