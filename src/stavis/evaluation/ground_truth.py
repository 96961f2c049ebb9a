"""Density and fixation maps of a video in the published layout."""

from collections.abc import Callable, Sequence

import numpy as np

from stavis import maps
from stavis.datasets.layout import FoldEntry, Layout, find_files, list_numbers
from stavis.errors import StavisError
from stavis.metrics.negatives import VideoFixations, pixels_of


def read_fixations(
    layout: Layout, database: str, entry: FoldEntry, advance: Callable[[int], None] = lambda num: None
) -> VideoFixations:
    """Reads a video's fixation maps. Raises StavisError if one is unreadable or differs in size from the first."""
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
                f"{size[1]}x{size[0]}; all must have the same size"
            )
        frames.append(pixels_of(fixation_map))
        advance(0)
    assert size is not None
    return VideoFixations(size, frames)


def read_density(layout: Layout, database: str, video: str, frame: int, size: tuple[int, int]) -> maps.Array:
    """Reads the density map of a frame, (H, W) uint8.

    Raises StavisError if it is unreadable, colored, or differs in size from the fixation maps.
    """
    path = layout.density_map(database, video, frame)
    density_map = maps.read_density_map(path)
    if density_map.shape != size:
        raise StavisError(
            f"{path}: {density_map.shape[1]}x{density_map.shape[0]} pixels, the fixation maps have "
            f"{size[1]}x{size[0]}; both must have the same size"
        )
    return density_map


def check_annotations(layout: Layout, database: str, entries: Sequence[FoldEntry]) -> None:
    """Raises StavisError if a density or fixation map of a listed video is missing."""
    for entry in dict.fromkeys(entries):
        files = find_files(layout, database, entry)
        folder = layout.annotations_folder(database, entry.video)
        for what, there in (("density maps", files.density_maps), ("fixation maps", files.fixation_maps)):
            if not there.all():
                missing = np.flatnonzero(~there).tolist()
                raise StavisError(
                    f"{folder}: {len(missing)} of {entry.num_frames} {what} missing (number {list_numbers(missing)})"
                )
