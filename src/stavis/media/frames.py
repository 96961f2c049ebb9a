"""The pictures of a video, one after the other, with their times."""

import contextlib
import itertools
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from stavis.errors import StavisError
from stavis.media import image_folder
from stavis.media.container import (
    count_damaged,
    find_video_stream,
    logger,
    no_frame_between,
    open_container,
    prepare_decoder,
    reason,
)
from stavis.media.display import Converter, find_display

DEFAULT_FRAME_RATE = Fraction(25)  # of a video whose header tells none

_LARGEST_SHORTFALL_SECONDS = 0.1  # as headers round
_LONGEST_REORDERING = 64  # packets; far above any codec's


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        index: From 0, counted from the first frame that was asked for.
        time_seconds: Since the video's first frame, whichever was the first that was asked for.
        image: (height, width, 3) RGB as shown: upright, with square pixels.
    """

    index: int
    time_seconds: float
    image: npt.NDArray[np.uint8]


def read_frames(
    path: str | PathLike[str],
    *,
    frame_rate: Fraction | float | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> Iterator[Frame]:
    """Decodes a video picture by picture, in the order of showing; memory does not grow with its length.

    Damaged packets are skipped; what was lost is said in a warning of the logger "stavis" when the video ends. Errors
    are raised when the first frame is asked for, not by the call.

    Args:
        path: Anything that FFmpeg reads, or a folder of numbered images.
        frame_rate: Of an image folder, in frames per second; 25 with a warning where it is not given. A video file
            has its own.
        start_seconds: The first frame is the first that is not shown before this time.
        end_seconds: The last frame is the last that is shown before this time.

    Raises:
        StavisError: There is nothing that could be decoded, or nothing between start and end.
    """
    path = Path(path)
    start, end = check_excerpt(start_seconds, end_seconds)
    if path.is_dir():
        pictures = image_folder.read_images(path, frame_rate, start, end)
    else:
        pictures = _decode_pictures(path, start, end)
    for index, (time_seconds, image) in enumerate(pictures):
        yield Frame(index, time_seconds, image)


def check_excerpt(start_seconds: float | None, end_seconds: float | None) -> tuple[float, float]:
    """The excerpt's two ends, 0 and infinity where they are not given.

    Raises:
        StavisError: The excerpt is empty or begins before the video.
    """
    start = 0.0 if start_seconds is None else float(start_seconds)
    end = float("inf") if end_seconds is None else float(end_seconds)
    if not 0 <= start < end:
        raise StavisError(
            f"an excerpt from {start:g} s to {end:g} s is asked for; allowed is 0 <= start < end"
        )
    return start, end


def _decode_pictures(path: Path, start: float, end: float) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    with VideoDecoder(path) as decoder:
        converter = Converter(decoder.display)
        time = 0.0
        num_found = 0
        with contextlib.closing(decoder.pictures(start)) as pictures:
            for time, picture in pictures:
                if time >= end:
                    break
                try:
                    image = converter.convert(picture)
                except (av.error.FFmpegError, ValueError, MemoryError) as error:
                    raise StavisError(
                        f"{path}: the frame at {time:.3f} s of pixel format {picture.format.name} cannot be "
                        f"converted to RGB ({reason(error)})"
                    ) from error
                num_found += 1
                yield time, image
        if num_found == 0:
            raise no_frame_between(path, start, end, decoder.last_time)


class VideoDecoder:
    """A video file being decoded.

    Attributes:
        path: The file.
        stream: The video stream.
        frame_rate: Frames per second, on the average.
        display: How its pictures are shown.
        first_stamp: When the first picture is shown, in seconds on the file's own clock.
        last_time: When the last picture so far is shown, in seconds since the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first_stamp: Fraction
        self._decoding: Iterator[tuple[Fraction, VideoFrame]]
        self._open()
        try:
            self.frame_rate = find_frame_rate(self.stream)
            first = next(self._decoding, None)
            if first is None:
                # A decoder that refuses a size does not tell it; of GIF and the like Pillow does.
                image_folder.open_image(path)
                why = f" ({self._losses.reason})" if self._losses.reason else ""
                raise StavisError(f"{path} has a video stream, but no frame in it can be decoded{why}")
            self.first_stamp, picture = first
            self.display = find_display(picture, self.stream.sample_aspect_ratio, path)
        except BaseException:
            self.close()
            raise
        self._decoding = itertools.chain([first], self._decoding)
        self.last_time = 0.0

    def pictures(self, start: float = 0.0) -> Generator[tuple[float, VideoFrame], None, None]:
        """Each picture from `start` seconds on, with its time in seconds since the video's first. To be called once.

        When it is closed, or there are no more, what was lost is said.
        """
        is_whole = not (start > 0 and self._seek(start))
        is_finished = False
        try:
            for stamp, picture in self._decoding:
                self.last_time = float(stamp - self.first_stamp)
                if self.last_time >= start:
                    yield self.last_time, picture
            is_finished = True
        finally:
            self._losses.report(self.path, self.stream, self._container, is_whole, is_finished)

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._container = open_container(self.path)
        try:
            self.stream: VideoStream = find_video_stream(self._container, self.path)
            prepare_decoder(self.stream)
        except BaseException:
            self._container.close()
            raise
        self._decoding = self._decode()

    def _seek(self, start: float) -> bool:
        """Goes to the key frame before `start`, or, and then it is False, back to the beginning."""
        target = self.first_stamp + Fraction(start)
        try:
            if self.stream.time_base is not None:
                self._container.seek(int(target / self.stream.time_base), stream=self.stream)
                self._decoding = self._decode()
                first = next(self._decoding, None)
                if first is not None and first[1].pts is not None and first[0] <= target:
                    self._decoding = itertools.chain([first], self._decoding)
                    return True
        except av.error.FFmpegError:
            pass
        # Some containers have no index, or a wrong one.
        self._container.close()
        self._open()
        return False

    def _decode(self) -> Iterator[tuple[Fraction, VideoFrame]]:
        """The pictures in the order of showing, which is the decoder's, with their time stamps in seconds."""
        self._losses = losses = _Losses()
        clock = _Clock(self.stream, losses)
        for packet in self._packets(losses):
            clock.feed(packet)
            try:
                pictures = packet.decode()
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError, MemoryError) as error:
                losses.add(error)
                clock.drop()
                continue
            for picture in pictures:
                losses.num_decoded += 1
                yield clock.stamp(picture), picture

    def _packets(self, losses: "_Losses") -> Iterator["Packet[VideoStream]"]:
        try:
            # The other streams' packets only tell how far the file goes.
            for packet in self._container.demux():
                losses.follow(packet)
                if packet.stream.index == self.stream.index:
                    yield cast("Packet[VideoStream]", packet)
        except av.error.FFmpegError as error:
            losses.add(error)
            # What the decoder still holds comes out with an empty packet.
            last = cast("Packet[VideoStream]", Packet())
            last.stream = self.stream
            yield last


class _Losses:
    """What could not be decoded, or had to be repaired."""

    def __init__(self) -> None:
        self.num_decoded = 0
        self.num_discarded = 0  # packets that an edit list takes out of the video
        self.num_damaged = 0
        self.num_repaired = 0  # time stamps
        self.reason = ""
        self._end: Fraction | None = (
            None  # of the last packet of any stream, in seconds on the file's own clock
        )

    def add(self, error: BaseException) -> None:
        self.num_damaged += 1
        self.reason = self.reason or reason(error)

    def follow(self, packet: "Packet[Any]") -> None:
        if packet.pts is not None:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self._end = end if self._end is None else max(self._end, end)

    def report(
        self, path: Path, stream: VideoStream, container: InputContainer, is_whole: bool, is_finished: bool
    ) -> None:
        """Says what was lost: of a `stream` that was decoded from its beginning and to its end, all that was."""
        lost = []
        if self.num_damaged:
            lost.append(f"{count_damaged(self.num_damaged)} skipped ({self.reason})")
        missing_seconds = self._missing_seconds(container) if is_finished else 0.0
        if missing_seconds > _LARGEST_SHORTFALL_SECONDS:
            lost.append(f"the file ends {missing_seconds:.1f} s before the end that its header announces")
        if lost:
            count = f"{self.num_decoded} frames"
            # AVI counts frames that it does not store; only where something is lost is its number of use.
            announced = stream.frames - self.num_discarded
            if is_finished and is_whole and self.num_decoded < announced:
                count = f"{self.num_decoded} of the {announced} frames that its header announces"
            logger.warning("%s: %s could be decoded; %s", path, count, "; ".join(lost))
        if self.num_repaired:
            logger.info(
                "%s: %d time stamps that step back or are missing were replaced", path, self.num_repaired
            )

    def _missing_seconds(self, container: InputContainer) -> float:
        if not container.duration or self._end is None:
            return 0.0
        # Some containers count their duration from 0 and not from their start, so a late start is not added.
        announced = Fraction(container.duration + min(container.start_time or 0, 0), av.time_base)
        return float(announced - self._end)


class _Clock:
    """Gives each decoded picture the time stamp at which it is shown.

    The stamp that comes with a picture is its own, except in files that store no times of showing: there packets carry
    ascending stamps though the codec reorders its pictures, so that the stamps come out of the decoder stepping back.
    The decoder's order is right, and the stamps are given out in ascending order. A stamp that still steps back, or is
    missing, is replaced by the last one plus a frame's duration.
    """

    def __init__(self, stream: VideoStream, losses: _Losses) -> None:
        self._stream = stream
        self._losses = losses
        self._time_base = stream.time_base or Fraction(1, av.time_base)
        self._frame_seconds = 1 / find_frame_rate(stream)
        self._is_ascending = True  # do packets carry ascending stamps?
        self._last_fed: int | None = None
        self._fed: deque[int] = deque(
            maxlen=_LONGEST_REORDERING
        )  # stamps of packets whose picture has not come out
        self._last: Fraction | None = None

    def feed(self, packet: "Packet[VideoStream]") -> None:
        """Takes note of a packet that is about to be decoded."""
        if packet.is_discard:
            self._losses.num_discarded += 1
        elif packet.pts is not None:
            self._is_ascending &= self._last_fed is None or packet.pts > self._last_fed
            self._last_fed = packet.pts
            self._fed.append(packet.pts)

    def drop(self) -> None:
        """Takes note of a packet that could not be decoded."""
        if self._fed:
            self._fed.popleft()

    def stamp(self, picture: VideoFrame) -> Fraction:
        """When the picture is shown, in seconds on the file's own clock. To be called once for each, in their order."""
        ticks = picture.pts
        if self._is_ascending and self._stream.codec_context.has_b_frames and self._fed:
            ticks = self._fed.popleft()
            self._losses.num_repaired += ticks != picture.pts
        stamp: Fraction | None = None if ticks is None else ticks * self._time_base
        if stamp is None or (self._last is not None and stamp < self._last):
            self._losses.num_repaired += 1
            stamp = Fraction(0) if self._last is None else self._last + self._frame_seconds
        self._last = stamp
        return stamp


def find_frame_rate(stream: VideoStream) -> Fraction:
    """Frames per second: the header's average, else FFmpeg's guess, else 25."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate:
            return Fraction(rate)
    return DEFAULT_FRAME_RATE
