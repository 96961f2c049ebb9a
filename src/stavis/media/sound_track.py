"""Decoding an audio stream, every sample at its place on the video's clock."""

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

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

Samples = npt.NDArray[np.float32]

# ITU-R BS.775's downmix of surround sound, where every channel at the rear, the side or above counts as a surround.
_CHANNEL_WEIGHTS = {"FC": 1.0, "FL": 0.5**0.5, "FR": 0.5**0.5, "LFE": 0.0, "LFE2": 0.0}

# Time stamps of sound are rounded, in AVI to a whole packet. Only a larger jump is a gap.
_LARGEST_ROUNDING_SECONDS = Fraction(1, 10)
# Decoding begins this much before the start of an excerpt, as decoders and resamplers need a run-up.
_RUN_UP_SECONDS = 1
_LAYOUTS = {1: "mono", 2: "stereo"}  # by the number of channels
_SILENCE_CHUNK = 65536  # samples


def open_sound(path: Path, index: int | None, *, warn: bool = True) -> "SoundTrack | None":
    """The sound of a file or image folder, None where there is none or, with a warning, none that can be decoded.

    Raises:
        StavisError: The file cannot be read or has no audio stream `index`.
    """
    if path.is_dir():
        wave_path = image_folder.find_wave(path)
        if wave_path is None:
            if index is not None:
                raise StavisError(f"{path} has no wave, so no audio stream {index}")
            return None
        path = wave_path
    return _open_track(path, index, warn=warn)


def _open_track(path: Path, index: int | None, *, warn: bool) -> "SoundTrack | None":
    container = open_container(path)
    try:
        stream = find_audio_stream(container, path, index)
        if stream is None:
            container.close()
            return None
        why = "its codec is unknown"
        if stream.codec_context is not None:
            frames = _decode(container, stream, path)
            for first in frames:
                if first is not None:
                    zero = _find_zero(path, container, first)
                    return SoundTrack(path, index, container, stream, zero, first, frames)
            why = "no frame in it can be decoded"
        if warn:
            logger.warning(
                "%s: the sound (%s) is taken as silence, for %s", path, describe_audio(stream), why
            )
    except BaseException:
        container.close()
        raise
    container.close()
    return None


def _find_zero(path: Path, container: InputContainer, first: AudioFrame) -> Fraction:
    """When the video's first picture is shown, on the file's own clock; of a sound file, when the sound begins."""
    if any(not is_cover_art(stream) for stream in container.streams.video):
        try:
            with VideoDecoder(path) as decoder:
                return decoder.first_stamp
        except StavisError:  # pictures that cannot be decoded have no time
            pass
    return _stamp(first) or Fraction(0)


def _stamp(frame: AudioFrame) -> Fraction | None:
    """When the frame begins, in seconds on the file's own clock."""
    if frame.pts is None or frame.time_base is None:
        return None
    stamp: Fraction = frame.pts * frame.time_base
    return stamp


def _decode(container: InputContainer, stream: AudioStream, path: Path) -> Iterator[AudioFrame | None]:
    """The stream's frames; None where a packet could not be decoded."""
    num_damaged = 0
    why = ""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
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
            logger.warning(
                "%s: of the sound %s skipped, they are silent (%s)", path, count_damaged(num_damaged), why
            )


class SoundTrack:
    """An audio stream being decoded.

    Attributes:
        stream: The stream.
        sample_rate: Of the stream, in Hz.
        zero: The instant from which samples are counted, that of the video's first picture, in seconds on the file's
            own clock.
    """

    def __init__(
        self,
        path: Path,
        index: int | None,
        container: InputContainer,
        stream: AudioStream,
        zero: Fraction,
        first: AudioFrame,
        frames: Iterator[AudioFrame | None],
    ) -> None:
        self.stream = stream
        self.sample_rate = first.sample_rate
        self.zero = zero
        self._path = path
        self._index = index
        self._container = container
        self._frames: Iterator[AudioFrame | None] = itertools.chain([first], frames)

    def close(self) -> None:
        self._frames = iter(())
        self._container.close()

    def reopen(self) -> None:
        """Goes back to the beginning."""
        self._container.close()
        self._container = open_container(self._path)
        stream = find_audio_stream(self._container, self._path, self._index)
        assert stream is not None
        self.stream = stream
        self._frames = _decode(self._container, stream, self._path)

    def packets(self) -> Iterator["Packet[AudioStream]"]:
        """The packets from the beginning, not decoded."""
        self.reopen()
        return (
            packet for packet in self._container.demux(self.stream) if packet.size and packet.pts is not None
        )

    def count_samples(self, sample_rate: int) -> int | None:
        """How many samples at `sample_rate` lie between `zero` and the sound's end, as the header says."""
        if not self.stream.duration or not self.stream.time_base:
            return None
        end = ((self.stream.start_time or 0) + self.stream.duration) * self.stream.time_base - self.zero
        return max(0, math.ceil(end * sample_rate))

    def blocks(
        self, sample_rate: int, first: int, mix: Callable[[AudioFrame], Samples]
    ) -> tuple[int, Iterator[Samples]]:
        """Samples at `sample_rate`, block after block without gaps, from some way before sample `first` on.

        Args:
            sample_rate: In Hz.
            first: A sample at that rate.
            mix: Makes of a frame (channels, samples), always of the same number of channels, one or two.

        Returns:
            The first block's first sample, and the blocks, (channels, samples).
        """
        # The resampler begins where samples of both rates coincide.
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
        """Goes to where sample `first` can be decoded; False, and back at the beginning, where that cannot be had."""
        target = self.zero + Fraction(first, self.sample_rate)
        wanted = target - _RUN_UP_SECONDS
        if wanted <= self.zero or self.stream.time_base is None:
            return False
        try:
            self._container.seek(int(wanted / self.stream.time_base), stream=self.stream)
            frames = _decode(self._container, self.stream, self._path)
            frame = next((frame for frame in frames if frame is not None), None)
            stamp = None if frame is None else _stamp(frame)
            if stamp is not None and stamp <= target:
                self._frames = itertools.chain([frame], frames)
                return True
        except av.error.FFmpegError:
            pass
        self.reopen()
        return False

    def _place(self, first: int, mix: Callable[[AudioFrame], Samples]) -> Iterator[Samples]:
        """The samples from `first` on, each at its place: gaps between time stamps are filled with zeros."""
        rates = _RateConverter(self.sample_rate)
        tolerance = int(_LARGEST_ROUNDING_SECONDS * self.sample_rate)
        position = first  # of the next sample to give out
        expected: int | None = None  # where the next frame begins if it follows the last without a gap
        correction = 0  # of time stamps that have stepped back
        for frame in self._frames:
            if frame is None:
                expected = None
                continue
            stamp = _stamp(frame)
            if stamp is None:
                begin = position if expected is None else expected
            else:
                begin = round((stamp - self.zero) * self.sample_rate) + correction
                if expected is not None and begin < expected - tolerance:
                    correction += expected - begin
                if expected is not None and begin <= expected + tolerance:
                    begin = expected
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
    """Brings the frames of streams that change their sample rate on the way to one rate."""

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
    """(1, samples) in -1..1; how channels are mixed, `AudioReader` says."""
    channels = to_channels(frame)
    if len(channels) > 1:
        weights = _channel_weights(frame.layout)
        channels = channels.mean(axis=0, dtype=np.float32) if weights is None else weights @ channels
    return channels.reshape(1, -1)


def _channel_weights(layout: AudioLayout) -> Samples | None:
    """The weights of the channels of surround sound, None for up to two channels and unknown positions."""
    names = [channel.name for channel in layout.channels]
    if len(names) <= 2 or not {"FL", "FR"} <= set(names):
        return None
    weights = np.array([_CHANNEL_WEIGHTS.get(name, 0.5) for name in names])
    normalized: Samples = (weights / weights.sum()).astype(np.float32)
    return normalized


def to_channels(frame: AudioFrame) -> Samples:
    """(channels, samples) in -1..1, clipped to that where the codec goes beyond."""
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
    """FFmpeg's frame of (channels, samples)."""
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", _LAYOUTS[len(samples)])
    frame.sample_rate = sample_rate
    return frame


def _resample(blocks: Iterator[Samples], rate: int, new_rate: int) -> Iterator[Samples]:
    """Blocks at `new_rate`, whose first sample coincides with the first at `rate`."""
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
            if block is None:  # the filter's last echo outlasts the sound
                samples = samples[:, : max(0, -(-num_in * new_rate // rate) - num_out)]
            num_out += samples.shape[1]
            yield samples
