"""The network rearranged for inference: consecutive linear operations are merged, activations are fused.

The results are those of `STAViS` up to rounding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stavis.engine.convolution import FoldedConvolution
from stavis.model import STAViS
from stavis.model.dsam import DSAM, NUM_FEATURES, attention
from stavis.model.fusion import SCALE, AudiovisualFusion
from stavis.model.resnet3d import BasicBlock, Bottleneck, is_spatial
from stavis.model.soundnet import SoundNet


class FoldedNetwork(nn.Module):
    """From the stem's output, pooled over time, to the logits.

    BatchNorm is folded into the convolutions. The read-out weighs and adds maps that were enlarged linearly: here they
    are weighed and added first, so that one map is enlarged where it was 16 or 64. So it is with the bilinear form of
    picture and sound: of its 64 results one weighted sum is read out, which is one bilinear form.

    Args:
        model: A network in eval mode; it is not modified.
        fuse: For running as it is: oneDNN's fused operators where they are there, memory in the order that suits them,
            products in place. Without, it can be traced, and run under autocast.

    Attributes:
        has_spatial_layer1: Whether no kernel of layer1 extends over time.
    """

    def __init__(self, model: STAViS, *, fuse: bool = True) -> None:
        super().__init__()
        self.fuse = fuse
        audiovisual = model.config.modality == "audiovisual"
        read_out = model.fuseav if audiovisual else model.fuse
        assert read_out.bias is not None
        self.bias = read_out.bias.detach()
        weights = torch.split(read_out.weight.detach().flatten(), NUM_FEATURES)
        stages = (model.layer1, model.layer2, model.layer3)
        self.stages = nn.ModuleList(
            nn.Sequential(*(FoldedBlock(block, fuse) for block in stage.children())) for stage in stages
        )
        self.has_spatial_layer1 = is_spatial(model.layer1)
        self.sides = nn.ModuleList(
            FoldedSide(dsam, weights[i], attention=i < len(stages)) for i, dsam in enumerate(model.score_dsn)
        )
        self.fusion = (
            FoldedFusion(model.fusion3, torch.cat(weights[len(self.sides) :])) if audiovisual else None
        )

    def forward(self, pooled: Tensor, mean: Tensor, sound: Tensor | None) -> Tensor:
        """Computes the logits (B, 1, H, W) of windows.

        `pooled` (B, 64, T/2, h, w) is the stem's output after ReLU, its maximum over time, and may be overwritten;
        `mean` (B, 64, h, w) is its mean over time, and `sound` (B, 1024), None in the visual variant.
        """
        logits, factor = self.begin(mean)
        return self.finish(self.enter(pooled, factor), logits, sound)

    def begin(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The stem's part of the logits (B, 1, H, W), and its attention (B, 1, 1, h, w), from its mean over time."""
        part, attention_logits = self.sides[0](mean)
        return part, attention(attention_logits)

    def enter(self, pooled: Tensor, factor: Tensor) -> Tensor:
        """layer1's output (B, C, T/2, h/2, w/2), from the stem's maximum over time and attention."""
        # The attention is positive and constant over time, so the maximum over time was taken before it.
        out: Tensor = self.stages[0](self._max_pool(self._attend(pooled, factor)))
        return out

    def finish(self, x: Tensor, logits: Tensor, sound: Tensor | None) -> Tensor:
        """The logits, from layer1's output, which may be overwritten, the stem's part of them, and sound."""
        for number, side in enumerate(self.sides[1:]):
            if number:
                x = self.stages[number](x)
            part, attention_logits = side(self._mean(x))
            logits = logits + part
            if self.fusion is not None and number == 1:
                logits = logits + self.fusion(x, sound)
            if attention_logits is not None:
                x = self._attend(x, attention(attention_logits))
        out: Tensor = logits + self.bias
        return out

    def _attend(self, x: Tensor, factor: Tensor) -> Tensor:
        # In place, as new memory costs more time than the product; a traced graph plans its memory itself.
        return x.mul_(factor) if self.fuse else x * factor

    def _max_pool(self, x: Tensor) -> Tensor:
        """The spatial half of the max-pooling, channels last."""
        if not self.fuse:
            x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
            return x.contiguous(memory_format=torch.channels_last_3d)
        # PyTorch's is 5 times as fast on pictures whose channels lie last; a traced graph is better off without copies.
        pictures = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        pictures = F.max_pool2d(pictures, 3, 2, 1)
        return pictures.reshape(x.shape[0], x.shape[2], *pictures.shape[1:]).transpose(1, 2)

    def _mean(self, x: Tensor) -> Tensor:
        """The mean over time, (B, C, t, h, w) to (B, C, h, w)."""
        if not self.fuse:
            return x.mean(dim=2)
        # In memory order: 20 times faster.
        return x.permute(0, 2, 3, 4, 1).mean(dim=1).permute(0, 3, 1, 2)


class FoldedSide(nn.Module):
    """A DSAM merged with its part of the read-out.

    Args:
        read_out: (16,) weights of its features.
        attention: Whether another stage follows that uses the attention.
    """

    def __init__(self, dsam: nn.Module, read_out: Tensor, *, attention: bool) -> None:
        super().__init__()
        assert isinstance(dsam, DSAM)
        self.side_prep = dsam.side_prep
        self.score_dsn = dsam.score_dsn if attention else None
        self.kernel = torch.einsum("ijhw,j->ihw", dsam.upscale.weight.detach(), read_out)[:, None]
        self.stride = dsam.upscale.stride
        self.padding = [int(one) for one in dsam.upscale.padding]

    def forward(self, mean: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, h, w) to a part of the logits (B, 1, H, W), and the attention's logits (B, 1, h, w)."""
        prepared = self.side_prep(mean)
        attention_logits = None if self.score_dsn is None else self.score_dsn(prepared)
        part = F.conv_transpose2d(prepared, self.kernel, None, self.stride, self.padding)
        return part, attention_logits


class FoldedFusion(nn.Module):
    """The audiovisual fusion merged with its part of the read-out: the (64,) weights of its features."""

    def __init__(self, fusion: AudiovisualFusion, read_out: Tensor) -> None:
        super().__init__()
        self.affine_rgb, self.affine_audio = fusion.affine_rgb, fusion.affine_audio
        self.form = torch.einsum("oij,o->ij", fusion.w_a_rgb.weight.detach(), read_out)
        self.bias = fusion.w_a_rgb.bias.detach() @ read_out

    def forward(self, layer2: Tensor, sound: Tensor) -> Tensor:
        """(B, C, t, h, w) and (B, 1024) to a part of the logits (B, 1, 8 h, 8 w)."""
        time, height, width = layer2.shape[2:]
        middle = layer2[:, :, time // 2 - 1 : time // 2 + 1].mean(dim=2)
        visual = F.relu(self.affine_rgb(middle.flatten(2).transpose(1, 2)))
        audio = F.relu(self.affine_audio(sound)) @ self.form.T
        fused = (visual @ audio[:, :, None] + self.bias).reshape(-1, 1, height, width)
        return F.interpolate(fused, scale_factor=SCALE, mode="bilinear", align_corners=False)


class FoldedBlock(nn.Module):
    """A residual block, basic or bottleneck. It may overwrite its input."""

    def __init__(self, block: nn.Module, fuse: bool) -> None:
        super().__init__()
        assert isinstance(block, BasicBlock | Bottleneck)
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
            out = convolution(out)
        add = (
            self.shortcut(x, rectify=False)
            if isinstance(self.shortcut, FoldedConvolution)
            else self.shortcut(x)
        )
        return self.convolutions[-1](out, add=add)  # type: ignore[no-any-return]


class FoldedSoundNet(nn.Module):
    """SoundNet for excerpts (B, S) in -256..256, to (B, 1024)."""

    def __init__(self, soundnet: SoundNet) -> None:
        super().__init__()
        layers = list(soundnet)
        self.layers = nn.ModuleList()
        for number, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):  # BatchNorm and ReLU follow, some poolings behind them
                self.layers.append(FoldedConvolution(layer, layers[number + 1], fuse=True))
            elif isinstance(layer, nn.MaxPool2d):
                self.layers.append(layer)

    def forward(self, audio: Tensor) -> Tensor:
        x = audio[:, None, None, :]
        for layer in self.layers:
            x = layer(x)
        return x.mean(dim=(2, 3))
