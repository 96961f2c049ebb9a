"""Shot cuts, detected from the pictures' content."""

from collections import deque

import numpy as np
import numpy.typing as npt
from PIL import Image

THUMBNAIL_SIZE = (48, 27)  # pixels; small enough that motion within a shot changes little
SMALLEST_DIFFERENCE = 10.0  # mean absolute difference of a cut's two pictures, in levels of 255
SMALLEST_CONTRAST = 2.5  # a cut's difference over the largest one nearby
SMALLEST_HISTOGRAM_CHANGE = 0.15  # share of pixels whose color class changes
NEIGHBORS = 5  # frames on either side that count as nearby
FLASH_FRAMES = 8  # a picture that comes back within this many frames was interrupted, not cut


class ShotDetector:
    """Finds the first frame of each shot of a video that is fed frame by frame.

    A cut is a difference between two consecutive pictures that is large in itself, large in its colors, and several
    times larger than all those nearby. Gradual transitions (fades, dissolves) and flashes of light are not cuts.
    Memory holds a few numbers per frame.
    """

    def __init__(self) -> None:
        self._recent: deque[npt.NDArray[np.int16]] = deque(maxlen=FLASH_FRAMES + 1)
        self._last_histogram: npt.NDArray[np.float64] | None = None
        self._differences: list[npt.NDArray[np.float32]] = []  # to the 1, 2, ... frames before
        self._histogram_changes: list[float] = []

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """Adds the next picture, (H, W, 3) RGB."""
        small = Image.fromarray(image).resize(THUMBNAIL_SIZE, Image.Resampling.BOX, reducing_gap=1.0)
        thumbnail = np.asarray(small, np.int16)
        differences = np.full(FLASH_FRAMES + 1, np.inf, np.float32)
        for number, earlier in enumerate(reversed(self._recent)):
            differences[number] = np.abs(thumbnail - earlier).mean()
        classes = (thumbnail // 64) @ np.array([16, 4, 1])
        histogram = np.bincount(classes.ravel(), minlength=64) / classes.size
        before = self._last_histogram
        self._histogram_changes.append(0.0 if before is None else float(np.abs(histogram - before).sum() / 2))
        self._differences.append(differences)
        self._recent.append(thumbnail)
        self._last_histogram = histogram

    def shot_starts(self) -> list[int]:
        """The index of each shot's first frame; the first is 0. Empty if there were no frames."""
        num_frames = len(self._differences)
        steps = np.array([row[0] for row in self._differences])
        return [frame for frame in range(num_frames) if frame == 0 or self._is_cut(frame, steps)]

    def _is_cut(self, frame: int, steps: npt.NDArray[np.float32]) -> bool:
        step = steps[frame]
        if step < SMALLEST_DIFFERENCE or self._histogram_changes[frame] < SMALLEST_HISTOGRAM_CHANGE:
            return False
        nearby = [*steps[max(1, frame - NEIGHBORS) : frame], *steps[frame + 1 : frame + 1 + NEIGHBORS]]
        if nearby and step < SMALLEST_CONTRAST * max(nearby):
            return False
        later = range(1, min(FLASH_FRAMES, len(steps) - 1 - frame) + 1)
        returns = [self._differences[frame + number][number] for number in later]
        return not returns or min(returns) > 0.5 * step
