"""Weights and inputs of the recorded numbers: every tensor is a function of its name, shape and seed.

numpy's legacy RandomState is used because its streams are frozen across releases.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MEAN = np.array([114.7748, 107.7354, 99.4750], dtype=np.float32)

Float32 = npt.NDArray[np.float32]


def tensor(name: str, shape: Sequence[int], seed: int = 0) -> npt.NDArray[np.float32 | np.int64]:
    """The value of the state-dict entry `name`: float32, int64 for counters."""
    shape = tuple(shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    rng = np.random.RandomState((zlib.crc32(name.encode()) + 7919 * seed) % 2**32)
    leaf = name.rpartition(".")[2]
    if leaf == "running_var":
        value = rng.uniform(0.5, 1.5, shape)
    elif leaf in ("running_mean", "bias"):
        value = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:  # BatchNorm's scale
        value = rng.uniform(0.3, 0.7, shape)
    else:
        value = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    if name == "conv1.weight":  # pixels are 0..255 minus the mean
        value = value / 40.0
    if name == "soundnet8.0.weight":  # audio is in -256..256
        value = value / 20.0
    if ".upscale" in name:  # transposed convolution: four taps per input channel reach each pixel
        value = rng.standard_normal(shape) * np.sqrt(1.0 / (4 * shape[0]))
    if name == "fusion3.w_a_rgb.weight":
        value = value * 8.0
    if name in ("fuse.weight", "fuseav.weight") or name.endswith(".score_dsn.weight"):
        value = value * 2.0
    return value.astype(np.float32)


def clip(batch: int, seed: int, frames: int = 16, size: int = 112) -> Float32:
    """Clips (batch, 3, frames, size, size): blobs that move smoothly, and noise, about -115..140."""
    rng = np.random.RandomState(1000 + seed)
    ys, xs = np.mgrid[0:size, 0:size] / size
    clips = np.empty((batch, 3, frames, size, size), dtype=np.float32)
    for one in clips:
        center_x, center_y = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)
        speed_x, speed_y = rng.uniform(-0.02, 0.02, 2)
        sigma = rng.uniform(0.05, 0.2)
        color, ground = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
        for t in range(frames):
            squared = (xs - center_x - speed_x * t) ** 2 + (ys - center_y - speed_y * t) ** 2
            blob = np.exp(-squared / (2 * sigma * sigma))
            for channel in range(3):
                one[channel, t] = ground[channel] * (1 - blob) + color[channel] * blob
        one += 10 * rng.standard_normal((3, frames, size, size))
    return clips - MEAN[None, :, None, None, None]


def audio(batch: int, seed: int, samples: int = 35280) -> Float32:
    """Audio excerpts (batch, 1, 1, samples) in -256..256, Hann-windowed in the middle of zeros."""
    rng = np.random.RandomState(2000 + seed)
    excerpts = np.zeros((batch, 1, 1, samples), dtype=np.float32)
    for excerpt in excerpts[:, 0, 0]:
        length = int(rng.randint(9000, 15000)) // 2 * 2
        t = np.arange(length) / 22050.0
        wave = 60 * np.sin(2 * np.pi * rng.uniform(80, 2000) * t) + 15 * rng.standard_normal(length)
        start = samples // 2 - length // 2
        excerpt[start : start + length] = np.hanning(length) * wave
    return excerpts


def maps(batch: int, seed: int, size: int = 112) -> tuple[Float32, Float32]:
    """Density maps 0..255 and fixation maps 0 or 1, each (batch, 1, size, size) float32."""
    rng = np.random.RandomState(3000 + seed)
    ys, xs = np.mgrid[0:size, 0:size]
    density = np.zeros((batch, 1, size, size), dtype=np.float32)
    fixations = np.zeros_like(density)
    for b in range(batch):
        for _ in range(int(rng.randint(3, 20))):
            y, x = rng.randint(0, size, 2)
            fixations[b, 0, y, x] = 1
            density[b, 0] += np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 5.0**2))
        density[b, 0] = np.round(255 * density[b, 0] / density[b, 0].max())
    return density, fixations
