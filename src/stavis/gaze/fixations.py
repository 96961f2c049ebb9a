"""Gaze as fixated pixels of each frame, its observers joined: folders of PNG, and the saliency challenges' JSON."""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from stavis.errors import StavisError
from stavis.gaze.recording import Recording

UNKNOWN = ("unknown",)


def numbered_images(folder: Path) -> dict[int, Path]:
    """The PNG files of `folder` whose names are a number, perhaps behind letters, by that number."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*.png")):
        match = re.fullmatch(r"(?:.*\D)?(\d+)", path.stem)
        if match:
            if int(match[1]) in found:
                raise StavisError(
                    f"{folder}: {found[int(match[1])].name} and {path.name} have the same number"
                )
            found[int(match[1])] = path
    return found


def read_fixation_images(folder: Path, *, frame_origin: int) -> Recording:
    """Reads a folder of fixation maps, one PNG a frame (`0001.png`, DHF1K), in which every pixel above 0 is a fixation.

    Args:
        folder: Holds the images, or a folder `fixation` that does.
        frame_origin: The number of the first frame, 0 or 1.

    Raises:
        StavisError: There is no numbered PNG, or two differ in size.
    """
    images = numbered_images(folder) or numbered_images(folder / "fixation")
    if not images:
        raise StavisError(
            f"{folder}: no numbered PNG file in it; a folder of fixation maps has 0001.png, 0002.png, ..."
        )
    size: tuple[int, int] | None = None
    frames, xs, ys = [], [], []
    for number, path in sorted(images.items()):
        try:
            with Image.open(path) as image:
                pixels = np.asarray(
                    image.convert("L") if image.mode not in ("L", "1", "I;16", "I") else image
                )
        except (OSError, SyntaxError) as error:
            raise StavisError(f"{path}: not a readable PNG file: {error}") from None
        if size is not None and size != pixels.shape[::-1]:
            raise StavisError(
                f"{path}: {pixels.shape[1]}x{pixels.shape[0]}, but those before it {size[0]}x{size[1]}"
            )
        size = (pixels.shape[1], pixels.shape[0])
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


def read_challenge_json(path: Path, *, video: str | None) -> Recording:
    """Reads `fixations.json` of the AIM 2024 and NTIRE 2026 video saliency challenges.

    It is a list with one entry a frame, each a list of points `[row, column]` (y before x), in pixels of the video
    from 0: the challenges' own scoring indexes a saliency map's rows with the first number and its columns with the
    second one. Observers are not told apart, and points may repeat. `{"<video>": [...], ...}` is read as well.

    Args:
        path: The file.
        video: Which entry, where the file is such a dictionary.

    Raises:
        StavisError: It is no JSON of that form, or has no entry for the video.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StavisError(f"{path}: not a JSON file: {error}") from None
    if isinstance(content, dict):
        key = next((key for key in content if video in (key, Path(key).stem)), None)
        if key is None:
            raise StavisError(
                f"{path}: no entry for video {video!r}; it has {len(content)}: {_some(content)}"
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
            if not (
                isinstance(point, list) and len(point) == 2 and all(isinstance(c, int | float) for c in point)
            ):
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


def _some(names: dict[str, object]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")
