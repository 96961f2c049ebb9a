"""Outputs of a prediction on disk: one context manager per kind, which yields a function that writes a frame."""

import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis import media
from stavis.maps.overlay import OverlayStyle, draw_overlay, normalize, resize_smoothly
from stavis.prediction.predict import FrameSaliency

OutputKind = Literal["maps", "npz", "published", "video", "overlay"]
OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
OUTPUT_NAMES: dict[OutputKind, str] = {
    "maps": "maps",
    "npz": "saliency.npz",
    "published": "pred_sal",
    "video": "saliency.mp4",
    "overlay": "overlay.mp4",
}
"""Name of each kind in a video's result folder."""

PUBLISHED_SIZE = (112, 112)
PUBLISHED_JPEG_QUALITY = 75  # Pillow's default, used for the published maps

# zlib's strategy by bits per pixel; -1 is Pillow's choice. Z_RLE takes two thirds of the time, but for 16 bits more
# space.
PNG_STRATEGIES = {8: zlib.Z_RLE, 16: -1}


@dataclass(frozen=True)
class MapFormat:
    """Format of `maps`.

    Attributes:
        size: "video": the size of the video as displayed. "network": the size of the network's maps.
        bits: Bits per pixel, 8 or 16.
        values: "stretched": each map stretched to the full range of gray levels. "probability": white is 1.

    Raises:
        ValueError: An attribute is none of these.
    """

    size: Literal["video", "network"] = "video"
    bits: Literal[8, 16] = 8
    values: Literal["stretched", "probability"] = "stretched"

    def __post_init__(self) -> None:
        for one in fields(self):
            if (value := getattr(self, one.name)) not in get_args(one.type):
                allowed = ", ".join(map(str, get_args(one.type)))
                raise ValueError(f"`map_{one.name}={value}`: allowed are {allowed}")


Write = Callable[[FrameSaliency], None]
"""Writes a frame into an output. Leaving the output's `with` block finishes the file, or abandons it after an error."""


@contextmanager
def map_folder(folder: Path, video_size: tuple[int, int], map_format: MapFormat) -> Iterator[Write]:
    """PNG files `map_%06d.png`, numbered by frame from 0, of a video of `video_size` = (width, height) pixels."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(frame: FrameSaliency) -> None:
        values = frame.saliency
        if map_format.values == "stretched":
            values = normalize(values)
        if map_format.size == "video":
            values = resize_smoothly(values, video_size)
        path, bits = folder / f"map_{frame.index:06d}.png", map_format.bits
        picture = Image.fromarray(_to_gray(values, bits))
        picture.save(path, compress_level=3, compress_type=PNG_STRATEGIES[bits])

    yield write


@contextmanager
def published_folder(folder: Path) -> Iterator[Write]:
    """A folder of files as `write_published_map` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    yield partial(write_published_map, folder)


def write_published_map(folder: Path, frame: FrameSaliency) -> None:
    """Writes a file of the published test run: `pred_sal_%06d.jpg`, numbered from 1, 112x112, stretched and truncated.

    Maps of another size are resized to that, since scoring blurs them by a number of pixels.
    """
    values = normalize(frame.saliency)
    if values.shape != PUBLISHED_SIZE:
        values = resize_smoothly(values, PUBLISHED_SIZE)
    gray = (values * 255).astype(np.uint8)  # truncates, as published
    path = folder / f"pred_sal_{frame.index + 1:06d}.jpg"
    Image.fromarray(gray).save(path, quality=PUBLISHED_JPEG_QUALITY)


@contextmanager
def probability_archive(path: Path, dtype: Literal["<f2", "<f4"] = "<f2") -> Iterator[Write]:
    """An `.npz` of `saliency` (N, h, w) probabilities, `index` (N,) and `time_seconds` (N,).

    The maps go to a temporary file first: memory must not grow with the video, and an `.npy` file starts with its
    shape.
    """
    shape: tuple[int, ...] = (0, 0)
    indices: list[int] = []
    times: list[float] = []
    with tempfile.TemporaryFile(dir=path.parent) as raw:

        def write(frame: FrameSaliency) -> None:
            nonlocal shape
            shape = frame.saliency.shape
            raw.write(frame.saliency.astype(dtype).tobytes())
            indices.append(frame.index)
            times.append(frame.time_seconds)

        yield write
        raw.seek(0)
        header = {"descr": dtype, "fortran_order": False, "shape": (len(indices), *shape)}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("saliency.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                while block := raw.read(1 << 20):
                    entry.write(block)
            for name, values in (("index", indices), ("time_seconds", times)):
                with archive.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)


@contextmanager
def gray_video(path: Path, video_size: tuple[int, int], frame_rate: Fraction) -> Iterator[Write]:
    """A gray video of the stretched maps, with the video's size, number of frames and time stamps."""
    width, height = video_size
    with media.VideoWriter(path, width=width, height=height, frame_rate=frame_rate) as writer:

        def write(frame: FrameSaliency) -> None:
            enlarged = resize_smoothly(normalize(frame.saliency), video_size)
            writer.write(_to_gray(enlarged, 8), frame.time_seconds)

        yield write


@contextmanager
def overlay_video(writer: media.VideoWriter, style: OverlayStyle) -> Iterator[Write]:
    """The video with the heat map over it."""
    with writer:

        def write(frame: FrameSaliency) -> None:
            if frame.image is not None:
                writer.write(draw_overlay(frame.image, frame.saliency, style), frame.time_seconds)

        yield write


def _to_gray(values: npt.NDArray[np.float32], bits: Literal[8, 16]) -> npt.NDArray[Any]:
    """Rounds values in 0..1 to 8 or 16 bits."""
    scaled = np.multiply(values, np.float32(2**bits - 1))
    return np.rint(scaled, out=scaled).astype(np.uint8 if bits == 8 else np.uint16)


def choose_outputs(outputs: str | Sequence[str]) -> tuple[OutputKind, ...]:
    """Reads output kinds: a sequence, a string such as "maps,overlay", or "all".

    Raises ValueError if a name is not one of the kinds.
    """
    names = [name.strip() for name in outputs.split(",")] if isinstance(outputs, str) else list(outputs)
    if names == ["all"]:
        return OUTPUT_KINDS
    for name in names:
        if name not in OUTPUT_KINDS:
            raise ValueError(f"`outputs={name}`: allowed are {', '.join(OUTPUT_KINDS)}, and all")
    return tuple(kind for kind in OUTPUT_KINDS if kind in names)
