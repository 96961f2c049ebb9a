"""Video frames at the file's own bit depth, for maps that are stored as videos."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat

from stavis.errors import StavisError
from stavis.media.container import reason
from stavis.media.frames import VideoDecoder
from stavis.storage.remote import as_path


def read_samples(path: str | os.PathLike[str]) -> Iterator[npt.NDArray[Any]]:
    """Decodes a video to the samples that FFmpeg's command line writes as PNG files by default.

    Frames come one by one in presentation order, each once; the PNG sequence of FFmpeg differs only for videos with
    uneven time stamps, of which it repeats or drops frames.

    Yields:
        (h, w) for gray and (h, w, channels) for color; uint8, or uint16 for more than 8 bits per sample.
        Limited range is expanded to full range.

    Raises:
        StavisError: The file contains no video that can be decoded.
    """
    with VideoDecoder(as_path(path)) as decoder, contextlib.closing(decoder.pictures()) as pictures:
        for time, picture in pictures:
            try:
                yield np.asarray(picture.reformat(format=_png_format(picture.format)).to_ndarray())
            except (av.error.FFmpegError, ValueError, MemoryError) as error:
                raise StavisError(
                    f"{path}: the frame at {time:.3f} s of pixel format {picture.format.name} cannot be converted "
                    f"({reason(error)})"
                ) from error


def _png_format(pixel_format: VideoFormat) -> str:
    """The pixel format of the PNG that FFmpeg chooses, in this machine's byte order."""
    is_deep = max(component.bits for component in pixel_format.components) > 8
    num = len(pixel_format.components)
    if num == 1 and not pixel_format.has_palette:
        return "gray16le" if is_deep else "gray"
    has_alpha = num in (2, 4)
    return ("rgba64le" if is_deep else "rgba") if has_alpha else ("rgb48le" if is_deep else "rgb24")


def count_pictures(path: str | os.PathLike[str]) -> int:
    """The number of pictures that `read_samples` yields, by decoding them."""
    with VideoDecoder(as_path(path)) as decoder, contextlib.closing(decoder.pictures()) as pictures:
        return sum(1 for _ in pictures)
