"""The fixations of a video, kept as the few numbers that scoring needs: each file is read once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stavis import maps
from stavis.datasets.layout import FoldEntry, Layout, find_files, list_numbers
from stavis.errors import StavisError
from stavis.metrics import Indices
from stavis.metrics.frame import Pixels, pixels_of

Quirks = Literal["reference", "fixed"]


@dataclass(frozen=True)
class VideoFixations:
    """All fixations of a video.

    Attributes:
        size: (height, width) of its maps in pixels.
        frames: For each frame its fixated pixels.
    """

    size: tuple[int, int]
    frames: list[Pixels]

    def union(self) -> Indices:
        """The (m,) ascending positions that are fixated in any frame."""
        fixated = np.zeros(self.size[0] * self.size[1], dtype=np.bool_)
        for pixels in self.frames:
            fixated[pixels.positions] = True
        return np.flatnonzero(fixated)


def read_fixations(
    layout: Layout, database: str, entry: FoldEntry, advance: Callable[[int], None] = lambda num: None
) -> VideoFixations:
    """Reads the fixation maps of a video.

    Raises:
        StavisError: One is unreadable or of another size than the first.
    """
    size: tuple[int, int] | None = None
    frames = []
    for frame in range(entry.num_frames):
        path = layout.fixation_map(database, entry.video, frame)
        fixation_map = maps.read_fixation_map(path)
        if size is None:
            size = (fixation_map.shape[0], fixation_map.shape[1])
        elif fixation_map.shape != size:
            raise StavisError(
                f"{path}: {fixation_map.shape[1]}x{fixation_map.shape[0]} pixels, the video's first fixation map has "
                f"{size[1]}x{size[0]}; all must be alike"
            )
        frames.append(pixels_of(fixation_map))
        advance(0)
    assert size is not None
    return VideoFixations(size, frames)


def read_density(layout: Layout, database: str, video: str, frame: int, size: tuple[int, int]) -> maps.Array:
    """Reads the density map of a frame, (H, W) uint8.

    Raises:
        StavisError: It is unreadable, colored, or not of the fixation maps' size.
    """
    path = layout.density_map(database, video, frame)
    density_map = maps.read_density_map(path)
    if density_map.shape != size:
        raise StavisError(
            f"{path}: {density_map.shape[1]}x{density_map.shape[0]} pixels, the fixation maps have "
            f"{size[1]}x{size[0]}; both must be alike"
        )
    return density_map


def check_annotations(layout: Layout, database: str, entries: Sequence[FoldEntry]) -> None:
    """Raises StavisError if a density or fixation map that a fold list names is not there."""
    for entry in dict.fromkeys(entries):
        files = find_files(layout, database, entry)
        folder = layout.annotations_folder(database, entry.video)
        for what, there in (("density maps", files.density_maps), ("fixation maps", files.fixation_maps)):
            if not there.all():
                missing = np.flatnonzero(~there).tolist()
                raise StavisError(
                    f"{folder}: {len(missing)} of {entry.num_frames} {what} missing (number {list_numbers(missing)})"
                )


class SameVideoNegatives:
    """The shuffled AUC's negatives of the protocol "stavis": pixels fixated in the video, not in the frame itself.

    Under quirks "reference", as published, only pixels that *equal 1* in the frame's fixation map are taken out, though
    all above 0 count as fixated; "fixed" takes out all of them. Where maps hold 0 and 1, both are the same.
    """

    def __init__(self, fixations: VideoFixations, quirks: Quirks) -> None:
        self._union = fixations.union()
        self._quirks = quirks

    def of_frame(self, fixated: Pixels) -> Pixels:
        """The negatives for a frame with these fixated pixels."""
        out = fixated.positions[fixated.counts == 1] if self._quirks == "reference" else fixated.positions
        keep = np.ones(self._union.size, dtype=np.bool_)
        keep[np.searchsorted(self._union, out)] = False
        positions = self._union[keep]
        return Pixels(positions, np.ones(positions.size))


class OtherVideosNegatives:
    """Those of the protocols "cross-video" and "tuebingen": pixels fixated in other videos, with their counts."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    def of_frame(self, fixated: Pixels) -> Pixels:
        """The same for every frame: `fixated` does not matter."""
        return self._pixels


Negatives = SameVideoNegatives | OtherVideosNegatives


def merge_scaled(others: Sequence[tuple[tuple[int, int], Pixels]], size: tuple[int, int]) -> Pixels:
    """Lays fixations of videos of several sizes over one of `size`, (height, width), by their place in the picture.

    Args:
        others: For each video its size and its fixated pixels with counts.
        size: (height, width).
    """
    height, width = size
    counts: npt.NDArray[np.float64] = np.zeros(height * width)
    for (other_height, other_width), pixels in others:
        rows, columns = np.divmod(pixels.positions, other_width)
        # A pixel's center is half a pixel from its edge, whatever the size.
        rows = ((rows + 0.5) * height / other_height).astype(np.intp)
        columns = ((columns + 0.5) * width / other_width).astype(np.intp)
        np.add.at(counts, rows * width + columns, pixels.counts)
    positions = np.flatnonzero(counts)
    return Pixels(positions, counts[positions])


def count_fixations(fixations: VideoFixations) -> Pixels:
    """All frames of a video laid over one another: fixated pixels and how often each is."""
    counts: npt.NDArray[np.float64] = np.zeros(fixations.size[0] * fixations.size[1])
    for pixels in fixations.frames:
        counts[pixels.positions] += pixels.counts
    positions = np.flatnonzero(counts)
    return Pixels(positions, counts[positions])
