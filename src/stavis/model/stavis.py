"""The STAViS network: clips and audio to saliency logits.

Tsiami, Koutras, Maragos: STAViS: Spatio-Temporal AudioVisual Saliency Network. CVPR 2020.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stavis.model import dsam, fusion, soundnet
from stavis.model.config import (
    LENGTH_MULTIPLE,
    MIN_SIDE,
    SIDE_MULTIPLE,
    ModelConfig,
    fits_length,
    fits_side,
)
from stavis.model.dsam import DSAM, DSAMOutput, attend, bilinear_kernel
from stavis.model.fusion import AudiovisualFusion
from stavis.model.resnet3d import ResNet3D
from stavis.model.soundnet import SoundNet

INITIAL_LOGIT_BIAS = -6.0


class Prediction(NamedTuple):
    """Predicted saliency maps before the sigmoid.

    Attributes:
        logits: (B, 1, H, W), for the target frame of each clip.
        side_logits: The four side outputs of the visual network, each (B, 1, H, W); empty for the audiovisual one.
    """

    logits: Tensor
    side_logits: tuple[Tensor, ...]


class VisualFeatures(NamedTuple):
    """Output of the visual stages for fusion and read-out."""

    dsam: tuple[DSAMOutput, ...]  # outputs of the four modules, in the order of the stages
    layer2: Tensor  # (B, C, T/4, H/8, W/8) before attention


class STAViS(ResNet3D):
    """The STAViS network, audiovisual or visual.

    It has exactly the parameters that its training uses: the audiovisual network has no side outputs and no attention
    after layer3, the visual one no SoundNet and no fusion. Names in the state dict are the published ones.

    `forward` calls `listen`, `conv1`, `see` and `read_out`.

    Args:
        config: Modality, depth and shortcut. The weights are freshly initialized as published.
    """

    def __init__(self, config: ModelConfig | None = None) -> None:
        config = config or ModelConfig()
        super().__init__(config.depth, config.shortcut)
        self.config = config
        audiovisual = config.modality == "audiovisual"
        self.score_dsn = nn.ModuleList(
            DSAM(channels, 2**i, attention=i < 4, side_output=not audiovisual)
            for i, channels in enumerate(self.num_channels, start=1)
        )
        num_features = len(self.num_channels) * dsam.NUM_FEATURES
        if audiovisual:
            self.soundnet8 = SoundNet()
            self.fusion3 = AudiovisualFusion(self.num_channels[2])
            self.fuseav = nn.Conv2d(num_features + fusion.NUM_FEATURES, 1, kernel_size=1)
        else:
            self.fuse = nn.Conv2d(num_features, 1, kernel_size=1)
        initialize_as_published(self)

    def forward(self, clips: Tensor, audio: Tensor | None = None) -> Prediction:
        """Predicts the saliency map of the target frame of each clip.

        Args:
            clips: (B, 3, T, H, W), RGB in 0..255 minus the mean. H and W are multiples of 16 from 64; T is a
                multiple of 8 (visual) or 16 (audiovisual), or 1: a still picture, for which the network is the 2D
                network of its middle temporal slices. Published weights were trained at 16 x 112 x 112.
            audio: (B, 1, 1, S) or (B, S) in -256..256, S at least 12,766; published weights were trained at
                35,280. The visual network ignores it.

        Raises:
            ValueError: A shape is not one of these, or the audiovisual network gets no audio.
        """
        if clips.ndim == 2:
            return self._fuse_encoded(clips, audio)
        self._check_clips(clips)
        sound = self.listen(audio, batch=clips.shape[0]) if self.config.modality == "audiovisual" else None
        return self.read_out(self.see(self.conv1(clips)), sound)

    def see(self, stem: Tensor) -> VisualFeatures:
        """Applies the visual stages and the attention between them to the output of `conv1`."""
        x = self.activate_stem(stem)
        dsam1 = self.score_dsn[0](x)
        x = self.layer1(self.max_pool(attend(x, dsam1.attention_logits)))
        dsam2 = self.score_dsn[1](x)
        layer2 = self.layer2(attend(x, dsam2.attention_logits))
        dsam3 = self.score_dsn[2](layer2)
        x = self.layer3(attend(layer2, dsam3.attention_logits))
        dsam4 = self.score_dsn[3](x)
        return VisualFeatures((dsam1, dsam2, dsam3, dsam4), layer2)

    def listen(self, audio: Tensor | None, *, batch: int | None = None) -> Tensor:
        """Computes one vector (B, 1024) for the audio of each clip, (B, 1, 1, S) or (B, S).

        Raises:
            ValueError: There is no audio, or its shape does not fit `batch` clips.
        """
        size = "B" if batch is None else batch
        expected = f"({size}, 1, 1, S) or ({size}, S) with S at least {soundnet.MIN_NUM_SAMPLES}"
        if audio is None:
            raise ValueError(f"an audiovisual network needs audio {expected}; zeros for a silent clip")
        if (
            audio.ndim not in (2, 4)
            or (audio.ndim == 4 and audio.shape[1:3] != (1, 1))
            or (batch is not None and audio.shape[0] != batch)
            or audio.shape[-1] < soundnet.MIN_NUM_SAMPLES
        ):
            raise ValueError(f"audio has shape {tuple(audio.shape)}; expected {expected}")
        if audio.ndim == 2:
            audio = audio[:, None, None, :]
        return self.soundnet8.encode(audio)

    def read_out(self, visual: VisualFeatures, sound: Tensor | None) -> Prediction:
        """Combines visual features and audio into logits."""
        features = [one.features for one in visual.dsam]
        if self.config.modality == "audiovisual":
            features.append(self.fusion3(visual.layer2, sound))
            return Prediction(self.fuseav(torch.cat(features, dim=1)), ())
        logits = self.fuse(torch.cat(features, dim=1))
        return Prediction(
            logits, tuple(one.side_logits for one in visual.dsam if one.side_logits is not None)
        )

    def encode(self, clips: Tensor, audio: Tensor | None) -> tuple[Tensor, Tensor]:
        """What an audiovisual network has made of clips before the fusion: all that the fusion's training needs.

        Returns:
            (B, N): the logits without the fusion's share, and layer2's middle, flattened; and (B, 1024): the sound.
            `forward` takes the two in place of clips and audio, and returns the clips' logits.
        """
        self._check_clips(clips)
        visual = self.see(self.conv1(clips))
        with torch.autocast(clips.device.type, enabled=False):
            features = torch.cat([one.features.float() for one in visual.dsam], dim=1)
            logits = F.conv2d(features, self.fuseav.weight[:, : features.shape[1]], self.fuseav.bias)
            middle = self.fusion3.middle(visual.layer2.float())
            sound = self.listen(audio, batch=clips.shape[0])
        return torch.cat([logits.flatten(1), middle.flatten(1)], dim=1), sound

    def _fuse_encoded(self, encoded: Tensor, sound: Tensor | None) -> Prediction:
        """The logits of clips that `encode` encoded, of the same size as the network's input."""
        height, width = self.config.preprocessing.input_size
        logits, middle = encoded[:, : height * width], encoded[:, height * width :]
        middle = middle.reshape(len(encoded), -1, height // fusion.SCALE, width // fusion.SCALE)
        assert sound is not None
        # Upsampling and read-out are linear, so one map is enlarged instead of 64.
        share = F.conv2d(self.fusion3.fuse(middle, sound), self.fuseav.weight[:, -fusion.NUM_FEATURES :])
        share = F.interpolate(share, scale_factor=fusion.SCALE, mode="bilinear", align_corners=False)
        return Prediction(logits.reshape(-1, 1, height, width) + share, ())

    def _check_clips(self, clips: Tensor) -> None:
        multiple = LENGTH_MULTIPLE[self.config.modality]
        fits = clips.ndim == 5 and clips.shape[1] == 3 and fits_length(clips.shape[2], self.config.modality)
        if not fits or not all(fits_side(side) for side in clips.shape[3:]):
            raise ValueError(
                f"clips have shape {tuple(clips.shape)}; expected (B, 3, T, H, W) with T 1 or a multiple "
                f"of {multiple} ({self.config.modality}), H and W multiples of {SIDE_MULTIPLE} from {MIN_SIDE}"
            )
        if not clips.is_floating_point():
            raise ValueError(f"clips have dtype {clips.dtype}; expected floats, 0..255 minus the mean")


@torch.no_grad()
def initialize_as_published(model: STAViS) -> None:
    """Initializes all weights from the distributions of the published code."""
    for module in model.modules():
        match module:
            case nn.Conv3d() | nn.Linear() | nn.Bilinear():
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            case nn.Conv2d():
                nn.init.normal_(module.weight, std=0.001)
            case nn.ConvTranspose2d():
                # Each channel is interpolated separately.
                kernel = bilinear_kernel(module.kernel_size[0])
                module.weight.copy_(torch.eye(module.in_channels)[:, :, None, None] * kernel)
            case nn.BatchNorm3d() | nn.BatchNorm2d():
                module.reset_parameters()
            case _:
                continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    for name, parameter in model.named_parameters():
        if name in ("fuse.bias", "fuseav.bias") or name.endswith(".score_dsn.bias"):
            nn.init.constant_(parameter, INITIAL_LOGIT_BIAS)
