"""Audio backbone: SoundNet.

Aytar, Vondrick, Torralba: SoundNet: Learning Sound Representations from Unlabeled Video. NIPS 2016. The
first seven of its eight layers, with the module names (indices in the list) of the published weights.
"""

from torch import Tensor, nn

NUM_FEATURES = 1024

# (output channels, kernel, pooling after it); each convolution has stride 2 and padding of half its kernel.
LAYERS = ((16, 64, 8), (32, 32, 8), (64, 16, 1), (128, 8, 1), (256, 4, 4), (512, 4, 1), (NUM_FEATURES, 4, 2))

MIN_NUM_SAMPLES = 12_766  # fewer leave nothing after the last pooling


class SoundNet(nn.Sequential):
    """SoundNet: waveforms (B, 1, 1, S) in -256..256 to (B, 1024, 1, N), with N = 1 for 12,766 to 78,301 samples."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        in_channels = 1
        for out_channels, kernel, pooling in LAYERS:
            layers += [
                nn.Conv2d(in_channels, out_channels, (1, kernel), stride=(1, 2), padding=(0, kernel // 2)),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
            if pooling > 1:
                layers.append(nn.MaxPool2d((1, pooling)))
            in_channels = out_channels
        super().__init__(*layers)

    def encode(self, audio: Tensor) -> Tensor:
        """Computes one vector per waveform: (B, 1, 1, S) to (B, 1024).

        The published network takes excerpts that give one vector. Longer ones give about one per 65,536 samples; their
        mean is taken, as the network does with frames over time.
        """
        features: Tensor = self(audio)
        return features.mean(dim=(2, 3))
