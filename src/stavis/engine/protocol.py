"""Interface of the engines."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from stavis.clips import Window


class Engine(Protocol):
    """Computes saliency maps of windows over a stream of frames, which are added once each, in order."""

    def add_frame(self, index: int, frame: npt.NDArray[np.uint8]) -> None:
        """Adds the (h, w, 3) RGB frame `index`, already at the network's size."""

    def drop_frames_before(self, index: int) -> None:
        """Drops the frames before `index`, which no later window needs."""

    def predict(
        self, windows: Sequence[Window], audio: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.float32]:
        """Computes the maps of a batch of windows.

        Args:
            windows: B windows; all their frames have been added and not dropped.
            audio: (B, S) excerpts in -256..256 of these windows; None for a visual network.

        Returns:
            (B, h, w) probabilities.
        """
        ...


class Example(NamedTuple):
    """A window of the video to be predicted, for calibration."""

    frames: npt.NDArray[np.uint8]  # (T, h, w, 3) RGB at the network's size
    audio: npt.NDArray[np.float32] | None  # (S,) excerpt in -256..256; None for a visual network


class MakeEngine(Protocol):
    """Makes an engine for a video."""

    def __call__(
        self, num_windows: int | None = None, examples: Callable[[], Sequence[Example]] | None = None
    ) -> Engine:
        """Makes an engine for about `num_windows` windows to come, if that is known.

        `examples` returns some of them, spread over the video; called by engines that calibrate on it.
        """
        ...
