"""Preprocessing of frames and audio into network inputs. Uses only numpy and Pillow."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

ResizeFilter = Literal["nearest", "bilinear", "bicubic", "lanczos"]

ACTIVITYNET_MEAN = (114.7748, 107.7354, 99.4750)  # of R, G, B in 0..255
SAMPLE_RATE = 22050  # Hz
CLIP_LENGTH = 16  # frames
LOWEST_FRAME_RATE = 10  # frames per second; below it the audio of a clip exceeds the buffer
NUM_AUDIO_SAMPLES = SAMPLE_RATE * CLIP_LENGTH // LOWEST_FRAME_RATE  # 35280
# Beyond these a configuration is a mistake, and one clip would fill the memory.
MAX_SIDE = 8192  # pixels
LARGEST = {"clip_length": 4096, "sample_rate": 384_000, "num_audio_samples": 1 << 24}
AUDIO_SCALE = 256.0  # a full-scale waveform (-1..1) reaches SoundNet as -256..256


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing that a network was trained with. Stored with its weights.

    Attributes:
        mean: Subtracted from R, G, B in 0..255.
        intermediate_size: (width, height) in pixels that every frame is first resized to, whatever its shape.
        input_size: (height, width) in pixels of the second resize: the input of the network.
        resize_filter: Pillow filter of the first step. The published code uses Pillow's default, which was "nearest"
            before Pillow 7 and has been "bicubic" since.
        final_resize_filter: Pillow filter of the second step.
        clip_length: Number of frames in a clip.
        sample_rate: Sample rate of the audio in Hz.
        num_audio_samples: Length of the buffer that holds the audio of a clip in its middle.
    """

    mean: tuple[float, float, float] = ACTIVITYNET_MEAN
    intermediate_size: tuple[int, int] = (320, 240)
    input_size: tuple[int, int] = (112, 112)
    resize_filter: ResizeFilter = "bicubic"
    final_resize_filter: ResizeFilter = "bilinear"
    clip_length: int = CLIP_LENGTH
    sample_rate: int = SAMPLE_RATE
    num_audio_samples: int = NUM_AUDIO_SAMPLES

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or not all(0 <= value <= 255 for value in self.mean):
            raise ValueError(f"mean is {self.mean!r}; expected a value in 0..255 for each of R, G, B")
        for name in ("intermediate_size", "input_size"):
            size = getattr(self, name)
            if len(size) != 2 or not all(1 <= side <= MAX_SIDE for side in size):
                raise ValueError(f"{name} is {size!r}; expected two numbers from 1 to {MAX_SIDE}")
        for name, largest in LARGEST.items():
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be 1 or more, at most {largest}"
                )
        for name in ("resize_filter", "final_resize_filter"):
            if getattr(self, name) not in get_args(ResizeFilter):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; allowed: {', '.join(get_args(ResizeFilter))}"
                )


def resize_frame(image: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Resizes an (H, W, 3) RGB frame to the network's input size, in the published two steps, whatever its shape.

    Returns (height, width, 3) RGB at `preprocessing.input_size`.
    """
    return np.asarray(_resize_twice(Image.fromarray(image), preprocessing))


def resize_density_map(
    density_map: npt.NDArray[np.uint8], preprocessing: Preprocessing
) -> npt.NDArray[np.uint8]:
    """Resizes an (H, W) density map in the same two steps as frames; the values stay 0..255."""
    return np.asarray(_resize_twice(Image.fromarray(density_map), preprocessing))


def resize_fixation_map(
    fixation_map: npt.NDArray[Any], preprocessing: Preprocessing
) -> npt.NDArray[np.bool_]:
    """Resizes an (H, W) fixation map as published: one fixation becomes a small blob.

    The map is resized to the intermediate size (bilinear, float), values above 0 become 255 in 8 bits, the result is
    resized to the input size (bilinear, 8 bits, where small weights round to 0), and pixels above 0 are fixated.
    """
    bilinear = Image.Resampling.BILINEAR
    binary = Image.fromarray((np.asarray(fixation_map) > 0).astype(np.float32))
    spread = np.asarray(binary.resize(preprocessing.intermediate_size, bilinear)) > 0
    height, width = preprocessing.input_size
    small = Image.fromarray(spread.astype(np.uint8) * 255).resize((width, height), bilinear)
    return np.asarray(small) > 0


def point_fixation_map(fixation_map: npt.NDArray[Any], preprocessing: Preprocessing) -> npt.NDArray[np.bool_]:
    """Resizes an (H, W) fixation map so that each fixation stays a single pixel: the one that contains it."""
    fixation_map = np.asarray(fixation_map)
    height, width = preprocessing.input_size
    rows, columns = np.nonzero(fixation_map > 0)
    points = np.zeros((height, width), dtype=np.bool_)
    points[rows * height // fixation_map.shape[0], columns * width // fixation_map.shape[1]] = True
    return points


def make_clip(
    frames: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], preprocessing: Preprocessing
) -> npt.NDArray[np.float32]:
    """Stacks resized frames, T of (h, w, 3) or one array (T, h, w, 3), RGB in 0..255, into a clip.

    Returns (3, T, h, w), 0..255 minus the mean.
    """
    stacked = np.asarray(frames)
    clip = np.empty((3, *stacked.shape[:3]), dtype=np.float32)
    # Copying channel by channel while subtracting takes a third of the time of a transposed copy.
    for channel, mean in enumerate(preprocessing.mean):
        np.subtract(stacked[..., channel], np.float32(mean), out=clip[channel], dtype=np.float32)
    return clip


def audio_excerpt(samples: npt.NDArray[np.float32], preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Places the Hann-windowed audio of a clip, (L,) mono in -1..1, in the middle of a zero buffer.

    L may be 0 (no audio). If L exceeds the buffer, as below 10 frames per second, the middle is used (the published
    code crashes). Returns (num_audio_samples,) in -256..256.
    """
    size = preprocessing.num_audio_samples
    buffer = np.zeros(size, dtype=np.float32)
    if len(samples) > size:
        surplus = len(samples) - size
        samples = samples[surplus // 2 : surplus // 2 + size]
    length = len(samples)
    begin = size // 2 - length // 2
    np.multiply(samples, _hann_window(length), out=buffer[begin : begin + length])
    buffer *= AUDIO_SCALE
    return buffer


@functools.lru_cache(maxsize=64)
def _hann_window(length: int) -> npt.NDArray[np.float32]:
    """Returns the symmetric Hann window; for one sample it is 1. Cached, as the clips of a video have few lengths."""
    window = np.hanning(length).astype(np.float32)
    window.setflags(write=False)
    return window


def _resize_twice(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    height, width = preprocessing.input_size
    first = Image.Resampling[preprocessing.resize_filter.upper()]
    second = Image.Resampling[preprocessing.final_resize_filter.upper()]
    return image.resize(preprocessing.intermediate_size, first).resize((width, height), second)
