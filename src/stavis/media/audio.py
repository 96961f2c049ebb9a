"""The sound of a video as one channel on the video's clock."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from stavis.clips.preprocess import SAMPLE_RATE
from stavis.media.sound_track import Samples, SoundTrack, mix_to_mono, open_sound


class AudioReader:
    """The sound of a video, mixed to one channel, read in windows that move on.

    Sample k lies k / sample_rate seconds after the instant at which the video's first frame is shown, whenever its
    sound begins. Where there is no sound, and in a video without any, samples are 0. Sound is decoded as the windows
    move on and forgotten behind them.

    Two channels are mixed to their mean. Of surround sound the center counts 1, front left and right 0.71, the others
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
