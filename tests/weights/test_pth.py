"""Checkpoint files as other programs and servers leave them: wrappers, prefixes, NumPy values, wrong contents."""

import gzip
import io
import pickle
import tarfile
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stavis.errors import StavisError
from stavis.model import ModelConfig, STAViS
from stavis.model.soundnet import SoundNet
from stavis.weights import load_model, load_model_with_report, save_model
from stavis.weights.pth import read_state_dict
from support.commands import run_command

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 182000000\n"


@pytest.fixture(scope="module")
def small() -> STAViS:
    torch.manual_seed(0)
    return STAViS(ModelConfig("visual", 10))


def archive(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("weights/visual.pth", b"x")
    elif kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("visual.pth"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS_POINTER, "is a Git LFS pointer, .*git lfs pull"),
        (LFS_POINTER.replace(b"size", b"ext-0-x y\nsize"), "is a Git LFS pointer"),
        (b"<!DOCTYPE html><title>404</title>", "is a web page"),
        (b"\xef\xbb\xbf\n  <HTML><body>Sign in</body>", "is a web page"),
        (
            b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>",
            "is a text file.*<Error><Code>Acc",
        ),
        (b"hello\n", "is a text file, not weights; it starts with 'hello'"),
        ("grüße ".encode() * 300, "is a text file"),
        (gzip.compress(b"x", mtime=0), "is a gzip file, not weights; unpack it"),
        (archive("zip"), r"is a zip archive of weights/visual\.pth, not weights; unpack it"),
        (archive("tar"), "is a tar archive, not weights; unpack it"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(40), "is a 7z archive"),
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "is an HDF5 file"),
    ],
)
def test_the_error_says_what_the_file_is(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(StavisError, match=rf"a\.pth: {message}"):
        load_model(path)


def test_torchscript_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))  # type: ignore[no-untyped-call]
    with pytest.raises(
        StavisError, match=r"scripted\.pt: is a TorchScript archive, .*state_dict\(\), new_file"
    ):
        load_model(path)
    with pytest.raises(StavisError, match=r"is a TorchScript archive"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pointer_inside_a_weights_folder(name: str, small: STAViS, tmp_path: Path) -> None:
    save_model(small, tmp_path / "w")
    (tmp_path / "w" / name).write_bytes(LFS_POINTER)
    with pytest.raises(StavisError, match=rf"w/{name}: is a Git LFS pointer"):
        load_model(tmp_path / "w")


def test_a_safetensors_file_alone(small: STAViS, tmp_path: Path) -> None:
    save_model(small, tmp_path / "w")
    (tmp_path / "w" / "model.safetensors").rename(tmp_path / "best.safetensors")
    with pytest.raises(StavisError, match=r"best\.safetensors: .* name the folder that holds it"):
        load_model(tmp_path / "best.safetensors")


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [
        ("model", ""),
        ("net", "module."),
        ("model_state_dict", "_orig_mod.module."),
        ("state_dict", "model."),
        ("", ""),
    ],
)
def test_wrappers_and_prefixes_are_taken_off_and_reported(
    wrapper: str, prefix: str, small: STAViS, tmp_path: Path
) -> None:
    state = {prefix + name: value for name, value in small.state_dict().items()}
    content: dict[str, Any] = {"epoch": 7, wrapper: state, "optimizer": {"lr": 1}} if wrapper else state
    torch.save(content, tmp_path / "a.pth")
    model, report = load_model_with_report(tmp_path / "a.pth", modality="visual")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in small.state_dict().items())
    assert (report.wrapper, report.prefix, report.epoch) == (wrapper, prefix, 7 if wrapper else None)
    printed = run_command("convert", tmp_path / "a.pth", tmp_path / "w", "--modality", "visual")
    assert (f"prefix '{prefix}' removed" in printed) == bool(prefix)
    assert (f"key '{wrapper}'" in printed) == bool(wrapper)


def test_averaged_weights_of_pytorch(small: STAViS, tmp_path: Path) -> None:
    torch.save(torch.optim.swa_utils.AveragedModel(small).state_dict(), tmp_path / "a.pth")
    model, report = load_model_with_report(tmp_path / "a.pth", modality="visual")
    assert report.prefix == "module."
    assert torch.equal(model.fuse.weight, small.fuse.weight)


@pytest.mark.parametrize(
    "beside",
    [
        {"best_nss": np.float64(3.1)},
        {"scores": np.arange(6, dtype=np.float32).reshape(2, 3), "epoch": np.int64(3)},
        {"flags": np.bool_(True), "history": [np.float32(1), {"cc": np.array(["a", "b"])}]},
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_numpy_values_beside_the_weights_are_ignored(
    beside: dict[str, Any], old: bool, small: STAViS, tmp_path: Path
) -> None:
    content = {"state_dict": small.state_dict(), **beside}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    assert torch.equal(load_model(tmp_path / "a.pth", modality="visual").fuse.weight, small.fuse.weight)


class Tracker:
    """Stands for a class of someone's training program."""


@pytest.mark.parametrize("place", ["tracker", "options"])
def test_the_entry_that_could_run_code_is_named(place: str, small: STAViS, tmp_path: Path) -> None:
    value = Tracker() if place == "tracker" else Namespace(lr=0.1, tracker=Tracker())
    content = {"best": 3.0, "state_dict": {"w": torch.ones(1)}, place: value}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(
        StavisError, match=rf"refused: its entry 'tracker' holds {__name__}\.Tracker"
    ) as error:
        load_model(tmp_path / "a.pth")
    assert "torch.save(model.state_dict(), new_file)" in str(error.value)


def test_a_forged_numpy_dtype_is_never_given_to_numpy(tmp_path: Path) -> None:
    """A dtype of objects whose flags say plain bytes would let the file choose addresses in memory."""

    class Forged:
        def __reduce__(self) -> tuple[Any, ...]:
            dtype = np.dtype("O")
            return np._core.multiarray.scalar, (dtype, b"\x41" * 8)

    torch.save({"state_dict": {"w": torch.ones(1)}, "x": Forged()}, tmp_path / "a.pth")
    assert set(read_state_dict(tmp_path / "a.pth").tensors) == {"w"}
    assert b"multiarray" in pickle.dumps(np.float64(1)), "NumPy's own pickles do name it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value.to(torch.complex64),
            "conv1.weight holds complex64; weights are dense float16, ",
        ),
        (lambda value: value.to(torch.float8_e4m3fn), "conv1.weight holds float8_e4m3fn"),
        (lambda value: value.to(torch.uint16), "conv1.weight holds uint16"),
        (lambda value: value.to(torch.int8), "conv1.weight holds int8"),
        (lambda value: value.to_sparse(), "conv1.weight holds float32 in the layout torch.sparse_coo"),
        (lambda value: value.to("meta"), "conv1.weight holds no values"),
        (lambda value: value.double() * 1e300, "conv1.weight has values that are not finite as float32"),
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_entries_that_are_no_arrays_of_floats(
    change: Any, message: str, flat: bool, small: STAViS, tmp_path: Path
) -> None:
    state = dict(small.state_dict())
    stem = state["conv1.weight"]
    state["conv1.weight"] = change(stem[:, :, 0] if flat else stem)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(StavisError, match=rf"a\.pth: {message}"):
        load_model(tmp_path / "a.pth", modality="visual")


def test_soundnet_of_other_numbers_is_refused_by_name(tmp_path: Path) -> None:
    state = dict(SoundNet().state_dict())
    state["0.weight"] = state["0.weight"].to_sparse()
    torch.save(state, tmp_path / "sound.pth")
    with pytest.raises(StavisError, match=r"sound\.pth: 0\.weight holds float32 in the layout"):
        load_model(tmp_path / "sound.pth")
