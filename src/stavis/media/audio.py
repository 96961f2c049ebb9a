"""The sound of a video as one channel on the video's clock, and waves."""

import itertools
import math
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
from stavis.files import atomic_path
from stavis.media import image_folder
from stavis.media.container import (
    describe_audio,
    find_audio_stream,
    is_cover_art,
    logger,
    open_container,
    reason,
)
from stavis.media.frames import VideoDecoder
from stavis.preprocess import SAMPLE_RATE

Samples = npt.NDArray[np.float32]

# ITU-R BS.775's downmix of surround sound, where every channel at the rear, the side or above counts as a surround.
_CHANNEL_WEIGHTS = {"FC": 1.0, "FL": 0.5**0.5, "FR": 0.5**0.5, "LFE": 0.0, "LFE2": 0.0}

# Time stamps of sound are rounded, in AVI to a whole packet. Only a larger jump is a gap.
_LARGEST_ROUNDING_SECONDS = Fraction(1, 10)
# Decoding begins this much before the start of an excerpt, as decoders and resamplers need a run-up.
_RUN_UP_SECONDS = 1
_LAYOUTS = {1: "mono", 2: "stereo"}  # by the number of channels
_SILENCE_CHUNK = 65536  # samples


class AudioReader:
    """The sound of a video, mixed to one channel, read in windows that move on.

    Sample k lies k / sample_rate seconds after the instant at which the video's first frame is shown, whenever its
    sound begins. Where there is no sound, and in a video without any, samples are 0. Sound is decoded as the windows
    move on and forgotten behind them.

    Two channels are mixed to their mean. Of surround sound the centre counts 1, front left and right 0.71, the others
    0.5 and the low-frequency channel 0, divided by their sum; several channels of unknown position give their mean.

    Args:
        path: Anything that FFmpeg reads, sound files included, or a folder of numbered images with a wave.
        stream: Which of the audio streams, from 0; FFmpeg's default where it is not given.
        sample_rate: In Hz. None: the sound's own, so that nothing is resampled.
        start_seconds: Sample 0 lies this much later.

    Attributes:
        sample_rate: In Hz. Of a video without sound the rate that was asked for, or 22050.
        has_sound: Whether there is a sound track that can be decoded. It may still hold nothing but silence.
        num_samples: How many samples lie between sample 0 and the end of the sound: exactly for a wave, by the header's
            duration for compressed sound, 0 without sound, None where the header does not tell.

    Raises:
        StavisError: The file cannot be read or has no such stream. Sound that cannot be decoded is not an error but a
            warning of the logger "stavis".
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        stream: int | None = None,
        sample_rate: int | None = SAMPLE_RATE,
        start_seconds: float = 0.0,
    ) -> None:
        if sample_rate is not None and sample_rate <= 0:
            raise ValueError(f"sample_rate is {sample_rate}; it must be above 0")
        self.sample_rate = sample_rate or SAMPLE_RATE
        self.has_sound = False
        self.num_samples: int | None = 0
        self._track: SoundTrack | None = None
        self._blocks: Iterator[Samples] = iter(())
        self._buffer = np.zeros(0, np.float32)
        self._last_start: int | None = None
        self._track = open_sound(Path(path), stream)
        if self._track is not None:
            self.has_sound = True
            self.sample_rate = sample_rate or self._track.sample_rate
        # Sample 0 of an excerpt is a sample of the whole sound, so that both hold the same samples.
        self._shift = round(start_seconds * self.sample_rate)
        self._position = self._shift  # of the buffer's first sample
        if self._track is not None:
            self.num_samples = self._track.count_samples(self.sample_rate)
            if self.num_samples is not None:
                self.num_samples = max(0, self.num_samples - self._shift)
            self._position, blocks = self._track.blocks(self.sample_rate, self._shift, mix_to_mono)
            self._blocks = (block[0] for block in blocks)

    def read(self, start: int, stop: int) -> Samples:
        """The samples from `start` on, `stop` excluded, in -1..1; zeros before, behind and without the sound.

        Args:
            start: Not before the `start` of the last call.
            stop: Not before `start`.

        Returns:
            (stop - start,) mono.
        """
        if stop < start:
            raise ValueError(
                f"samples {start} to {stop} are asked for; the end must not lie before the start"
            )
        if self._last_start is not None and start < self._last_start:
            raise ValueError(f"samples from {start} on are asked for after those from {self._last_start} on")
        self._last_start = start
        begin, end = start + self._shift, stop + self._shift
        self._forget(begin)
        parts = [self._buffer]
        buffered = self._position + len(self._buffer)
        while buffered < end and (block := next(self._blocks, None)) is not None:
            buffered += len(block)
            if buffered <= begin:
                parts = []
                self._position = buffered
            else:
                parts.append(block)
        self._buffer = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, np.float32)])
        self._forget(begin)
        window = np.zeros(stop - start, np.float32)
        offset = self._position - begin  # above 0 only before the sound
        part = self._buffer[: max(0, len(window) - offset)]
        if len(part):
            window[offset : offset + len(part)] = part
        return window

    def _forget(self, begin: int) -> None:
        num = min(max(0, begin - self._position), len(self._buffer))
        self._buffer = self._buffer[num:]
        self._position += num

    def close(self) -> None:
        """Frees the decoder. Afterwards there is nothing to read."""
        self._blocks = iter(())
        self._buffer = np.zeros(0, np.float32)
        if self._track is not None:
            self._track.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
                "%s: %d damaged packets of the sound were skipped and are silent (%s)", path, num_damaged, why
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
    normalised: Samples = (weights / weights.sum()).astype(np.float32)
    return normalised


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


def read_wave(path: str | PathLike[str]) -> tuple[Samples, int]:
    """Reads a sound file whole, at its own rate. Of a wave of 8, 16 or 24 bits or floats every bit is kept.

    Args:
        path: A wave, or anything else with sound that FFmpeg reads.

    Returns:
        (S,) in -1..1, several channels mixed to one as `AudioReader` does; and the sample rate in Hz.

    Raises:
        StavisError: There is no sound in it that could be decoded.
    """
    path = Path(path)
    track = _open_track(path, None, warn=False)
    if track is None:
        raise StavisError(f"{path} has no sound that can be decoded")
    _, blocks = track.blocks(track.sample_rate, 0, mix_to_mono)
    samples = np.concatenate([np.zeros((1, 0), np.float32), *blocks], axis=1)[0]
    track.close()
    return samples, track.sample_rate


def write_wave(path: str | PathLike[str], samples: Samples, sample_rate: int) -> None:
    """Writes a wave of one channel and 16 bits, whole or not at all.

    Args:
        path: Of the wave.
        samples: (S,) in -1..1; what lies outside is clipped.
        sample_rate: In Hz.

    Raises:
        StavisError: The file cannot be written.
    """
    path = Path(path)
    if samples.ndim != 1:
        raise ValueError(f"samples have shape {samples.shape}; one dimension is allowed")
    values = np.clip(np.round(samples.astype(np.float64) * 32768), -32768, 32767).astype("<i2")
    try:
        with atomic_path(path) as temporary, wave.open(str(temporary), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            file.writeframes(values.tobytes())
    except OSError as error:
        raise StavisError(f"{path} cannot be written: {reason(error)}") from error
