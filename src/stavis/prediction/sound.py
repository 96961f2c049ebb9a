"""Audio of a prediction: where it comes from and the excerpts of its windows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.clips import Window
from stavis.clips.preprocess import audio_excerpt
from stavis.model import STAViS
from stavis.prediction.options import PredictOptions


class Sound:
    """The audio excerpts of windows, None for a visual network, zeros where there is no sound."""

    def __init__(self, model: STAViS, info: media.VideoInfo, options: PredictOptions) -> None:
        self.preprocessing = model.config.preprocessing
        self.frame_rate = float(info.frame_rate)
        self.wanted = model.config.modality == "audiovisual"
        self.begin_seconds = options.start_seconds or 0.0
        self._reader: media.AudioReader | None = None
        self._earliest = 0
        source = options.audio_path or info.path
        has_sound = options.audio_path is not None or info.audio is not None
        if self.wanted and has_sound and not options.silent:
            native = options.quirks == "reference"
            self._reader = media.AudioReader(
                source,
                stream=None if options.audio_path else options.audio_stream,
                sample_rate=None if native else self.preprocessing.sample_rate,
                start_seconds=self.begin_seconds,
            )

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def excerpts(
        self, windows: Sequence[Window], time_seconds: Callable[[int], float]
    ) -> npt.NDArray[np.float32] | None:
        """(B, S) excerpts in -256..256 of B windows in the order of time; None for a visual network."""
        if not self.wanted:
            return None
        if self._reader is None:
            return np.zeros((len(windows), self.preprocessing.num_audio_samples), dtype=np.float32)
        return np.stack([self._excerpt(w, time_seconds, self._reader) for w in windows])

    def _excerpt(
        self, window: Window, time_seconds: Callable[[int], float], reader: media.AudioReader
    ) -> npt.NDArray[np.float32]:
        # A frame owns the samples within half a frame of its time (`clips.frame_samples`). Times, not frame numbers,
        # are counted here, so that a variable frame rate keeps sound and picture together.
        rate = reader.sample_rate
        half = rate / self.frame_rate / 2
        first, last = (time_seconds(window.frames[i]) - self.begin_seconds for i in (0, -1))
        start = int(max(0.0, first * rate - half))
        stop = int(last * rate + half) + 1
        if reader.num_samples is not None:
            stop = min(stop, reader.num_samples)
        # Slow videos: the buffer holds the middle of the window's sound, so no more than that is read.
        surplus = max(0, stop - start - self.preprocessing.num_audio_samples)
        start, stop = start + surplus // 2, stop - (surplus - surplus // 2)
        self._earliest = start = max(start, self._earliest)
        return audio_excerpt(reader.read(start, max(start, stop)), self.preprocessing)


class _SoundSource(NamedTuple):
    path: Path
    stream: int | None


def find_sound(info: media.VideoInfo, options: PredictOptions) -> _SoundSource | None:
    """Where the sound comes from that the network hears and the overlay plays; None if there is none."""
    if options.silent:
        return None
    if options.audio_path is not None:
        return _SoundSource(options.audio_path, None)
    return None if info.audio is None else _SoundSource(info.path, options.audio_stream)


def describe_sound(info: media.VideoInfo, options: PredictOptions) -> str:
    if options.silent:
        return "silenced"
    if options.audio_path is not None:
        return str(options.audio_path)
    return "none" if info.audio is None else "its own"
