"""Training loss: the three published terms per clip, and their weighted sum.

Logits are (B, 1, H, W), any real number; density maps (B, 1, H, W) in 0..255; fixation maps (B, 1, H, W), fixated where
above 0. Losses are (B,).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

# Epsilon of the published code in any precision: 2**-23.
EPSILON = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms.

    Attributes:
        bce: Weight of the binary cross-entropy, a sum over pixels.
        cc: Weight of the negated correlation coefficient.
        nss: Weight of the negated normalized scanpath saliency.
        kl: Beyond the paper: of the Kullback-Leibler divergence of the saliency from the density map, both divided
            by their sums.
        keep: Beyond the paper, with `runtime.encoded_epochs`: the loss of clips of pictures and of silent clips is this
            times the mean square of what the fusion adds to their logits, and nothing else, so that it learns when not
            to listen.
        keep_databases: Databases whose clips have that loss too: those in which sound does not tell where to look.
        side_outputs: Of the visual network's side outputs against the final one, before annealing.
        anneal_side_outputs: Weight the visual network's side outputs by 1 - epoch/epochs, as published, instead of 1.
    """

    bce: Annotated[float, Ge(0)] = 0.1
    cc: Annotated[float, Ge(0)] = 2.0
    nss: Annotated[float, Ge(0)] = 1.0
    kl: Annotated[float, Ge(0)] = 0.0
    keep: Annotated[float, Ge(0)] = 0.0
    keep_databases: tuple[str, ...] = ()
    side_outputs: Annotated[float, Ge(0)] = 1.0
    anneal_side_outputs: bool = True


class LossTerms(NamedTuple):
    """Loss of one output per clip of a batch, each (B,). Lower is better for all terms."""

    total: Tensor
    bce: Tensor
    cc: Tensor
    nss: Tensor


def bce_loss(logits: Tensor, density_maps: Tensor) -> Tensor:
    """Computes the binary cross-entropy between saliency and density map, summed over the pixels, in nats."""
    target = density_maps.to(logits.dtype) / 255
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def cc_loss(logits: Tensor, density_maps: Tensor) -> Tensor:
    """Computes minus the Pearson correlation of the saliency (sigmoid of the logits) with the density map.

    An epsilon in the sum of squares of the density map makes the loss of a constant density map 0. A constant saliency
    map has no correlation and gives nan, as published.
    """
    saliency = torch.sigmoid(logits).flatten(1)
    density = density_maps.to(logits.dtype).flatten(1)
    saliency = saliency - saliency.mean(1, keepdim=True)
    density = density - density.mean(1, keepdim=True)
    covariance = (saliency * density).sum(1)
    return -covariance / (saliency.square().sum(1) * (density.square().sum(1) + EPSILON)).sqrt()


def nss_loss(logits: Tensor, fixation_maps: Tensor) -> Tensor:
    """Computes minus the mean of the standardized saliency over the fixated pixels (Peters et al. 2005).

    An epsilon in the number of fixated pixels makes the loss 0 without fixations. A constant saliency map has zero
    standard deviation and gives nan, as published.
    """
    saliency = torch.sigmoid(logits).flatten(1)
    fixated = (fixation_maps.flatten(1) > 0).to(logits.dtype)
    deviation, mean = torch.std_mean(saliency, 1, correction=0, keepdim=True)
    standardized = (saliency - mean) / deviation
    return -(standardized * fixated).sum(1) / (fixated.sum(1) + EPSILON)


def kl_loss(logits: Tensor, density_maps: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the saliency (the logits' sigmoid) from the density map, as distributions.

    Returns (B,) in nats, at least 0; 0 for a density map of zeros.
    """
    log_saliency = F.logsigmoid(logits).flatten(1)
    log_saliency = log_saliency - torch.logsumexp(log_saliency, 1, keepdim=True)
    density = density_maps.to(logits.dtype).flatten(1)
    density = density / (density.sum(1, keepdim=True) + EPSILON)
    return (torch.xlogy(density, density) - density * log_saliency).sum(1)


def output_loss(
    logits: Tensor, density_maps: Tensor, fixation_maps: Tensor, weights: LossWeights
) -> LossTerms:
    """Computes the loss of one output per clip. Half precision is converted to float32 first."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    bce = bce_loss(logits, density_maps)
    cc = cc_loss(logits, density_maps)
    nss = nss_loss(logits, fixation_maps)
    total = weights.bce * bce + weights.cc * cc + weights.nss * nss
    if weights.kl:
        total = total + weights.kl * kl_loss(logits, density_maps)
    return LossTerms(total, bce, cc, nss)


def side_output_weight(epoch: int, num_epochs: int, weights: LossWeights) -> float:
    """Returns the factor of the side outputs' losses in `epoch`, which counts from 1 to `num_epochs`."""
    return weights.side_outputs * (1 - epoch / num_epochs if weights.anneal_side_outputs else 1.0)


def clip_losses(
    logits: Tensor,
    side_logits: Sequence[Tensor],
    density_maps: Tensor,
    fixation_maps: Tensor,
    weights: LossWeights,
    side_weight: float,
) -> tuple[Tensor, LossTerms]:
    """Computes the total loss per clip, and the terms of its final output, which are reported.

    Args:
        side_logits: Side outputs, each (B, 1, H, W); empty for the audiovisual network.
        side_weight: From `side_output_weight`.

    Returns:
        (B,) to be summed over the clips of a batch and divided by its nominal size, and the final output's terms.
    """
    final = output_loss(logits, density_maps, fixation_maps, weights)
    total = final.total
    # At weight 0 a side output is still part of the graph, so that DDP sees a gradient for every parameter.
    for side in side_logits:
        total = total + side_weight * output_loss(side, density_maps, fixation_maps, weights).total
    return total, final
