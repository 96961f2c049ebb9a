"""Plain forward pass of a whole clip per window: slow and simple, the reference for all other engines."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from stavis.clips import Window
from stavis.clips.preprocess import make_clip
from stavis.engine.precision import without_tf32
from stavis.model import STAViS


class PlainEngine:
    """Runs `model(clips, audio)` on every window.

    Args:
        model: A network in eval mode, on the device to run on.
    """

    def __init__(self, model: STAViS) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._frames: dict[int, npt.NDArray[np.uint8]] = {}

    def add_frame(self, index: int, frame: npt.NDArray[np.uint8]) -> None:
        self._frames[index] = frame

    def drop_frames_before(self, index: int) -> None:
        for old in [i for i in self._frames if i < index]:
            del self._frames[old]

    def predict(
        self, windows: Sequence[Window], audio: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.float32]:
        preprocessing = self.model.config.preprocessing
        clips = torch.stack(
            [torch.from_numpy(make_clip([self._frames[i] for i in w.frames], preprocessing)) for w in windows]
        )
        excerpts = None if audio is None else torch.from_numpy(audio).to(self.device)
        with torch.inference_mode(), without_tf32():
            logits = self.model(clips.to(self.device), excerpts).logits
            maps: npt.NDArray[np.float32] = torch.sigmoid(logits)[:, 0].float().cpu().numpy()
        return maps
