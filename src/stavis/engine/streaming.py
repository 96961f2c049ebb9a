"""The streaming engine: the stem once a frame, the rest of the network once a window."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stavis.clips import Window
from stavis.engine.precision import without_tf32
from stavis.engine.stem import StemCache
from stavis.model import STAViS

Backend = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From pooled (B, 64, T/2, h, w), mean (B, 64, h, w) and sound (B, 1024) to logits (B, 1, H, W)."""


class StreamingEngine:
    """Exact inference that shares between windows what can be shared.

    Args:
        model: A network in eval mode, on the device that it is to run on.
        backend: What computes the network behind the stem.
    """

    def __init__(self, model: STAViS, backend: Backend) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.backend = backend
        self._stem = StemCache(model)
        mean = torch.tensor(model.config.preprocessing.mean, device=self.device)
        self._mean = mean[:, None, None]

    def add_frame(self, index: int, frame: npt.NDArray[np.uint8]) -> None:
        pixels = (
            torch.tensor(frame, device=self.device).permute(2, 0, 1).float()
        )  # a copy: pictures are read-only
        with torch.inference_mode():
            self._stem.add_frame(index, pixels - self._mean)

    def drop_frames_before(self, index: int) -> None:
        self._stem.drop_frames_before(index)

    def predict(
        self, windows: Sequence[Window], audio: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.float32]:
        with torch.inference_mode(), without_tf32():
            logits = self.backend(*self.begin(windows, audio))
            maps: npt.NDArray[np.float32] = torch.sigmoid(logits)[:, 0].float().cpu().numpy()
        return maps

    def begin(
        self, windows: Sequence[Window], audio: npt.NDArray[np.float32] | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the backend gets of a batch of windows."""
        sound = None if audio is None else self.model.listen(torch.from_numpy(audio).to(self.device))
        pooled, means = zip(*(self._stem.window(window.frames) for window in windows), strict=True)
        return torch.stack(pooled), torch.stack(means), sound
