"""How exactly a network is computed."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from stavis.engine.folded import FoldedNetwork
from stavis.model import STAViS

Precision = Literal["float32", "bf16", "fp16", "int8"]
"""float32 gives the exact maps. The others are approximations: bf16 and fp16 compute in 16 bits, int8 in 8."""


class AutocastBackend:
    """The network behind the stem in 16 bits, through PyTorch; what loses much by it PyTorch leaves in 32.

    Args:
        model: A network in eval mode, on the device that it is to run on.
        dtype: `torch.bfloat16` or `torch.float16`.
    """

    def __init__(self, model: STAViS, dtype: torch.dtype) -> None:
        self.network = FoldedNetwork(model, fuse=False)
        self.device_type = next(model.parameters()).device.type
        self.dtype = dtype

    def __call__(self, pooled: Tensor, mean: Tensor, sound: Tensor | None) -> Tensor:
        with torch.autocast(self.device_type, self.dtype):
            logits: Tensor = self.network(pooled, mean, sound)
        return logits.float()


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Has CUDA compute float32 convolutions in float32: by default it keeps ten bits of each factor only."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
