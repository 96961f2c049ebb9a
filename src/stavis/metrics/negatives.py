"""Fixations of whole videos, and the negatives of the shuffled AUC drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from stavis import maps
from stavis.metrics.checks import Array, Float64, Indices

Quirks = Literal["reference", "fixed"]


class Pixels(NamedTuple):
    """Pixels of a map with a count each."""

    positions: Indices  # (n,) flat indices into the map, row by row, ascending and distinct
    counts: Array  # (n,) numbers of fixations; only the protocol "tuebingen" uses them


def pixels_of(fixation_map: Array) -> Pixels:
    """The pixels above 0 of an (H, W) map: a compact form, so that a whole video's fixations fit into memory."""
    positions = maps.fixated_pixels(fixation_map)
    rows, columns = np.divmod(positions, fixation_map.shape[1])
    return Pixels(positions, fixation_map[rows, columns])


@dataclass(frozen=True)
class VideoFixations:
    """All fixations of a video."""

    size: tuple[int, int]  # (height, width) of its maps in pixels
    frames: list[Pixels]  # the fixated pixels of each frame

    def union(self) -> Indices:
        """The (m,) ascending positions that are fixated in any frame."""
        fixated = np.zeros(self.size[0] * self.size[1], dtype=np.bool_)
        for pixels in self.frames:
            fixated[pixels.positions] = True
        return np.flatnonzero(fixated)

    def counts(self) -> Pixels:
        """The pixels fixated in any frame, each with the number of its fixations in all frames."""
        counts: Float64 = np.zeros(self.size[0] * self.size[1])
        for pixels in self.frames:
            counts[pixels.positions] += pixels.counts
        positions = np.flatnonzero(counts)
        return Pixels(positions, counts[positions])


class SameVideoNegatives:
    """Negatives of the protocol "stavis": pixels fixated in the video, except those fixated in the frame itself.

    Under quirks "reference", as published, only pixels that *equal 1* in the frame's fixation map are excluded,
    although all above 0 count as fixated; "fixed" excludes all of them. For maps of 0 and 1, both are the same.
    """

    def __init__(self, fixations: VideoFixations, quirks: Quirks) -> None:
        if quirks not in get_args(Quirks):
            raise ValueError(f"quirks is {quirks!r}; allowed: {', '.join(get_args(Quirks))}")
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
    """Negatives of the protocols "cross-video" and "tuebingen": pixels fixated in other videos, with their counts."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    def of_frame(self, fixated: Pixels) -> Pixels:
        """The same for every frame, whatever is fixated in it."""
        return self._pixels


Negatives = SameVideoNegatives | OtherVideosNegatives


def merge_scaled(others: Sequence[tuple[tuple[int, int], Pixels]], size: tuple[int, int]) -> Pixels:
    """Superimposes fixations of videos of several sizes on a map of `size`, (height, width), by relative position."""
    height, width = size
    counts: Float64 = np.zeros(height * width)
    for (other_height, other_width), pixels in others:
        rows, columns = np.divmod(pixels.positions, other_width)
        # A pixel's center is half a pixel from its edge, whatever the size.
        rows = ((rows + 0.5) * height / other_height).astype(np.intp)
        columns = ((columns + 0.5) * width / other_width).astype(np.intp)
        np.add.at(counts, rows * width + columns, pixels.counts)
    positions = np.flatnonzero(counts)
    return Pixels(positions, counts[positions])
