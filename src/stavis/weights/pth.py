"""Reader of PyTorch checkpoint files (.pth) that takes tensors only and never runs code."""

import argparse
import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stavis.errors import StavisError, some

# Keys under which training programs keep the state dict, the most explicit first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")

_ARCHIVES = {
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
}
_MOST_PICKLE_BYTES = 1 << 26  # of a checkpoint's structure; tensors are stored apart from it


class NumPyObject:
    """Stand-in for NumPy scalars, dtypes and arrays in a checkpoint.

    Training programs save best scores as NumPy numbers. NumPy's own unpickling trusts its input (a forged dtype can
    name any address as an object), so nothing of NumPy is called and the values are not used.
    """

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_INERT: list[Any] = [argparse.Namespace] + [
    (NumPyObject, name)
    for name in (
        "_codecs.encode",
        "numpy.dtype",
        "numpy.ndarray",
        *(
            f"numpy.{core}.multiarray.{name}"
            for core in ("core", "_core")
            for name in ("scalar", "_reconstruct")
        ),
    )
]


@dataclass(frozen=True)
class StateDict:
    tensors: dict[str, Tensor]  # name -> tensor, on the CPU
    wrapper: str  # the key that held the state dict; "" if it is the file's outermost object
    prefix: str  # what was removed from the start of every name, for example "module."
    epoch: int | None  # the epoch that the file names, if any


def read_state_dict(path: Path) -> StateDict:
    """Reads the state dict of a .pth file, also one that is wrapped together with an optimizer's state.

    Raises StavisError, which says what the file holds instead, if it holds none; OSError if it cannot be opened.
    """
    if found := describe_other_content(path):
        raise StavisError(f"{path}: {found}")
    if path.suffix == ".safetensors":
        raise StavisError(
            f"{path}: a safetensors file alone; name the folder that holds it and its config.json"
        )
    content = _load(path)
    wrapper, state = "", content
    if isinstance(content, dict):
        wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), "")
        state = content[wrapper] if wrapper else content
    where = f"its {wrapper!r}" if wrapper else "the file"
    if not isinstance(state, dict):
        raise StavisError(f"{path}: holds no state dict, but an object of type {type(content).__name__}")
    if not state:
        raise StavisError(f"{path}: {where} is an empty dictionary, not a state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            known = "" if wrapper else f"; a state dict may also be kept under {', '.join(WRAPPERS)}"
            raise StavisError(
                f"{path}: {where} is not a state dict: its entry {name!r} is of type {type(value).__name__}, "
                f"not a tensor{known}"
            )
    tensors = dict(state)
    tensors.pop("n_averaged", None)  # counter of torch.optim.swa_utils.AveragedModel, beside "module."
    epoch = content.get("epoch") if wrapper and isinstance(content, dict) else None
    prefix, tensors = _strip_prefix(tensors)
    return StateDict(tensors, wrapper, prefix, epoch if isinstance(epoch, int) else None)


def describe_other_content(path: Path) -> str | None:
    """Tells from its first bytes what a file holds that can be no weights, and what to do; None if it may hold some.

    Raises OSError if the file cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty; download or copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "is a web page, not weights; the download link leads to a page (a login or a warning) instead"
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            return f"is {name}, not weights; unpack it first"
    if head[257:262] == b"ustar":
        return "is a tar archive, not weights; unpack it first"
    if head.startswith(b"\x89HDF"):
        return "is an HDF5 file (Keras weights?), not weights of PyTorch"
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    if text := _as_text(head):
        return f"is a text file, not weights; it starts with {text[:60]!r}"
    return None


def _describe_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return None  # cut short: reported as damaged
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        return (
            "is a TorchScript archive, which contains code; save its weights alone: "
            "torch.save(torch.jit.load(file).state_dict(), new_file)"
        )
    if "data.pkl" in inner:
        return None
    return f"is a zip archive of {some(names, 3)}, not weights; unpack it first"


def _as_text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8")
    printable = text.translate({ord(one): " " for one in "\r\n\t"})
    return " ".join(text.split()) if len(text) > 3 and printable.isprintable() else None


def _load(path: Path) -> object:
    try:
        # Classifiers are often saved with the options that they were trained with. Those are inert.
        with warnings.catch_warnings(), torch.serialization.safe_globals(_INERT):
            warnings.simplefilter("ignore")  # about pickle versions
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises nearly anything for arbitrary bytes
        if found := re.search(r"unsupported global(?:: global)? (\w[\w.]*\w)", str(error), re.IGNORECASE):
            entry = _entry_with(path, found[1])
            where = f"its entry {entry!r}" if entry else "it"
            raise StavisError(
                f"{path}: refused: {where} holds {found[1]}, which is not a tensor and could run code; "
                "save the state dict alone: torch.save(model.state_dict(), new_file)"
            ) from None
        raise StavisError(
            f"{path}: damaged, cut short, or not a file of PyTorch weights (docs/weights.md)"
        ) from None


def _entry_with(path: Path, global_name: str) -> str | None:
    """The dictionary key whose value refers to a global, as far as the pickle shows it."""
    try:
        key = ""
        for code, argument in _opcodes(path):
            if code == "GLOBAL" and str(argument).replace(" ", ".") == global_name:
                return key or None
            if code.endswith("UNICODE"):
                key = str(argument)
    except Exception:  # a hostile file may hold anything; the name is only a help
        return None
    return None


def _opcodes(path: Path) -> Iterator[tuple[str, object]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inner = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(inner) as file:
                stream = io.BytesIO(file.read(_MOST_PICKLE_BYTES))
    else:
        with path.open("rb") as plain:
            stream = io.BytesIO(plain.read(_MOST_PICKLE_BYTES))
    for _ in range(4):  # the old format is four pickles in a row; the new one ends in an error here
        for opcode, argument, _ in pickletools.genops(stream):
            yield opcode.name, argument


def _strip_prefix(tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Removes the leading parts that all names share, such as those of wrapping modules: `module.soundnet8.`"""
    prefix = ""
    while True:
        first = {name.partition(".")[0] for name in tensors}
        if len(first) != 1 or not all("." in name for name in tensors) or (part := first.pop()).isdigit():
            return prefix, tensors
        prefix += f"{part}."
        tensors = {name.removeprefix(f"{part}."): value for name, value in tensors.items()}
