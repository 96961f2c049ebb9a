"""Inflation of 2D ResNets, as torchvision publishes them, to the 3D backbone (Carreira and Zisserman, CVPR 2017)."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from stavis.clips.preprocess import ACTIVITYNET_MEAN

Inflation = Literal["center", "mean"]

# What torchvision's networks take: RGB in 0..1, minus this mean, divided by this standard deviation.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def is_flat(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a ResNet's entries are those of a 2D one."""
    return tensors["conv1.weight"].ndim == 4


def inflate(tensors: Mapping[str, Tensor], inflation: Inflation) -> dict[str, Tensor]:
    """Turns a 2D ResNet's entries into a 3D one's, for pictures as stavis prepares them.

    Every kernel gets a temporal length of its spatial size. "center" puts the 2D kernel into the middle temporal slice
    and zeros around it: on a still clip the 3D network is exactly the 2D one. "mean" spreads it over all slices: on a
    still clip they agree away from the clip's ends. torchvision's normalization of pictures goes into the stem's kernel
    and its BatchNorm's mean, which is exact but within three pixels of the border: the stem pads with ActivityNet's
    mean instead of ImageNet's.
    """
    inflated = dict(tensors)
    stem = tensors["conv1.weight"].float()
    std = torch.tensor(IMAGENET_STD, dtype=torch.float64)[:, None, None]
    offset = torch.tensor(ACTIVITYNET_MEAN, dtype=torch.float64)
    offset = offset - 255 * torch.tensor(IMAGENET_MEAN, dtype=torch.float64)
    scaled = stem.double() / (255 * std)
    inflated["conv1.weight"] = scaled.float()
    shift = (scaled * offset[:, None, None]).sum(dim=(1, 2, 3))
    inflated["bn1.running_mean"] = (tensors["bn1.running_mean"].double() - shift).float()
    for name, value in inflated.items():
        if value.ndim == 4 and value.numel():
            length = value.shape[-1]
            kernel = value.new_zeros(*value.shape[:2], length, *value.shape[2:])
            if inflation == "center":
                kernel[:, :, length // 2] = value
            else:
                kernel[:] = value.unsqueeze(2) / length
            inflated[name] = kernel
    return inflated
