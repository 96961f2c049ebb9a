"""Streaming engine: the stem once per frame, the rest of the network once per window."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stavis.clips import Window
from stavis.engine.folded import FoldedSoundNet
from stavis.engine.precision import without_tf32
from stavis.engine.stem import StemCache
from stavis.model import STAViS

Backend = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From pooled (B, 64, T/2, h, w), mean (B, 64, h, w) and sound (B, 1024) to logits (B, 1, H, W). The first may be
overwritten."""


class StreamingEngine:
    """Exact inference that computes what windows share only once.

    Args:
        model: A network in eval mode, on the device to run on.
        backend: Computes the network after the stem.
        listen: Computes audio features (B, 1024) from excerpts (B, S). Default: made from the model.
    """

    def __init__(
        self, model: STAViS, backend: Backend, listen: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.backend = backend
        self._stem = StemCache(model)
        if listen is None and model.config.modality == "audiovisual":
            listen = FoldedSoundNet(model.soundnet8)
        self._listen = listen
        # One window keeps all cores of a CPU busy, and the tensors of several do not fit into its caches.
        self._num_at_once = 1 if self.device.type == "cpu" else None
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
        num = self._num_at_once or len(windows)
        logits = []
        with torch.inference_mode(), without_tf32():
            for first in range(0, len(windows), num):
                some = slice(first, first + num)
                logits.append(
                    self.backend(*self.begin(windows[some], None if audio is None else audio[some]))
                )
            maps: npt.NDArray[np.float32] = torch.sigmoid(torch.cat(logits))[:, 0].cpu().numpy()
        return maps

    def begin(
        self, windows: Sequence[Window], audio: npt.NDArray[np.float32] | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The inputs of the backend for a batch of windows."""
        sound = None
        if audio is not None and self._listen is not None:
            sound = self._listen(torch.from_numpy(audio).to(self.device))
        pooled, means = zip(*(self._stem.window(window.frames) for window in windows), strict=True)
        return _stack(pooled), _stack(means), sound


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tuple(tensors))
