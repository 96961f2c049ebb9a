"""layer1 once per time step instead of once per window, for networks whose layer1 has no temporal kernels.

Each time step of layer1 then depends on its own maximum of the stem's output and on the attention alone. Neighboring
windows share the maxima, and their attentions, 1 plus a softmax over thousands of positions, differ by little. A step
is shared as long as the attention has changed by at most `LARGEST_CHANGE` anywhere, and computed anew otherwise, as
after a cut.
"""

import torch
from torch import Tensor

from stavis.engine.folded import FoldedNetwork
from stavis.engine.stem import StemOutput, Step, first_frame, is_whole

LARGEST_CHANGE = 2.5e-4
"""Of the attention's factor, which is at least 1. It keeps the maps within 1e-4 of those of the plain forward pass, as
all engines must (tests/engine)."""


class SharedStage:
    """Attention, max-pooling and layer1 of windows over a stream of frames, where `has_spatial_layer1` is true."""

    def __init__(self, network: FoldedNetwork) -> None:
        self._network = network
        # Time step -> its output (1, C, 1, h, w), and the attention (1, 1, 1, h, w) that it was computed with.
        self._kept: dict[Step, tuple[Tensor, Tensor]] = {}

    def __call__(self, stem: StemOutput, attention: Tensor) -> Tensor:
        """Computes layer1's output (1, C, T/2, h, w) for one window."""
        changes: dict[int, float] = {}  # by the attention's id: steps that were computed together share one

        def change(old: Tensor) -> float:
            if id(old) not in changes:
                changes[id(old)] = float((old - attention).abs().max())
            return changes[id(old)]

        found = [self._kept.get(step) for step in stem.steps]
        missing = [i for i, one in enumerate(found) if one is None or change(one[1]) > LARGEST_CHANGE]
        if missing:
            pooled = torch.stack([stem.maxima[number] for number in missing], dim=1)[None]
            computed = self._network.enter(pooled, attention)
            for place, number in enumerate(missing):
                found[number] = (computed[:, :, place : place + 1], attention)
        self._kept |= {
            step: one
            for step, one in zip(stem.steps, found, strict=True)
            if one is not None and is_whole(step)
        }
        return torch.cat([one[0] for one in found if one is not None], dim=2)

    def drop_frames_before(self, index: int) -> None:
        for step in [step for step in self._kept if first_frame(step) < index]:
            del self._kept[step]
