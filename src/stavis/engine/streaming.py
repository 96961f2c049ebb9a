"""Streaming engine: the stem once per frame, the rest of the network once per window."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stavis.clips import Window
from stavis.engine.folded import FoldedNetwork, FoldedSoundNet
from stavis.engine.precision import without_tf32
from stavis.engine.stage import SharedStage
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
        self._layer1: SharedStage | None = None
        if self._num_at_once == 1 and isinstance(backend, FoldedNetwork) and backend.has_spatial_layer1:
            self._layer1 = SharedStage(backend)
        mean = torch.tensor(model.config.preprocessing.mean, device=self.device)
        self._mean = mean[:, None, None]

    def add_frame(self, index: int, frame: npt.NDArray[np.uint8]) -> None:
        # A copy: pictures are read-only.
        pixels = torch.tensor(frame, device=self.device).permute(2, 0, 1).float()
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
                logits.append(self._predict(windows[some], None if audio is None else audio[some]))
            maps: npt.NDArray[np.float32] = torch.sigmoid(torch.cat(logits))[:, 0].cpu().numpy()
        return maps

    def begin(
        self, windows: Sequence[Window], audio: npt.NDArray[np.float32] | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The inputs of the backend for a batch of windows."""
        stems = [self._stem.window(window.frames) for window in windows]
        pooled = torch.stack([torch.stack(one.maxima, dim=1) for one in stems])
        return pooled, torch.stack([one.mean for one in stems]), self._hear(audio)

    def _predict(self, windows: Sequence[Window], audio: npt.NDArray[np.float32] | None) -> Tensor:
        if self._layer1 is None:
            return self.backend(*self.begin(windows, audio))
        assert isinstance(self.backend, FoldedNetwork)
        [window] = windows
        self._layer1.drop_frames_before(min(window.frames))
        stem = self._stem.window(window.frames)
        logits, attention = self.backend.begin(stem.mean[None])
        return self.backend.finish(self._layer1(stem, attention), logits, self._hear(audio))

    def _hear(self, audio: npt.NDArray[np.float32] | None) -> Tensor | None:
        if audio is None or self._listen is None:
            return None
        return self._listen(torch.from_numpy(audio).to(self.device))
