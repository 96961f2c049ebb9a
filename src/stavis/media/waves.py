"""WAV files."""

import wave
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np

from stavis.errors import StavisError
from stavis.media.container import reason
from stavis.media.sound_track import Samples, mix_to_mono, open_sound
from stavis.runtime.files import atomic_path


def read_wave(path: str | PathLike[str]) -> tuple[Samples, int]:
    """Reads a whole audio file at its own sample rate. 8-, 16- and 24-bit and float WAV files are read bit for bit.

    Args:
        path: A WAV file, or any other file with audio that FFmpeg can read.

    Returns:
        (S,) in -1..1, mixed to one channel like `AudioReader` does, and the sample rate in Hz.

    Raises:
        StavisError: It has no audio that can be decoded.
    """
    path = Path(path)
    track = open_sound(path, None, warn=False)
    if track is None:
        raise StavisError(f"{path} has no audio that can be decoded")
    _, blocks = track.blocks(track.sample_rate, 0, mix_to_mono)
    samples = np.concatenate([np.zeros((1, 0), np.float32), *blocks], axis=1)[0]
    track.close()
    return samples, track.sample_rate


def write_wave(path: str | PathLike[str], samples: Samples | Iterable[Samples], sample_rate: int) -> None:
    """Writes a 16-bit mono WAV file, whole or not at all.

    Args:
        path: The WAV file.
        samples: (S,) in -1..1, or blocks of such that follow each other and are written as they come; values outside
            the range are clipped.
        sample_rate: In Hz.

    Raises:
        ValueError: Samples are not one-dimensional, or nan.
        StavisError: The file cannot be written.
    """
    path = Path(path)
    try:
        with atomic_path(path) as temporary, wave.open(str(temporary), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            for block in (samples,) if isinstance(samples, np.ndarray) else samples:
                if block.ndim != 1:
                    raise ValueError(f"samples have shape {block.shape}; one dimension is allowed")
                if np.isnan(block).any():
                    raise ValueError("samples have values that are nan; allowed are numbers, best in -1..1")
                values = np.clip(np.round(block.astype(np.float64) * 32768), -32768, 32767)
                file.writeframes(values.astype("<i2").tobytes())
    except OSError as error:
        raise StavisError(f"{path} cannot be written: {reason(error)}") from error
