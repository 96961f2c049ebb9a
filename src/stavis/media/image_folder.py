"""A folder of numbered images as a video."""

import itertools
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from stavis.errors import StavisError
from stavis.media.container import MAX_PIXELS, check_file, check_size, logger, no_frame_between, reason
from stavis.media.suffixes import IMAGE_SUFFIXES

DEFAULT_FRAME_RATE = Fraction(25)

_EXIF_ORIENTATION = 0x0112  # from 5 on width and height change places
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)", re.DOTALL)


@dataclass(frozen=True)
class ImageSequence:
    """The images of a folder.

    Attributes:
        paths: In the order of their numbers.
        positions: Each image's place among the frames, from 0; they have gaps where numbers are missing.
    """

    paths: tuple[Path, ...]
    positions: tuple[int, ...]


def find_images(folder: Path) -> ImageSequence:
    """Finds the images of a folder that are named alike but for a number.

    Numbers may begin anywhere and step by any constant. Of missing ones a warning is given; the frames around keep
    their times.

    Raises:
        StavisError: There are none, or several sequences.
    """
    sequences: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
    num_images = 0
    for name in _list_names(folder):
        path = folder / name
        if path.suffix.lower() not in IMAGE_SUFFIXES or name.startswith("."):
            continue
        num_images += 1
        if match := _NUMBERED.fullmatch(path.stem):
            sequence = sequences[match["before"] + "#" + match["after"], path.suffix.lower()]
            other = sequence.setdefault(int(match["number"]), path)
            if other != path:
                raise StavisError(
                    f"{folder} has two images of number {match['number']}: {other.name} and {name}"
                )
    if not sequences:
        found = "images, but none with a number in its name" if num_images else "no images"
        raise StavisError(
            f"{folder} is a folder with {found}; numbered images such as img_00001.jpg are allowed"
        )
    if len(sequences) > 1:
        found = ", ".join(sorted(stem + suffix for stem, suffix in sequences))
        raise StavisError(f"{folder} has images of several sequences: {found}; one is allowed")
    (sequence,) = sequences.values()
    numbers = sorted(sequence)
    steps = Counter(after - before for before, after in itertools.pairwise(numbers))
    step = min(steps, default=1)
    if any(other % step for other in steps):
        step = 1
    positions = tuple((number - numbers[0]) // step for number in numbers)
    if num_missing := positions[-1] + 1 - len(positions):
        place = next(i for i, position in enumerate(positions) if i != position)
        missing = numbers[0] + place * step
        logger.warning(
            "%s: frame numbers are missing: %d, the first is %d",
            folder,
            num_missing,
            missing,
        )
    return ImageSequence(tuple(sequence[number] for number in numbers), positions)


def _list_names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise StavisError(f"{folder} cannot be read: {reason(error)}") from error


def choose_frame_rate(folder: Path, frame_rate: Fraction | float | None) -> Fraction:
    """`frame_rate`, or 25 and a warning.

    Raises:
        StavisError: The rate is not above 0.
    """
    if frame_rate is None:
        logger.warning(
            "%s: no frame rate is given for this image folder; %s is used", folder, DEFAULT_FRAME_RATE
        )
        return DEFAULT_FRAME_RATE
    if not 0 < frame_rate < float("inf"):
        raise StavisError(f"the frame rate {frame_rate} is asked for; it must be above 0")
    return exact_frame_rate(frame_rate)


def exact_frame_rate(frame_rate: Fraction | float) -> Fraction:
    """The rate as a fraction; 23.976, 29.97 and 59.94 as the broadcast rates n * 1000 / 1001 that they stand for."""
    if isinstance(frame_rate, float):
        broadcast = Fraction(round(frame_rate * 1.001) * 1000, 1001)
        if (
            broadcast
            and abs(frame_rate - broadcast) < 0.0015
            and abs(frame_rate - round(frame_rate)) > 0.0015
        ):
            return broadcast
        return Fraction(frame_rate).limit_denominator(100_000)
    return Fraction(frame_rate)


def read_images(
    folder: Path, frame_rate: Fraction | float | None, start: float, end: float
) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """The pictures of a folder with their times in seconds.

    Raises:
        StavisError: An image cannot be decoded or has another size than the first.
    """
    sequence = find_images(folder)
    rate = choose_frame_rate(folder, frame_rate)
    size = read_size(sequence.paths[0])
    num_found = 0
    for path, position in zip(sequence.paths, sequence.positions, strict=True):
        time = float(position / rate)
        if time >= end:
            break
        if time >= start:
            image = read_image(path)
            if image.shape[1::-1] != size:
                height, width, _ = image.shape
                raise StavisError(f"{path} is {width}x{height}, but the first image is {size[0]}x{size[1]}")
            num_found += 1
            yield time, image
    if num_found == 0:
        raise no_frame_between(folder, start, end, float(sequence.positions[-1] / rate))


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """(height, width, 3) RGB, upright; 16 bits are cut to 8, alpha is ignored.

    Raises:
        StavisError: It cannot be decoded, or is above MAX_PIXELS.
    """
    with _require_image(path) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
            return np.array(upright.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise StavisError(f"{path} cannot be decoded: {reason(error)}") from error


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) as shown, from the header."""
    with _require_image(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(_EXIF_ORIENTATION, 1) >= 5 else (width, height)


def _require_image(path: Path) -> Image.Image:
    check_file(path)
    image = open_image(path)
    if image is None:
        raise StavisError(f"{path} is not an image that can be read")
    return image


def open_image(path: Path) -> Image.Image | None:
    """Reads an image's header; None where it is none.

    Raises:
        StavisError: It announces more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():  # our limit is lower than the one at which Pillow warns
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise StavisError(f"{path} announces a picture of more than {MAX_PIXELS} pixels") from error
    except (OSError, ValueError, SyntaxError):
        return None
    check_size(path, *image.size)
    return image


def find_wave(folder: Path) -> Path | None:
    """The sound of an image folder: the one wave in it, else one beside it with the folder's name, else None.

    Raises:
        StavisError: There are several waves in it.
    """
    folder = folder.resolve()
    names = [name for name in _list_names(folder) if not name.startswith(".")]
    waves = [folder / name for name in names if name.lower().endswith(".wav")]
    if len(waves) > 1:
        raise StavisError(
            f"{folder} has several waves: {', '.join(path.name for path in waves)}; one is allowed"
        )
    if waves:
        return waves[0]
    beside = folder.parent / f"{folder.name}.wav"
    return beside if beside.is_file() else None
