"""Networks loaded from weights.

Loading is strict: the kind of a file is recognized from its tensors, every tensor is accounted for in a report, and a
file that does not fit raises an error that names the keys. No code in a file is ever executed.
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
from stavis.weights import files
from stavis.weights.device import resolve_device
from stavis.weights.inflate import Inflation
from stavis.weights.sources import locate


@dataclass(frozen=True)
class LoadReport:
    """Account of every entry of a weights file and of the network it was loaded into.

    Attributes:
        source: The file or folder.
        kind: What it was recognized as.
        sha256: Checksum of the file, or of the folder's model.safetensors.
        modality, depth, shortcut: Architecture of the loaded network.
        epoch: The epoch after which a published checkpoint was saved, if it is recorded.
        wrapper: The key of the file that held the state dict; "" if the file is one.
        prefix: What was removed from the start of every name in the file, "module." in published ones.
        used: Entries of the network that came from the file.
        dropped: Entries of the file that the network lacks, without the prefix.
        initialized: Entries of the network that the file lacks. They keep their fresh initialization. BatchNorm's
            counters, which old files lack and nothing reads, are not listed.
        warnings: What a user should know before predicting.
        metadata: Metadata saved with a weights folder.
    """

    source: Path
    kind: files.Kind
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


def untrained_model(modality: Modality = "audiovisual", *, device: str | torch.device = "cpu") -> STAViS:
    """Creates the published network with random weights, the same in every call, in eval mode.

    The state of PyTorch's random generators stays as it is.
    """
    target = resolve_device(device)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(0)  # not torch.manual_seed, which seeds the GPUs' as well
        model = STAViS(ModelConfig(modality=modality))
    return model.to(target).eval()


def load_model_with_report(
    source: str | os.PathLike[str],
    *,
    modality: Modality | None = None,
    device: str | torch.device = "cpu",
    resize_filter: ResizeFilter | None = None,
    inflation: Inflation = "center",
) -> tuple[STAViS, LoadReport]:
    """Loads a network from a file or folder, as `stavis.weights.load_model` does, and reports what was used of it.

    Args:
        source: Not "untrained".
        modality, device: As for `load_model`.
        resize_filter: How frames were first resized in training, if the file does not record it: "nearest" with Pillow
            before version 7, "bicubic" (assumed by default) since.
        inflation: How the kernels of a 2D ResNet get a temporal axis, see `stavis.weights.inflate`.
    """
    target = resolve_device(device)
    stored = files.read(locate(source, modality).path, inflation)
    if stored.config is not None:
        config = stored.config
        if modality is not None and modality != config.modality:
            raise StavisError(
                f"{source}: these weights are {config.modality}, but modality={modality!r} was requested"
            )
    else:
        # A SoundNet file has no depth, so it gets the published network around it.
        config = ModelConfig(
            modality or files.modality_of_name(stored.source) or "audiovisual",
            stored.depth or 50,
            stored.shortcut or "B",
        )
    if resize_filter is not None:
        preprocessing = dataclasses.replace(config.preprocessing, resize_filter=resize_filter)
        config = dataclasses.replace(config, preprocessing=preprocessing)

    if stored.is_initializer:
        model = STAViS(config)
    else:
        # Every parameter comes from the file, so none needs to be initialized.
        with torch.device("meta"):
            model = STAViS(config)
    report = _fill(model, stored, partly=stored.is_initializer)
    report = dataclasses.replace(report, warnings=tuple(_warnings(report, model)))
    return model.to(target).eval(), report


def initialize(
    model: STAViS,
    source: str | os.PathLike[str],
    *,
    inflation: Inflation = "center",
    keep_read_out: bool = False,
) -> LoadReport:
    """Initializes a network for training with what a file has for it, and leaves the rest unchanged.

    Stage 1 of the published training starts from `resnet-50-kinetics.pth`, stage 2 from the weights of stage 1 and then
    `soundnet8.pth`.

    Args:
        model: Changed in place; any device and dtype.
        source: Anything that `load_model` takes, of either modality. From the weights of a whole network, the entries
            that both have in common are taken.
        inflation: How the kernels of a 2D ResNet (torchvision's 18, 34, 50) get a temporal axis, see
            `stavis.weights.inflate`.
        keep_read_out: An audiovisual network that starts from a visual one takes over its read-out, with weights of 0
            for the fusion's maps: it begins with the visual network's maps. The published code draws its read-out anew.

    Returns:
        What was used, what was dropped, and which entries of the network the file lacks.

    Raises:
        StavisError: The file cannot be read, is incomplete, has another depth or shortcut, or has nothing for this
            network.
    """
    stored = files.read(locate(source).path, inflation)
    if keep_read_out and model.config.modality == "audiovisual" and "fuse.weight" in stored.tensors:
        weight, bias = stored.tensors["fuse.weight"], stored.tensors["fuse.bias"]
        num_fusion_maps = model.fuseav.in_channels - weight.shape[1]
        padded = torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, num_fusion_maps))
        stored = dataclasses.replace(
            stored, tensors=stored.tensors | {"fuseav.weight": padded, "fuseav.bias": bias}
        )
    return _fill(model, stored, partly=True)


# Filling a network -------------------------------------------------------------------------------------------------


def _fill(model: STAViS, stored: files.Stored, *, partly: bool) -> LoadReport:
    """Copies what fits from a file into a network, and raises an error if a required entry is missing."""
    config, source = model.config, stored.source
    if (stored.depth or config.depth, stored.shortcut or config.shortcut) != (config.depth, config.shortcut):
        raise StavisError(
            f"{source}: weights of a ResNet-{stored.depth} {stored.shortcut}; "
            f"the network is a ResNet-{config.depth} {config.shortcut}"
        )
    wanted = model.state_dict()
    # BatchNorm's counters came with PyTorch 0.4.1; older files, such as the Kinetics ones, lack them.
    may_lack = stored.kind != "weights folder"
    counters = {name for name in wanted if may_lack and name.endswith(files.COUNTER)}
    used = {name: value for name, value in stored.tensors.items() if name in wanted}

    match stored.kind:
        case "Kinetics initializer" | "inflated 2D initializer":
            part = {name for name in wanted if name.startswith(files.BACKBONE)}
        case "SoundNet initializer":
            part = {name for name in wanted if name.startswith("soundnet8.")}
        case _ if partly:
            of_modality = (files.shapes(one, config.depth, config.shortcut) for one in get_args(Modality))
            part = set.intersection(*map(set, of_modality))
        case _:
            part = set(wanted)
    if not part:
        raise StavisError(f"{source}: a {stored.kind}, which has nothing for a {config.modality} network")
    if missing := part - used.keys() - counters:
        raise files.misfit(
            source, f"{config.modality} ResNet-{config.depth} {config.shortcut}", missing=missing
        )
    values = {}
    for name, value in used.items():
        if value.shape != wanted[name].shape:
            expected = tuple(wanted[name].shape)
            raise StavisError(f"{source}: {name} has shape {tuple(value.shape)}; the network's is {expected}")
        values[name] = files.plain(value)
        if not all(math.isfinite(extreme.item()) for extreme in values[name].aminmax()):
            raise StavisError(
                f"{source}: {name} has values that are not finite as float32; the weights are damaged"
            )
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
            f"{report.source} is only a {report.kind}: {len(report.initialized)} of the network's "
            f"{len(model.state_dict())} entries are freshly initialized, so it must be trained before it can predict"
        )
    read_out_bias = model.get_parameter("fuseav.bias" if report.modality == "audiovisual" else "fuse.bias")
    if report.kind == "published checkpoint" and read_out_bias.item() == INITIAL_LOGIT_BIAS:
        yield (
            f"{report.source}: the {report.modality} read-out still has its initial bias, as in the checkpoint of a "
            "network trained with the other modality only"
        )
