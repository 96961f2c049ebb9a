"""Decoding of an audio stream, with each sample at its place on the clock of the video."""

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from stavis.errors import StavisError
from stavis.media import image_folder
from stavis.media.container import (
    count_damaged,
    describe_audio,
    find_audio_stream,
    is_cover_art,
    logger,
    open_container,
    reason,
)
from stavis.media.frames import VideoDecoder
from stavis.media.gaps import GapCloser

Samples = npt.NDArray[np.float32]

# Downmix of surround sound by ITU-R BS.775; all rear, side and height channels count as surround channels.
_CHANNEL_WEIGHTS = {"FC": 1.0, "FL": 0.5**0.5, "FR": 0.5**0.5, "LFE": 0.0, "LFE2": 0.0}

# Audio time stamps are rounded, in AVI to a whole packet. Only a larger deviation from the count of samples is real.
_LARGEST_ROUNDING_SECONDS = Fraction(1, 10)
# Decoding begins this much before an excerpt, as decoders and resamplers need a run-up.
_RUN_UP_SECONDS = 1
_LAYOUTS = {1: "mono", 2: "stereo"}  # by the number of channels
_SILENCE_CHUNK = 65536  # samples
# Channels cancel where their mix has less than this share of their power and they are above -60 dB of full scale.
_CANCELED_SHARE = 0.01
_AUDIBLE_POWER = 1e-6
_LONGEST_CANCELED_SECONDS = 5.0  # before it is reported, or a tenth of the audio


def open_sound(
    path: Path, index: int | None, *, keep_gaps: bool = False, warn: bool = True
) -> "SoundTrack | None":
    """Opens the audio of a file or image folder. Returns None if there is none or (with a warning) none can be decoded.

    Raises StavisError if the file cannot be read or has no audio stream `index`.
    """
    if path.is_dir():
        wave_path = image_folder.find_wave(path)
        if wave_path is None:
            if index is not None:
                raise StavisError(f"{path} has no WAV file, so no audio stream {index}")
            return None
        path = wave_path
    container = open_container(path)
    try:
        stream = find_audio_stream(container, path, index)
        if stream is None:
            container.close()
            return None
        why = "FFmpeg does not know its codec"
        if stream.codec_context is not None:
            gaps = GapCloser(path, stream, keep_gaps=keep_gaps)
            frames = _decode(container, stream, path, gaps)
            for first in frames:
                if first is not None:
                    zero, others_frame = _find_zero(path, container, first)
                    return SoundTrack(path, index, container, stream, zero, others_frame, first, frames, gaps)
            why = "no frame in it can be decoded"
        if warn:
            logger.warning("%s: the audio (%s) is taken as silence: %s", path, describe_audio(stream), why)
    except BaseException:
        container.close()
        raise
    container.close()
    return None


def _find_zero(path: Path, container: InputContainer, first: AudioFrame) -> tuple[Fraction, Fraction]:
    """Returns the time of the first video frame on the clock of the file, or of an audio file, when the audio begins.

    The second value is the duration of a video frame, 0 if there is none.
    """
    if any(not is_cover_art(stream) for stream in container.streams.video):
        try:
            with VideoDecoder(path) as decoder:
                return decoder.first_stamp, 1 / decoder.frame_rate
        except StavisError:  # frames that cannot be decoded have no time
            pass
    return _stamp(first) or Fraction(0), Fraction(0)


def _stamp(frame: AudioFrame) -> Fraction | None:
    """Returns when the frame begins, in seconds on the clock of the file."""
    if frame.pts is None or frame.time_base is None:
        return None
    stamp: Fraction = frame.pts * frame.time_base
    return stamp


def _decode(
    container: InputContainer, stream: AudioStream, path: Path, gaps: GapCloser
) -> Iterator[AudioFrame | None]:
    """Yields the frames of a stream, and None for packets that cannot be decoded."""
    num_damaged = 0
    why = ""
    try:
        for packet in container.demux():
            if packet.stream.index != stream.index:
                if packet.stream.type == "video" and packet.pts is not None:
                    gaps.follow(packet.pts * packet.time_base)
                continue
            try:
                yield from cast("Packet[AudioStream]", packet).decode()
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError) as error:
                num_damaged += 1
                why = reason(error)
                yield None
    except av.error.FFmpegError as error:
        num_damaged += 1
        why = reason(error)
    finally:
        if num_damaged:
            message = "%s: in the audio %s skipped and replaced by silence (%s)"
            logger.warning(message, path, count_damaged(num_damaged), why)


class SoundTrack:
    """Decoder of an audio stream.

    Attributes:
        path: The file.
        stream: The stream.
        sample_rate: Sample rate of the stream in Hz.
        zero: Time of the first video frame, from which samples are counted, in seconds on the clock of the file.
    """

    def __init__(
        self,
        path: Path,
        index: int | None,
        container: InputContainer,
        stream: AudioStream,
        zero: Fraction,
        others_frame: Fraction,
        first: AudioFrame,
        frames: Iterator[AudioFrame | None],
        gaps: GapCloser,
    ) -> None:
        self.path = path
        self.stream = stream
        self.sample_rate = first.sample_rate
        self.zero = zero
        self._others_frame = others_frame  # duration in seconds
        self._gaps = gaps
        self._index = index
        self._container = container
        self._frames: Iterator[AudioFrame | None] = itertools.chain([first], frames)

    def close(self) -> None:
        self._frames = iter(())
        self._container.close()

    def reopen(self) -> None:
        self._container.close()
        self._container = open_container(self.path)
        stream = find_audio_stream(self._container, self.path, self._index)
        assert stream is not None
        self.stream = stream
        self._gaps = self._gaps.restart(stream)
        self._frames = _decode(self._container, stream, self.path, self._gaps)

    def packets(self) -> Iterator["Packet[AudioStream]"]:
        """Returns the packets from the beginning, not decoded."""
        self.reopen()
        return (
            packet for packet in self._container.demux(self.stream) if packet.size and packet.pts is not None
        )

    def count_samples(self, sample_rate: int) -> int | None:
        """Returns the number of samples at `sample_rate` from `zero` to the end of the audio given in the header."""
        if not self.stream.duration or not self.stream.time_base:
            return None
        end = ((self.stream.start_time or 0) + self.stream.duration) * self.stream.time_base - self.zero
        return max(0, math.ceil(end * sample_rate))

    def blocks(
        self, sample_rate: int, first: int, mix: Callable[[AudioFrame], Samples]
    ) -> tuple[int, Iterator[Samples]]:
        """Returns the first sample of the first block, and consecutive blocks (channels, samples) at `sample_rate`.

        They start some way before sample `first`. `mix` converts a frame to (channels, samples), always with the same
        number of channels, one or two.
        """
        # The resampler starts where samples of both rates coincide.
        divisor = math.gcd(sample_rate, self.sample_rate)
        own_step, step = self.sample_rate // divisor, sample_rate // divisor
        num_steps = max(0, first - _RUN_UP_SECONDS * sample_rate) // step
        if num_steps and not self._seek(num_steps * own_step):
            num_steps = 0
        blocks = self._place(num_steps * own_step, mix)
        if sample_rate != self.sample_rate:
            blocks = _resample(blocks, self.sample_rate, sample_rate)
        return num_steps * step, blocks

    def _seek(self, first: int) -> bool:
        """Seeks to where sample `first` can be decoded. If impossible, returns to the beginning and returns False."""
        target = self.zero + Fraction(first, self.sample_rate)
        wanted = target - _RUN_UP_SECONDS
        if wanted <= self.zero or self.stream.time_base is None or not self._is_seekable(target):
            return False
        try:
            self._container.seek(int(wanted / self.stream.time_base), stream=self.stream)
            self._gaps = self._gaps.restart(self.stream)
            frames = _decode(self._container, self.stream, self.path, self._gaps)
            frame = next((frame for frame in frames if frame is not None), None)
            stamp = None if frame is None else _stamp(frame)
            if stamp is not None and stamp <= target:
                self._frames = itertools.chain([frame], frames)
                return True
        except av.error.FFmpegError:
            pass
        self.reopen()
        return False

    def _is_seekable(self, target: Fraction) -> bool:
        # Without an index, FFmpeg finds a place in MP3 by the bit rate, which is seldom constant, and times are wrong.
        is_guessed = self._container.format.name == "mp3"
        return not is_guessed and not any(begin < target for begin, _ in self._gaps.indexed())

    def _place(self, first: int, mix: Callable[[AudioFrame], Samples]) -> Iterator[Samples]:
        """Yields the samples from `first` on at their places. Gaps between time stamps are filled with zeros.

        Time stamps may deviate from the count of samples by rounding. Where they deviate more, they are right if they
        ascend: ahead of the count there is a gap; behind it the recorder's clock was fast, and samples are skipped.
        Time stamps that step back (joined recordings) continue from the count.
        """
        rates = _RateConverter(self.sample_rate)
        tolerance = int(_LARGEST_ROUNDING_SECONDS * self.sample_rate)
        position = first  # of the next sample to give out
        expected: int | None = None  # begin of the next frame if it follows the last one without a gap
        correction = 0  # of time stamps that have stepped back
        last_stamp: Fraction | None = None
        for frame in self._frames:
            if frame is None:
                expected = None
                continue
            stamp = _stamp(frame)
            if stamp is None:
                begin = position if expected is None else expected
            else:
                duration = Fraction(frame.samples, frame.sample_rate)
                placed = self._gaps.place(stamp, duration, self._others_frame) - self.zero
                begin = round(placed * self.sample_rate) + correction
                steps_back = last_stamp is not None and stamp <= last_stamp
                if expected is not None and abs(begin - expected) <= tolerance:
                    begin = expected
                elif expected is not None and begin < expected and steps_back:
                    correction += expected - begin
                    begin = expected
                last_stamp = stamp
            samples = rates.convert(mix(frame), frame.sample_rate)
            expected = begin + samples.shape[1]
            while position < begin:
                num = min(begin - position, _SILENCE_CHUNK)
                yield np.zeros((len(samples), num), np.float32)
                position += num
            if expected > position:
                yield samples[:, position - begin :]
                position = expected


class _RateConverter:
    """Converts frames to one sample rate, for streams whose sample rate changes."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._resamplers: dict[int, AudioResampler] = {}

    def convert(self, samples: Samples, sample_rate: int) -> Samples:
        if sample_rate == self._sample_rate:
            return samples
        layout = _LAYOUTS[len(samples)]
        resampler = self._resamplers.setdefault(
            sample_rate, AudioResampler("fltp", layout, self._sample_rate)
        )
        parts = [part.to_ndarray() for part in resampler.resample(make_frame(samples, sample_rate))]
        return np.concatenate([np.zeros((len(samples), 0), np.float32), *parts], axis=1)


def mix_to_mono(frame: AudioFrame) -> Samples:
    """Returns (1, samples) in -1..1, mixed as described in `AudioReader`."""
    return _mix(to_channels(frame), frame.layout)


def _mix(channels: Samples, layout: AudioLayout) -> Samples:
    if len(channels) > 1:
        weights = _channel_weights(layout)
        channels = channels.mean(axis=0, dtype=np.float32) if weights is None else weights @ channels
    return channels.reshape(1, -1)


class MonoMixer:
    """Mixes frames to one channel, or picks a channel where it exists, and watches for channels that cancel each other.

    Attributes:
        cancels: Whether the mix was nearly silent for a tenth of the audio, or five seconds, while a channel was not.
    """

    def __init__(self, channel: int | None = None) -> None:
        self._channel = channel
        self._audible_seconds = 0.0
        self._canceled_seconds = 0.0

    def __call__(self, frame: AudioFrame) -> Samples:
        if frame.layout.nb_channels == 1:
            return mix_to_mono(frame)
        channels = to_channels(frame)
        if self._channel is not None and self._channel < len(channels):
            return channels[self._channel : self._channel + 1]
        mono = _mix(channels, frame.layout)
        power = max(float(np.vdot(samples, samples)) for samples in channels) / max(1, channels.shape[1])
        if power > _AUDIBLE_POWER:
            seconds = channels.shape[1] / frame.sample_rate
            self._audible_seconds += seconds
            if float(np.vdot(mono, mono)) < _CANCELED_SHARE * power * channels.shape[1]:
                self._canceled_seconds += seconds
        return mono

    @property
    def cancels(self) -> bool:
        least = min(_LONGEST_CANCELED_SECONDS, 0.1 * self._audible_seconds)
        return self._canceled_seconds > 0 and self._canceled_seconds >= least


def _channel_weights(layout: AudioLayout) -> Samples | None:
    """Returns the weights of surround channels, None for up to two channels and unknown positions."""
    names = [channel.name for channel in layout.channels]
    if len(names) <= 2 or not {"FL", "FR"} <= set(names):
        return None
    weights = np.array([_CHANNEL_WEIGHTS.get(name, 0.5) for name in names])
    normalized: Samples = (weights / weights.sum()).astype(np.float32)
    return normalized


def to_channels(frame: AudioFrame) -> Samples:
    """Returns (channels, samples), clipped to -1..1."""
    values: npt.NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return ((values.astype(np.float64) - 128) / 128).astype(np.float32)
    if np.issubdtype(values.dtype, np.integer):
        return (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    clipped: Samples = np.clip(np.nan_to_num(values, nan=0.0), -1.0, 1.0).astype(np.float32, copy=False)
    return clipped


def make_frame(samples: Samples, sample_rate: int) -> AudioFrame:
    """Makes an FFmpeg frame of (channels, samples)."""
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", _LAYOUTS[len(samples)])
    frame.sample_rate = sample_rate
    return frame


def _resample(blocks: Iterator[Samples], rate: int, new_rate: int) -> Iterator[Samples]:
    """Yields blocks at `new_rate`. The first samples at both rates coincide."""
    resampler: AudioResampler | None = None
    num_in = num_out = 0
    for block in itertools.chain(blocks, [None]):
        frame = None
        if block is not None:
            num_in += block.shape[1]
            frame = make_frame(block, rate)
            resampler = resampler or AudioResampler("fltp", _LAYOUTS[len(block)], new_rate)
        for out in resampler.resample(frame) if resampler else []:
            samples = np.clip(out.to_ndarray(), -1.0, 1.0).astype(np.float32, copy=False)
            if block is None:  # the filter rings beyond the end of the audio
                samples = samples[:, : max(0, -(-num_in * new_rate // rate) - num_out)]
            num_out += samples.shape[1]
            yield samples
