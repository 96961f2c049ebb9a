"""Folding of BatchNorm into the convolution before it."""

from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights


def fold_batch_norm(
    conv: nn.Conv2d | nn.Conv3d, norm: nn.BatchNorm2d | nn.BatchNorm3d
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that equals `conv` followed by `norm` in eval mode, without gradients."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return weight.detach(), bias.detach()
