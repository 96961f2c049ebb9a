"""Visual backbone: a 3D ResNet up to its third stage.

Hara, Kataoka, Satoh: Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet? CVPR 2018.
Module names are those of the published weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stavis.model.config import Shortcut

STEM_CHANNELS = 64
STAGE_PLANES = (
    64,
    128,
    256,
)  # of layer1, layer2, layer3; a block's output has `expansion` times as many channels
STAGE_STRIDES = (1, 2, 2)  # of each stage's first block, in time, height and width alike


class Conv3d(nn.Conv3d):
    """A 3D convolution. On a single frame it runs as the 2D convolution of its middle temporal slice.

    The other slices would meet only temporal padding there, so the result is the same at a fraction of the cost.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] != 1:
            padding = self.padding
            if x.shape[2] == 2 and torch.is_autocast_enabled("cpu") and x.device.type == "cpu":
                # PyTorch 2.13 (oneDNN, AVX-512 BF16) gets the weights' gradient of 3 taps over 2 steps wrong unless the
                # steps are padded beforehand.
                x, padding = F.pad(x, (0, 0, 0, 0, int(padding[0]), int(padding[0]))), (0, *padding[1:])
            # As `nn.Conv3d` does, whose own forward keeps a padding of its own from the time of its making.
            return F.conv3d(x, self.weight, None, self.stride, padding)
        middle = self.weight[:, :, self.kernel_size[0] // 2]
        padding = (int(self.padding[1]), int(self.padding[2]))
        return F.conv2d(x[:, :, 0], middle, None, self.stride[1:], padding).unsqueeze(2)


def trim_temporal_kernels(network: nn.Module) -> None:
    """Shortens, in place, every temporal kernel whose slices beside the middle one are all 0; results stay the same.

    Inflated 2D kernels that were never trained in time are such; as 2D kernels they cost a third, or a seventh.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and has_zero_slices(module):
            middle = module.kernel_size[0] // 2
            kernel = module.weight[:, :, middle : middle + 1].detach().clone()
            module.weight = nn.Parameter(kernel, requires_grad=False)
            module.kernel_size = (1, *module.kernel_size[1:])
            module.padding = (0, int(module.padding[1]), int(module.padding[2]))


def has_zero_slices(conv: nn.Conv3d) -> bool:
    """Whether a temporal kernel is longer than 1 and 0 beside its middle slice."""
    middle = conv.kernel_size[0] // 2
    beside = [i for i in range(conv.kernel_size[0]) if i != middle]
    return bool(beside) and not bool(conv.weight[:, :, beside].any())


def is_spatial(stage: nn.Module) -> bool:
    """Whether no kernel of a stage extends over time."""
    return all(one.kernel_size[0] == 1 for one in stage.modules() if isinstance(one, nn.Conv3d))


class SubsamplingShortcut(nn.Module):
    """Shortcut A: subsampling with channels of zeros appended, without parameters.

    As in the published code, no gradient flows back through it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.num_zero_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride
        return F.pad(x.detach()[:, :, ::step, ::step, ::step], (0, 0, 0, 0, 0, 0, 0, self.num_zero_channels))


def make_shortcut(in_channels: int, out_channels: int, stride: int, shortcut: Shortcut) -> nn.Module:
    """Builds the shortcut of a block, which must match the output shape of its convolutions."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if shortcut == "A":
        return SubsamplingShortcut(in_channels, out_channels, stride)
    return nn.Sequential(
        Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
        nn.BatchNorm3d(out_channels),
    )


class BasicBlock(nn.Module):
    """Basic block of depths 10, 18 and 34: two 3x3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, planes: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = Conv3d(in_channels, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = Conv3d(planes, planes, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = make_shortcut(in_channels, planes * self.expansion, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """Bottleneck block of depths 50 to 200: 1x1x1, 3x3x3 and 1x1x1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = Conv3d(in_channels, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = Conv3d(planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = Conv3d(planes, planes * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm3d(planes * self.expansion)
        self.downsample = make_shortcut(in_channels, planes * self.expansion, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.downsample(x), inplace=True)


# depth -> block, blocks in layer1, layer2, layer3
ARCHITECTURES: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int]]] = {
    10: (BasicBlock, (1, 1, 1)),
    18: (BasicBlock, (2, 2, 2)),
    34: (BasicBlock, (3, 4, 6)),
    50: (Bottleneck, (3, 4, 6)),
    101: (Bottleneck, (3, 4, 23)),
    152: (Bottleneck, (3, 8, 36)),
    200: (Bottleneck, (3, 24, 36)),
}


class ResNet3D(nn.Module):
    """Stem and three stages, as parts between which a network can insert its own.

    For an input with T, H, W, the parts return: `conv1` and `activate_stem` (64, T, H/2, W/2), `max_pool`
    (64, T/2, H/4, W/4), `layer1` the same size, `layer2` (T/4, H/8, W/8), `layer3` (T/8, H/16, W/16).

    Attributes:
        num_channels: Channels of the stem, layer1, layer2 and layer3.
    """

    def __init__(self, depth: int, shortcut: Shortcut) -> None:
        super().__init__()
        block, num_blocks = ARCHITECTURES[depth]
        channels = [STEM_CHANNELS]
        stages = []
        for planes, count, stride in zip(STAGE_PLANES, num_blocks, STAGE_STRIDES, strict=True):
            first = block(channels[-1], planes, stride, shortcut)
            channels.append(planes * block.expansion)
            rest = [block(channels[-1], planes, 1, shortcut) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
        self.num_channels = tuple(channels)

        self.conv1 = Conv3d(3, STEM_CHANNELS, kernel_size=7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(STEM_CHANNELS)
        self.layer1, self.layer2, self.layer3 = stages

    def activate_stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(x), inplace=True)

    def max_pool(self, x: Tensor) -> Tensor:
        if x.shape[2] == 1:
            return F.max_pool2d(x[:, :, 0], kernel_size=3, stride=2, padding=1).unsqueeze(2)
        return F.max_pool3d(x, kernel_size=3, stride=2, padding=1)
