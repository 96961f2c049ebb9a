"""Writing videos, with the sound of another."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from stavis.errors import StavisError
from stavis.media.container import reason
from stavis.media.image_folder import exact_frame_rate
from stavis.media.sound_track import SoundTrack, make_frame, mix_to_mono, open_sound, to_channels
from stavis.runtime.files import atomic_path

# Of each container: the encoders of pictures and sound, and the sound's decoders whose packets it takes as they are.
_MP4 = "libx264", "aac", {"aac", "mp3", "mp3float", "ac3", "eac3", "alac"}
_CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MP4,
    ".mkv": ("libx264", "aac", {*_MP4[2], "flac", "opus", "libopus", "vorbis", "dca", "pcm_s16le"}),
    ".webm": ("libvpx-vp9", "libopus", {"opus", "libopus", "vorbis"}),
}
_PIXEL_FORMATS = ("yuv420p", "yuv444p")
_SAMPLE_RATES = {
    "aac": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "libopus": (48000,),
}
_AUDIO_BIT_RATE = 192_000
_TICKS_PER_SECOND = 90_000  # at least; finer than what any of these containers keeps
_LARGEST_TICKS_PER_SECOND = 10_000_000
_PRE_ROLL_SECONDS = Fraction(1, 10)  # of copied sound before the first picture, for decoders to settle

# BT.709 in limited range, whatever the size. It is written into the file, so that players need not guess.
_BT709, _LIMITED_RANGE = 1, 1
_LUMA_OF_GRAY = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)


class VideoWriter:
    """Writes a video picture by picture, whole or not at all.

    The suffix chooses: .mp4, .m4v, .mov and .mkv hold H.264 and AAC, .webm holds VP9 and Opus. Colors are BT.709 in
    limited range. 4:2:0 needs even sizes: of an odd one the last column or row is repeated. The video begins with its
    first picture and ends when its last has been shown for 1 / frame_rate; sound before and after is left out.

    To be used in a `with` block: the file appears when the block ends, and does not when it fails.

    Args:
        path: Of the video.
        width: Of the pictures, in pixels.
        height: Of the pictures, in pixels.
        frame_rate: Frames per second.
        audio_from: A video, sound file or image folder whose sound goes into the video: its packets as they are where
            the container takes them and the video begins where they do, else encoded anew. If there is none, or none
            that can be decoded, the video has none.
        audio_stream: Which of its audio streams, from 0; FFmpeg's default where it is not given.
        pixel_format: "yuv420p", which every player shows, or "yuv444p", which keeps fine color and odd sizes.
        crf: H.264's quality from 0, lossless, to 51. Where it is not given: 18, and 12 if the first picture is gray.

    Raises:
        StavisError: The file cannot be written, its suffix is another, or the sound's file cannot be read.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        width: int,
        height: int,
        frame_rate: Fraction | float,
        audio_from: str | PathLike[str] | None = None,
        audio_stream: int | None = None,
        pixel_format: str = "yuv420p",
        crf: int | None = None,
    ) -> None:
        self.path = Path(path)
        if pixel_format not in _PIXEL_FORMATS:
            raise ValueError(f"pixel_format is {pixel_format!r}; allowed: {', '.join(_PIXEL_FORMATS)}")
        if self.path.suffix.lower() not in _CONTAINERS:
            raise StavisError(
                f"{path} cannot be written as a video; allowed suffixes: {', '.join(_CONTAINERS)}"
            )
        if not 0 < frame_rate < float("inf"):
            raise ValueError(f"frame_rate is {frame_rate}; it must be above 0")
        self.width, self.height = width, height
        self.frame_rate = exact_frame_rate(frame_rate)
        self.num_frames = 0
        self._pixel_format = pixel_format
        self._crf = crf
        # A frame at the frame rate lasts a whole number of ticks.
        numerator = self.frame_rate.numerator
        ticks_per_second = -(-_TICKS_PER_SECOND // numerator) * numerator
        if ticks_per_second > _LARGEST_TICKS_PER_SECOND:
            ticks_per_second = _TICKS_PER_SECOND
        self._time_base = Fraction(1, ticks_per_second)
        self._ticks_per_frame = max(1, round(ticks_per_second / self.frame_rate))
        self._first_time = Fraction(0)
        self._last_tick = -1
        self._container: OutputContainer | None = None
        self._track: SoundTrack | None = None
        self._sound: Sound | None = None
        self._stack = contextlib.ExitStack()
        with self._cleaning_up():
            self._temporary = self._stack.enter_context(atomic_path(self.path))
        if audio_from is not None:
            with self._cleaning_up():
                # Who reads the sound to look at it is warned; here it is left out without a word.
                self._track = open_sound(Path(audio_from), audio_stream, warn=False)
            if self._track is not None:
                self._stack.callback(self._track.close)

    def write(self, image: npt.NDArray[np.uint8], time_seconds: float | Fraction | None = None) -> None:
        """Adds a picture.

        Args:
            image: (height, width, 3) RGB, or (height, width) gray.
            time_seconds: When it is shown, on the clock of `audio_from`. The first picture's time becomes the video's
                beginning; a time not after the last picture's is moved behind it. Not given: at the frame rate.

        Raises:
            StavisError: The file cannot be written, as the disk is full, say.
        """
        if image.dtype != np.uint8 or image.shape not in {
            (self.height, self.width),
            (self.height, self.width, 3),
        }:
            raise ValueError(
                f"a picture of shape {image.shape} and type {image.dtype} is given; allowed is uint8 of shape "
                f"({self.height}, {self.width}, 3) or ({self.height}, {self.width})"
            )
        with self._cleaning_up():
            if self._container is None:
                self._first_time = Fraction(time_seconds or 0)
                self._open(is_gray=image.ndim == 2)
            if time_seconds is None:
                tick = self.num_frames * self._ticks_per_frame
            else:
                tick = round((Fraction(time_seconds) - self._first_time) / self._time_base)
            self._last_tick = max(tick, self._last_tick + 1)
            frame = self._make_frame(image)
            frame.pts, frame.time_base = self._last_tick, self._time_base
            self._encode(frame)
            if self._sound is not None:
                self._sound.write(self._last_tick * self._time_base)
        self.num_frames += 1

    def close(self) -> None:
        """Finishes the video and puts it under its name."""
        if self._container is None:
            self._abandon()
            raise ValueError(f"{self.path}: no picture was written")
        with self._cleaning_up():
            self._encode(None)
            if self._sound is not None:
                self._sound.write((self._last_tick + self._ticks_per_frame) * self._time_base)
                self._sound.finish()
            self._container.close()
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon()

    @contextlib.contextmanager
    def _cleaning_up(self) -> Iterator[None]:
        """Leaves no file if the block fails, and says in one line why the file cannot be written."""
        try:
            yield
        except BaseException as error:
            self._abandon()
            if isinstance(error, OSError | av.error.FFmpegError):
                raise StavisError(f"{self.path} cannot be written: {reason(error)}") from error
            raise

    def _abandon(self) -> None:
        if self._container is not None:
            with contextlib.suppress(OSError, av.error.FFmpegError):
                self._container.close()
        # The temporary file goes when its block is left by an error.
        abandoned = RuntimeError("abandoned")
        with contextlib.suppress(RuntimeError):
            self._stack.__exit__(RuntimeError, abandoned, None)

    def _open(self, *, is_gray: bool) -> None:
        suffix = self.path.suffix.lower()
        codec = _CONTAINERS[suffix][0]
        # An index at the front lets a video play while it loads.
        options = {} if suffix in (".mkv", ".webm") else {"movflags": "+faststart"}
        self._container = av.open(f"file:{self._temporary}", mode="w", container_options=options)
        crf = self._crf if self._crf is not None else 12 if is_gray else 18
        stream = self._container.add_stream(codec, rate=self.frame_rate, options=_encoder_options(codec, crf))
        assert isinstance(stream, VideoStream)
        multiple = 2 if self._pixel_format == "yuv420p" else 1
        stream.width = -(-self.width // multiple) * multiple
        stream.height = -(-self.height // multiple) * multiple
        stream.pix_fmt = self._pixel_format
        context = stream.codec_context
        context.time_base = self._time_base
        context.color_range = _LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        self._stream = stream
        self._reformatter = VideoReformatter()
        if self._track is not None:
            self._sound = add_sound(self._container, self._track, suffix, self._first_time)

    def _make_frame(self, image: npt.NDArray[np.uint8]) -> VideoFrame:
        width, height = self._stream.width, self._stream.height
        if image.shape[:2] != (height, width):
            padding = [(0, height - self.height), (0, width - self.width), (0, 0)]
            image = np.pad(image, padding[: image.ndim], mode="edge")
        if image.ndim == 3:
            frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), "rgb24")
            return self._reformatter.reformat(
                frame,
                format=self._pixel_format,
                dst_colorspace=_BT709,
                dst_color_range=_LIMITED_RANGE,
                interpolation="BICUBIC",
                threads=1,
            )
        num_rows = 3 * height // 2 if self._pixel_format == "yuv420p" else 3 * height
        planes: npt.NDArray[np.uint8] = np.full((num_rows, width), 128, np.uint8)
        planes[:height] = _LUMA_OF_GRAY[image]
        if self._pixel_format == "yuv444p":
            planes = planes.reshape(3, height, width)
        return VideoFrame.from_ndarray(planes, self._pixel_format)

    def _encode(self, frame: VideoFrame | None) -> None:
        assert self._container is not None
        for packet in self._stream.encode(frame):
            packet.duration = self._ticks_per_frame  # how long the last picture is shown, nothing else tells
            self._container.mux(packet)


def _encoder_options(codec: str, crf: int) -> dict[str, str]:
    if codec == "libx264":
        # To look ahead by ten pictures, and to have three B-frames in a row to choose from, it would hold 80 MB more at
        # 1080p, for files that are hardly smaller.
        return {"crf": str(crf), "preset": "veryfast", "rc-lookahead": "1", "bf": "1"}
    # VP9's scale ends at 63; a bit rate of 0 makes the quality constant.
    return {"crf": str(crf * 63 // 51), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}


def add_sound(container: OutputContainer, track: SoundTrack, suffix: str, first_time: Fraction) -> "Sound":
    """Adds the audio of a video whose first picture is shown at `first_time`: copied where possible, else encoded."""
    _, codec, copied_codecs = _CONTAINERS[suffix]
    if first_time == 0 and track.stream.codec_context.name in copied_codecs:
        return _CopiedSound(container, track)
    return _EncodedSound(container, track, codec, first_time)


class Sound(Protocol):
    """The sound of a video that is being written."""

    def write(self, end: Fraction) -> None:
        """Writes what lies before `end`, in seconds since the video's beginning."""

    def finish(self) -> None:
        """Writes what the encoder still holds."""


class _CopiedSound:
    """Sound whose packets are taken as they are, for a video that begins at the sound's zero."""

    def __init__(self, container: OutputContainer, track: SoundTrack) -> None:
        self._container = container
        self._zero = track.zero
        self._packets = track.packets()
        self._stream = container.add_stream_from_template(track.stream)
        self._next = next(self._packets, None)

    def write(self, end: Fraction) -> None:
        while (packet := self._next) is not None:
            assert packet.pts is not None
            begin = packet.pts * packet.time_base - self._zero
            if begin >= end:
                return
            if begin >= -_PRE_ROLL_SECONDS:
                packet.pts -= round(self._zero / packet.time_base)
                packet.dts = packet.pts
                packet.stream = self._stream
                self._container.mux(packet)
            self._next = next(self._packets, None)

    def finish(self) -> None:
        pass


class _EncodedSound:
    """Sound that is encoded anew, from the first picture's time on. More than two channels become one."""

    def __init__(
        self, container: OutputContainer, track: SoundTrack, codec: str, first_time: Fraction
    ) -> None:
        self._container = container
        self._sample_rate = track.sample_rate if track.sample_rate in _SAMPLE_RATES[codec] else 48000
        self._num_channels = 2 if track.stream.codec_context.layout.nb_channels == 2 else 1
        stream = container.add_stream(codec, rate=self._sample_rate, options={"b": str(_AUDIO_BIT_RATE)})
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = "stereo" if self._num_channels == 2 else "mono"
        stream.codec_context.time_base = Fraction(1, self._sample_rate)
        self._stream = stream
        first = round(first_time * self._sample_rate)
        begin, self._blocks = track.blocks(self._sample_rate, first, self._mix)
        self._rest = np.zeros((self._num_channels, 0), np.float32)
        self._position = begin - first  # of the rest's first sample, counted from the video's beginning

    def _mix(self, frame: AudioFrame) -> npt.NDArray[np.float32]:
        if self._num_channels == frame.layout.nb_channels:
            return to_channels(frame)
        return np.repeat(mix_to_mono(frame), self._num_channels, axis=0)

    def write(self, end: Fraction) -> None:
        stop = round(end * self._sample_rate)
        while self._position < stop:
            if self._rest.shape[1] == 0:
                block = next(self._blocks, None)
                if block is None:
                    return
                self._rest = block
            if self._position < 0:
                self._take(-self._position)
            elif (samples := self._take(stop - self._position)).shape[1]:
                frame = make_frame(samples, self._sample_rate)
                frame.pts = self._position - samples.shape[1]
                frame.time_base = Fraction(1, self._sample_rate)
                self._container.mux(self._stream.encode(frame))

    def _take(self, num: int) -> npt.NDArray[np.float32]:
        taken, self._rest = self._rest[:, :num], self._rest[:, num:]
        self._position += taken.shape[1]
        return taken

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
