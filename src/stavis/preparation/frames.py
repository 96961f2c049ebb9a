"""Frames and audio of a prepared video."""

import shutil
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis.clips.preprocess import SAMPLE_RATE
from stavis.datasets.layout import Layout
from stavis.errors import StavisError
from stavis.media import AudioReader, VideoInfo, read_frames, write_wave
from stavis.preparation.options import Source
from stavis.runtime.workers import Advance

LONGEST_GAP_SECONDS = 600.0
SOUND_BLOCK = 60 * SAMPLE_RATE  # samples in memory at once
_MOST_COPIES = 10  # of a frame on the average, where the rate is not asked for


def choose_frames(
    times: npt.NDArray[np.float64], announced_rate: Fraction, wanted_rate: float | None
) -> tuple[Fraction, npt.NDArray[np.int64] | None]:
    """Chooses the frames to write and their constant rate.

    `times` are (N,) at which each frame appears, in seconds from the first, ascending. Frames at constant intervals,
    each less than half an interval off, are all kept. Otherwise (a variable rate, or another one is wanted than the
    `announced_rate` of the file) frame j of the result is the one on display in the middle of its interval.

    Returns the rate, and (M,) the index of the frame to show in each interval; None if all are shown once.

    Raises StavisError if a frame stays on display for over ten minutes: no memory and no copies by a clock that jumps.
    """
    num = len(times)
    gaps = np.diff(times)
    if num > 1 and gaps.max() > LONGEST_GAP_SECONDS:
        at = int(gaps.argmax())
        raise StavisError(
            f"frame {at + 1} comes {gaps[at]:.6g} s after the one before it, at {times[at + 1]:.6g} s: a clock that "
            f"jumps; allowed are {LONGEST_GAP_SECONDS:.0f} s"
        )
    if wanted_rate is None:
        measured = (
            [Fraction((num - 1) / times[-1]).limit_denominator(100_000)] if num > 1 and times[-1] > 0 else []
        )
        for rate in (announced_rate, *measured):
            if np.abs(times * float(rate) - np.arange(num)).max() < 0.5:
                return rate, None
        # Some headers give the resolution of the clock.
        if measured and announced_rate > _MOST_COPIES * measured[0]:
            announced_rate = measured[0]
    rate = announced_rate if wanted_rate is None else Fraction(wanted_rate).limit_denominator(100_000)
    end_seconds = times[-1] + 1 / float(announced_rate)
    middles = (np.arange(max(1, round(end_seconds * float(rate)))) + 0.5) / float(rate)
    shown = np.maximum(np.searchsorted(times, middles, side="right") - 1, 0)
    return rate, (None if np.array_equal(shown, np.arange(num)) else shown)


def write_frames(
    staged: Layout,
    database: str,
    source: Source,
    info: VideoInfo,
    folder_rate: float | None,
    advance: Advance,
) -> npt.NDArray[np.float64]:
    """Writes every frame of a video as JPEG; returns (N,) the times of the frames in seconds."""
    folder = staged.frames_folder(database, source.name)
    folder.mkdir(parents=True)
    times = []
    for frame in read_frames(source.video, frame_rate=folder_rate):
        # 4:4:4: the network sees the frames smaller, where blurred color edges would show.
        Image.fromarray(frame.image).save(
            staged.frame(database, source.name, frame.index), quality=source.options.quality, subsampling=0
        )
        times.append(frame.time_seconds)
        advance(1)
    return np.array(times)


def select_frames(staged: Layout, database: str, name: str, shown: npt.NDArray[np.int64]) -> None:
    """Replaces the written frames by those that `shown` lists."""
    folder = staged.frames_folder(database, name)
    decoded = folder.with_name(f"{name}.decoded")
    folder.rename(decoded)
    folder.mkdir()
    for frame, source in enumerate(shown.tolist()):
        target = staged.frame(database, name, frame)
        shutil.copyfile(decoded / staged.frame(database, name, source).name, target)
    shutil.rmtree(decoded)


def write_sound(staged: Layout, database: str, source: Source, num_samples: int) -> bool:
    """Writes the mono WAV file of a video block by block; returns whether the video has sound."""
    with AudioReader(source.video, stream=source.options.audio_stream, sample_rate=SAMPLE_RATE) as reader:
        starts = range(0, num_samples, SOUND_BLOCK)
        blocks = (reader.read(start, min(start + SOUND_BLOCK, num_samples)) for start in starts)
        write_wave(staged.wave(database, source.name), blocks, SAMPLE_RATE)
        return reader.has_sound
