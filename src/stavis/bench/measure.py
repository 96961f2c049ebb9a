"""Measurements of decoding, the network and writing."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stavis.bench.machine import (
    MachineSpeed,
    copy_rate,
    count_work,
    matrix_rate,
    peak_megabytes,
    processor_name,
)
from stavis.engine.factory import EngineFactory, EngineName
from stavis.engine.precision import Precision
from stavis.engine.protocol import Engine, Example
from stavis.errors import StavisError

NUM_TIMED_WINDOWS = 16
WARM_UP_WINDOWS = 2


@dataclass(frozen=True)
class MediaSpeed:
    decode_fps: float  # frames per second decoded and resized for the network
    write_fps: float  # frames per second of overlay and PNG maps, drawn and encoded


@dataclass(frozen=True)
class EngineSpeed:
    engine: str  # its name
    precision: str  # its numeric precision
    setup_seconds: float  # time until it is ready, calibration included
    network_seconds: float  # median time of the network per frame
    network_fps: float  # frames per second of the network alone
    gflops: float  # GFLOP/s of the network alone
    intensity: float  # FLOP per byte, if every layer reads its input and weights and writes its output once
    end_to_end_fps: float  # frames per second from video file to result files, without the setup
    peak_megabytes: float  # peak memory of the whole process


@dataclass(frozen=True)
class Task:
    weights: str
    device: str
    video: Path
    num_frames: int
    num_threads: int | None


def time_network(make_engine: EngineFactory, num_windows: int = NUM_TIMED_WINDOWS) -> float:
    """Returns the median seconds per frame of the network alone: frames at its input size in, maps out."""
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


def _load(task: Task) -> Any:
    import torch

    from stavis.runtime.allocator import use_one_arena
    from stavis.weights import load_model, untrained_model

    use_one_arena()  # as the command line does
    if task.num_threads is not None:
        torch.set_num_threads(task.num_threads)
    if task.weights == "untrained":
        return untrained_model(device=task.device)
    return load_model(task.weights, device=task.device)


def measure_machine(task: Task) -> tuple[MachineSpeed, dict[str, Any]]:
    import torch

    from stavis import media
    from stavis.version import __version__

    model = _load(task)
    device = str(next(model.parameters()).device)
    info = media.probe(task.video)
    machine = MachineSpeed(
        device=device,
        name=processor_name() if device == "cpu" else torch.cuda.get_device_name(device),
        num_threads=torch.get_num_threads(),
        matrix_gflops=matrix_rate(device),
        bandwidth=copy_rate(device),
    )
    facts = {
        "stavis": __version__,
        "torch": torch.__version__,
        "weights": task.weights,
        "depth": model.config.depth,
        "modality": model.config.modality,
        "width": info.width,
        "height": info.height,
    }
    return machine, facts


def measure_media(task: Task) -> MediaSpeed:
    from fractions import Fraction
    from itertools import islice

    from stavis import media
    from stavis.clips.preprocess import Preprocessing, resize_frame
    from stavis.maps.overlay import OverlayStyle
    from stavis.prediction.outputs import MapFormat, map_folder, overlay_video
    from stavis.prediction.predict import FrameSaliency

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
        overlay_path, rate = Path(folder) / "overlay.mp4", Fraction(info.frame_rate)
        began = time.perf_counter()
        writer = media.VideoWriter(overlay_path, width=info.width, height=info.height, frame_rate=rate)
        with (
            map_folder(Path(folder) / "maps", size, MapFormat()) as write_map,
            overlay_video(writer, OverlayStyle()) as write_overlay,
        ):
            for i in range(num):
                saliency = np.exp(-((xs - i % 112) ** 2 + (ys - 56) ** 2) / 300).astype(np.float32)
                picture = np.roll(image, i, axis=1)
                predicted = FrameSaliency(i, i / float(info.frame_rate), saliency, picture)
                write_map(predicted)
                write_overlay(predicted)
        write = num / (time.perf_counter() - began)
    return MediaSpeed(decode, write)


def measure_engine(task: Task, engine: EngineName, precision: Precision) -> EngineSpeed | None:
    """Measures one engine; None if this machine or installation does not have it."""
    from stavis import media
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
    end_seconds = (task.num_frames - 0.5) / float(media.probe(task.video).frame_rate)
    options = PredictOptions(end_seconds=end_seconds, engine=engine, precision=precision)
    kinds = tuple(kind for kind in OUTPUT_KINDS if kind in ("maps", "overlay"))
    made_after = []

    def make_engine(
        num_windows: int | None = None, examples: Callable[[], Sequence[Example]] | None = None
    ) -> Engine:
        nonlocal setup
        began = time.perf_counter()
        made = factory(num_windows, examples)
        made_after.append(time.perf_counter())
        # int8 calibrates on more windows of a video here, and decodes them.
        setup = max(setup, made_after[0] - began)
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
