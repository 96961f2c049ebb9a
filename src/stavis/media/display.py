"""Conversion of stored frames to displayed ones: square pixels, upright, 8-bit RGB."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from stavis.media.container import check_size


@dataclass(frozen=True)
class Display:
    coded_width: int  # width of the stored frame in pixels
    coded_height: int  # height of the stored frame in pixels
    sample_aspect_ratio: Fraction  # width of a stored pixel divided by its height
    rotation: int  # clockwise rotation to apply, in degrees: 0, 90, 180 or 270
    flip: bool  # whether to mirror left and right after the rotation

    @property
    def square_size(self) -> tuple[int, int]:
        """(width, height) with square pixels before the rotation: the width is multiplied by the aspect ratio."""
        return max(1, round(self.coded_width * self.sample_aspect_ratio)), self.coded_height

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as displayed."""
        width, height = self.square_size
        return (height, width) if self.rotation in (90, 270) else (width, height)

    def turn(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An (H, W, 3) picture after rotation and mirroring."""
        turned = np.rot90(image, -self.rotation // 90) if self.rotation else image
        return turned[:, ::-1] if self.flip else turned


def find_display(frame: VideoFrame, sample_aspect_ratio: Fraction | None, path: Path) -> Display:
    """Reads the display matrix of the first frame, which FFmpeg also makes from EXIF; checks the size."""
    rotation, flip = 0, False
    if (matrix := _side_data(frame).get("DISPLAYMATRIX")) is not None:
        rotation, flip = _orientation(bytes(cast(Buffer, matrix)))
    ratio = sample_aspect_ratio if sample_aspect_ratio and sample_aspect_ratio > 0 else Fraction(1)
    display = Display(frame.width, frame.height, ratio, rotation, flip)
    check_size(path, *display.square_size)
    return display


def _side_data(frame: VideoFrame) -> Mapping[Any, Any]:
    try:
        return cast(Mapping[Any, Any], frame.side_data)
    except ValueError as error:
        # PyAV gives no side data at all where one kind is newer than PyAV, such as EXIF: "31 is not a valid Type".
        kind = str(error).split(maxsplit=1)[0]
        if not kind.isdecimal():
            raise
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    remove, sink = graph.add("sidedata", f"mode=delete:type={kind}"), graph.add("buffersink")
    source.link_to(remove)
    remove.link_to(sink)
    graph.configure()
    graph.push(frame)
    return _side_data(cast(VideoFrame, graph.pull()))


def _orientation(matrix: bytes) -> tuple[int, bool]:
    """Returns the nearest quarter turn in degrees clockwise, and whether mirroring follows it."""
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    flip = a * d - b * c < 0
    if flip:
        a, c = -a, -c
    # (a, b) is the displayed direction of a step to the right in the stored frame, with y pointing down.
    return round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90, flip


class Converter:
    """Converts decoded frames to arrays as displayed. If the size changes within a stream, the first one is kept."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._reformatter = VideoReformatter()

    def convert(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """Returns (height, width, 3) RGB. Higher bit depths are reduced to 8 without tone mapping; alpha is ignored."""
        width, height = self._display.square_size
        shown = self._reformatter.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1)
        image = self._display.turn(shown.to_ndarray())
        # A frame that was RGB from the start belongs to the decoder, which keeps using it.
        copy = np.array if shown is frame else np.ascontiguousarray
        return copy(image, dtype=np.uint8)
