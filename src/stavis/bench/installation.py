"""Inventory of an installation: hardware, engines, codecs, weights, caches, and what to install for what."""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from stavis.bench.machine import processor_name
from stavis.media.codecs import ffmpeg_versions, missing_codecs
from stavis.version import __version__
from stavis.weights.files import WEIGHTS_FILE
from stavis.weights.sources import DEFAULT_FOLDER, PUBLISHED_PREFIX, data_folder, published_path

DECODERS = (
    *("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "prores", "mjpeg"),
    *("aac", "mp3", "opus", "flac"),
)
ENCODERS = ("libx264", "aac")  # overlays and maps as video

EXTRAS = {
    "openvino": ("openvino", "faster exact predictions on CPUs, and bf16 on those that support it"),
    "nncf": ("int8", "predictions with 8-bit integers on CPUs"),
    "zlib_ng": ("fast", "faster loading of fixation maps in training and evaluation"),
    "pyarrow": ("parquet", "gaze and manifests in Parquet, frames.parquet from stavis evaluate"),
    "pandas": ("pandas", "to_pandas() of predictions and evaluations"),
    "tensorboard": ("tensorboard", "training curves in TensorBoard"),
    "onnxruntime": ("export", "stavis export --format onnx"),
    "huggingface_hub": ("hub", "weights from the Hugging Face Hub, stavis push"),
    "starlette": ("app", "stavis app and stavis live"),
    "s3fs": ("remote", "videos and results at URLs: s3://, https:// and others"),
    "ray": ("ray", "stavis predict --ray: many videos on a Ray cluster"),
}
"""Distribution -> (extra of stavis that installs it, what it is for)."""


@dataclass(frozen=True)
class Finding:
    section: str  # "versions", "hardware", "media", "extras", "weights" or "storage"
    name: str  # what was looked at
    value: str  # what was found
    # "" if all is well; "missing" for something optional; "broken" for something that commands need.
    problem: str = ""
    hint: str = ""  # what to do about it, or what it is for


def inspect_installation() -> list[Finding]:
    """Looks at everything that stavis uses on this machine. Changes nothing and needs no network."""
    return [*_versions(), *_hardware(), *_media(), *_extras(), *_weights(), *_storage()]


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "stavis", f"{__version__} ({Path(__file__).parents[1]})")
    yield Finding("versions", "Python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("versions", "system", platform.platform())
    for name in ("torch", "numpy", "scipy", "Pillow", "matplotlib", "safetensors"):
        yield Finding("versions", name, importlib.metadata.version(name))


def _hardware() -> Iterator[Finding]:
    yield Finding(
        "hardware", "processor", f"{processor_name()}, {torch.get_num_threads()} threads used by PyTorch"
    )
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield Finding("hardware", "memory", f"{memory / 1e9:.1f} GB")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            yield Finding(
                "hardware", f"cuda:{number}", f"{properties.name}, {properties.total_memory / 1e9:.1f} GB"
            )
    elif torch.backends.mps.is_available():
        yield Finding("hardware", "mps", "Apple GPU")
    elif torch.version.cuda is None:
        hint = "this PyTorch is built without CUDA; for a GPU, install another build from pytorch.org"
        yield Finding("hardware", "GPU", "none that PyTorch can use", hint=hint)
    else:
        hint = f"PyTorch is built for CUDA {torch.version.cuda}; check the driver with nvidia-smi"
        yield Finding("hardware", "GPU", "none that PyTorch can use", hint=hint)


def _media() -> Iterator[Finding]:
    yield Finding(
        "media", "FFmpeg", ", ".join(f"{name} {version}" for name, version in ffmpeg_versions().items())
    )
    missing = missing_codecs(DECODERS, ENCODERS)
    broken = "broken" if set(missing) & {*ENCODERS, "h264"} else "missing"
    if missing:
        hint = "reinstall PyAV from its wheel: pip install --force-reinstall --only-binary av av"
        yield Finding("media", "codecs", f"without {', '.join(missing)}", broken, hint)
    else:
        yield Finding("media", "codecs", f"reads {', '.join(DECODERS)}; writes {', '.join(ENCODERS)}")


def _extras() -> Iterator[Finding]:
    for distribution, (extra, purpose) in EXTRAS.items():
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            hint = f"pip install 'stavis[{extra}]': {purpose}"
            yield Finding("extras", distribution, "not installed", "missing", hint)
        else:
            yield Finding("extras", distribution, version, hint=purpose)


def _weights() -> Iterator[Finding]:
    path = DEFAULT_FOLDER / WEIGHTS_FILE
    if path.is_file():
        yield Finding("weights", "default", f"{path.stat().st_size / 1e6:.1f} MB")
    else:
        hint = "reinstall stavis, or name other weights with --weights"
        yield Finding("weights", "default", "not in this installation", "missing", hint)
    data = data_folder()
    names = [f"{PUBLISHED_PREFIX}{split}" for split in (1, 2, 3)]
    there = [name for name in names if (found := published_path(name, None, data)) and found.is_file()]
    if len(there) == len(names):
        yield Finding("weights", "published", f"{', '.join(there)} in {data}")
    else:
        value = f"{', '.join(there) or 'none'} in {data}"
        yield Finding("weights", "published", value, "missing", f"stavis fetch weights --data {data}")


def _storage() -> Iterator[Finding]:
    caches = {"compiled networks": ("XDG_CACHE_HOME", "stavis/openvino"), "Hugging Face": ("HF_HOME", "hub")}
    for name, (variable, below) in caches.items():
        default = Path(os.path.expanduser("~/.cache")) / ("huggingface" if name == "Hugging Face" else "")
        folder = Path(os.environ.get(variable) or default) / below
        existing = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
        if not os.access(existing, os.W_OK):
            hint = f"set {variable} to a folder that can be written; without it nothing is kept for next time"
            yield Finding("storage", name, f"{folder}: not writable", "missing", hint)
        else:
            files = [one for one in folder.rglob("*") if one.is_file() and not one.is_symlink()]
            size = sum(one.stat().st_size for one in files)
            yield Finding("storage", name, f"{folder}: {size / 1e6:.0f} MB")
    for name, folder in (("current folder", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        problem, hint = ("broken", "free some space") if free < 1e8 else ("", "")
        yield Finding("storage", name, f"{folder}: {free / 1e9:.1f} GB free", problem, hint)
