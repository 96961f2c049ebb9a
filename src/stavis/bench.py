"""How fast this machine predicts, where the time goes, and how near that is to what it can do."""

import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from stavis.engine.factory import EngineFactory, EngineName
from stavis.engine.precision import Precision
from stavis.engine.protocol import Engine, Example
from stavis.errors import StavisError
from stavis.runtime.files import atomic_path

if TYPE_CHECKING:
    from stavis.model import ModelConfig

CLIP_SIZE = (1280, 720)
CLIP_RATE = 25
NUM_FRAMES = 64
NUM_TIMED_WINDOWS = 16
WARM_UP_WINDOWS = 2

Result = TypeVar("Result")


@dataclass(frozen=True)
class MachineSpeed:
    """What the machine can do, measured.

    Attributes:
        device: "cpu" or "cuda:0".
        name: Of the processor.
        num_threads: That PyTorch uses.
        matrix_gflops: GFLOP/s of a large float32 matrix product, kept up.
        bandwidth: GB/s of a copy in memory, reading and writing counted.
    """

    device: str
    name: str
    num_threads: int
    matrix_gflops: float
    bandwidth: float


@dataclass(frozen=True)
class MediaSpeed:
    """The parts around the network.

    Attributes:
        decode_fps: Frames per second decoded and resized for the network.
        write_fps: Frames per second of overlay and PNG maps, drawn and encoded.
    """

    decode_fps: float
    write_fps: float


@dataclass(frozen=True)
class EngineSpeed:
    """One engine.

    Attributes:
        engine: Its name.
        precision: What it computes in.
        setup_seconds: Until it is ready.
        network_seconds: Of the network, a frame, in the median.
        network_fps: Frames per second of that.
        gflops: GFLOP/s of that.
        intensity: FLOP a byte, if every layer read its input and weights and wrote its output once.
        end_to_end_fps: Frames per second from file to files, set-up not counted.
        peak_megabytes: Of the process that did all this.
    """

    engine: str
    precision: str
    setup_seconds: float
    network_seconds: float
    network_fps: float
    gflops: float
    intensity: float
    end_to_end_fps: float
    peak_megabytes: float


@dataclass(frozen=True)
class BenchReport:
    """Everything that was measured, and on what."""

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


class Work(NamedTuple):
    """Multiplications and additions, and bytes that must be moved in 32 bits."""

    flop: float
    bytes: float


@dataclass(frozen=True)
class _Task:
    """What a measuring process needs to know."""

    weights: str
    device: str
    video: Path
    num_frames: int
    num_threads: int | None


def list_engines(device: str) -> list[tuple[EngineName, Precision]]:
    """The engines and precisions that `device` may have; which of them work shows when they are made."""
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
    """Measures decoding, the network and writing, each by itself and together, with every engine that works here.

    Every engine runs in a process of its own, so that its peak memory is its own.

    Args:
        weights: What the command line takes as --weights.
        device: "auto", "cpu", "cuda" or "cuda:N".
        video: The input; a generated clip of 1280x720 with sound if None.
        num_frames: How many of its frames are predicted.
        num_threads: For PyTorch and OpenVINO; all cores if None.
        advance: Called with the name of each step when it begins.

    Raises:
        StavisError: The weights or the video cannot be read, or the device is not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        if video is None:
            advance("generating a clip")
            video = Path(folder) / "generated.mp4"
            write_clip(video, num_frames)
            shown = "generated"
        else:
            shown = str(video)
        task = _Task(weights, device, video, num_frames, num_threads)
        advance("the machine")
        machine, facts = _in_own_process(_measure_machine, task)
        task = replace(task, device=machine.device)
        advance("decoding and writing")
        media_speed = _in_own_process(_measure_media, task)
        engines = []
        for engine, precision in list_engines(machine.device.partition(":")[0]):
            advance(f"{engine} {precision}")
            speed = _in_own_process(_measure_engine, task, engine, precision)
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


def write_clip(path: Path, num_frames: int, size: tuple[int, int] = CLIP_SIZE) -> None:
    """A textured picture that moves behind a moving light, with noise to hear."""
    from stavis import media

    width, height = size
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "sound.wav"
        rng = np.random.default_rng(0)
        samples = rng.normal(0, 0.1, int(num_frames / CLIP_RATE * 22050)).astype(np.float32)
        media.write_wave(wave, samples, 22050)
        with media.VideoWriter(
            path, width=width, height=height, frame_rate=CLIP_RATE, audio_from=wave
        ) as writer:
            for picture in moving_pictures(num_frames, size):
                writer.write(picture)


def moving_pictures(num_frames: int, size: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    """(H, W, 3) RGB pictures, `size` = (width, height)."""
    width, height = size
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[0:height, 0:width]
    texture = 110 + 50 * np.sin(xs / 23) * np.cos(ys / 17)
    texture = (texture + rng.normal(0, 6, texture.shape))[..., None] + np.array([20, 0, -20])
    for i in range(num_frames):
        spot = 90 * np.exp(-((xs - 4 * i) ** 2 + (ys - height / 2) ** 2) / 5000)
        yield np.clip(np.roll(texture, 2 * i, axis=1) + spot[..., None], 0, 255).astype(np.uint8)


def matrix_rate(device: str = "cpu", size: int = 2048, rounds: int = 15) -> float:
    """GFLOP/s of a large float32 matrix product in the median of some rounds: what the machine keeps up.

    Engines are measured by medians, too; a single round can find the processor at a clock that it does not hold.
    """
    import torch

    a, b = (torch.rand(size, size, device=device) for _ in range(2))
    seconds = statistics.median(_timed(lambda: a @ b, device) for _ in range(rounds))
    return 2 * size**3 / seconds / 1e9


def copy_rate(device: str = "cpu", megabytes: int = 256, rounds: int = 8) -> float:
    """GB/s read and written by a copy in memory, in the median of some rounds."""
    import torch

    a = torch.ones(megabytes * 1_000_000 // 4, device=device)
    b = torch.empty_like(a)
    seconds = statistics.median(_timed(lambda: b.copy_(a), device) for _ in range(rounds))
    return 2 * a.numel() * 4 / seconds / 1e9


def _timed(function: Callable[[], object], device: str) -> float:
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    wait()
    began = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - began


def time_network(make_engine: EngineFactory, num_windows: int = NUM_TIMED_WINDOWS) -> float:
    """Seconds a frame of the network part in the median: frames at the network's size in, maps out."""
    from stavis.clips import reference_windows

    p = make_engine.model.config.preprocessing
    rng = np.random.default_rng(0)
    height, width = p.input_size
    num_frames = p.clip_length + WARM_UP_WINDOWS + num_windows
    clip = rng.integers(0, 255, (num_frames, height, width, 3), dtype=np.uint8)
    audio = None
    if make_engine.model.config.modality == "audiovisual":
        audio = rng.normal(0, 30, (1, p.num_audio_samples)).astype(np.float32)
    example = Example(clip[: p.clip_length], None if audio is None else audio[0])
    engine = make_engine(num_frames, lambda: [example])
    for i in range(p.clip_length - 1):
        engine.add_frame(i, clip[i])
    seconds = []
    windows = reference_windows(num_frames, p.clip_length)
    for i, window in zip(range(p.clip_length - 1, num_frames), windows, strict=False):
        began = time.perf_counter()
        engine.add_frame(i, clip[i])
        engine.predict([window], audio)
        engine.drop_frames_before(window.frames[0] + 1)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[WARM_UP_WINDOWS:]))


def count_work(config: "ModelConfig", *, shared_stem: bool) -> Work:
    """What a frame costs: the convolutions and linear layers of one window; of a shared stem one frame's part.

    Counted as the network is defined: engines that reach the same maps with fewer operations get no less.
    """
    import torch
    from torch import Tensor, nn

    from stavis.model import STAViS

    with torch.device("meta"):  # sizes without contents
        model = STAViS(config).eval()
    total = [0.0, 0.0]
    p = config.preprocessing
    share = 1 / p.clip_length if shared_stem else 1.0

    def count(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        part = share if layer is model.conv1 else 1.0
        places = inputs[0].numel() if isinstance(layer, nn.ConvTranspose2d) else output.numel()
        # Each output place sums over this many products; a transposed one's input place is spread over as many.
        size = layer.weight[0].numel()
        total[0] += part * 2 * places * size
        total[1] += part * 4 * (inputs[0].numel() + output.numel()) + 4 * layer.weight.numel()

    kinds = (nn.Conv3d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(count)
    with torch.inference_mode(), torch.device("meta"):
        model(torch.zeros(1, 3, p.clip_length, *p.input_size), torch.zeros(1, p.num_audio_samples))
    return Work(*total)


def _in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _load(task: _Task) -> Any:
    import torch

    from stavis.runtime.allocator import use_one_arena
    from stavis.weights import load_model, untrained_model

    use_one_arena()  # as the command line does
    if task.num_threads is not None:
        torch.set_num_threads(task.num_threads)
    if task.weights == "untrained":
        return untrained_model(device=task.device)
    return load_model(task.weights, device=task.device)


def _measure_machine(task: _Task) -> tuple[MachineSpeed, dict[str, Any]]:
    import torch

    import stavis
    from stavis import media

    model = _load(task)
    device = str(next(model.parameters()).device)
    info = media.probe(task.video)
    machine = MachineSpeed(
        device=device,
        name=_processor_name() if device == "cpu" else torch.cuda.get_device_name(device),
        num_threads=torch.get_num_threads(),
        matrix_gflops=matrix_rate(device),
        bandwidth=copy_rate(device),
    )
    facts = {
        "stavis": stavis.__version__,
        "torch": torch.__version__,
        "weights": task.weights,
        "depth": model.config.depth,
        "modality": model.config.modality,
        "width": info.width,
        "height": info.height,
    }
    return machine, facts


def _measure_media(task: _Task) -> MediaSpeed:
    from fractions import Fraction
    from itertools import islice

    from stavis import media
    from stavis.clips.preprocess import Preprocessing, resize_frame
    from stavis.maps.overlay import OverlayStyle
    from stavis.prediction.outputs import MapFolder, MapFormat, OverlayVideo
    from stavis.prediction.predict import FrameSaliency, PredictedFrame

    info = media.probe(task.video)
    preprocessing = Preprocessing()
    began = time.perf_counter()
    num = 0
    for frame in islice(media.read_frames(task.video), task.num_frames):
        resize_frame(frame.image, preprocessing)
        num += 1
    decode = num / (time.perf_counter() - began)
    image = frame.image
    ys, xs = np.mgrid[0:112, 0:112]
    with tempfile.TemporaryDirectory() as folder:
        size = (info.width, info.height)
        maps = MapFolder(Path(folder) / "maps", size, MapFormat())
        began = time.perf_counter()
        with OverlayVideo(
            Path(folder) / "overlay.mp4",
            video_size=size,
            frame_rate=Fraction(info.frame_rate),
            audio_from=None,
            audio_stream=None,
            style=OverlayStyle(),
        ) as overlay:
            for i in range(num):
                saliency = np.exp(-((xs - i % 112) ** 2 + (ys - 56) ** 2) / 300).astype(np.float32)
                picture = np.roll(image, i, axis=1)
                predicted = PredictedFrame(
                    FrameSaliency(i, i / float(info.frame_rate), saliency), picture, True
                )
                maps.write(predicted)
                overlay.write(predicted)
        write = num / (time.perf_counter() - began)
    return MediaSpeed(decode, write)


def _measure_engine(task: _Task, engine: EngineName, precision: Precision) -> EngineSpeed | None:
    """One engine's speed; None if this machine or this installation does not have it."""
    from stavis.prediction.folder import FolderSettings, predict_to_folder
    from stavis.prediction.options import PredictOptions
    from stavis.prediction.outputs import OUTPUT_KINDS

    model = _load(task)
    try:
        factory = EngineFactory(model, engine, precision, keep_model=False)
    except StavisError:
        return None
    began = time.perf_counter()
    network_seconds = time_network(factory)
    in_all = time.perf_counter() - began
    setup = max(0.0, in_all - network_seconds * (NUM_TIMED_WINDOWS + WARM_UP_WINDOWS + 1))
    options = PredictOptions(end_seconds=_end_seconds(task), engine=engine, precision=precision)
    kinds = tuple(kind for kind in OUTPUT_KINDS if kind in ("maps", "overlay"))
    made_after = []

    def make_engine(
        num_windows: int | None = None, examples: Callable[[], Sequence[Example]] | None = None
    ) -> Engine:
        made = factory(num_windows, examples)
        made_after.append(time.perf_counter())
        return made

    with tempfile.TemporaryDirectory() as folder:
        result = predict_to_folder(
            model,
            task.video,
            Path(folder) / "out",
            FolderSettings(options, kinds),
            quiet=True,
            make_engine=make_engine,
        )
        seconds = time.perf_counter() - made_after[0]
    peak = peak_megabytes()
    work = count_work(model.config, shared_stem=engine != "plain")
    size = {"float32": 1.0, "bf16": 0.5, "fp16": 0.5, "int8": 0.25}[precision]
    return EngineSpeed(
        engine=engine,
        precision=precision,
        setup_seconds=setup,
        network_seconds=network_seconds,
        network_fps=1 / network_seconds,
        gflops=work.flop / network_seconds / 1e9,
        intensity=work.flop / (work.bytes * size),
        end_to_end_fps=result.num_frames / seconds,
        peak_megabytes=peak,
    )


def _end_seconds(task: _Task) -> float | None:
    from stavis import media

    return (task.num_frames - 0.5) / float(media.probe(task.video).frame_rate)


def peak_megabytes() -> float:
    """The most memory that this process has held, in 10^6 bytes."""
    try:
        # Not getrusage: its maximum begins with that of the process that started this one.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or f"{os.cpu_count()} cores"


def draw_roofline(report: BenchReport, path: Path) -> None:
    """Draws what the machine can do at each number of operations a byte, and where the engines are, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    machine = report.machine
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
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
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("operations a byte (every layer reads its input and weights and writes its output once)")
    axes.set_ylabel("GFLOP/s")
    top = max(machine.matrix_gflops, *(e.gflops for e in report.engines))
    axes.set_ylim(min(roof[0], *(e.gflops for e in report.engines)) / 1.5, top * 1.8)
    axes.grid(which="both", alpha=0.2)
    axes.legend(loc="lower right", fontsize=8)
    axes.set_title(
        f"Network part on {machine.name}, {machine.num_threads} threads (depth {report.depth}, {report.modality})",
        fontsize=10,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
