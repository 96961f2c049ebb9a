"""Fusion of audio and vision (Tsiami, Koutras, Maragos: STAViS, CVPR 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stavis.model import soundnet

NUM_HIDDEN = 128
NUM_FEATURES = 64
SCALE = 8  # height of the clip divided by that of layer2's output


class AudiovisualFusion(nn.Module):
    """Bilinear fusion of the features of each position with those of the audio: a localization of the sound."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.affine_rgb = nn.Linear(in_channels, NUM_HIDDEN)
        self.affine_audio = nn.Linear(soundnet.NUM_FEATURES, NUM_HIDDEN)
        self.w_a_rgb = nn.Bilinear(NUM_HIDDEN, NUM_HIDDEN, NUM_FEATURES)

    def forward(self, layer2: Tensor, sound: Tensor) -> Tensor:
        """Fuses the output of layer2 before attention (B, C, T/4, H/8, W/8) with audio (B, 1024) to (B, 64, H, W)."""
        fused = self.fuse(self.middle(layer2), sound)
        return F.interpolate(fused, scale_factor=SCALE, mode="bilinear", align_corners=False)

    def fuse(self, middle: Tensor, sound: Tensor) -> Tensor:
        """Fuses layer2's middle (B, C, h, w) with (B, 1024) to (B, 64, h, w)."""
        batch, _, height, width = middle.shape
        visual = F.relu(self.affine_rgb(middle.flatten(2).transpose(1, 2)))
        audio = F.relu(self.affine_audio(sound))
        # All positions of a clip share one audio vector, so `w_a_rgb` is applied to it first, which leaves a matrix.
        matrix = torch.einsum("oij,bj->boi", self.w_a_rgb.weight, audio)
        fused = torch.matmul(matrix, visual.transpose(1, 2)) + self.w_a_rgb.bias[:, None]
        return fused.reshape(batch, NUM_FEATURES, height, width)

    @staticmethod
    def middle(layer2: Tensor) -> Tensor:
        """The mean of layer2's middle two time steps: (B, C, t, h, w) to (B, C, h, w)."""
        time = layer2.shape[2]
        return layer2[:, :, max(0, time // 2 - 1) : time // 2 + 1].mean(dim=2)
