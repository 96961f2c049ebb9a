"""The Deeply Supervised Attention Module (Tsiami, Koutras, Maragos: STAViS, CVPR 2020)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

NUM_FEATURES = 16


class DSAMOutput(NamedTuple):
    features: Tensor  # (B, 16, H, W) at the size of the clip, for the read-out
    attention_logits: Tensor | None  # (B, 1, h, w) at the size of the stage; None if unused
    # (B, 1, H, W), the saliency map of this stage; None in the audiovisual network.
    side_logits: Tensor | None


class DSAM(nn.Module):
    """Deeply supervised attention module: features, attention and a side output of a stage, averaged over time.

    Args:
        in_channels: Channels of the stage.
        scale: Height of the clip divided by that of the stage: 2, 4, 8 or 16.
        attention: Whether attention is applied before the next stage.
        side_output: Whether there is a side output for training.
    """

    def __init__(self, in_channels: int, scale: int, *, attention: bool, side_output: bool) -> None:
        super().__init__()
        self.side_prep = nn.Conv2d(in_channels, NUM_FEATURES, kernel_size=3, padding=1)
        self.upscale = _upsampling(NUM_FEATURES, scale)
        self.score_dsn = nn.Conv2d(NUM_FEATURES, 1, kernel_size=1) if attention or side_output else None
        self.upscale_ = _upsampling(1, scale) if side_output else None

    def forward(self, x: Tensor) -> DSAMOutput:
        """Processes the output of a stage (B, C, t, h, w)."""
        prepared = self.side_prep(x.mean(dim=2))
        score = self.score_dsn(prepared) if self.score_dsn is not None else None
        side_logits = self.upscale_(score) if self.upscale_ is not None else None
        return DSAMOutput(self.upscale(prepared), score, side_logits)


def attend(x: Tensor, attention_logits: Tensor) -> Tensor:
    """Multiplies the output of a stage (B, C, t, h, w) by its attention."""
    return x * attention(attention_logits)


def attention(logits: Tensor) -> Tensor:
    """Returns the attention factor (B, 1, 1, h, w): 1 plus the softmax of (B, 1, h, w) over all positions."""
    share = torch.softmax(logits.flatten(2), dim=2).view_as(logits)
    return (1 + share).unsqueeze(2)


def bilinear_kernel(size: int) -> Tensor:
    """Returns the kernel (size, size) that upsamples bilinearly at stride size / 2."""
    half = size / 2
    line = 1 - (torch.arange(size, dtype=torch.float32) + 0.5 - half).abs() / half
    return torch.outer(line, line)


def _upsampling(num_channels: int, scale: int) -> nn.ConvTranspose2d:
    # The published code crops an unpadded transposed convolution centrally. Where the clip's sides are
    # multiples of 16 the surplus is `scale` rows and columns, half on either side, and a padding of half the
    # stride leaves out the same.
    return nn.ConvTranspose2d(
        num_channels, num_channels, kernel_size=2 * scale, stride=scale, padding=scale // 2, bias=False
    )
