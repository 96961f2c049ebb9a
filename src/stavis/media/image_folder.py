"""Folders of numbered images, read as videos."""

import itertools
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from stavis.errors import StavisError
from stavis.media.container import (
    MAX_PIXELS,
    check_file,
    check_size,
    logger,
    no_frame_between,
    open_container,
    reason,
)
from stavis.media.gaps import DEFAULT_FRAME_RATE, LONGEST_GAP_SECONDS
from stavis.media.suffixes import IMAGE_SUFFIXES
from stavis.storage.remote import RemotePath

_EXIF_ORIENTATION = 0x0112  # values from 5 swap width and height
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)", re.DOTALL)
# Since 1970, as in TUM's data sets.
_SECONDS = re.compile(r"(?P<before>.*?)(?P<number>\d{9,}\.\d+)(?P<after>)", re.DOTALL)
_MOST_MISSING = 0.75  # of the numbers; where more are missing, evenly spaced numbers are times, not counts
_LARGEST_JITTER = 0.2  # of such numbers, in intervals


@dataclass(frozen=True)
class ImageSequence:
    paths: tuple[Path, ...]  # in the order of their numbers
    # Index of each image among the frames, from 0, with gaps where numbers are missing.
    positions: tuple[int, ...]


def find_images(folder: Path, frame_rate: Fraction, *, keep_gaps: bool = False) -> ImageSequence:
    """Finds the images of a folder whose names differ only in a number.

    Numbers may begin anywhere and step by any constant. If some are missing, a warning is given and the frames around
    them keep their times, except that a gap of more than five minutes is closed up (see `stavis.media.gaps`). Times
    instead of counts (nanoseconds, or seconds with decimals) are recognized by being evenly spaced.

    Raises StavisError if there are none, or several sequences.
    """
    sequences: dict[tuple[str, str], dict[Fraction, Path]] = defaultdict(dict)
    num_images = 0
    for name in _list_names(folder):
        path = folder / name
        if path.suffix.lower() not in IMAGE_SUFFIXES or name.startswith("."):
            continue
        num_images += 1
        if match := _SECONDS.fullmatch(path.stem) or _NUMBERED.fullmatch(path.stem):
            sequence = sequences[match["before"] + "#" + match["after"], path.suffix.lower()]
            other = sequence.setdefault(Fraction(match["number"]), path)
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
    steps, step = _count_steps(numbers)
    if num_missing := sum(steps) - len(steps):
        place = next(i for i, num in enumerate(steps) if num > 1)
        message = "%s: frame numbers are missing: %d, the first is %d"
        logger.warning(message, folder, num_missing, numbers[place] + step)
    longest = LONGEST_GAP_SECONDS * frame_rate
    num_gaps = 0 if keep_gaps else sum(num > longest for num in steps)
    if num_gaps and not _has_long_audio(folder, sum(steps) / frame_rate):
        message = "%s: %d gaps of more than %d s between frame numbers are closed up"
        logger.warning(message + " (`keep_gaps=True` keeps them)", folder, num_gaps, LONGEST_GAP_SECONDS)
        steps = [1 if num > longest else num for num in steps]
    positions = tuple(itertools.accumulate(steps, initial=0))
    return ImageSequence(tuple(sequence[number] for number in numbers), positions)


def _count_steps(numbers: Sequence[Fraction]) -> tuple[list[int], Fraction]:
    """Returns how many frames apart consecutive images are, and the difference of numbers that makes one frame."""
    differences = [after - before for before, after in itertools.pairwise(numbers)]
    step = min(differences, default=Fraction(1))
    if any(difference % step for difference in differences):
        step = Fraction(1)
        middle = sorted(differences)[len(differences) // 2]
        is_sparse = len(numbers) < (1 - _MOST_MISSING) * (numbers[-1] - numbers[0])
        intervals = [difference / middle for difference in differences]
        is_even = all(
            round(num) and abs(num - round(num)) <= _LARGEST_JITTER * max(Fraction(1), num / 10)
            for num in intervals
        )
        if numbers[0].denominator > 1 or middle.denominator > 1 or (is_sparse and is_even):
            return [max(1, round(num)) for num in intervals], middle
    return [int(difference / step) for difference in differences], step


def _has_long_audio(folder: Path, seconds: Fraction) -> bool:
    """Whether the WAV file of a folder lasts about as long as its frames."""
    wave = find_wave(folder)
    if wave is None:
        return False
    with open_container(wave) as container:
        return Fraction(container.duration or 0, av.time_base) >= seconds - LONGEST_GAP_SECONDS


def _list_names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise StavisError(f"{folder} cannot be read: {reason(error)}") from error


def choose_frame_rate(folder: Path, frame_rate: Fraction | float | None) -> Fraction:
    """Returns the rate as a fraction; 25 with a warning for None. Raises StavisError if it is not above 0."""
    if frame_rate is None:
        logger.warning(
            "%s: no frame rate is given for this image folder; %s is used", folder, DEFAULT_FRAME_RATE
        )
        return DEFAULT_FRAME_RATE
    if not 0 < frame_rate < float("inf"):
        raise StavisError(f"the frame rate {frame_rate} is asked for; it must be above 0")
    return exact_frame_rate(frame_rate)


def exact_frame_rate(frame_rate: Fraction | float) -> Fraction:
    """Returns the rate as a fraction; 23.976, 29.97 and 59.94 become the broadcast rates n * 1000 / 1001."""
    if isinstance(frame_rate, float):
        broadcast = Fraction(round(frame_rate * 1.001) * 1000, 1001)
        is_whole = abs(frame_rate - round(frame_rate)) <= 0.0015
        if broadcast and abs(frame_rate - broadcast) < 0.0015 and not is_whole:
            return broadcast
        return Fraction(frame_rate).limit_denominator(100_000) or Fraction(1, 100_000)
    return Fraction(frame_rate)


def read_images(
    folder: Path, frame_rate: Fraction | float | None, start: float, end: float, *, keep_gaps: bool
) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """Yields the images of a folder with their times in seconds.

    Raises StavisError if an image cannot be decoded or differs in size from the first.
    """
    rate = choose_frame_rate(folder, frame_rate)
    sequence = find_images(folder, rate, keep_gaps=keep_gaps)
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
    """Returns an image as (height, width, 3) RGB, upright. 16 bits are reduced to 8; alpha is ignored.

    Raises StavisError if it cannot be decoded, exceeds MAX_PIXELS or is one of several in its file.
    """
    check_single(path)
    with _require_image(path) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
            return np.array(upright.convert("RGB"))
        except Exception as error:
            raise StavisError(f"{path} cannot be decoded: {reason(error)}") from error


def read_size(path: Path) -> tuple[int, int]:
    """Returns (width, height) as displayed, from the header."""
    with _require_image(path) as image:
        width, height = image.size
        try:
            is_turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
        except Exception as error:
            raise StavisError(f"{path} cannot be decoded: {reason(error)}") from error
        return (height, width) if is_turned else (width, height)


def _require_image(path: Path) -> Image.Image:
    check_file(path)
    image = open_image(path)
    if image is None:
        raise StavisError(f"{path} is not an image that can be read")
    return image


def open_image(path: Path) -> Image.Image | None:
    """Reads the header of an image; None if it is not one. Raises StavisError if it exceeds MAX_PIXELS."""
    try:
        with warnings.catch_warnings():  # MAX_PIXELS is below the limit at which Pillow warns
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path.open("rb") if isinstance(path, RemotePath) else path)
    except Image.DecompressionBombError as error:
        raise StavisError(f"{path} announces an image of more than {MAX_PIXELS} pixels") from error
    except Exception:  # Pillow reports damage by exceptions of many kinds
        return None
    check_size(path, *image.size)
    return image


def check_single(path: Path) -> None:
    """Raises StavisError for an animation or several pages, of which only the first would be read."""
    image = open_image(path)
    if image is None or image.format not in ("WEBP", "TIFF", "PNG", "GIF"):  # MPO has a preview, not a page
        return
    with image:
        size = image.size
        try:
            image.seek(1)
            num_frames = getattr(image, "n_frames", 2)
        except Exception:
            return
        if image.size == size:  # a TIFF may hold a thumbnail
            what = "pages" if image.format == "TIFF" else "frames"
            raise StavisError(
                f"{path} is a {image.format} image of {num_frames} {what}, which is not read as a "
                "video; convert it to a video or to numbered images"
            )


def find_wave(folder: Path) -> Path | None:
    """Finds the audio of an image folder: the WAV file in it, else the one beside it with the name of the folder.

    Raises StavisError if there are several WAV files in it.
    """
    folder = folder.resolve()
    names = [name for name in _list_names(folder) if not name.startswith(".")]
    waves = [folder / name for name in names if name.lower().endswith(".wav")]
    if len(waves) > 1:
        raise StavisError(
            f"{folder} has several WAV files: {', '.join(path.name for path in waves)}; one is allowed"
        )
    if waves:
        return waves[0]
    beside = folder.parent / f"{folder.name}.wav"
    return beside if beside.is_file() else None
