"""The network behind the stem, rearranged for inference: BatchNorm folded, activations fused, channels last.

The results are those of `STAViS.from_stem` up to rounding. On a CPU the convolutions go straight to oneDNN with weights
packed in advance, where this PyTorch offers that; elsewhere they are ordinary ones.
"""

import copy
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stavis.engine.batch_norm import fold_batch_norm
from stavis.model import STAViS, VisualFeatures
from stavis.model.dsam import DSAM, attend
from stavis.model.resnet3d import BasicBlock, Bottleneck

CHANNELS_LAST = torch.channels_last_3d


class FoldedNetwork(nn.Module):
    """From the stem's output, pooled over time, to the logits.

    Args:
        model: A network in eval mode; it is left as it is.
        fuse: Use oneDNN's fused operators if they are there. Without, it can be traced and exported.
    """

    def __init__(self, model: STAViS, *, fuse: bool = True) -> None:
        super().__init__()
        # A copy with a list of modules of its own: what is not replaced below is shared, not held twice.
        self.model = copy.copy(model)
        self.model._modules = dict(model._modules)
        for name in ("layer1", "layer2", "layer3"):
            stage = getattr(model, name)
            setattr(self.model, name, nn.Sequential(*(FoldedBlock(block, fuse) for block in stage)))
        del self.model.conv1, self.model.bn1
        if model.config.modality == "audiovisual":
            del self.model.soundnet8

    def forward(self, pooled: Tensor, mean: Tensor, sound: Tensor | None) -> Tensor:
        """Computes what the network makes of windows.

        Args:
            pooled: (B, 64, T/2, h, w), the stem's output after ReLU, its maximum over time.
            mean: (B, 64, h, w), its mean over time.
            sound: (B, 1024), None in the visual variant.

        Returns:
            (B, 1, H, W) logits.
        """
        model = self.model
        first = model.score_dsn[0]
        assert isinstance(first, DSAM)
        dsam1 = first.from_mean(mean)
        assert dsam1.attention_logits is not None
        # The attention is positive and constant over time: the maximum over time was taken before it.
        x = attend(pooled, dsam1.attention_logits)
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        x = model.layer1(x.contiguous(memory_format=CHANNELS_LAST))
        dsam2 = model.score_dsn[1](x)
        layer2 = model.layer2(attend(x, dsam2.attention_logits))
        dsam3 = model.score_dsn[2](layer2)
        x = model.layer3(attend(layer2, dsam3.attention_logits))
        dsam4 = model.score_dsn[3](x)
        return model.read_out(VisualFeatures((dsam1, dsam2, dsam3, dsam4), layer2), sound).logits


class FoldedBlock(nn.Module):
    """A residual block, basic or bottleneck."""

    def __init__(self, block: BasicBlock | Bottleneck, fuse: bool) -> None:
        super().__init__()
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        self.convolutions = nn.ModuleList(FoldedConvolution(conv, norm, fuse) for conv, norm in pairs)
        shortcut = block.downsample
        self.shortcut = (
            FoldedConvolution(shortcut[0], shortcut[1], fuse)
            if isinstance(shortcut, nn.Sequential)
            else shortcut
        )

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for convolution in self.convolutions[:-1]:
            out = convolution(out, rectify=True)
        return self.convolutions[-1](out, rectify=True, add=self.shortcut(x))  # type: ignore[no-any-return]


class FoldedConvolution(nn.Module):
    """A convolution with its BatchNorm, an optional sum and an optional ReLU in one."""

    def __init__(self, conv: nn.Module, norm: nn.Module, fuse: bool) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm3d)
        weight, self.bias = fold_batch_norm(conv, norm)
        self.weight: Tensor | None = weight.contiguous(memory_format=CHANNELS_LAST)
        self.stride, self.padding = list(conv.stride), [int(p) for p in conv.padding]
        self._packed: Tensor | None = None
        self._run: Callable[[Tensor, Tensor | None, bool], Tensor] = self._choose() if fuse else self._plain

    def forward(self, x: Tensor, *, rectify: bool = False, add: Tensor | None = None) -> Tensor:
        return self._run(x, add, rectify)

    def _choose(self) -> Callable[[Tensor, Tensor | None, bool], Tensor]:
        if self.bias.device.type != "cpu" or self.bias.dtype != torch.float32 or not fused_operators_work():
            return self._plain
        self._pack()
        self.weight = None  # it is held once, packed
        return self._fused

    def _pack(self) -> None:
        assert self.weight is not None
        self._packed = torch.ops.mkldnn._reorder_convolution_weight(
            self.weight, self.padding, self.stride, [1, 1, 1], 1, [1, self.weight.shape[1], 8, 14, 14]
        )

    def _plain(self, x: Tensor, add: Tensor | None, rectify: bool) -> Tensor:
        assert self.weight is not None
        out = F.conv3d(x, self.weight, self.bias, self.stride, self.padding)
        if add is not None:
            out += add
        return F.relu_(out) if rectify else out

    def _fused(self, x: Tensor, add: Tensor | None, rectify: bool) -> Tensor:
        convolve = torch.ops.mkldnn._convolution_pointwise
        geometry = (self._packed, self.bias, self.padding, self.stride, [1, 1, 1], 1)
        if add is None:
            out: Tensor = convolve(x, *geometry, "relu" if rectify else "none", [], "")
        else:
            out = convolve.binary(x, add, *geometry, "add", 1.0, "relu" if rectify else None, [], None)
        return out


@functools.cache
def fused_operators_work() -> bool:
    """Whether this PyTorch has oneDNN's fused convolutions and they agree with the ordinary ones.

    They are what torch.compile's own CPU backend calls, and not documented, so that it is tried out.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        conv = FoldedConvolution(
            nn.Conv3d(16, 16, 3, padding=1, bias=False).eval(), nn.BatchNorm3d(16).eval(), fuse=False
        )
        x = torch.randn(1, 16, 4, 4, 4).contiguous(memory_format=CHANNELS_LAST)
        try:
            conv._pack()
            return all(
                torch.allclose(
                    conv._fused(x, add, rectify), conv._plain(x, add, rectify), rtol=1e-4, atol=1e-4
                )
                for add in (None, x)
                for rectify in (False, True)
            )
        except (AttributeError, RuntimeError, TypeError, NotImplementedError):
            return False
