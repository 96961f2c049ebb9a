"""Speed of this machine, and the work of a network in FLOP and bytes."""

import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from stavis.model import ModelConfig


CLIP_SIZE = (1280, 720)
CLIP_RATE = 25


@dataclass(frozen=True)
class MachineSpeed:
    device: str  # "cpu" or "cuda:0"
    name: str  # name of the processor or GPU
    num_threads: int  # threads that PyTorch uses
    matrix_gflops: float  # sustained GFLOP/s of a large float32 matrix product
    bandwidth: float  # GB/s of a copy in memory, counting reads and writes


class Work(NamedTuple):
    """Multiplications and additions, and bytes to move if all values are 32 bits wide."""

    flop: float
    bytes: float


def write_clip(path: Path, num_frames: int, size: tuple[int, int] = CLIP_SIZE) -> None:
    """Writes a clip of a moving textured picture and a moving light, with noise as audio."""
    from stavis import media

    width, height = size
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "sound.wav"
        rng = np.random.default_rng(0)
        samples = rng.normal(0, 0.1, int(num_frames / CLIP_RATE * 22050)).astype(np.float32)
        media.write_wave(wave, samples, 22050)
        writer = media.VideoWriter(path, width=width, height=height, frame_rate=CLIP_RATE, audio_from=wave)
        with writer:
            for picture in moving_pictures(num_frames, size):
                writer.write(picture)


def moving_pictures(num_frames: int, size: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields RGB pictures (H, W, 3) with `size` = (width, height)."""
    width, height = size
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[0:height, 0:width]
    texture = 110 + 50 * np.sin(xs / 23) * np.cos(ys / 17)
    texture = (texture + rng.normal(0, 6, texture.shape))[..., None] + np.array([20, 0, -20])
    for i in range(num_frames):
        spot = 90 * np.exp(-((xs - 4 * i) ** 2 + (ys - height / 2) ** 2) / 5000)
        yield np.clip(np.roll(texture, 2 * i, axis=1) + spot[..., None], 0, 255).astype(np.uint8)


def matrix_rate(device: str = "cpu", size: int = 2048, rounds: int = 15) -> float:
    """Returns the median GFLOP/s of a large float32 matrix product over several rounds.

    Engines are measured by medians too. A single round may run at a clock frequency that the processor cannot sustain.
    """
    import torch

    a, b = (torch.rand(size, size, device=device) for _ in range(2))
    seconds = statistics.median(_timed(lambda: a @ b, device) for _ in range(rounds))
    return 2 * size**3 / seconds / 1e9


def copy_rate(device: str = "cpu", megabytes: int = 256, rounds: int = 8) -> float:
    """Returns the median GB/s, reads plus writes, of a copy in memory over several rounds."""
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


def count_work(config: "ModelConfig", *, shared_stem: bool) -> Work:
    """Counts the work of one window, with torch's FLOP counter; of a shared stem only the part of one frame.

    The network is counted as it is defined: engines that compute the same maps with fewer operations get no credit
    for fewer.
    """
    import torch
    from torch import Tensor, nn
    from torch.utils.flop_counter import FlopCounterMode

    from stavis.model import STAViS

    p = config.preprocessing
    share = 1 / p.clip_length if shared_stem else 1.0
    num_bytes = 0.0

    def count(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal num_bytes
        part = share if layer is model.conv1 else 1.0
        num_bytes += part * 4 * (inputs[0].numel() + output.numel()) + 4 * layer.weight.numel()

    # Not in inference mode, in which older versions of the counter see nothing.
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = STAViS(config).eval()  # shapes without contents
        for module in model.modules():
            if isinstance(module, nn.Conv3d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.register_forward_hook(count)
        model(torch.zeros(1, 3, p.clip_length, *p.input_size), torch.zeros(1, p.num_audio_samples))
    flop = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}
    return Work(flop["Global"] - (1 - share) * flop["STAViS.conv1"], num_bytes)


def peak_megabytes() -> float:
    try:
        # Not getrusage, whose maximum starts at that of the parent process.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or f"{os.cpu_count()} cores"
