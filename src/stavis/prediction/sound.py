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
from stavis.storage.remote import as_path


class Sound:
    """Audio excerpts of windows, from a `reader` whose sample 0 is at `begin_seconds` on the clock of the frames.

    None for the reader is silence. A visual `model` needs no audio.
    """

    def __init__(
        self, model: STAViS, reader: media.AudioReader | None, frame_rate: float, begin_seconds: float = 0.0
    ) -> None:
        self.preprocessing = model.config.preprocessing
        self.wanted = needs_sound(model)
        self.frame_rate = frame_rate
        self.begin_seconds = begin_seconds
        self._reader = reader
        self._earliest = 0

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def excerpts(
        self, windows: Sequence[Window], time_seconds: Callable[[int], float]
    ) -> npt.NDArray[np.float32] | None:
        """(B, S) excerpts in -256..256 of B windows in temporal order; None for a visual network."""
        if not self.wanted:
            return None
        if self._reader is None:
            return np.zeros((len(windows), self.preprocessing.num_audio_samples), dtype=np.float32)
        return np.stack([self._excerpt(w, time_seconds, self._reader) for w in windows])

    def _excerpt(
        self, window: Window, time_seconds: Callable[[int], float], reader: media.AudioReader
    ) -> npt.NDArray[np.float32]:
        # A frame owns the samples within half a frame of its time (`clips.frame_samples`). This uses times, not frame
        # numbers, so that audio and video stay in sync at a variable frame rate.
        rate = reader.sample_rate
        half = rate / self.frame_rate / 2
        # Rounded on the clock of the whole audio, so that an excerpt gets the samples that the whole video gets.
        first, last = (time_seconds(window.frames[i]) for i in (0, -1))
        shift = round(self.begin_seconds * rate)
        start = max(0, int(max(0.0, first * rate - half)) - shift)
        stop = int(last * rate + half) + 1 - shift
        stop = reader.find_end(max(start, self._earliest), stop)
        # At low frame rates the network's buffer holds only the middle of the window's audio; read no more than that.
        surplus = max(0, stop - start - self.preprocessing.num_audio_samples)
        start, stop = start + surplus // 2, stop - (surplus - surplus // 2)
        self._earliest = start = max(start, self._earliest)
        return audio_excerpt(reader.read(start, max(start, stop)), self.preprocessing)


class _SoundSource(NamedTuple):
    path: Path
    stream: int | None


def needs_sound(model: STAViS) -> bool:
    """Whether the network listens."""
    return model.config.modality == "audiovisual"


def open_sound(model: STAViS, info: media.VideoInfo, options: PredictOptions) -> Sound:
    """Opens the audio that a prediction of a video uses. Raises StavisError if the audio file cannot be read."""
    begin = options.start_seconds or 0.0
    source = find_sound(info, options) if needs_sound(model) else None
    reader = None
    if source is not None:
        # The published test run reads audio at the file's own rate.
        rate = None if options.quirks == "reference" else model.config.preprocessing.sample_rate
        reader = media.AudioReader(
            source.path,
            stream=source.stream,
            channel=options.audio_channel,
            sample_rate=rate,
            start_seconds=begin,
            keep_gaps=options.keep_gaps,
        )
    return Sound(model, reader, float(info.frame_rate), begin)


def find_sound(info: media.VideoInfo, options: PredictOptions) -> _SoundSource | None:
    """The audio that the network hears and the overlay plays; None if there is none."""
    if options.silent:
        return None
    if options.audio_path is not None:
        return _SoundSource(as_path(options.audio_path), None)
    return None if info.audio is None else _SoundSource(info.path, options.audio_stream)


def describe_sound(info: media.VideoInfo, options: PredictOptions) -> str:
    """The audio in words, for `summary.json`."""
    if options.silent:
        return "silenced"
    if options.audio_path is not None:
        return str(as_path(options.audio_path))
    return "none" if info.audio is None else "its own"
