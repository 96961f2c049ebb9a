"""Weights on disk: our folder, published checkpoints, initializers."""

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pydantic
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from stavis.clips.preprocess import Preprocessing
from stavis.errors import StavisError, some
from stavis.model import Modality, ModelConfig, Shortcut, STAViS
from stavis.model.resnet3d import ARCHITECTURES, Bottleneck
from stavis.model.soundnet import SoundNet
from stavis.runtime.files import file_sha256
from stavis.runtime.folders import atomic_folder
from stavis.version import __version__
from stavis.weights.inflate import Inflation, inflate, is_flat
from stavis.weights.pth import describe_other_content, read_state_dict

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

Initializer = Literal["Kinetics initializer", "inflated 2D initializer", "SoundNet initializer"]
Kind = Literal["weights folder", "published checkpoint", Initializer]

BACKBONE = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")
_BEHIND_THE_BACKBONE = ("layer4.", "fc.")  # of a whole 3D ResNet; the network is cut before them
COUNTER = "num_batches_tracked"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COUNTS = (torch.int32, torch.int64)
_FLAT_STEM = {"conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,)}  # what inflation computes with


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
        folder: Made if need be. One that holds weights is replaced as a whole; one that holds anything else is refused.
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
    tensors = {name: plain(value).cpu() for name, value in model.state_dict().items()}
    if half_precision:
        tensors = {name: _halve(value) for name, value in tensors.items()}
    with atomic_folder(Path(folder), may_replace=(WEIGHTS_FILE, CONFIG_FILE)) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:
            raise StavisError(f"{folder}: cannot write the weights: {error}") from None
        (temporary / CONFIG_FILE).write_text(text, encoding="utf-8")
        # safetensors makes its file private; weights are as readable as any other file of this user.
        (temporary / WEIGHTS_FILE).chmod((temporary / CONFIG_FILE).stat().st_mode)


# Reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """A file's content under the published names, before it meets a network."""

    source: Path
    kind: Kind
    tensors: dict[str, Tensor]
    sha256: str = ""
    dropped: tuple[str, ...] = ()  # what cannot be part of any network
    wrapper: str = ""
    prefix: str = ""
    depth: int | None = None
    shortcut: Shortcut | None = None
    epoch: int | None = None
    config: ModelConfig | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_initializer(self) -> bool:
        return self.kind.endswith("initializer")


def read(source: Path, inflation: Inflation = "center") -> Stored:
    if source.name == WEIGHTS_FILE:
        source = source.parent
    try:
        return _read_folder(source) if source.is_dir() else _read_published(source, inflation)
    except OSError as error:
        raise StavisError(f"{source}: {error.strerror or error}") from None


def _read_folder(folder: Path) -> Stored:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise StavisError(f"{folder}: not a weights folder: it has no {name} (docs/weights.md)")
    config, metadata = _parse_config(folder / CONFIG_FILE)
    path = folder / WEIGHTS_FILE
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        found = describe_other_content(path) or f"is not a whole safetensors file: {error}"
        raise StavisError(f"{path}: {found}") from None
    unknown = tensors.keys() - shapes(config.modality, config.depth, config.shortcut)
    if unknown:
        raise misfit(path, f"{config.modality} ResNet-{config.depth} {config.shortcut}", unknown=unknown)
    _check_values(path, tensors)
    return Stored(
        source=folder,
        kind="weights folder",
        sha256=file_sha256(path),
        tensors=tensors,
        depth=config.depth,
        shortcut=config.shortcut,
        config=config,
        metadata=metadata,
    )


def _parse_config(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise StavisError(f"{path}: is nested too deeply for a config of weights") from None
    except ValueError as error:
        found = describe_other_content(path) or ""
        raise StavisError(f"{path}: {found if 'LFS' in found else f'is not a JSON file: {error}'}") from None
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
        refused = first.get("ctx", {}).get("error")  # by the classes themselves, which say what they found
        found = refused or f"{first['msg']}, found {first['input']!r}"
        raise StavisError(f"{path}: {place}: {found}") from None
    if not isinstance(content["metadata"], dict):
        raise StavisError(f"{path}: metadata is not a JSON object")
    return config, content["metadata"]


def _check_keys(path: Path, place: str, content: object, allowed: Iterable[str]) -> None:
    if not isinstance(content, dict):
        raise StavisError(f"{path}: {place.rstrip('.') or 'the file'} is not a JSON object")
    if unknown := content.keys() - set(allowed):
        raise StavisError(f"{path}: unknown keys: {some(place + key for key in unknown)}")
    if missing := set(allowed) - content.keys():
        raise StavisError(f"{path}: missing keys: {some(place + key for key in missing)}")


def _read_published(path: Path, inflation: Inflation) -> Stored:
    state = read_state_dict(path)
    tensors = state.tensors
    if "conv1.weight" in tensors and any(name.startswith("layer1.") for name in tensors):
        _check_values(path, tensors)
        flat = is_flat(tensors)
        if flat:
            _check_flat_stem(path, tensors)
        stored = _recognize_resnet(path, inflate(tensors, inflation) if flat else tensors)
        if flat and stored.kind == "Kinetics initializer":
            stored = dataclasses.replace(stored, kind="inflated 2D initializer")
    else:
        stored = _recognize_soundnet(path, tensors)
    return dataclasses.replace(
        stored, sha256=file_sha256(path), wrapper=state.wrapper, prefix=state.prefix, epoch=state.epoch
    )


def _recognize_resnet(path: Path, tensors: dict[str, Tensor]) -> Stored:
    """A published checkpoint, or a 3D ResNet alone."""
    depth, shortcut = _architecture(path, tensors)
    known = shapes("visual", depth, shortcut).keys() | shapes("audiovisual", depth, shortcut).keys()
    dropped: set[str] = set()
    kind: Kind = "published checkpoint"
    if not any(name.startswith("score_dsn.") for name in tensors):
        kind = "Kinetics initializer"
        known = {name for name in known if name.startswith(BACKBONE)}
        dropped = {name for name in tensors if name.startswith(_BEHIND_THE_BACKBONE)}
    if unknown := tensors.keys() - known - dropped:
        raise misfit(path, f"{kind} of ResNet-{depth} {shortcut}", unknown=unknown)
    kept = {name: value for name, value in tensors.items() if name not in dropped}
    return Stored(path, kind, kept, dropped=tuple(sorted(dropped)), depth=depth, shortcut=shortcut)


def _recognize_soundnet(path: Path, tensors: dict[str, Tensor]) -> Stored:
    """SoundNet alone, or nothing that we know."""
    if found := _match_soundnet(path, tensors):
        return Stored(path, "SoundNet initializer", found[0], dropped=tuple(sorted(found[1])))
    expected = shapes("visual", 50, "B").keys() | shapes("audiovisual", 50, "B").keys()
    raise misfit(
        path,
        "network (compared with the published ResNet-50)",
        missing=expected - tensors.keys(),
        unknown=tensors.keys() - expected,
    )


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


def _match_soundnet(path: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]] | None:
    """Finds SoundNet's layers by their sizes, each of which occurs once, whatever they are called.

    Kernels may be stored as (1, k), (k, 1) or (k): one-dimensional all of them.

    Returns the entries under the published names and the names of those left over (the eighth layer, say); None if a
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
        wanted = {name: value for name, value in layer.state_dict().items() if name != COUNTER}
        if not wanted:
            continue
        matches = [module for module, entries in left_over.items() if _same_sizes(wanted, entries)]
        if len(matches) != 1:
            return None
        entries = left_over.pop(matches[0])
        _check_values(path, {f"{matches[0]}.{name}": value for name, value in entries.items()})
        for name, value in entries.items():
            shape = wanted[name].shape if name in wanted else value.shape
            renamed[f"soundnet8.{place}.{name}"] = value.reshape(shape)
    return renamed, {
        f"{module}.{name}".lstrip(".") for module, entries in left_over.items() for name in entries
    }


def _same_sizes(wanted: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> bool:
    def size(tensor: Tensor) -> tuple[int, ...]:
        return (*tensor.shape[:2], *(side for side in tensor.shape[2:] if side != 1))

    if entries.keys() - {COUNTER} != wanted.keys():
        return False
    return all(size(entries[name]) == size(value) for name, value in wanted.items())


def _check_values(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises StavisError for an entry that is no plain array of floats (a counter: of integers)."""
    for name, value in tensors.items():
        kind = str(value.dtype).removeprefix("torch.")
        if value.is_meta:
            kind = "no values (device meta)"
        elif value.layout != torch.strided or value.is_nested:
            kind = f"{kind} in the layout {value.layout}"
        elif value.dtype in _FLOATS or (name.endswith(COUNTER) and value.dtype in _COUNTS):
            continue
        raise StavisError(
            f"{path}: {name} holds {kind}; weights are dense float16, bfloat16, float32 or float64"
        )


def _check_flat_stem(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises StavisError if a 2D ResNet's stem is not the one that `inflate` knows."""
    if missing := _FLAT_STEM.keys() - tensors.keys():
        raise misfit(path, "2D ResNet", missing=missing)
    for name, shape in _FLAT_STEM.items():
        if tensors[name].shape != shape:
            raise StavisError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}; a 2D ResNet's is {shape}"
            )


def modality_of_name(path: Path) -> Modality | None:
    name = path.name.lower()
    return "audiovisual" if "audiovisual" in name else "visual" if "visual" in name else None


@functools.cache
def shapes(modality: Modality, depth: int, shortcut: Shortcut) -> dict[str, torch.Size]:
    """The state dict's names and shapes. Both modalities' together are the published tree."""
    with torch.device("meta"):
        model: nn.Module = STAViS(ModelConfig(modality, depth, shortcut))
    return {name: value.shape for name, value in model.state_dict().items()}


def plain(value: Tensor) -> Tensor:
    """Floats of any precision as float32, counters as they are, each with its values in a row."""
    return (value.detach().float() if value.is_floating_point() else value.detach()).contiguous()


def _halve(value: Tensor) -> Tensor:
    """Kernels and matrices as float16, unless a value is too large for it; all else as it is."""
    halved = value.half() if value.ndim > 1 else value
    return halved if bool(halved.isfinite().all()) else value


# Words and files ---------------------------------------------------------------------------------------------------


def misfit(path: Path, what: str, *, missing: Iterable[str] = (), unknown: Iterable[str] = ()) -> StavisError:
    labeled = (("missing", missing), ("unknown", unknown))
    parts = [f"{label} {some(names)}" for label, names in labeled if list(names)]
    article = "an" if what[:1].lower() in "aeiou" else "a"
    return StavisError(f"{path}: does not fit {article} {what}: {'; '.join(parts)}")
