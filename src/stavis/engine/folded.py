"""The network behind the stem, rearranged for inference: BatchNorm folded, activations fused, channels last.

The results are those of `STAViS.from_stem` up to rounding. On a CPU the convolutions go straight to oneDNN with weights
packed in advance, where this PyTorch offers that; elsewhere they are ordinary ones.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stavis.model import STAViS, VisualFeatures
from stavis.model.dsam import attend
from stavis.model.resnet3d import BasicBlock, Bottleneck

CHANNELS_LAST = torch.channels_last_3d


class FoldedNetwork(nn.Module):
    """From the stem's output, pooled over time, to the logits.

    Args:
        model: A network in eval mode; it is left as it is.
    """

    def __init__(self, model: STAViS) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        for name in ("layer1", "layer2", "layer3"):
            stage = getattr(self.model, name)
            setattr(self.model, name, nn.Sequential(*(FoldedBlock(block) for block in stage)))
        del self.model.conv1, self.model.bn1

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
        dsam1 = model.score_dsn[0].from_mean(mean)
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

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        self.convolutions = nn.ModuleList(FoldedConvolution(conv, norm) for conv, norm in pairs)
        shortcut = block.downsample
        self.shortcut = FoldedConvolution(*shortcut) if isinstance(shortcut, nn.Sequential) else shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for convolution in self.convolutions[:-1]:
            out = convolution(out, rectify=True)
        return self.convolutions[-1](out, rectify=True, add=self.shortcut(x))  # type: ignore[no-any-return]


class FoldedConvolution(nn.Module):
    """A convolution with its BatchNorm, an optional sum and an optional ReLU in one."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm3d)
        folded = nn.utils.fuse_conv_bn_eval(conv, norm)
        assert folded.bias is not None
        self.weight = folded.weight.detach().contiguous(memory_format=CHANNELS_LAST)
        self.bias = folded.bias.detach()
        self.stride, self.padding = list(conv.stride), [int(p) for p in conv.padding]
        self._packed: Tensor | None = None
        self._run: Callable[[Tensor, Tensor | None, bool], Tensor] = self._choose()

    def forward(self, x: Tensor, *, rectify: bool = False, add: Tensor | None = None) -> Tensor:
        return self._run(x, add, rectify)

    def _choose(self) -> Callable[[Tensor, Tensor | None, bool], Tensor]:
        if self.weight.device.type != "cpu" or self.weight.dtype != torch.float32:
            return self._plain
        # These operators are what torch.compile's own CPU backend calls. They are not documented, so that whether they
        # are there, and agree, is tried out once.
        try:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, self.stride, [1, 1, 1], 1, [1, self.weight.shape[1], 8, 14, 14]
            )
            x = torch.linspace(-1, 1, self.weight.shape[1] * 64).view(1, -1, 4, 4, 4)
            x = x.contiguous(memory_format=CHANNELS_LAST)
            expected = self._plain(x, None, False)
            add = torch.linspace(-1, 1, expected.numel()).view_as(expected)
            for other in (None, add.contiguous(memory_format=CHANNELS_LAST)):
                for rectify in (False, True):
                    difference = self._fused(x, other, rectify) - self._plain(x, other, rectify)
                    if not difference.abs().max() <= 1e-4 * expected.abs().max().clamp(min=1):
                        return self._plain
        except (AttributeError, RuntimeError, TypeError, NotImplementedError):
            return self._plain
        return self._fused

    def _plain(self, x: Tensor, add: Tensor | None, rectify: bool) -> Tensor:
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
