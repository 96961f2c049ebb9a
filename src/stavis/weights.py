"""Weights on disk: our folder, the published checkpoints, the published initialisers.

Loading is strict. What a file holds is found from its tensors, every one of them is accounted for in a report, and a
file that does not fit is an error that names the keys. Nothing in a file is ever executed.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pydantic
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from stavis import __version__
from stavis.clips.preprocess import Preprocessing, ResizeFilter
from stavis.errors import StavisError
from stavis.model import Modality, ModelConfig, Shortcut, STAViS
from stavis.model.resnet3d import ARCHITECTURES, Bottleneck
from stavis.model.soundnet import SoundNet
from stavis.model.stavis import INITIAL_LOGIT_BIAS

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

DEFAULT = "default"
"""The name of the weights that come with the package."""

DEFAULT_FOLDER = Path(__file__).with_name("default_weights")

Kind = Literal["weights folder", "published checkpoint", "Kinetics initialiser", "SoundNet initialiser"]

_BACKBONE = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")
_BEHIND_THE_BACKBONE = ("layer4.", "fc.")  # of a whole 3D ResNet; the network is cut before them
_COUNTER = "num_batches_tracked"

_log = logging.getLogger("stavis")


@dataclass(frozen=True)
class LoadReport:
    """What became of every entry of a file and of a network.

    Attributes:
        source: The file or folder.
        kind: What it was recognised as.
        sha256: Of the file (of a folder, of its model.safetensors).
        modality, depth, shortcut: Of the network that was loaded.
        epoch: The epoch that a published checkpoint was saved after, if it says.
        prefix: What stood before every name in the file: "module." in published ones.
        used: Entries of the network that were taken from the file.
        dropped: Entries of the file that the network does not have, as named in the file behind the prefix.
        initialised: Entries of the network that the file does not hold, left as they were: freshly initialised.
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
    prefix: str
    used: tuple[str, ...]
    dropped: tuple[str, ...]
    initialised: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> str:
        """One line."""
        epoch = f", epoch {self.epoch}" if self.epoch is not None else ""
        return (
            f"{self.source}: {self.kind}{epoch} -> {self.modality} ResNet-{self.depth} {self.shortcut}: "
            f"{len(self.used)} entries used, {len(self.dropped)} dropped, {len(self.initialised)} freshly initialised"
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


def load_model(
    source: str | os.PathLike[str] = DEFAULT,
    *,
    modality: Modality | None = None,
    device: str | torch.device = "cpu",
) -> STAViS:
    """Loads a network, ready to predict, and logs one line about it to the logger "stavis".

    Args:
        source: A weights folder (`save_model`, `stavis convert`), a published checkpoint (`*_save_60.pth`), or a
            published initialiser (`resnet-50-kinetics.pth`, `soundnet8.pth`): the rest of the network is then freshly
            initialised, with a warning. "default": the weights that come with the package, which are not the paper's.
        modality: "audiovisual" or "visual", for files that hold both. If not given, what the file's name says, else
            "audiovisual".
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", or a torch.device.

    Returns:
        The network in eval mode, its parameters in float32.

    Raises:
        StavisError: If there is no such file or device, or the file cannot be read or does not fit.
    """
    model, report = load_model_with_report(source, modality=modality, device=device)
    _log.info("%s", report.summary())
    for warning in report.warnings:
        _log.warning("%s", warning)
    return model


def load_model_with_report(
    source: str | os.PathLike[str],
    *,
    modality: Modality | None = None,
    device: str | torch.device = "cpu",
    resize_filter: ResizeFilter | None = None,
) -> tuple[STAViS, LoadReport]:
    """As `load_model`, and tells what was used and what was not instead of logging it.

    Args:
        source: As for `load_model`.
        modality: As for `load_model`.
        device: As for `load_model`.
        resize_filter: The filter of the pictures' first resizing while these weights were trained, where the file
            does not say: "nearest" if with Pillow before version 7, "bicubic" (assumed by default) since.
    """
    target = resolve_device(device)
    stored = _read(_locate(source))
    if stored.config is not None:
        config = stored.config
        if modality is not None and modality != config.modality:
            raise StavisError(
                f"{source}: these weights are {config.modality}; asked for were {modality} ones"
            )
    else:
        # A SoundNet file knows no depth: it gets the published network around it.
        config = ModelConfig(
            modality or _modality_of_name(stored.source) or "audiovisual",
            stored.depth or 50,
            stored.shortcut or "B",
        )
    if resize_filter is not None:
        preprocessing = dataclasses.replace(config.preprocessing, resize_filter=resize_filter)
        config = dataclasses.replace(config, preprocessing=preprocessing)

    if stored.is_initialiser:
        model = STAViS(config)
    else:
        # Every parameter comes from the file, so none is drawn first.
        with torch.device("meta"):
            model = STAViS(config)
    report = _fill(model, stored, partly=stored.is_initialiser)
    report = dataclasses.replace(report, warnings=tuple(_warnings(report, model)))
    return model.to(target).eval(), report


def initialise(model: STAViS, source: str | os.PathLike[str]) -> LoadReport:
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
        StavisError: If the file cannot be read, does not hold all of the part that it is recognised as, is of another
            depth or shortcut, or has nothing for this network.
    """
    return _fill(model, _read(_locate(source)), partly=True)


def save_model(
    model: STAViS,
    folder: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
    half_precision: bool = False,
) -> None:
    """Saves a network as `model.safetensors` and a readable `config.json`; both appear, or none does.

    Args:
        model: The network itself, not a wrapper around it.
        folder: Made if need be. One that holds weights is replaced as a whole; one that holds anything else is
            refused.
        metadata: Kept in the config and given back in the load report. Must be expressible in JSON.
        half_precision: Store kernels and matrices as float16, half as large; `load_model` makes them float32 again.
            Biases and BatchNorm's entries, which are few and reach far, stay float32.

    Raises:
        StavisError: If the folder cannot be written, or holds other files.
    """
    if not isinstance(model, STAViS):
        raise ValueError(f"save_model takes a STAViS, not a {type(model).__name__} around one")
    config = {
        "stavis_version": __version__,
        "model": dataclasses.asdict(model.config),
        "metadata": dict(metadata or {}),
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    tensors = {name: _plain(value).cpu() for name, value in model.state_dict().items()}
    if half_precision:
        tensors = {name: _halve(value) for name, value in tensors.items()}
    with _atomic_folder(Path(folder), may_replace=(WEIGHTS_FILE, CONFIG_FILE)) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:
            raise StavisError(f"{folder}: cannot write the weights: {error}") from None
        (temporary / CONFIG_FILE).write_text(text, encoding="utf-8")
        # safetensors makes its file private; weights are as readable as any other file of this user.
        (temporary / WEIGHTS_FILE).chmod((temporary / CONFIG_FILE).stat().st_mode)


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of that name, if this machine has it: "auto", "cpu", "cuda", "cuda:1", "mps"."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    match found.type:
        case "cpu":
            pass
        case "cuda":
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if (found.index or 0) >= count:
                there = (
                    f"{count} of them, cuda:0 to cuda:{count - 1}" if count else "no GPU that PyTorch can use"
                )
                raise StavisError(f"device {str(device)!r}: this machine has {there}")
        case "mps":
            if not torch.backends.mps.is_available():
                raise StavisError("device 'mps': this machine has no Apple GPU that PyTorch can use")
        case _:
            raise StavisError(f"device {str(device)!r} is not known; allowed: auto, cpu, cuda, cuda:N, mps")
    return found


# Reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stored:
    """A file's content under the published names, before it meets a network."""

    source: Path
    kind: Kind
    tensors: dict[str, Tensor]
    sha256: str = ""
    dropped: tuple[str, ...] = ()  # what cannot be part of any network
    prefix: str = ""
    depth: int | None = None
    shortcut: Shortcut | None = None
    epoch: int | None = None
    config: ModelConfig | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_initialiser(self) -> bool:
        return self.kind in ("Kinetics initialiser", "SoundNet initialiser")


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


def _read(source: Path) -> _Stored:
    if source.name == WEIGHTS_FILE:
        source = source.parent
    try:
        return _read_folder(source) if source.is_dir() else _read_published(source)
    except OSError as error:
        raise StavisError(f"{source}: {error.strerror or error}") from None


def _read_folder(folder: Path) -> _Stored:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise StavisError(f"{folder}: not a weights folder: it has no {name}")
    config, metadata = _parse_config(folder / CONFIG_FILE)
    path = folder / WEIGHTS_FILE
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise StavisError(f"{path}: not a whole safetensors file: {error}") from None
    unknown = tensors.keys() - _shapes(config.modality, config.depth, config.shortcut)
    if unknown:
        raise _misfit(path, f"{config.modality} ResNet-{config.depth} {config.shortcut}", unknown=unknown)
    return _Stored(
        source=folder,
        kind="weights folder",
        sha256=_sha256(path),
        tensors=tensors,
        depth=config.depth,
        shortcut=config.shortcut,
        config=config,
        metadata=metadata,
    )


def _parse_config(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StavisError(f"{path}: not a JSON file: {error}") from None
    _check_keys(path, "", content, ("stavis_version", "model", "metadata"))
    _check_keys(path, "model.", content["model"], [one.name for one in dataclasses.fields(ModelConfig)])
    preprocessing = content["model"]["preprocessing"]
    _check_keys(
        path, "model.preprocessing.", preprocessing, [one.name for one in dataclasses.fields(Preprocessing)]
    )
    try:
        # Strict, as JSON: numbers in quotes are refused, lists become tuples.
        config = pydantic.TypeAdapter(ModelConfig).validate_json(json.dumps(content["model"]), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("model", *first["loc"]))
        raise StavisError(f"{path}: {place}: {first['msg']}, found {first['input']!r}") from None
    if not isinstance(content["metadata"], dict):
        raise StavisError(f"{path}: metadata is not a JSON object")
    return config, content["metadata"]


def _check_keys(path: Path, place: str, content: object, allowed: Iterable[str]) -> None:
    if not isinstance(content, dict):
        raise StavisError(f"{path}: {place.rstrip('.') or 'the file'} is not a JSON object")
    if unknown := content.keys() - set(allowed):
        raise StavisError(f"{path}: unknown keys: {_some(place + key for key in unknown)}")
    if missing := set(allowed) - content.keys():
        raise StavisError(f"{path}: missing keys: {_some(place + key for key in missing)}")


def _read_published(path: Path) -> _Stored:
    content = _load_tensors_only(path)
    tensors, epoch = _find_state_dict(path, content)
    prefix, tensors = _strip_prefix(tensors)
    if "conv1.weight" in tensors and any(name.startswith("layer1.") for name in tensors):
        stored = _recognise_resnet(path, tensors)
    else:
        stored = _recognise_soundnet(path, tensors)
    return dataclasses.replace(stored, sha256=_sha256(path), prefix=prefix, epoch=epoch)


def _recognise_resnet(path: Path, tensors: dict[str, Tensor]) -> _Stored:
    """A published checkpoint, or a 3D ResNet alone."""
    depth, shortcut = _architecture(path, tensors)
    known = _shapes("visual", depth, shortcut).keys() | _shapes("audiovisual", depth, shortcut).keys()
    dropped: set[str] = set()
    kind: Kind = "published checkpoint"
    if not any(name.startswith("score_dsn.") for name in tensors):
        kind = "Kinetics initialiser"
        known = {name for name in known if name.startswith(_BACKBONE)}
        dropped = {name for name in tensors if name.startswith(_BEHIND_THE_BACKBONE)}
    if unknown := tensors.keys() - known - dropped:
        raise _misfit(path, f"{kind} of ResNet-{depth} {shortcut}", unknown=unknown)
    kept = {name: value for name, value in tensors.items() if name not in dropped}
    return _Stored(path, kind, kept, dropped=tuple(sorted(dropped)), depth=depth, shortcut=shortcut)


def _recognise_soundnet(path: Path, tensors: dict[str, Tensor]) -> _Stored:
    """SoundNet alone, or nothing that we know."""
    if found := _match_soundnet(tensors):
        return _Stored(path, "SoundNet initialiser", found[0], dropped=tuple(sorted(found[1])))
    expected = _shapes("visual", 50, "B").keys() | _shapes("audiovisual", 50, "B").keys()
    raise _misfit(
        path,
        "network (compared with the published ResNet-50)",
        missing=expected - tensors.keys(),
        unknown=tensors.keys() - expected,
    )


def _load_tensors_only(path: Path) -> object:
    # A missing file, or one that may not be read, is told apart from one that cannot be understood.
    path.open("rb").close()
    try:
        # Classifiers are often saved together with the options that they were trained with; those are inert.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about pickle versions
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # on arbitrary bytes torch raises nearly anything
        if found := re.search(r"unsupported global(?:: global)? (\w[\w.]*\w)", str(error), re.IGNORECASE):
            raise StavisError(
                f"{path}: refused: it holds {found[1]}, which is more than tensors and could run code"
            ) from None
        raise StavisError(f"{path}: damaged, cut short, or not a file of PyTorch weights") from None


def _find_state_dict(path: Path, content: object) -> tuple[dict[str, Tensor], int | None]:
    state, epoch = content, None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        state, epoch = content["state_dict"], content.get("epoch")
    if not isinstance(state, dict) or not state:
        raise StavisError(f"{path}: holds no state dict, but {_article(type(content).__name__)}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise StavisError(
                f"{path}: holds no state dict: its entry {name!r} is {_article(type(value).__name__)}, not a tensor"
            )
    return dict(state), epoch if isinstance(epoch, int) else None


def _strip_prefix(tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Takes away the leading parts that all names share, as wrapping modules add them: `module.soundnet8.`"""
    prefix = ""
    while True:
        first = {name.partition(".")[0] for name in tensors}
        if len(first) != 1 or not all("." in name for name in tensors) or (part := first.pop()).isdigit():
            return prefix, tensors
        prefix += f"{part}."
        tensors = {name.removeprefix(f"{part}."): value for name, value in tensors.items()}


def _architecture(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, Shortcut]:
    """Depth and shortcut, from how many blocks there are and what they hold."""
    num_blocks = tuple(
        len({name.split(".")[1] for name in tensors if name.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3)
    )
    bottleneck = "layer1.0.conv3.weight" in tensors
    shortcut: Shortcut = "B" if "layer2.0.downsample.0.weight" in tensors else "A"
    for depth, (block, counts) in ARCHITECTURES.items():
        if counts == num_blocks and (block is Bottleneck) == bottleneck:
            return depth, shortcut
    found = f"{'-'.join(map(str, num_blocks))} {'bottleneck' if bottleneck else 'basic'} blocks"
    allowed = ", ".join(map(str, ARCHITECTURES))
    raise StavisError(f"{path}: a 3D ResNet of {found}, which is none of the depths {allowed}")


def _match_soundnet(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]] | None:
    """Finds SoundNet's layers by their sizes, each of which occurs once, whatever they are called.

    Kernels may be stored as (1, k), (k, 1) or (k): one-dimensional all of them.

    Returns:
        The entries under the published names and the names of those left over (the eighth layer, say); None if a
        layer is missing.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        module, _, entry = name.rpartition(".")
        modules.setdefault(module, {})[entry] = value

    renamed: dict[str, Tensor] = {}
    left_over = dict(modules)
    with torch.device("meta"):
        soundnet = SoundNet()
    for place, layer in soundnet.named_children():
        wanted = {name: value for name, value in layer.state_dict().items() if name != _COUNTER}
        if not wanted:
            continue
        matches = [module for module, entries in left_over.items() if _same_sizes(wanted, entries)]
        if len(matches) != 1:
            return None
        for name, value in left_over.pop(matches[0]).items():
            shape = wanted[name].shape if name in wanted else value.shape
            renamed[f"soundnet8.{place}.{name}"] = value.reshape(shape)
    return renamed, {
        f"{module}.{name}".lstrip(".") for module, entries in left_over.items() for name in entries
    }


def _same_sizes(wanted: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> bool:
    def size(tensor: Tensor) -> tuple[int, ...]:
        return (*tensor.shape[:2], *(side for side in tensor.shape[2:] if side != 1))

    if entries.keys() - {_COUNTER} != wanted.keys():
        return False
    return all(size(entries[name]) == size(value) for name, value in wanted.items())


def _modality_of_name(path: Path) -> Modality | None:
    name = path.name.lower()
    return "audiovisual" if "audiovisual" in name else "visual" if "visual" in name else None


# Filling a network -------------------------------------------------------------------------------------------------


def _fill(model: STAViS, stored: _Stored, *, partly: bool) -> LoadReport:
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
        {name for name in wanted if name.endswith(_COUNTER)} if stored.kind != "weights folder" else set()
    )
    used = {name: value for name, value in stored.tensors.items() if name in wanted}

    match stored.kind:
        case "Kinetics initialiser":
            part = {name for name in wanted if name.startswith(_BACKBONE)}
        case "SoundNet initialiser":
            part = {name for name in wanted if name.startswith("soundnet8.")}
        case _ if partly:
            shapes = (_shapes(modality, config.depth, config.shortcut) for modality in get_args(Modality))
            part = set.intersection(*(set(one) for one in shapes))
        case _:
            part = set(wanted)
    if not part:
        raise StavisError(f"{source}: a {stored.kind}, of which a {config.modality} network has nothing")
    if missing := part - used.keys() - counters:
        raise _misfit(source, f"{config.modality} ResNet-{config.depth} {config.shortcut}", missing=missing)
    for name, value in used.items():
        if value.shape != wanted[name].shape:
            expected = tuple(wanted[name].shape)
            raise StavisError(f"{source}: {name} has shape {tuple(value.shape)}; the network's is {expected}")
        if not all(math.isfinite(extreme.item()) for extreme in value.aminmax()):
            raise StavisError(f"{source}: {name} holds values that are not finite; the weights are damaged")

    values = {name: _plain(value) for name, value in used.items()}
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
        prefix=stored.prefix,
        used=tuple(name for name in wanted if name in used),
        dropped=(*(name for name in stored.tensors if name not in wanted), *stored.dropped),
        initialised=left,
        metadata=stored.metadata,
    )


def _warnings(report: LoadReport, model: STAViS) -> Iterator[str]:
    if report.initialised:
        yield (
            f"{report.source} holds a {report.kind} alone: {len(report.initialised)} of the network's "
            f"{len(model.state_dict())} entries are freshly initialised, so it must be trained before it predicts "
            "anything"
        )
    read_out_bias = model.get_parameter("fuseav.bias" if report.modality == "audiovisual" else "fuse.bias")
    if report.kind == "published checkpoint" and read_out_bias.item() == INITIAL_LOGIT_BIAS:
        yield (
            f"{report.source}: the {report.modality} read-out still has its initial bias, as in the checkpoint of a "
            "network that was trained with the other modality only"
        )


@functools.cache
def _shapes(modality: Modality, depth: int, shortcut: Shortcut) -> dict[str, torch.Size]:
    """The state dict's names and shapes. Both modalities' together are the published tree."""
    with torch.device("meta"):
        model: nn.Module = STAViS(ModelConfig(modality, depth, shortcut))
    return {name: value.shape for name, value in model.state_dict().items()}


def _plain(value: Tensor) -> Tensor:
    """Floats of any precision as float32, counters as they are, each with its values in a row."""
    return (value.detach().float() if value.is_floating_point() else value.detach()).contiguous()


def _halve(value: Tensor) -> Tensor:
    """Kernels and matrices as float16, unless a value is too large for it; all else as it is."""
    halved = value.half() if value.ndim > 1 else value
    return halved if bool(halved.isfinite().all()) else value


# Words and files ---------------------------------------------------------------------------------------------------


def _misfit(
    path: Path, what: str, *, missing: Iterable[str] = (), unknown: Iterable[str] = ()
) -> StavisError:
    parts = [
        f"{label} {_some(names)}"
        for label, names in (("missing", missing), ("unknown", unknown))
        if list(names)
    ]
    return StavisError(f"{path}: does not fit {_article(what)}: {'; '.join(parts)}")


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = sorted(names, key=_natural)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _atomic_folder(folder: Path, *, may_replace: Iterable[str]) -> Iterator[Path]:
    """Gives a temporary folder, renamed to `folder` when the block ends without an error."""
    try:
        if folder.exists():
            if not folder.is_dir():
                raise StavisError(f"{folder}: a file is there, where a folder of weights is to be written")
            if others := {entry.name for entry in folder.iterdir()} - set(may_replace):
                raise StavisError(
                    f"{folder}: holds other files than weights: {_some(others)}; name another folder"
                )
        folder.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise StavisError(f"{folder}: cannot be written: {error}") from None
    new, old = workplace / "new", workplace / "old"
    try:
        new.mkdir()  # unlike the folder around it with everyone's usual rights
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise StavisError(f"{folder}: cannot be written: {error}") from None
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(workplace, ignore_errors=True)
