"""What every engine offers."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stavis.clips import Window


class Engine(Protocol):
    """Turns windows over a stream of frames into saliency maps. Frames are given once each, in order."""

    def add_frame(self, index: int, frame: npt.NDArray[np.uint8]) -> None:
        """Takes the (h, w, 3) RGB frame `index`, already at the network's size."""

    def drop_frames_before(self, index: int) -> None:
        """Forgets the frames before `index`; no later window asks for them."""

    def predict(
        self, windows: Sequence[Window], audio: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.float32]:
        """Computes the maps of a batch of windows.

        Args:
            windows: B windows; all their frames were added and not dropped.
            audio: (B, S) excerpts in -256..256 that go with them; None for a visual network.

        Returns:
            (B, h, w) probabilities.
        """
        ...
