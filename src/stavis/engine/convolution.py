"""Convolution fused with the BatchNorm, sum and ReLU that follow it, for inference.

On a CPU it goes straight to oneDNN with weights packed in advance, where this PyTorch offers that; elsewhere it is an
ordinary one.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stavis.engine.batch_norm import fold_batch_norm


class FoldedConvolution(nn.Module):
    """A 2D or 3D convolution with its BatchNorm, an optional sum and an optional ReLU.

    Args:
        conv: An `nn.Conv2d` or `nn.Conv3d`.
        norm: The BatchNorm after it, in eval mode.
        fuse: Use oneDNN's fused operators if available. Without them the module can be traced and exported.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module, fuse: bool) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d)
        flat = isinstance(conv, nn.Conv2d)
        self._convolve = F.conv2d if flat else F.conv3d
        self.memory_format = torch.channels_last if flat else torch.channels_last_3d
        weight, bias = fold_batch_norm(conv, norm)
        # Buffers, as PyTorch never forgets what it has traced: a buffer by its name, other tensors with their values.
        self.weight: Tensor | None
        self.bias: Tensor
        self.register_buffer("weight", weight.contiguous(memory_format=self.memory_format))
        self.register_buffer("bias", bias)
        self.stride, self.padding = list(conv.stride), [int(p) for p in conv.padding]
        self._packed: Tensor | None = None
        fused = (
            fuse and weight.device.type == "cpu" and weight.dtype == torch.float32 and fused_operators_work()
        )
        self._run: Callable[[Tensor, Tensor | None, bool], Tensor] = self._fused if fused else self._plain

    def forward(self, x: Tensor, *, rectify: bool = True, add: Tensor | None = None) -> Tensor:
        """Computes the convolution of `x`, plus `add`, which may be overwritten, its negative values set to 0 if
        `rectify`.
        """
        return self._run(x, add, rectify)

    def _plain(self, x: Tensor, add: Tensor | None, rectify: bool) -> Tensor:
        assert self.weight is not None
        out: Tensor = self._convolve(x, self.weight, self.bias, self.stride, self.padding)
        if add is not None:
            out += add
        return F.relu_(out) if rectify else out

    def _fused(self, x: Tensor, add: Tensor | None, rectify: bool) -> Tensor:
        x = x.contiguous(memory_format=self.memory_format)
        dilation, groups = [1] * len(self.stride), 1
        if self._packed is None:
            # Which order of the weights is best depends on the input's size, and another one's can take 50 times as
            # long (Xeon, 1x1x1). A network's inputs have one size, so the first decides; others are right, too.
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, self.stride, dilation, groups, [1, *x.shape[1:]]
            )
            self.weight = None  # stored once, packed
        geometry = (self._packed, self.bias, self.padding, self.stride, dilation, groups)
        if add is None:
            convolve = torch.ops.mkldnn._convolution_pointwise
            out: Tensor = convolve(x, *geometry, "relu" if rectify else "none", [], "")
            return out
        accumulate = torch.ops.mkldnn._convolution_pointwise_.binary
        add = add.contiguous(memory_format=self.memory_format)
        out = accumulate(add, x, *geometry, "add", 1.0, "relu" if rectify else None, [], None)
        return out


@functools.cache
def fused_operators_work() -> bool:
    """Whether this PyTorch has oneDNN's fused convolutions and they agree with the regular ones.

    torch.compile's CPU backend uses them, but they are not documented, so they are tried out.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.default_generator.manual_seed(0)  # not torch.manual_seed, which seeds the GPUs' as well
        pairs: list[tuple[nn.Module, nn.Module]] = [
            (nn.Conv3d(16, 16, 3, padding=1, bias=False), nn.BatchNorm3d(16)),
            (nn.Conv3d(16, 16, 1, bias=False), nn.BatchNorm3d(16)),
            (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)),
        ]
        try:
            return all(_fuses_well(conv, norm.eval()) for conv, norm in pairs)
        except (AttributeError, RuntimeError, TypeError, NotImplementedError):
            return False


def _fuses_well(conv: nn.Module, norm: nn.Module) -> bool:
    plain, fused = (FoldedConvolution(conv, norm, fuse=False) for _ in range(2))
    x = torch.randn(1, 16, *([4] * len(plain.stride)))
    return all(
        torch.allclose(
            fused._fused(x, None if add is None else add.clone(), rectify),
            plain._plain(x, add, rectify),
            rtol=1e-4,
            atol=1e-4,
        )
        for add in (None, x)
        for rectify in (False, True)
    )
