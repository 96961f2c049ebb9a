"""Outputs of a prediction on disk: one writer per kind, each fed frame by frame."""

import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, get_args

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


class Output(Protocol):
    """A writer. Leaving its `with` block finishes the file, or abandons it after an error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, frame: FrameSaliency) -> None: ...


class _PictureFolder:
    """Base of the two kinds of folders: nothing is left to do at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class MapFolder(_PictureFolder):
    """PNG files `map_%06d.png`, numbered by frame from 0.

    Args:
        folder: Created if missing.
        video_size: (width, height) in pixels of the video as displayed.
        map_format: Size, depth and scale.
    """

    def __init__(self, folder: Path, video_size: tuple[int, int], map_format: MapFormat) -> None:
        super().__init__(folder)
        self.video_size = video_size
        self.format = map_format

    def write(self, frame: FrameSaliency) -> None:
        values = frame.saliency
        if self.format.values == "stretched":
            values = normalize(values)
        if self.format.size == "video":
            values = resize_smoothly(values, self.video_size)
        gray = _to_gray(values, self.format.bits)
        path = self.folder / f"map_{frame.index:06d}.png"
        Image.fromarray(gray).save(path, compress_level=3, compress_type=PNG_STRATEGIES[self.format.bits])


class PublishedMaps(_PictureFolder):
    """Files of the published test run: `pred_sal_%06d.jpg`, numbered from 1, 112x112, each stretched and truncated.

    Maps of another size are resized to that, since scoring blurs them by a number of pixels.
    """

    def write(self, frame: FrameSaliency) -> None:
        path = self.folder / f"pred_sal_{frame.index + 1:06d}.jpg"
        values = normalize(frame.saliency)
        if values.shape != PUBLISHED_SIZE:
            values = resize_smoothly(values, PUBLISHED_SIZE)
        gray = (values * 255).astype(np.uint8)  # truncates, as published
        Image.fromarray(gray).save(path, quality=PUBLISHED_JPEG_QUALITY)


class ProbabilityArchive:
    """An `.npz` of `saliency` (N, h, w) float16 probabilities, `index` (N,) and `time_seconds` (N,).

    The maps go to a temporary file first: memory must not grow with the video, and an `.npy` file starts with its
    shape.
    """

    def __init__(self, path: Path, dtype: Literal["<f2", "<f4"] = "<f2") -> None:
        self.path = path
        self._dtype = dtype
        self._raw = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed in __exit__
        self._shape: tuple[int, ...] = (0, 0)
        self._indices: list[int] = []
        self._times: list[float] = []

    def __enter__(self) -> Self:
        return self

    def write(self, frame: FrameSaliency) -> None:
        self._shape = frame.saliency.shape
        self._raw.write(frame.saliency.astype(self._dtype).tobytes())
        self._indices.append(frame.index)
        self._times.append(frame.time_seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._raw:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        header = {"descr": self._dtype, "fortran_order": False, "shape": (len(self._indices), *self._shape)}
        self._raw.seek(0)
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("saliency.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                while block := self._raw.read(1 << 20):
                    entry.write(block)
            for name, values in (("index", self._indices), ("time_seconds", self._times)):
                with archive.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)


class _VideoOutput:
    """Base of the two kinds of video."""

    def __init__(self, writer: media.VideoWriter) -> None:
        self._writer = writer

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


class GrayVideo(_VideoOutput):
    """A gray video of the stretched maps, with the video's size, number of frames and time stamps."""

    def __init__(self, path: Path, *, video_size: tuple[int, int], frame_rate: Fraction) -> None:
        super().__init__(
            media.VideoWriter(path, width=video_size[0], height=video_size[1], frame_rate=frame_rate)
        )
        self.video_size = video_size

    def write(self, frame: FrameSaliency) -> None:
        enlarged = resize_smoothly(normalize(frame.saliency), self.video_size)
        self._writer.write(_to_gray(enlarged, 8), frame.time_seconds)


class OverlayVideo(_VideoOutput):
    """The video with the heat map over it, and its audio."""

    def __init__(
        self,
        path: Path,
        *,
        video_size: tuple[int, int],
        frame_rate: Fraction,
        audio_from: Path | None,
        audio_stream: int | None,
        keep_gaps: bool = False,
        style: OverlayStyle,
    ) -> None:
        super().__init__(
            media.VideoWriter(
                path,
                width=video_size[0],
                height=video_size[1],
                frame_rate=frame_rate,
                audio_from=audio_from,
                audio_stream=audio_stream,
                keep_gaps=keep_gaps,
            )
        )
        self.style = style

    def write(self, frame: FrameSaliency) -> None:
        if frame.image is None:
            return
        picture = draw_overlay(frame.image, frame.saliency, self.style)
        self._writer.write(picture, frame.time_seconds)


def _to_gray(values: npt.NDArray[np.float32], bits: Literal[8, 16]) -> npt.NDArray[Any]:
    """Rounds values in 0..1 to 8 or 16 bits."""
    scaled = np.multiply(values, np.float32(2**bits - 1))
    return np.rint(scaled, out=scaled).astype(np.uint8 if bits == 8 else np.uint16)


def choose_outputs(outputs: str | Sequence[str]) -> tuple[OutputKind, ...]:
    """Reads output kinds: a sequence, a string such as "maps,overlay", or "all".

    Raises:
        ValueError: A name is not one of the kinds.
    """
    names = [name.strip() for name in outputs.split(",")] if isinstance(outputs, str) else list(outputs)
    if names == ["all"]:
        return OUTPUT_KINDS
    for name in names:
        if name not in OUTPUT_KINDS:
            raise ValueError(f"`outputs={name}`: allowed are {', '.join(OUTPUT_KINDS)}, and all")
    return tuple(kind for kind in OUTPUT_KINDS if kind in names)
