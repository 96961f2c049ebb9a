"""Real gaze on the two shared clips that have it: observers' points per frame, and density maps of some of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import stavis
from stavis import media
from stavis.gaze import GazeOptions, assign_frames, median_per_observer, read_gaze
from stavis.maps import density_from_fixations
from stavis.prediction.map_source import read_maps

MAP_SIZE = (72, 128)  # of density maps; a cell is a tenth of a degree or so


class GazeClip(NamedTuple):
    """A real clip with real gaze.

    Attributes:
        name: What it is called.
        video: Below `shared/media`.
        gaze: Below `shared/gaze`.
        sigma_share: Sigma of its density maps as a share of the picture's width: about one degree.
        screen: (width, height) of the screen that its gaze is in pixels of; None if they are the video's.
    """

    name: str
    video: str
    gaze: str
    sigma_share: float
    screen: tuple[int, int] | None


GAZE_CLIPS = (
    GazeClip("find_012", "find_012_talk.mp4", "find_012", 1 / 32, None),
    GazeClip("dhf1k_002", "dhf1k_002.avi", "dhf1k_002", 1 / 32, (1440, 900)),
)


class Points(NamedTuple):
    """Where observers look: one point per observer and frame, at most.

    Attributes:
        observer: (N,) index of the observer.
        frame: (N,) frame, from 0.
        x: (N,) in pixels of the video.
        y: (N,) likewise.
        num_observers: How many there are.
        num_frames: Frames of the video.
        size: (width, height) of the video in pixels.
    """

    observer: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    num_observers: int
    num_frames: int
    size: tuple[int, int]

    def of_observers(self, chosen: npt.NDArray[np.bool_]) -> "Points":
        """The points of the observers that `chosen` (num_observers,) marks."""
        kept = chosen[self.observer]
        return self._replace(
            observer=self.observer[kept], frame=self.frame[kept], x=self.x[kept], y=self.y[kept]
        )


def read_points(shared: Path, clip: GazeClip) -> Points:
    """Reads a clip's gaze. Fixations only where the recording tells them from saccades."""
    video = shared / "media" / clip.video
    info = media.probe(video)
    starts = np.array([frame.time_seconds for frame in media.read_frames(video)])
    gaze, _ = read_gaze(
        [shared / "gaze" / clip.gaze],
        video=video.stem,
        width=info.width,
        height=info.height,
        options=GazeOptions(screen=clip.screen),
    )
    gaze = median_per_observer(assign_frames(gaze, starts, starts[-1] + 1 / float(info.frame_rate)))
    assert gaze.frame is not None
    return Points(
        gaze.observer, gaze.frame, gaze.x, gaze.y, len(gaze.observers), len(starts), (info.width, info.height)
    )


def density_maps(points: Points, sigma_share: float) -> npt.NDArray[np.float32]:
    """(frames, 72, 128) density of the points, each frame's with a sum of 1; a frame without points is uniform."""
    height, width = MAP_SIZE
    maps = np.empty((points.num_frames, height, width), np.float32)
    scale_x, scale_y = width / points.size[0], height / points.size[1]
    for frame in range(points.num_frames):
        here = points.frame == frame
        counts = np.zeros(MAP_SIZE)
        rows = (points.y[here] * scale_y).astype(int).clip(0, height - 1)
        columns = (points.x[here] * scale_x).astype(int).clip(0, width - 1)
        np.add.at(counts, (rows, columns), 1)
        density = density_from_fixations(counts, sigma_share * width) if here.any() else np.ones(MAP_SIZE)
        maps[frame] = density / density.sum()
    return maps


def predicted_or_cached(folder: Path, video: Path, weights: str, stride: int = 1) -> npt.NDArray[np.floating]:
    """The maps of a video, predicted into `folder` unless they are there already."""
    stavis.predict_files([video], folder, weights=weights, outputs="npz", stride=stride)
    return np.concatenate(list(read_maps(folder / video.stem / "saliency.npz")))
