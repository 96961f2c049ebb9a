"""Mono audio of a video on the clock of its frames."""

from collections.abc import Iterator
from os import PathLike
from typing import Self

import numpy as np

from stavis.clips.preprocess import SAMPLE_RATE
from stavis.errors import StavisError
from stavis.media.container import logger
from stavis.media.sound_track import MonoMixer, Samples, SoundTrack, open_sound
from stavis.storage.remote import as_path

_LARGEST_PADDING_SECONDS = 0.15  # by which decoded audio and its header may differ
_LONGEST_SEARCH_SECONDS = 30


class AudioReader:
    """Reader for the audio of a video, mixed to one channel, in windows that move forward.

    Sample k lies k / sample_rate seconds after the first frame is shown, whenever the audio begins. Where there is no
    audio, samples are 0. Audio is decoded as windows move forward and discarded behind them.

    Two channels are mixed to their mean. In surround sound the center has weight 1, front left and right 0.71, the
    others 0.5 and the low-frequency channel 0, divided by their sum; channels of unknown position are mixed to their
    mean. A warning is given when the reader is closed if the mix was nearly silent while a channel was not.

    Args:
        path: Any video or audio file that FFmpeg can read, or a folder of numbered images with a WAV file.
        stream: Index of the audio stream, from 0; FFmpeg's default if None.
        channel: Index of a channel to use alone, from 0; all are mixed if None.
        sample_rate: In Hz; None keeps the rate of the audio, so that it is not resampled.
        start_seconds: Time of sample 0.
        keep_gaps: Keep gaps of more than five minutes instead of closing them up, see `stavis.media.gaps`.

    Attributes:
        sample_rate: In Hz. Without audio, the requested rate or 22050.
        has_sound: Whether there is an audio stream that can be decoded. It may be silent throughout.
        num_samples: Number of samples between sample 0 and the end of the audio as given in the header, which is exact
            for WAV files. 0 without audio, None if the header does not give it. `find_end` gives the true end.

    Raises:
        StavisError: The file cannot be read or has no such stream or channel. Audio that cannot be decoded is not an
            error but a warning of the logger "stavis".
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        stream: int | None = None,
        channel: int | None = None,
        sample_rate: int | None = SAMPLE_RATE,
        start_seconds: float = 0.0,
        keep_gaps: bool = False,
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
        self._trusts_header = True
        self._mixer = MonoMixer(channel)
        self._is_finished = True
        self._track = open_sound(as_path(path), stream, keep_gaps=keep_gaps)
        if self._track is not None:
            self.has_sound = True
            self._is_finished = False
            num_channels = self._track.stream.codec_context.layout.nb_channels
            if channel is not None and not 0 <= channel < num_channels:
                self._track.close()
                raise StavisError(
                    f"{self._track.path} has no audio channel {channel}; its channels are 0 to {num_channels - 1}"
                )
            self.sample_rate = sample_rate or self._track.sample_rate
        # Sample 0 of an excerpt is a sample of the whole audio, so that both have the same samples.
        self._shift = round(start_seconds * self.sample_rate)
        self._position = self._shift  # of the buffer's first sample
        if self._track is not None:
            self.num_samples = self._track.count_samples(self.sample_rate)
            if self.num_samples is not None:
                self.num_samples = max(0, self.num_samples - self._shift)
            self._position, blocks = self._track.blocks(self.sample_rate, self._shift, self._mixer)
            self._blocks = (block[0] for block in blocks)

    def read(self, start: int, stop: int) -> Samples:
        """Reads samples `start` up to but excluding `stop`. They are 0 before and after the audio.

        `start` is not before that of the last call.

        Returns:
            (stop - start,) float32 in -1..1.
        """
        if stop < start:
            raise ValueError(f"samples {start} to {stop} are requested; the end must not be before the start")
        if self._last_start is not None and start < self._last_start:
            raise ValueError(f"samples from {start} on are requested after those from {self._last_start} on")
        self._last_start = start
        begin = start + self._shift
        self._fill(begin, stop + self._shift)
        window = np.zeros(stop - start, np.float32)
        offset = self._position - begin  # positive only before the audio
        part = self._buffer[: max(0, len(window) - offset)]
        if len(part):
            window[offset : offset + len(part)] = part
        return window

    def find_end(self, start: int, stop: int) -> int:
        """Finds the end of the audio, which the header can give wrong, by decoding up to the sample `stop`.

        What lies before `start`, the first sample of the window that is read next, is discarded. Returns the end if it
        is before `stop`, else `stop`. An end given in the header is kept if it is right within 0.15 s, as codecs pad
        the last packet.
        """
        tolerance = round(_LARGEST_PADDING_SECONDS * self.sample_rate)
        announced = self.num_samples if self._trusts_header else None
        look = stop if announced is None or stop <= announced else max(stop, announced + tolerance + 1)
        # A very slow video; too much to hold in memory.
        if stop - start > _LONGEST_SEARCH_SECONDS * self.sample_rate:
            return stop if announced is None else min(stop, announced)
        self._fill(start + self._shift, look + self._shift)
        if self._is_finished:
            end = max(0, self._position + len(self._buffer) - self._shift)
            return min(stop, end if announced is None or abs(end - announced) > tolerance else announced)
        if announced is not None and look > announced:
            self._trusts_header = False
            assert self._track is not None
            logger.warning("%s: the audio is longer than its header says; all is used", self._track.path)
        return stop

    def _fill(self, begin: int, end: int) -> None:
        """Decodes up to `end` and discards what lies before `begin`."""
        self._forget(begin)
        parts = [self._buffer]
        buffered = self._position + len(self._buffer)
        while buffered < end and not self._is_finished:
            block = next(self._blocks, None)
            if block is None:
                self._is_finished = True
                break
            buffered += len(block)
            if buffered <= begin:
                parts = []
                self._position = buffered
            else:
                parts.append(block)
        self._buffer = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, np.float32)])
        self._forget(begin)

    def _forget(self, begin: int) -> None:
        num = min(max(0, begin - self._position), len(self._buffer))
        self._buffer = self._buffer[num:]
        self._position += num

    def close(self) -> None:
        """Frees the decoder. Nothing can be read afterwards."""
        if self._mixer.cancels and self._track is not None:
            logger.warning(
                "%s: the mix of the audio channels is nearly silent although the channels are not: they cancel each "
                "other; `audio_channel=0` uses the first one alone",
                self._track.path,
            )
            self._mixer = MonoMixer()
        self._blocks = iter(())
        self._buffer = np.zeros(0, np.float32)
        if self._track is not None:
            self._track.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
