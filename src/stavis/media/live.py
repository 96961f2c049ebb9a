"""Live sources: cameras, microphones, network streams, pipes, and chunks recorded by a browser."""

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from stavis.clips.preprocess import SAMPLE_RATE
from stavis.errors import StavisError
from stavis.media.container import _TEXT_FORMATS, MAX_PIXELS, reason
from stavis.media.display import find_display
from stavis.media.sound_track import make_frame, mix_to_mono

LARGEST_GAP_SECONDS = 0.1  # smaller ones between the time stamps of audio are rounding
LATE_SECONDS = 0.5  # decoding is this far behind: pictures are decoded only, not converted
BUFFER_BYTES = 4096  # read at a time: what has arrived must not wait for more
NETWORK_TIMEOUT_SECONDS = 10

# Probing must not hold pictures back. ("nobuffer" would lose those that it looks at, the first key frame among them.)
_OPTIONS = {
    "probesize": "200000",
    "analyzeduration": "500000",
    "flags": "low_delay",
    "max_pixels": str(MAX_PIXELS),
}
_NETWORK_PREFIXES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")


class Readable(Protocol):
    """A stream of bytes; `read` waits for at least one and returns none at the end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class LivePicture:
    time_seconds: float  # when it is shown, on the source's clock
    # (height, width, 3) uint8 RGB, upright, with square pixels; None where decoding is late, so that the picture is to
    # be left out.
    image: npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class LiveSound:
    start: int  # number of its first sample; sample 0 is at time 0 of the source's clock
    samples: npt.NDArray[np.float32]  # (n,) mono in -1..1


LiveEvent = LivePicture | LiveSound


def read_live(
    source: str | Readable,
    *,
    container_format: str | None = None,
    max_side: int | None = None,
    sample_rate: int = SAMPLE_RATE,
) -> Iterator[LiveEvent]:
    """Decodes a live source, pictures and audio in the order in which they arrive.

    Args:
        source: A camera ("0" or "/dev/video0"), an address ("rtsp://", "http://", "udp://", ...), a named pipe, "-" for
            standard input, a file (played in real time), or a stream of bytes.
        container_format: FFmpeg's name of the container, where it is known.
        max_side: Larger pictures are shrunk to this, in pixels of the longer side.

    Raises:
        StavisError: The source cannot be opened, has no pictures, or breaks off.
    """
    name, target, chosen_format, options, is_device, is_file = _resolve(source, container_format)
    container = _open(name, target, chosen_format, options)
    with container:
        yield from _decode(container, name, max_side, sample_rate, arrival_clock=is_device, paced=is_file)


def read_microphone(name: str, sample_rate: int = SAMPLE_RATE) -> Iterator[LiveSound]:
    """Records a microphone, timed by when its samples arrive (`time.monotonic`).

    `name` is ALSA's name on Linux ("default"), the number of the device on macOS.

    Raises StavisError if there is no such microphone, or it breaks off.
    """
    chosen_format, device = ("avfoundation", f":{name}") if sys.platform == "darwin" else ("alsa", name)
    with _open(f"microphone {name}", device, chosen_format, {}) as container:
        if not container.streams.audio:
            raise StavisError(f"microphone {name} gives no audio")
        sound = _SoundClock(sample_rate, arrival_clock=True)
        for frame in _frames(container, f"microphone {name}", container.streams.audio[:1]):
            assert isinstance(frame, AudioFrame)
            yield from sound.convert(frame)


def _resolve(
    source: str | Readable, container_format: str | None
) -> tuple[str, str | Readable, str | None, dict[str, str], bool, bool]:
    """A source's name, what FFmpeg opens, its format and options, whether it is a device, whether a plain file."""
    if not isinstance(source, str):
        return "the stream", source, container_format, {}, False, False
    if source == "-":
        return "standard input", sys.stdin.buffer, container_format, {}, False, False
    if source.startswith(_NETWORK_PREFIXES):
        options = {"timeout": str(NETWORK_TIMEOUT_SECONDS * 10**6)}
        if source.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        return source, source, container_format, options, False, False
    if source.isdigit() and sys.platform == "darwin":
        return f"camera {source}", f"{source}:none", "avfoundation", {"framerate": "30"}, True, False
    path = Path(f"/dev/video{source}" if source.isdigit() else source)
    if path.is_char_device() or source.isdigit():
        if not path.exists():
            raise StavisError(f"{path}: no such camera")
        return str(path), str(path), "v4l2", {"framerate": "30"}, True, False
    if not path.exists():
        raise StavisError(f"{source} is neither a camera, a file, nor an address; allowed: {_ALLOWED}")
    return source, f"file:{path}", container_format, {}, False, path.is_file()


_ALLOWED = f"a number, a path, -, {', '.join(_NETWORK_PREFIXES)}"


def _open(
    name: str, target: str | Readable, container_format: str | None, options: dict[str, str]
) -> InputContainer:
    try:
        container = av.open(
            target, "r", format=container_format, options=_OPTIONS | options, buffer_size=BUFFER_BYTES
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise StavisError(f"{name} cannot be opened: {reason(error)}") from error
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise StavisError(f"{name} is text, not a video")
    return container


def _decode(
    container: InputContainer,
    name: str,
    max_side: int | None,
    sample_rate: int,
    *,
    arrival_clock: bool,
    paced: bool,
) -> Iterator[LiveEvent]:
    if not container.streams.video:
        raise StavisError(f"{name} has no pictures")
    video = container.streams.video[0]
    # Threads that each take a frame would hold as many pictures back.
    video.thread_type = "SLICE"
    video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    audio = container.streams.audio[0] if container.streams.audio else None
    pictures = _PictureClock(name, video.sample_aspect_ratio, max_side, arrival_clock)
    sound = _SoundClock(sample_rate, arrival_clock)
    pace = _Pace() if paced else None
    for frame in _frames(container, name, [stream for stream in (video, audio) if stream is not None]):
        if pace is not None and frame.time is not None:
            pace.wait(frame.time)
        if isinstance(frame, VideoFrame):
            yield pictures.convert(frame)
        else:
            yield from sound.convert(frame)


def _frames(
    container: InputContainer, name: str, streams: Sequence[VideoStream | AudioStream]
) -> Iterator[VideoFrame | AudioFrame]:
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError) as error:
            raise StavisError(f"{name} broke off: {reason(error)}") from error
        if packet is None:
            return
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            continue  # live pictures do not wait for repairs
        for frame in frames:
            assert isinstance(frame, VideoFrame | AudioFrame)
            yield frame


class _Pace:
    """Plays a file in real time."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def wait(self, time_seconds: float) -> None:
        now = time.monotonic()
        if self._offset is None:
            self._offset = now - time_seconds
        time.sleep(max(0.0, self._offset + time_seconds - now))


class _PictureClock:
    """Converts pictures, unless decoding has fallen behind."""

    def __init__(self, name: str, ratio: Fraction | None, max_side: int | None, arrival_clock: bool) -> None:
        self._name = name
        self._ratio = ratio
        self._max_side = max_side
        self._arrival_clock = arrival_clock
        self._reformatter = VideoReformatter()
        self._delays: deque[tuple[float, float]] = deque()  # of the last seconds, to find the least
        self._last = -math.inf

    def convert(self, frame: VideoFrame) -> LivePicture:
        now = time.monotonic()
        stamp = now if self._arrival_clock or frame.time is None else float(frame.time)
        if self._is_late(now, stamp):
            return LivePicture(stamp, None)
        display = find_display(frame, self._ratio, Path(self._name))
        width, height = display.square_size
        if self._max_side is not None and max(width, height) > self._max_side:
            scale = self._max_side / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        shown = self._reformatter.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
        return LivePicture(stamp, np.ascontiguousarray(display.turn(shown.to_ndarray())))

    def _is_late(self, now: float, stamp: float) -> bool:
        """Whether this picture comes later after its time than pictures did of late."""
        if stamp < self._last - 1:  # the source has begun anew
            self._delays.clear()
        self._last = stamp
        delay = now - stamp
        self._delays.append((now, delay))
        while self._delays[0][0] < now - 30:
            self._delays.popleft()
        return delay - min(one for _, one in self._delays) > LATE_SECONDS


class _SoundClock:
    """Converts audio to mono at one rate, every sample at its place."""

    def __init__(self, sample_rate: int, arrival_clock: bool) -> None:
        self._sample_rate = sample_rate
        self._arrival_clock = arrival_clock
        self._resampler: AudioResampler | None = None
        self._own_rate = 0
        self._start = 0  # where the samples since the last gap begin
        self._num_in = self._num_out = 0

    def convert(self, frame: AudioFrame) -> Iterator[LiveSound]:
        samples = mix_to_mono(frame)
        num = samples.shape[1]
        if self._arrival_clock:
            begin: float | None = time.monotonic() - num / frame.sample_rate
        else:
            begin = None if frame.time is None else float(frame.time)
        expected = self._start / self._sample_rate + self._num_in / max(self._own_rate, 1)
        jumps = begin is not None and abs(begin - expected) > LARGEST_GAP_SECONDS
        if self._resampler is None or frame.sample_rate != self._own_rate or jumps:
            self._own_rate = frame.sample_rate
            self._resampler = AudioResampler("fltp", "mono", self._sample_rate)
            self._start = round((expected if begin is None else begin) * self._sample_rate)
            self._num_in = self._num_out = 0
        self._num_in += num
        for out in self._resampler.resample(make_frame(samples, frame.sample_rate)):
            resampled: npt.NDArray[Any] = out.to_ndarray()[0]
            yield LiveSound(self._start + self._num_out, resampled.astype(np.float32, copy=False))
            self._num_out += len(resampled)


class ChunkPipe:
    """Bytes from one thread to another, in memory and bounded: what `read_live` reads recorded chunks from."""

    def __init__(self, max_bytes: int = 8 << 20) -> None:
        self._chunks: deque[bytes] = deque()
        self._num_bytes = 0
        self._max_bytes = max_bytes
        self._closed = False
        self._changed = threading.Condition()

    def write(self, data: bytes) -> bool:
        """Adds bytes; False if the reader is so far behind that there is no room."""
        with self._changed:
            if self._num_bytes + len(data) > self._max_bytes:
                return False
            self._chunks.append(data)
            self._num_bytes += len(data)
            self._changed.notify()
            return True

    def close(self) -> None:
        """Ends the stream behind what was written."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, as soon as there are any; none at the end."""
        with self._changed:
            while not self._chunks and not self._closed:
                self._changed.wait()
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            self._num_bytes -= len(chunk)
            return chunk
