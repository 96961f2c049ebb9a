"""Optimizer, parameter groups and learning rate schedule."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from stavis.errors import StavisError
from stavis.model import STAViS

Rates = Literal["published", "uniform", "fine-tuning", "new-heads"]


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of the optimizer. The defaults are the published ones.

    Attributes:
        name: "sgd", or beyond the paper "adamw" (momentum is then its first beta, dampening is not used, and
            the decay is decoupled from the gradient).
        base_rate: Learning rate of the fusion. `rates` determines those of the other parameters.
        rates: "published": fixed parts of the base rate, see `parameter_rate`: for weights that come from
            elsewhere. Beyond the paper "uniform": the base rate for all, for training from scratch;
            "fine-tuning": the base rate for fusion and read-out, which no initial weights bring along, and a
            tenth of it for the rest; "new-heads": the base rate for DSAMs, fusion and read-out, and a twentieth of
            it for backbone and SoundNet, which come from elsewhere.
        momentum: Share of the last step's direction that is kept.
        dampening: Share of the gradient that does *not* enter the direction. Published: as much as the momentum.
        weight_decay: On every parameter, biases and normalization included.
        clip_gradient_norm: Beyond the paper: longer gradients are shortened to this norm; 0 leaves them.
        ema_decay: Beyond the paper: keep an exponential moving average of the weights with this decay,
            validate it and save it as the result; 0 keeps none.
        frozen: Beyond the paper: parts that stay as they are, their running statistics included, among
            "stem", "layer1", "layer2", "layer3", "dsam", "soundnet", "fusion".
    """

    name: Literal["sgd", "adamw"] = "sgd"
    base_rate: Annotated[float, Gt(0)] = 0.01
    rates: Rates = "published"
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    dampening: Annotated[float, Ge(0), Le(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 1e-5
    clip_gradient_norm: Annotated[float, Ge(0)] = 0.0
    ema_decay: Annotated[float, Ge(0), Le(1)] = 0.0
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in self.frozen:
            if part not in PARTS:
                raise ValueError(f"no part {part!r} can be frozen; allowed: {', '.join(PARTS)}")


@dataclass(frozen=True)
class ScheduleSettings:
    """Settings of the learning rate schedule. The defaults are the published ones.

    Attributes:
        name: "steps": multiplied by `factor` after certain epochs. Beyond the paper "cosine": falls to 0
            along half a cosine, step by step.
        milestones: Shares of all epochs. A share s of n epochs lowers the rate after epoch int(s n) - 1.
        factor: Factor of the rate at each milestone.
        warm_up_epochs: With "cosine": the rate first rises in a straight line for so many epochs.
    """

    name: Literal["steps", "cosine"] = "steps"
    milestones: tuple[Annotated[float, Gt(0), Le(1)], ...] = (0.5, 0.75)
    factor: Annotated[float, Gt(0), Le(1)] = 0.1
    warm_up_epochs: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        if self.warm_up_epochs and self.name != "cosine":
            raise ValueError("warm_up_epochs needs schedule.name = 'cosine'")


PARTS = {
    "stem": ("conv1.", "bn1."),
    "layer1": ("layer1.",),
    "layer2": ("layer2.",),
    "layer3": ("layer3.",),
    "dsam": ("score_dsn.",),
    "soundnet": ("soundnet8.",),
    "fusion": ("fusion3.",),
}
"""Part of the network -> how the names of its entries in the state dict begin."""


def parameter_rate(name: str, modality: str, base_rate: float) -> tuple[str, float]:
    """Returns the group of the parameter `name` and its learning rate, as published.

    With r = base_rate / 100: the fusion learns at the base rate, SoundNet at a tenth of it, the backbone at
    a tenth (visual) or at r (audiovisual). `side_prep` learns at r, its bias at twice that; the other layers
    of the DSAMs and the read-out at r / 10, their biases at twice that.
    """
    if name.startswith("fusion3."):
        return "fusion", base_rate
    if name.startswith("soundnet8."):
        return "soundnet", base_rate / 10
    if name.startswith(("conv1.", "bn1.", "layer")):
        return "backbone", base_rate / 10 if modality == "visual" else base_rate / 100
    rate = base_rate / 100
    group = "side_prep" if ".side_prep." in name else "read_out"
    if group == "read_out":
        rate = rate / 10
    if name.endswith(".bias"):
        return f"{group}.bias", 2 * rate
    return f"{group}.weight", rate


def parameter_groups(model: STAViS, base_rate: float, rates: Rates = "published") -> list[dict[str, Any]]:
    """Groups the trainable parameters by learning rate: `name`, `params`, `lr`, `parameter_names`."""
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group, rate = parameter_rate(name, model.config.modality, base_rate)
        if rates == "uniform":
            rate = base_rate
        elif rates == "fine-tuning":
            is_new = name.startswith(("fusion3.", "fuse.", "fuseav."))
            group, rate = ("new", base_rate) if is_new else ("given", base_rate / 10)
        elif rates == "new-heads":
            is_new = name.startswith(("score_dsn.", "fusion3.", "fuse.", "fuseav."))
            group, rate = ("new", base_rate) if is_new else ("given", base_rate / 20)
        entry = groups.setdefault(group, {"name": group, "params": [], "lr": rate, "parameter_names": []})
        entry["params"].append(parameter)
        entry["parameter_names"].append(name)
    return list(groups.values())


def build_optimizer(model: STAViS, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Builds one optimizer for all trainable parameters. Raises StavisError if all parameters are frozen."""
    groups = parameter_groups(model, settings.base_rate, settings.rates)
    if not groups:
        raise StavisError(f"optimizer.frozen = {list(settings.frozen)} leaves nothing to train")
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, betas=(settings.momentum, 0.999), weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        groups, momentum=settings.momentum, dampening=settings.dampening, weight_decay=settings.weight_decay
    )


def milestone_epochs(settings: ScheduleSettings, num_epochs: int) -> list[int]:
    """Returns the epochs, from 1, after which the rate drops: int(share * n) - 1, but never before the first."""
    return [max(1, int(share * num_epochs) - 1) for share in settings.milestones]


def cosine_factor(step: int, num_steps: int, num_warm_up_steps: int) -> float:
    """Returns the factor of the rates in optimizer step `step`, from 0, of `num_steps`."""
    if step < num_warm_up_steps:
        return (step + 1) / (num_warm_up_steps + 1)
    progress = (step - num_warm_up_steps) / max(1, num_steps - num_warm_up_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_scheduler(
    optimizer: torch.optim.Optimizer, settings: ScheduleSettings, num_epochs: int, steps_per_epoch: int
) -> LRScheduler:
    """Builds the schedule, to be stepped after every epoch ("steps") or every optimizer step ("cosine")."""
    if settings.name == "cosine":
        num_warm_up_steps = round(settings.warm_up_epochs * steps_per_epoch)
        num_steps = num_epochs * steps_per_epoch
        return LambdaLR(optimizer, lambda step: cosine_factor(step, num_steps, num_warm_up_steps))
    return MultiStepLR(optimizer, milestone_epochs(settings, num_epochs), gamma=settings.factor)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Computes in `precision`, a value of `runtime.precision`, on `device`."""
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")


def freeze(model: STAViS, parts: Iterable[str]) -> None:
    """Freezes `parts` (names in `PARTS`): their parameters get no gradient."""
    prefixes = tuple(prefix for part in parts for prefix in PARTS[part])
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)


def set_training_mode(model: STAViS, *, frozen: Iterable[str], frozen_statistics: bool) -> None:
    """Sets train mode, except for normalization layers whose running statistics must not change.

    Those are all of them with `frozen_statistics`, else those of the parts `frozen`, names in `PARTS`.
    """
    model.train()
    prefixes = tuple(prefix for part in frozen for prefix in PARTS[part])
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            frozen_statistics or f"{name}.".startswith(prefixes)
        ):
            module.eval()
