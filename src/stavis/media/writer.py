"""Video writer, which can take over the audio of another video."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path
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
from PIL import Image

from stavis.errors import StavisError
from stavis.media.container import logger, reason
from stavis.media.gaps import LONGEST_GAP_SECONDS
from stavis.media.image_folder import exact_frame_rate
from stavis.media.sound_track import SoundTrack, make_frame, mix_to_mono, open_sound, to_channels
from stavis.runtime.files import atomic_path
from stavis.storage.remote import as_path

# By container: encoders of video and audio, and decoders of audio whose packets may be copied.
_MP4 = "libx264", "aac", {"aac", "mp3", "mp3float", "ac3", "eac3", "alac"}
_CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MP4,
    ".mkv": ("libx264", "aac", {*_MP4[2], "flac", "opus", "libopus", "vorbis", "dca", "pcm_s16le"}),
    ".webm": ("libvpx-vp9", "libopus", {"opus", "libopus", "vorbis"}),
}
_PIXEL_FORMATS = ("yuv420p", "yuv444p")
_SAMPLE_RATES = {"aac": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), "libopus": (48000,)}
_AUDIO_BIT_RATE = 192_000
_LARGEST_SIDE = {"libx264": 16384, "libvpx-vp9": 65534}  # pixels
_TICKS_PER_SECOND = 90_000  # at least; finer than any of these containers stores
_LARGEST_TICKS_PER_SECOND = 10_000_000
LOWEST_RATE = Fraction(1, 1000)  # that encoders are told; times of frames are independent of it
LONGEST_DURATION = (1 << 31) - 1  # ticks of a frame in MP4
_PRE_ROLL_SECONDS = Fraction(1, 10)  # of copied audio before the first frame, for decoders to settle

# BT.709 in limited range at all sizes. The file says so, so that players need not guess.
BT709, LIMITED_RANGE = 1, 1
_LUMA_OF_GRAY = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)


class VideoWriter:
    """Writes a video frame by frame, atomically.

    The format depends on the suffix: .mp4, .m4v, .mov and .mkv contain H.264 and AAC, .webm contains VP9 and Opus.
    Colors are BT.709 in limited range. 4:2:0 requires even sizes, so the last column or row of an odd size is repeated.
    Frames larger than the encoder takes are scaled down. The video starts with its first frame and ends when its last
    frame has been shown for 1 / frame_rate; audio before and after is left out.

    Use it in a `with` block: the file appears when the block ends without an error. An error or interrupt while a frame
    is written gives the video up.

    Args:
        path: File to write.
        width, height: Size of the frames in pixels.
        frame_rate: Frames per second.
        audio_from: A video, audio file or image folder whose audio the video gets. Packets are copied if the container
            takes them and the video starts at their time 0; otherwise the audio is encoded anew. Without audio that
            can be decoded, the video has none.
        audio_stream: Index of the audio stream, from 0; FFmpeg's default if None.
        keep_gaps: Keep gaps of more than five minutes in the audio, see `stavis.media.gaps`.
        pixel_format: "yuv420p", which every player supports, or "yuv444p", which keeps color detail and odd sizes.
        crf: Quality of H.264 from 0 (lossless) to 51. Default: 18, or 12 if the first frame is gray.

    Raises:
        StavisError: The file cannot be written, its suffix is not supported, or `audio_from` cannot be read.
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
        keep_gaps: bool = False,
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
        self._ticks_per_frame = min(max(1, round(ticks_per_second / self.frame_rate)), LONGEST_DURATION)
        self._first_time = Fraction(0)
        self._last_tick = -1
        self._container: OutputContainer | None = None
        self._track: SoundTrack | None = None
        self._sound: Sound | None = None
        self._is_ended = False  # finished or given up; FFmpeg crashes if more is written then
        self._stack = contextlib.ExitStack()
        with self._cleaning_up():
            self._temporary = self._stack.enter_context(atomic_path(self.path))
        if audio_from is not None:
            with self._cleaning_up():
                # Readers of the audio warn if it cannot be decoded; here that would be said twice.
                self._track = open_sound(as_path(audio_from), audio_stream, keep_gaps=keep_gaps, warn=False)
            if self._track is not None:
                self._stack.callback(self._track.close)

    def write(self, image: npt.NDArray[np.uint8], time_seconds: float | Fraction | None = None) -> None:
        """Adds a frame.

        Args:
            image: (height, width, 3) RGB or (height, width) gray, uint8.
            time_seconds: When it is shown, on the clock of `audio_from`. The video starts at the time of its first
                frame; a time that is not after that of the last frame is moved behind it. Default: the frame rate.

        Raises:
            StavisError: The file cannot be written, for example because the disk is full.
            ValueError: The frame has another size or type, or the video is finished or was given up.
        """
        self._check_open()
        size = (self.height, self.width)
        if image.dtype != np.uint8 or image.shape not in (size, (*size, 3)):
            raise ValueError(
                f"a frame has shape {image.shape} and type {image.dtype}; expected uint8 of shape "
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
            tick = max(tick, self._last_tick + 1)
            check_gap(self.path, self._last_tick, tick, self._time_base)
            self._last_tick = tick
            frame = self._make_frame(image)
            frame.pts, frame.time_base = self._last_tick, self._time_base
            self._encode(frame)
            if self._sound is not None:
                self._sound.write(self._last_tick * self._time_base)
        self.num_frames += 1

    def close(self) -> None:
        """Finishes the video and moves it to its path.

        Raises ValueError if it has no frame, or is finished or was given up.
        """
        self._check_open()
        if self._container is None:
            self._abandon()
            raise ValueError(f"{self.path}: no frame was written")
        with self._cleaning_up():
            self._encode(None)
            if self._sound is not None:
                self._sound.write((self._last_tick + self._ticks_per_frame) * self._time_base)
                self._sound.finish()
            self._container.close()
            self._stack.close()
        self._is_ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon()

    def _check_open(self) -> None:
        if self._is_ended:
            raise ValueError(f"{self.path}: the video is finished, or was given up after an error")

    @contextlib.contextmanager
    def _cleaning_up(self) -> Iterator[None]:
        """Removes the file if the block fails, and converts errors of FFmpeg and the system to StavisError."""
        try:
            yield
        except BaseException as error:
            self._abandon()
            if isinstance(error, OSError | av.error.FFmpegError):
                raise StavisError(f"{self.path} cannot be written: {reason(error)}") from error
            raise

    def _abandon(self) -> None:
        self._is_ended = True
        if self._container is not None:
            with contextlib.suppress(OSError, av.error.FFmpegError):
                self._container.close()
        # Leaving its block with an error removes the temporary file.
        abandoned = RuntimeError("abandoned")
        with contextlib.suppress(RuntimeError):
            self._stack.__exit__(RuntimeError, abandoned, None)

    def _open(self, *, is_gray: bool) -> None:
        suffix = self.path.suffix.lower()
        codec = _CONTAINERS[suffix][0]
        # With the index at the front, a video plays while it loads.
        options = {} if suffix in (".mkv", ".webm") else {"movflags": "+faststart"}
        self._container = av.open(f"file:{self._temporary}", mode="w", container_options=options)
        crf = self._crf if self._crf is not None else 12 if is_gray else 18
        stream = self._container.add_stream(
            codec, rate=max(self.frame_rate, LOWEST_RATE), options=_encoder_options(codec, crf)
        )
        assert isinstance(stream, VideoStream)
        scale = min(Fraction(1), Fraction(_LARGEST_SIDE[codec], max(self.width, self.height)))
        self._size = max(1, int(self.width * scale)), max(1, int(self.height * scale))
        if scale < 1:
            text = "%s: frames of %dx%d are scaled to %dx%d, as the encoder takes at most %d pixels a side"
            logger.warning(text, self.path.name, self.width, self.height, *self._size, _LARGEST_SIDE[codec])
        multiple = 2 if self._pixel_format == "yuv420p" else 1
        stream.width, stream.height = (-(-length // multiple) * multiple for length in self._size)
        stream.pix_fmt = self._pixel_format
        context = stream.codec_context
        context.time_base = self._time_base
        context.color_range = LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = BT709
        self._stream = stream
        self._reformatter = VideoReformatter()
        if self._track is not None:
            self._sound = add_sound(self._container, self._track, suffix, self._first_time)

    def _make_frame(self, image: npt.NDArray[np.uint8]) -> VideoFrame:
        width, height = self._stream.width, self._stream.height
        if self._size != (self.width, self.height):
            image = np.asarray(Image.fromarray(image).resize(self._size, Image.Resampling.BICUBIC))
        if image.shape[:2] != (height, width):
            padding = [(0, height - self._size[1]), (0, width - self._size[0]), (0, 0)]
            image = np.pad(image, padding[: image.ndim], mode="edge")
        if image.ndim == 3:
            frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), "rgb24")
            return self._reformatter.reformat(
                frame,
                format=self._pixel_format,
                dst_colorspace=BT709,
                dst_color_range=LIMITED_RANGE,
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
            packet.duration = self._ticks_per_frame  # decides how long the last frame is shown
            self._container.mux(packet)


def check_gap(path: Path, last_tick: int, tick: int, time_base: Fraction) -> None:
    """Raises StavisError if a frame comes too long after the last one; `last_tick` is negative before the first."""
    if last_tick >= 0 and tick - last_tick > LONGEST_DURATION:
        gap, longest = float((tick - last_tick) * time_base), int(LONGEST_DURATION * time_base)
        raise StavisError(
            f"{path} cannot be written: two frames are {gap:.0f} s apart, and a video can hold {longest} s"
        )


def _encoder_options(codec: str, crf: int) -> dict[str, str]:
    if codec == "libx264":
        # Looking ahead by ten frames and choosing from three consecutive B-frames would take 80 MB more at 1080p, for
        # files that are hardly smaller.
        return {"crf": str(crf), "preset": "veryfast", "rc-lookahead": "1", "bf": "1"}
    # The scale of VP9 ends at 63; a bit rate of 0 makes the quality constant.
    return {"crf": str(crf * 63 // 51), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}


def add_sound(container: OutputContainer, track: SoundTrack, suffix: str, first_time: Fraction) -> "Sound":
    """Adds the audio of a video whose first frame is shown at `first_time`: copied if possible, else encoded anew."""
    _, codec, copied_codecs = _CONTAINERS[suffix]
    if first_time == 0 and track.stream.codec_context.name in copied_codecs:
        if _can_be_copied(track, container.format.name):
            return _CopiedSound(container, track)
        track.reopen()
    return _EncodedSound(container, track, codec, first_time)


class Sound(Protocol):
    """The audio of a video that is being written."""

    def write(self, end: Fraction) -> object:
        """Writes the audio before `end`, in seconds since the start of the video."""

    def finish(self) -> None:
        """Writes what the encoder still holds."""


class _Nowhere:
    """A file that forgets what is written to it."""

    def __init__(self) -> None:
        self._position = self._size = 0

    def write(self, data: bytes) -> int:
        self._position += len(data)
        self._size = max(self._size, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position


def _can_be_copied(track: SoundTrack, format_name: str) -> bool:
    """Whether a container takes all packets of a track, tried out on nothing, as an encoded video cannot be taken back.

    Time stamps that do not ascend or that leave a gap to be closed up, and codecs or sample rates that the format does
    not allow, need encoding anew.
    """
    try:
        with av.open(_Nowhere(), "w", format=format_name.split(",", maxsplit=1)[0]) as container:
            sound = _CopiedSound(container, track)
            return sound.write(Fraction(1 << 62)) and not sound.has_gap
    except (av.error.FFmpegError, ValueError, OverflowError):
        return False


class _CopiedSound:
    """Audio whose packets are copied, for a video that starts at the zero of the audio.

    Attributes:
        has_gap: Whether a time stamp so far does not follow the last one, or not for more than five minutes.
    """

    def __init__(self, container: OutputContainer, track: SoundTrack) -> None:
        self._container = container
        self._zero = track.zero
        self._packets = track.packets()
        self._stream = container.add_stream_from_template(track.stream)
        self._next = next(self._packets, None)
        self._last: Fraction | None = None
        self.has_gap = False

    def write(self, end: Fraction) -> bool:
        while (packet := self._next) is not None:
            assert packet.pts is not None
            begin = packet.pts * packet.time_base - self._zero
            if begin >= end:
                break
            if self._last is not None and not 0 < begin - self._last <= LONGEST_GAP_SECONDS:
                self.has_gap = True
            self._last = begin
            if begin >= -_PRE_ROLL_SECONDS:
                packet.pts -= round(self._zero / packet.time_base)
                packet.dts = packet.pts
                packet.stream = self._stream
                self._container.mux(packet)
            self._next = next(self._packets, None)
        return self._last is not None

    def finish(self) -> None:
        pass


class _EncodedSound:
    """Audio that is encoded anew, from the time of the first frame on. More than two channels become one."""

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
        self._position = begin - first  # of the first sample of the rest, counted from the start of the video

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
