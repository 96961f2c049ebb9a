"""Readers for fixated pixels per frame, all observers pooled: folders of PNG, and the saliency challenges' JSON."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stavis.errors import StavisError, some
from stavis.gaze.recording import Recording
from stavis.gaze.text import first_lines, names_video, read_text

UNKNOWN = ("unknown",)
MIN_AREA = 13  # pixels: a dot of radius 2


def numbered_images(folder: Path) -> dict[int, Path]:
    """The PNG files of `folder` whose names are a number, perhaps behind letters, by that number. Dot files are not."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = re.fullmatch(r"(?:.*\D)?(\d{1,18})", path.stem)
        if match and path.suffix.lower() == ".png" and not path.name.startswith("."):
            if int(match[1]) in found:
                raise StavisError(
                    f"{folder}: {found[int(match[1])].name} and {path.name} have the same number"
                )
            found[int(match[1])] = path
    return found


def read_fixation_images(folder: Path, *, frame_origin: int) -> Recording:
    """Reads a folder of fixation maps (DHF1K): a PNG per frame (`0001.png`) in which every pixel above 0 is a fixation.

    The images are in the folder, or in a folder `fixation` in it.

    Raises StavisError if there is no numbered PNG, two differ in size, or one is a density map or a mask.
    """
    images = numbered_images(folder) or numbered_images(folder / "fixation")
    if not images:
        raise StavisError(f"{folder}: no numbered PNG; a folder of fixation maps has 0001.png, 0002.png, ...")
    size: tuple[int, int] | None = None
    frames, xs, ys = [], [], []
    for number, path in sorted(images.items()):
        try:
            with Image.open(path) as image:
                is_gray = image.mode in ("L", "1", "I;16", "I")
                pixels = np.asarray(image if is_gray else image.convert("L"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise StavisError(f"{path}: not a readable PNG file: {error}") from None
        if size is not None and size != pixels.shape[::-1]:
            raise StavisError(
                f"{path}: {pixels.shape[1]}x{pixels.shape[0]}, but those before it {size[0]}x{size[1]}"
            )
        size = (pixels.shape[1], pixels.shape[0])
        _refuse_areas(path, pixels)
        y, x = np.nonzero(pixels)
        frames.append(np.full(len(x), number - frame_origin))
        xs.append(x)
        ys.append(y)
    frame = np.concatenate(frames).astype(np.int64)
    return Recording(
        observers=UNKNOWN,
        observer=np.zeros(len(frame), np.int64),
        x=np.concatenate(xs).astype(np.float64),
        y=np.concatenate(ys).astype(np.float64),
        frame=frame,
        coordinates="video",
        size=size,
        observers_known=False,
    )


def _refuse_areas(path: Path, pixels: np.ndarray) -> None:
    """Refuses density maps, masks and drawn dots, in which pixels have all their neighbors above 0 too.

    Of the fixations of UCF Sports, the densest at hand (up to 222 a frame), at most 13 % do, in any frame.
    """
    fixated = pixels > 0
    num = int(fixated.sum())
    if num < MIN_AREA:
        return
    around = np.pad(fixated, 1)
    surrounded = fixated & around[2:, 1:-1] & around[:-2, 1:-1] & around[1:-1, 2:] & around[1:-1, :-2]
    levels = len(np.unique(pixels[fixated]))
    if surrounded.sum() > 0.3 * num or levels > 16:
        mask = "a mask, or fixations drawn as dots"
        what = f"a density map ({levels} gray levels)" if levels > 16 else mask
        raise StavisError(
            f"{path}: {num} of {pixels.size} pixels are above 0, {surrounded.sum()} of them amid others: {what}; "
            "allowed is one pixel above 0 per fixation"
        )


def read_challenge_json(path: Path, *, video: str | None) -> Recording:
    """Reads `fixations.json` of the AIM 2024 and NTIRE 2026 video saliency challenges.

    The file is a list with one entry per frame, each a list of points `[row, column]` (y before x), in pixels of the
    video from 0: the challenges' own scoring indexes the rows of a saliency map with the first number and its columns
    with the second one. Observers are not distinguished, and points may repeat. `{"<video>": [...], ...}` is read too.

    Raises StavisError if it is not JSON of that form, or has no entry for the video.
    """
    content = read_json(path)
    if isinstance(content, dict):
        key = next((key for key in content if names_video(key, video or "")), None)
        if key is None:
            raise StavisError(
                f"{path}: no entry for video {video!r}; it has {len(content)}: {some(map(str, content))}"
            )
        content = content[key]
    problem = StavisError(f"{path}: not a list of frames, each a list of points [row, column]")
    if not isinstance(content, list):
        raise problem
    frames, points = [], []
    for frame, entry in enumerate(content):
        if not isinstance(entry, list):
            raise problem
        for point in entry:
            is_pair = isinstance(point, list) and len(point) == 2
            if not is_pair or not all(isinstance(c, int | float) and abs(c) < 1e9 for c in point):
                raise StavisError(
                    f"{path}: frame {frame}: {json.dumps(point)[:60]} is not a point [row, column]"
                )
            frames.append(frame)
            points.append(point)
    array = np.array(points, np.float64).reshape(-1, 2)
    return Recording(
        observers=UNKNOWN,
        observer=np.zeros(len(array), np.int64),
        x=array[:, 1],
        y=array[:, 0],
        frame=np.array(frames, np.int64),
        coordinates="video",
        observers_known=False,
    )


def is_challenge_json(path: Path, *, by_video: bool = False) -> bool:
    """Whether a JSON file begins like the challenges' file: a list, or (with `by_video` only) lists by video."""
    head = "".join("".join(first_lines(path, 20)).split())
    return bool(re.match(r'\{"[^"]*":\[(\[|\])' if by_video else r'(\[|\{"[^"]*":\[(\[|\]))', head))


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises StavisError if it is not JSON."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise StavisError(f"{path}: not a JSON file: {error}") from None
