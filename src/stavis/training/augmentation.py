"""Augmentation of training clips beyond the published crop and flip. All off by default."""

import io
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge, Le
from PIL import Image, ImageFilter
from torch.nn import functional as F

from stavis.clips.preprocess import AUDIO_SCALE

Array = npt.NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)[:, None, None, None]  # ITU-R BT.601


@dataclass(frozen=True)
class Augmentation:
    """Strength of the augmentations; 0 disables one.

    Attributes:
        color: Brightness, contrast and saturation are each multiplied by a factor in 1 - color to 1 +
            color, the same for all frames of a clip.
        scale: Frames and maps are enlarged by a factor in 1 to 1 + scale about a random place, and cropped.
        whole_at_end: Stills (`data.pictures_as`) are enlarged ever more rarely and in the last quarter of the epochs
            not at all, so that the network learns where the center of whole pictures is.
        tint: Red, green and blue are each multiplied by a factor in 1 - tint to 1 + tint.
        blur: Frames are blurred by a Gaussian with a standard deviation of up to so many pixels of the network's input.
        jpeg: The probability that frames pass through a JPEG of a quality between 15 and 75.
        audio_gain_decibels: Maximum gain, up or down.
        audio_noise: Maximum standard deviation of added white noise, as a share of full scale.
        audio_silence: Probability that a clip loses its sound.
    """

    color: Annotated[float, Ge(0), Le(1)] = 0.0
    scale: Annotated[float, Ge(0), Le(4)] = 0.0
    whole_at_end: bool = False
    tint: Annotated[float, Ge(0), Le(1)] = 0.0
    blur: Annotated[float, Ge(0), Le(8)] = 0.0
    jpeg: Annotated[float, Ge(0), Le(1)] = 0.0
    audio_gain_decibels: Annotated[float, Ge(0)] = 0.0
    audio_noise: Annotated[float, Ge(0), Le(1)] = 0.0
    audio_silence: Annotated[float, Ge(0), Le(1)] = 0.0


def random_state(seed: int, epoch: int, index: int) -> np.random.RandomState:
    """Returns the random state of a sample in an epoch, which depends on these three only, on any machine."""
    # The last number separates these draws from those of crop and flip.
    return np.random.RandomState(np.random.SeedSequence([seed, epoch, index, 5]).generate_state(8))


def change_color(
    clip: Array, mean: tuple[float, float, float], amount: float, rng: np.random.RandomState
) -> Array:
    """Scales brightness, contrast and saturation of a clip (3, T, H, W), RGB in 0..255 minus `mean`."""
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3).astype(np.float32)
    offset = np.array(mean, dtype=np.float32)[:, None, None, None]
    pixels = (clip + offset) * brightness
    gray = (pixels * _LUMA).sum(0, keepdims=True)
    pixels = gray.mean() + (gray - gray.mean() + (pixels - gray) * saturation) * contrast
    changed: Array = np.clip(pixels, 0, 255) - offset
    return changed


def degrade(
    clip: Array, mean: tuple[float, float, float], augmentation: Augmentation, rng: np.random.RandomState
) -> Array:
    """Tints, blurs and compresses a clip (3, T, H, W), RGB in 0..255 minus `mean`, all frames alike."""
    tint, blur, jpeg = augmentation.tint, augmentation.blur, augmentation.jpeg
    if not (tint or blur or jpeg):
        return clip
    factors = rng.uniform(1 - tint, 1 + tint, 3).astype(np.float32)[:, None, None, None]
    sigma = rng.uniform(0, blur) if rng.uniform() < 0.3 else 0.0
    quality = int(rng.randint(15, 76)) if rng.uniform() < jpeg else 0
    offset = np.array(mean, dtype=np.float32)[:, None, None, None]
    pixels = np.clip((clip + offset) * factors, 0, 255)
    if sigma or quality:
        frames = [Image.fromarray(frame) for frame in pixels.transpose(1, 2, 3, 0).round().astype(np.uint8)]
        if sigma:
            frames = [frame.filter(ImageFilter.GaussianBlur(sigma)) for frame in frames]
        if quality:
            frames = [_through_jpeg(frame, quality) for frame in frames]
        pixels = np.stack([np.asarray(frame, dtype=np.float32) for frame in frames]).transpose(3, 0, 1, 2)
    return np.ascontiguousarray(pixels - offset)


def _through_jpeg(frame: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    frame.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def enlarge(clip: Array, maps: Array, amount: float, rng: np.random.RandomState) -> tuple[Array, Array]:
    """Crops the same random box from a clip (3, T, H, W) and its maps (2, H, W) and resizes it back, bilinearly.

    The box's sides are those of the frame divided by 1 to 1 + `amount`. A pixel of the fixation map is 1 where the
    enlarged map is above 0.
    """
    height, width = clip.shape[2:]
    factor = rng.uniform(1, 1 + amount)
    box_height, box_width = max(1, round(height / factor)), max(1, round(width / factor))
    top, left = rng.randint(height - box_height + 1), rng.randint(width - box_width + 1)

    def resize(pictures: Array) -> Array:
        box = torch.from_numpy(pictures[:, :, top : top + box_height, left : left + box_width])
        resized = F.interpolate(box, size=(height, width), mode="bilinear", align_corners=False)
        return np.ascontiguousarray(resized.numpy())

    larger = resize(maps[None])[0]
    larger[1] = larger[1] > 0
    return resize(clip), larger


def change_sound(audio: Array, augmentation: Augmentation, rng: np.random.RandomState) -> Array:
    """Augments an excerpt (S,) in -256..256. Noise is added only where there is audio; the zero margins stay 0."""
    gain = 10 ** (rng.uniform(-1, 1) * augmentation.audio_gain_decibels / 20)
    deviation = rng.uniform(0, 1) * augmentation.audio_noise * AUDIO_SCALE
    noise = rng.standard_normal(len(audio)).astype(np.float32) * np.float32(deviation)
    if rng.uniform() < augmentation.audio_silence:
        return np.zeros_like(audio)
    (sounding,) = np.nonzero(audio)
    changed = audio * np.float32(gain)
    if len(sounding):
        span = slice(sounding[0], sounding[-1] + 1)
        changed[span] += noise[span]
    return changed
