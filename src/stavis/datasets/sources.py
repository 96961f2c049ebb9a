"""Reading of frames, maps and audio at the input size of the network, as the frame cache stores them."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis.clips.preprocess import (
    Preprocessing,
    point_fixation_map,
    resize_density_map,
    resize_fixation_map,
    resize_frame,
)
from stavis.datasets.layout import FoldEntry, Layout
from stavis.datasets.quirks import LoaderQuirks
from stavis.errors import StavisError
from stavis.maps import read_fixation_map, read_map
from stavis.media import AudioReader, read_wave

WAVE_MEMORY_BYTES = 256 * 2**20  # of decoded sound that a process keeps


def read_picture(path: Path, missing: str = "picture not found") -> Image.Image:
    """Reads a picture in RGB; `missing` is what an error says if there is no such file.

    Raises StavisError if the file is missing or is not a picture.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise StavisError(f"{path}: {missing}") from None
    # Pillow raises SyntaxError and ValueError as well for broken files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StavisError(f"{path}: not a readable picture ({error})") from None


def load_frame(path: Path, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Reads a frame at the network's size, (height, width, 3) RGB. Raises StavisError as `read_picture`."""
    return resize_frame(np.asarray(read_picture(path)), preprocessing)


def load_maps(
    layout: Layout, database: str, video: str, frame: int, preprocessing: Preprocessing, quirks: LoaderQuirks
) -> npt.NDArray[np.uint8]:
    """Reads a frame's maps at the network's size: (2, height, width), density 0..255 and fixations 0 or 1."""
    height, width = preprocessing.input_size
    maps = np.empty((2, height, width), dtype=np.uint8)
    maps[0] = resize_density_map(read_map(layout.density_map(database, video, frame)), preprocessing)
    resize = resize_fixation_map if quirks.fixation_blobs else point_fixation_map
    maps[1] = resize(read_fixation_map(layout.fixation_map(database, video, frame)), preprocessing)
    return maps


def load_waveform(path: Path, sample_rate: int | None) -> tuple[npt.NDArray[np.float32], int]:
    """Reads a whole WAV file, mixed to one channel: (S,) samples in -1..1, and their rate in Hz.

    They are resampled to `sample_rate`; None keeps the rate of the file.

    Raises StavisError if the file is missing or unreadable.
    """
    samples, own_rate = read_wave(path)
    if sample_rate is None or own_rate == sample_rate:
        return samples, own_rate
    # The reader that prediction uses, so that training hears what prediction hears.
    with AudioReader(path, sample_rate=sample_rate) as reader:
        return reader.read(0, math.ceil(len(samples) * sample_rate / own_rate)), sample_rate


class DirectReader:
    """Reads every frame and map from its file each time; the audio of the last videos stays in memory."""

    def __init__(self, layout: Layout, preprocessing: Preprocessing, quirks: LoaderQuirks) -> None:
        self.layout = layout
        self.preprocessing = preprocessing
        self.quirks = quirks
        self._waveforms: OrderedDict[Path, tuple[npt.NDArray[np.float32], int]] = OrderedDict()

    def frames(self, database: str, entry: FoldEntry, frames: Sequence[int]) -> npt.NDArray[np.uint8]:
        """The frames in the requested order, (T, height, width, 3); a repeated one is read once."""
        loaded = {
            frame: load_frame(self.layout.frame(database, entry.video, frame), self.preprocessing)
            for frame in set(frames)
        }
        return np.stack([loaded[frame] for frame in frames])

    def maps(self, database: str, entry: FoldEntry, frame: int) -> npt.NDArray[np.uint8]:
        """Density and fixation map of a frame, (2, height, width)."""
        return load_maps(self.layout, database, entry.video, frame, self.preprocessing, self.quirks)

    def waveform(self, database: str, entry: FoldEntry) -> tuple[npt.NDArray[np.float32], int]:
        """(S,) samples in -1..1 and their rate in Hz."""
        path = self.layout.wave(database, entry.video)
        if path in self._waveforms:
            self._waveforms.move_to_end(path)
        else:
            native = self.quirks.native_sample_rate
            self._waveforms[path] = load_waveform(path, None if native else self.preprocessing.sample_rate)
            while len(self._waveforms) > 1 and self._held_bytes() > WAVE_MEMORY_BYTES:
                self._waveforms.popitem(last=False)
        return self._waveforms[path]

    def _held_bytes(self) -> int:
        return sum(samples.nbytes for samples, _ in self._waveforms.values())
