"""How a stored picture becomes the one that is shown: square pixels, upright, 8-bit RGB."""

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from stavis.media.container import check_size


@dataclass(frozen=True)
class Display:
    """What has to be done to a stream's pictures.

    Attributes:
        coded_width: Of the stored picture, in pixels.
        coded_height: Of the stored picture.
        sample_aspect_ratio: A stored pixel's width over its height.
        rotation: Degrees, clockwise, of the turn to make: 0, 90, 180 or 270.
        flip: Mirror left and right, after the turn.
    """

    coded_width: int
    coded_height: int
    sample_aspect_ratio: Fraction
    rotation: int
    flip: bool

    @property
    def square_size(self) -> tuple[int, int]:
        """(width, height) with square pixels, before the turn: the width is multiplied by the aspect ratio."""
        return max(1, round(self.coded_width * self.sample_aspect_ratio)), self.coded_height

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as shown."""
        width, height = self.square_size
        return (height, width) if self.rotation in (90, 270) else (width, height)


def find_display(frame: VideoFrame, sample_aspect_ratio: Fraction | None, path: Path) -> Display:
    """Reads the display matrix that comes with the first picture.

    Raises:
        StavisError: The picture with square pixels is above MAX_PIXELS.
    """
    rotation, flip = 0, False
    if (matrix := frame.side_data.get("DISPLAYMATRIX")) is not None:
        rotation, flip = _orientation(bytes(cast(Buffer, matrix)))
    ratio = sample_aspect_ratio if sample_aspect_ratio and sample_aspect_ratio > 0 else Fraction(1)
    display = Display(frame.width, frame.height, ratio, rotation, flip)
    check_size(path, *display.square_size)
    return display


def _orientation(matrix: bytes) -> tuple[int, bool]:
    """The nearest quarter turn, in degrees clockwise, and whether a mirroring follows it."""
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    flip = a * d - b * c < 0
    if flip:
        a, c = -a, -c
    # (a, b) is where a step to the right in the stored picture leads, y pointing down.
    return round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90, flip


class Converter:
    """Turns decoded pictures into arrays as shown. Pictures that change their size on the way keep the first's."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._reformatter = VideoReformatter()

    def convert(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB. High bit depths are cut to 8 without tone mapping; alpha is ignored."""
        width, height = self._display.square_size
        shown = self._reformatter.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1)
        image = shown.to_ndarray()
        if self._display.rotation:
            image = np.rot90(image, -self._display.rotation // 90)
        if self._display.flip:
            image = image[:, ::-1]
        # A picture that was RGB all along is still the decoder's own, which goes on to use it.
        copy = np.array if shown is frame else np.ascontiguousarray
        return copy(image, dtype=np.uint8)
