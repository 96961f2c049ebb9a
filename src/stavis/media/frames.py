"""Frames of a video and their times."""

import contextlib
import itertools
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any, Self, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from stavis.errors import StavisError, counted
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
from stavis.media.gaps import GapCloser, find_frame_rate
from stavis.storage.remote import as_path

_LARGEST_SHORTFALL_SECONDS = 0.1  # headers round
_MOST_REORDERED = 16  # frames that a codec can show before one that was decoded earlier
_MOST_FED = 64  # packets in a decoder; more than any codec and number of threads needs


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        index: From 0, counted from the first requested frame.
        time_seconds: Time since the first frame of the video, even if that was not requested.
        image: (height, width, 3) RGB as displayed: upright, with square pixels.
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
    keep_gaps: bool = False,
) -> Iterator[Frame]:
    """Decodes a video frame by frame in display order. Memory does not grow with its length.

    Damaged packets are skipped; at the end of the video, a warning of the logger "stavis" says what was lost. Errors
    are raised when the first frame is requested, not by the call.

    Args:
        path: Any video that FFmpeg can read, or a folder of numbered images.
        frame_rate: Frames per second of an image folder; 25 with a warning if None. Ignored for video files.
        start_seconds: Time from which frames are given.
        end_seconds: Time before which they end.
        keep_gaps: Keep gaps of more than five minutes instead of closing them up, see `stavis.media.gaps`.

    Raises:
        StavisError: Nothing can be decoded, or nothing lies between start and end.
    """
    path = as_path(path)
    start, end = check_excerpt(start_seconds, end_seconds)
    if path.is_dir():
        pictures = image_folder.read_images(path, frame_rate, start, end, keep_gaps=keep_gaps)
    else:
        pictures = _decode_pictures(path, start, end, keep_gaps)
    for index, (time_seconds, image) in enumerate(pictures):
        yield Frame(index, time_seconds, image)


def check_excerpt(start_seconds: float | None, end_seconds: float | None) -> tuple[float, float]:
    """Returns start and end of an excerpt, None as 0 and infinity. Raises StavisError unless 0 <= start < end."""
    start = 0.0 if start_seconds is None else float(start_seconds)
    end = float("inf") if end_seconds is None else float(end_seconds)
    if not 0 <= start < end:
        raise StavisError(
            f"an excerpt from {start:g} s to {end:g} s is asked for; allowed is 0 <= start < end"
        )
    return start, end


def _decode_pictures(
    path: Path, start: float, end: float, keep_gaps: bool
) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    with VideoDecoder(path, keep_gaps=keep_gaps) as decoder:
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
    """Decoder of a video file.

    Attributes:
        path: The file.
        stream: The video stream.
        frame_rate: Average number of frames per second.
        display: How frames are displayed.
        first_stamp: Time of the first frame, in seconds on the clock of the file.
        last_time: Time of the last frame so far, in seconds since the first.
    """

    def __init__(self, path: Path, *, keep_gaps: bool = False) -> None:
        self.path = path
        self._keep_gaps = keep_gaps
        self.first_stamp: Fraction
        self._decoding: Iterator[tuple[Fraction, VideoFrame]]
        self._open()
        try:
            self.frame_rate = find_frame_rate(self.stream)
            first = next(self._decoding, None)
            if first is None:
                # A decoder that refuses a size does not say which; for GIF and other images Pillow does.
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
        """Yields frames from `start` seconds on with their times in seconds since the first. Can be called once.

        A warning about lost frames is given when the generator ends or is closed.
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self._container = open_container(self.path)
        try:
            if self._container.format.name.endswith("_pipe"):  # FFmpeg's readers of single images
                image_folder.check_single(self.path)
            self.stream: VideoStream = find_video_stream(self._container, self.path)
            prepare_decoder(self.stream)
        except BaseException:
            self._container.close()
            raise
        self._decoding = self._decode()

    def _seek(self, start: float) -> bool:
        """Seeks to the key frame before `start`. If that is impossible, returns to the beginning and returns False."""
        target = self.first_stamp + Fraction(start)
        gaps = GapCloser(self.path, self.stream, keep_gaps=self._keep_gaps).indexed()
        try:
            if self.stream.time_base is not None and not any(begin < target for begin, _ in gaps):
                self._container.seek(int(target / self.stream.time_base), stream=self.stream)
                self._decoding = self._decode()
                first = next(self._decoding, None)
                if first is not None and first[1].pts is not None and first[0] <= target:
                    self._decoding = itertools.chain([first], self._decoding)
                    return True
        except av.error.FFmpegError:
            pass
        # The index may be missing or wrong.
        self._container.close()
        self._open()
        return False

    def _decode(self) -> Iterator[tuple[Fraction, VideoFrame]]:
        """Yields frames in display order, which is the decoder's, with their time stamps in seconds."""
        self._losses = losses = _Losses()
        gaps = GapCloser(self.path, self.stream, keep_gaps=self._keep_gaps)
        clock = _Clock(self.stream, losses, gaps)
        for packet in self._packets(losses, gaps):
            clock.feed(packet)
            try:
                pictures = packet.decode()
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError, MemoryError) as error:
                losses.add(error)
                clock.drop(packet)
                continue
            for picture in pictures:
                losses.num_decoded += 1
                yield from clock.stamp(picture)
        yield from clock.finish()

    def _packets(self, losses: "_Losses", gaps: GapCloser) -> Iterator["Packet[VideoStream]"]:
        try:
            # Packets of other streams show how far the file goes and which gaps are real.
            for packet in self._container.demux():
                losses.follow(packet)
                if packet.stream.index == self.stream.index:
                    yield cast("Packet[VideoStream]", packet)
                elif packet.stream.type == "audio" and packet.pts is not None:
                    gaps.follow(packet.pts * packet.time_base)
        except av.error.FFmpegError as error:
            losses.add(error)
            # An empty packet flushes the decoder.
            last = cast("Packet[VideoStream]", Packet())
            last.stream = self.stream
            yield last


class _Losses:
    """Account of what could not be decoded or had to be repaired."""

    def __init__(self) -> None:
        self.num_decoded = 0
        self.num_discarded = 0  # packets that an edit list takes out of the video
        self.num_damaged = 0
        self.num_repaired = 0  # time stamps
        self.reason = ""
        # Of the last packet of any stream, in seconds on the clock of the file.
        self._end: Fraction | None = None

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
        """Warns of what was lost. Totals are given if the stream was decoded from its beginning to its end."""
        lost = []
        if self.num_damaged:
            lost.append(f"{count_damaged(self.num_damaged)} skipped ({self.reason})")
        missing_seconds = self._missing_seconds(container) if is_finished else 0.0
        if missing_seconds > _LARGEST_SHORTFALL_SECONDS:
            lost.append(f"the file ends {missing_seconds:.1f} s before the end that its header announces")
        if lost:
            count = counted(self.num_decoded, "frames")
            # AVI counts frames it does not store, so its number is useful only if something is lost.
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
        # Some containers count their duration from 0 instead of their start, so a late start is not added.
        announced = Fraction(container.duration + min(container.start_time or 0, 0), av.time_base)
        return float(announced - self._end)


class _Clock:
    """Assigns each decoded frame the time at which it is shown.

    A frame usually carries its own time stamp. In files that do not store display times, packets carry ascending stamps
    although the codec reorders frames, so that stamps come out of the decoder stepping back. There, the n-th frame gets
    the n-th stamp of those packets that give a frame. Packets that give none (before the first key frame of a stream
    that was cut, second fields) have stamps that do not come out within the next `_MOST_REORDERED` frames. A stamp that
    still steps back, or is missing, is replaced by the last one plus the duration of a frame.
    """

    def __init__(self, stream: VideoStream, losses: _Losses, gaps: GapCloser) -> None:
        self._stream = stream
        self._losses = losses
        self._gaps = gaps
        self._time_base = stream.time_base or Fraction(1, av.time_base)
        self._frame_seconds = 1 / find_frame_rate(stream)
        self._is_ascending = True  # do packets carry ascending stamps?
        self._last_fed: int | None = None
        self._fed: dict[int, bool] = {}  # stamps of packets in order, and whether their frame has come out
        self._waiting: deque[VideoFrame] = deque()
        self._last: Fraction | None = None

    def feed(self, packet: "Packet[VideoStream]") -> None:
        if packet.is_discard:
            self._losses.num_discarded += 1
        elif packet.pts is not None:
            self._is_ascending &= self._last_fed is None or packet.pts > self._last_fed
            self._last_fed = packet.pts
            self._fed[packet.pts] = False
            if len(self._fed) > _MOST_FED:
                del self._fed[next(iter(self._fed))]

    def drop(self, packet: "Packet[VideoStream]") -> None:
        if packet.pts is not None:
            self._fed.pop(packet.pts, None)

    def stamp(self, picture: VideoFrame) -> Iterator[tuple[Fraction, VideoFrame]]:
        """Yields frames up to `picture` whose time is known, in seconds on the clock of the file."""
        if picture.pts in self._fed:
            self._fed[picture.pts] = True
        self._waiting.append(picture)
        while self._waiting and self._is_ready(_MOST_REORDERED):
            yield self._next()

    def finish(self) -> Iterator[tuple[Fraction, VideoFrame]]:
        """Yields the frames that still wait for their time."""
        while self._waiting and self._is_ready(0):
            yield self._next()

    def _is_ready(self, most_waiting: int) -> bool:
        """Whether the first stamp in `_fed` belongs to the first waiting frame; removes stamps without a frame."""
        while self._takes_fed() and self._waiting[0].pts is not None and not next(iter(self._fed.values())):
            if len(self._waiting) <= most_waiting:
                return False
            del self._fed[next(iter(self._fed))]
        return True

    def _takes_fed(self) -> bool:
        return self._is_ascending and bool(self._stream.codec_context.has_b_frames) and bool(self._fed)

    def _next(self) -> tuple[Fraction, VideoFrame]:
        picture = self._waiting.popleft()
        ticks = picture.pts
        if self._takes_fed():
            ticks = next(iter(self._fed))
            del self._fed[ticks]
            self._losses.num_repaired += ticks != picture.pts
        stamp: Fraction | None = None
        if ticks is not None:
            stamp = self._gaps.place(ticks * self._time_base, self._frame_seconds)
        if stamp is None or (self._last is not None and stamp < self._last):
            self._losses.num_repaired += 1
            stamp = Fraction(0) if self._last is None else self._last + self._frame_seconds
        self._last = stamp
        return stamp, picture
