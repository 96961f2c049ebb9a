"""Weights on disk: our folder, the published checkpoints, the published initializers.

Loading is strict. What a file holds is found from its tensors, every one of them is accounted for in a report, and a
file that does not fit is an error that names the keys. Nothing in a file is ever executed.
"""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from stavis.clips.preprocess import ResizeFilter
from stavis.errors import StavisError
from stavis.model import Modality, ModelConfig, Shortcut, STAViS
from stavis.model.stavis import INITIAL_LOGIT_BIAS
from stavis.weights.device import resolve_device
from stavis.weights.files import (
    BACKBONE,
    COUNTER,
    WEIGHTS_FILE,
    Kind,
    Stored,
    misfit,
    modality_of_name,
    plain,
    read,
    shapes,
)

DEFAULT = "default"
"""The name of the weights that come with the package."""

DEFAULT_FOLDER = Path(__file__).with_name("default")


@dataclass(frozen=True)
class LoadReport:
    """What became of every entry of a file and of a network.

    Attributes:
        source: The file or folder.
        kind: What it was recognized as.
        sha256: Of the file (of a folder, of its model.safetensors).
        modality, depth, shortcut: Of the network that was loaded.
        epoch: The epoch that a published checkpoint was saved after, if it says.
        wrapper: The key of the file that held the state dict; "" if the file is one.
        prefix: What was removed from the start of every name in the file, "module." in published ones.
        used: Entries of the network that were taken from the file.
        dropped: Entries of the file that the network does not have, as named in the file behind the prefix.
        initialized: Entries of the network that the file does not hold, left as they were: freshly initialized.
            The counters that old files lack beside BatchNorm's other entries, and nothing reads, are not listed.
        warnings: What a user should know before predicting with the result.
        metadata: Of a weights folder: what was saved with it.
    """

    source: Path
    kind: Kind
    sha256: str
    modality: Modality
    depth: int
    shortcut: Shortcut
    epoch: int | None
    wrapper: str
    prefix: str
    used: tuple[str, ...]
    dropped: tuple[str, ...]
    initialized: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Kind, epoch, and where in the file the entries were: "published checkpoint, epoch 60, prefix 'module.'"."""
        parts: list[str] = [self.kind]
        parts += [f"epoch {self.epoch}"] if self.epoch is not None else []
        parts += [f"key {self.wrapper!r}"] if self.wrapper else []
        parts += [f"prefix {self.prefix!r} removed"] if self.prefix else []
        return ", ".join(parts)

    def summary(self) -> str:
        """Describes the report in one line."""
        return (
            f"{self.source}: {self.origin} -> {self.modality} ResNet-{self.depth} {self.shortcut}: "
            f"{len(self.used)} entries used, {len(self.dropped)} dropped, {len(self.initialized)} freshly initialized"
        )


def has_default_weights() -> bool:
    """Whether this installation comes with weights, so that the name "default" stands for some."""
    return (DEFAULT_FOLDER / WEIGHTS_FILE).is_file()


def untrained_model(modality: Modality = "audiovisual", *, device: str | torch.device = "cpu") -> STAViS:
    """The published network with random weights, the same at every call, in eval mode.

    Raises:
        StavisError: There is no such device.
    """
    target = resolve_device(device)
    torch.manual_seed(0)
    return STAViS(ModelConfig(modality=modality)).to(target).eval()


def load_model_with_report(
    source: str | os.PathLike[str],
    *,
    modality: Modality | None = None,
    device: str | torch.device = "cpu",
    resize_filter: ResizeFilter | None = None,
) -> tuple[STAViS, LoadReport]:
    """Loads a network from a file or folder, and reports what was used of it and what was not.

    Args:
        source: "default" or a path, as for `load_model`.
        modality: As for `load_model`.
        device: As for `load_model`.
        resize_filter: The filter of the pictures' first resizing while these weights were trained, where the file
            does not say: "nearest" if with Pillow before version 7, "bicubic" (assumed by default) since.
    """
    target = resolve_device(device)
    stored = read(_locate(source))
    if stored.config is not None:
        config = stored.config
        if modality is not None and modality != config.modality:
            raise StavisError(
                f"{source}: these weights are {config.modality}; asked for were {modality} ones"
            )
    else:
        # A SoundNet file knows no depth: it gets the published network around it.
        config = ModelConfig(
            modality or modality_of_name(stored.source) or "audiovisual",
            stored.depth or 50,
            stored.shortcut or "B",
        )
    if resize_filter is not None:
        preprocessing = dataclasses.replace(config.preprocessing, resize_filter=resize_filter)
        config = dataclasses.replace(config, preprocessing=preprocessing)

    if stored.is_initializer:
        model = STAViS(config)
    else:
        # Every parameter comes from the file, so none is drawn first.
        with torch.device("meta"):
            model = STAViS(config)
    report = _fill(model, stored, partly=stored.is_initializer)
    report = dataclasses.replace(report, warnings=tuple(_warnings(report, model)))
    return model.to(target).eval(), report


def initialize(model: STAViS, source: str | os.PathLike[str]) -> LoadReport:
    """Gives a network for training the weights that a file has for it; the others stay as they are.

    So stage 1 of the published training starts from `resnet-50-kinetics.pth`, and stage 2 from stage 1's weights and
    then `soundnet8.pth`.

    Args:
        model: Changed in place, whatever its device and dtype.
        source: Anything that `load_model` takes, of either modality. A network's weights bring everything that the
            two have in common.

    Returns:
        What was used, what was dropped, and which of the network's entries the file does not hold.

    Raises:
        StavisError: If the file cannot be read, does not hold all of the part that it is recognized as, is of another
            depth or shortcut, or has nothing for this network.
    """
    return _fill(model, read(_locate(source)), partly=True)


def _locate(source: str | os.PathLike[str]) -> Path:
    """The path that a source stands for."""
    if source != DEFAULT:
        return Path(source)
    if not has_default_weights():
        raise StavisError(
            "this installation of stavis comes without default weights; name some: a weights folder or a published "
            ".pth file"
        )
    return DEFAULT_FOLDER


# Filling a network -------------------------------------------------------------------------------------------------


def _fill(model: STAViS, stored: Stored, *, partly: bool) -> LoadReport:
    """Moves what fits from a file into a network, and errs unless all does that must."""
    config, source = model.config, stored.source
    if (stored.depth or config.depth, stored.shortcut or config.shortcut) != (config.depth, config.shortcut):
        raise StavisError(
            f"{source}: weights of a ResNet-{stored.depth} {stored.shortcut}; "
            f"the network is a ResNet-{config.depth} {config.shortcut}"
        )
    wanted = model.state_dict()
    # BatchNorm's counters came with PyTorch 0.4.1; older files, the Kinetics ones among them, have none.
    counters = (
        {name for name in wanted if name.endswith(COUNTER)} if stored.kind != "weights folder" else set()
    )
    used = {name: value for name, value in stored.tensors.items() if name in wanted}

    match stored.kind:
        case "Kinetics initializer":
            part = {name for name in wanted if name.startswith(BACKBONE)}
        case "SoundNet initializer":
            part = {name for name in wanted if name.startswith("soundnet8.")}
        case _ if partly:
            of_modality = (shapes(one, config.depth, config.shortcut) for one in get_args(Modality))
            part = set.intersection(*map(set, of_modality))
        case _:
            part = set(wanted)
    if not part:
        raise StavisError(f"{source}: a {stored.kind}, of which a {config.modality} network has nothing")
    if missing := part - used.keys() - counters:
        raise misfit(source, f"{config.modality} ResNet-{config.depth} {config.shortcut}", missing=missing)
    for name, value in used.items():
        if value.shape != wanted[name].shape:
            expected = tuple(wanted[name].shape)
            raise StavisError(f"{source}: {name} has shape {tuple(value.shape)}; the network's is {expected}")
        if not all(math.isfinite(extreme.item()) for extreme in value.aminmax()):
            raise StavisError(f"{source}: {name} holds values that are not finite; the weights are damaged")

    values = {name: plain(value) for name, value in used.items()}
    if not partly:
        values |= {name: torch.tensor(0) for name in counters - values.keys()}
    model.load_state_dict(values, strict=not partly, assign=not partly)

    left = tuple(name for name in wanted if name not in used and name not in (part & counters))
    return LoadReport(
        source=source,
        kind=stored.kind,
        sha256=stored.sha256,
        modality=config.modality,
        depth=config.depth,
        shortcut=config.shortcut,
        epoch=stored.epoch,
        wrapper=stored.wrapper,
        prefix=stored.prefix,
        used=tuple(name for name in wanted if name in used),
        dropped=(*(name for name in stored.tensors if name not in wanted), *stored.dropped),
        initialized=left,
        metadata=stored.metadata,
    )


def _warnings(report: LoadReport, model: STAViS) -> Iterator[str]:
    if report.initialized:
        yield (
            f"{report.source} holds a {report.kind} alone: {len(report.initialized)} of the network's "
            f"{len(model.state_dict())} entries are freshly initialized, so it must be trained before it predicts "
            "anything"
        )
    read_out_bias = model.get_parameter("fuseav.bias" if report.modality == "audiovisual" else "fuse.bias")
    if report.kind == "published checkpoint" and read_out_bias.item() == INITIAL_LOGIT_BIAS:
        yield (
            f"{report.source}: the {report.modality} read-out still has its initial bias, as in the checkpoint of a "
            "network that was trained with the other modality only"
        )
