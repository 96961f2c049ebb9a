"""Precision of the computation."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from stavis.engine.folded import FoldedNetwork
from stavis.model import STAViS

Precision = Literal["float32", "bf16", "fp16", "int8"]
"""float32 gives the exact maps; bf16 and fp16 (16 bits) and int8 (8 bits) are approximations."""


class AutocastBackend:
    """The network after the stem in bfloat16 or float16 through PyTorch, which keeps sensitive operations in 32."""

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
    """Makes CUDA compute float32 convolutions in full float32; by default it keeps only ten bits of each factor."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
