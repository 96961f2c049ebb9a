"""Weights on disk: our folder, the published files, and whatever else is mistaken for them."""

import argparse
import functools
import json
import logging
import math
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from stavis.cli import app
from stavis.clips.preprocess import Preprocessing
from stavis.engine.convolution import fused_operators_work
from stavis.errors import StavisError
from stavis.model import ModelConfig, STAViS
from stavis.model.soundnet import SoundNet
from stavis.weights import initialize, load_model, load_model_with_report, resolve_device, save_model


def published_tree(depth: int, shortcut: Any = "B") -> dict[str, torch.Size]:
    """Names and shapes of a published checkpoint, which holds both modalities' parameters (see test_model)."""
    tree = {}
    with torch.device("meta"):
        for modality in ("visual", "audiovisual"):
            model = STAViS(ModelConfig(modality, depth, shortcut))  # type: ignore[arg-type]
            tree |= {name: value.shape for name, value in model.state_dict().items()}
    return tree


def light_tensors(shapes: Mapping[str, torch.Size], seed: int = 0) -> dict[str, Tensor]:
    """One random value for each entry, repeated without taking room in a file."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.tensor(0)
        if name.endswith("num_batches_tracked")
        else torch.rand((), generator=generator).expand(shape)
        for name, shape in shapes.items()
    }


def save_pth(
    path: Path, tensors: Mapping[str, Tensor], *, prefix: str = "module.", old: bool = True, **beside: object
) -> Path:
    state = OrderedDict((prefix + name, value) for name, value in tensors.items())
    torch.save({"state_dict": state, **beside}, path, _use_new_zipfile_serialization=not old)
    return path


def save_published(path: Path, tensors: Mapping[str, Tensor], **options: Any) -> Path:
    optimizer = {
        "state": {0: {"momentum_buffer": torch.ones(3)}},
        "param_groups": [{"lr": 0.01, "momentum": 0.9, "dampening": 0.9, "nesterov": False, "params": [0]}],
    }
    beside = {"epoch": 60, "arch": "resnet-50", "optimizer_global": optimizer, "optimizer_sal": optimizer}
    return save_pth(path, tensors, **beside, **options)


def equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


# Published checkpoints


@pytest.mark.parametrize("modality", ["visual", "audiovisual"])
def test_published_checkpoint_gives_the_recorded_forward(
    modality: str, goldens: Path, recipe: ModuleType, tmp_path: Path
) -> None:
    """The deepest recorded network of each modality, from a file in the published form."""
    found = [
        json.loads(file.read_text()) | {"file": file}
        for file in goldens.glob(f"model/forward_*_{modality}_*.json")
    ]
    golden = max(found, key=lambda one: (one["depth"], -one["size"]))
    seed = golden["seed"]
    tree = published_tree(golden["depth"], golden["shortcut"])
    tensors = {
        name: torch.from_numpy(np.asarray(recipe.tensor(name, shape, seed))) for name, shape in tree.items()
    }
    path = save_published(tmp_path / f"{modality}_split1_save_60.pth", tensors)
    assert not path.read_bytes().startswith(b"PK")

    model, report = load_model_with_report(path)
    with torch.inference_mode():
        prediction = model(
            torch.from_numpy(recipe.clip(golden["batch"], seed, golden["frames"], golden["size"])),
            torch.from_numpy(recipe.audio(golden["batch"], seed)),
        )
    recorded = np.load(golden["file"].with_suffix(".npz"))
    outputs = [*prediction.side_logits, prediction.logits]
    assert len(outputs) == golden["outputs"]
    for place, output in enumerate(outputs):
        logits = recorded[f"logits_{place}"]
        np.testing.assert_allclose(output, logits, rtol=0, atol=1e-5 * np.abs(logits).max())

    assert (report.kind, report.epoch, report.prefix) == ("published checkpoint", 60, "module.")
    assert (report.modality, report.depth, report.shortcut) == (modality, golden["depth"], golden["shortcut"])
    assert set(report.used) | set(report.dropped) == tree.keys()
    assert set(report.used) == model.state_dict().keys()
    assert not report.initialized
    assert not report.warnings


@pytest.mark.parametrize(
    ("name", "asked", "expected", "old"),
    [
        ("visual_split2_save_60.pth", None, "visual", True),
        ("Audiovisual_split2_save_60.pth", None, "audiovisual", True),
        ("save_60.pth", None, "audiovisual", True),
        ("save_60.pth", "visual", "visual", False),
        ("audiovisual_split2_save_60.pth", "visual", "visual", True),
        ("visual_split2_save_60.pth", "audiovisual", "audiovisual", False),
    ],
)
def test_modality_is_asked_for_or_found_in_the_name(
    name: str, asked: Any, expected: str, old: bool, tmp_path: Path
) -> None:
    tensors = light_tensors(published_tree(10))
    model = load_model(save_published(tmp_path / name, tensors, old=old), modality=asked)
    assert model.config == ModelConfig(expected, 10, "B")  # type: ignore[arg-type]
    assert equal(model.state_dict(), tensors)
    assert not model.training
    assert all(one.requires_grad and one.is_contiguous() for one in model.parameters())


@pytest.mark.parametrize(
    ("depth", "shortcut"),
    [(10, "A"), (10, "B"), (18, "A"), (18, "B"), (34, "A"), (50, "A"), (50, "B")]
    + [pytest.param(depth, "B", marks=pytest.mark.slow) for depth in (34, 101, 152, 200)],
)
def test_depth_and_shortcut_are_found_from_the_tensors(depth: int, shortcut: Any, tmp_path: Path) -> None:
    tensors = light_tensors(published_tree(depth, shortcut))
    model, report = load_model_with_report(save_published(tmp_path / "visual.pth", tensors))
    assert model.config == ModelConfig("visual", depth, shortcut)
    assert equal(model.state_dict(), tensors)
    assert set(report.dropped) == tensors.keys() - model.state_dict().keys()


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    path = save_published(tmp_path / "a.pth", light_tensors(published_tree(10)))
    before = torch.get_rng_state()
    load_model(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_files_without_prefix_or_counters_load(tmp_path: Path) -> None:
    """PyTorch before 0.4.1 kept no `num_batches_tracked`."""
    tensors = light_tensors(published_tree(10))
    tensors = {name: value for name, value in tensors.items() if not name.endswith("tracked")}
    model, report = load_model_with_report(save_pth(tmp_path / "a.pth", tensors, prefix=""))
    assert model.bn1.num_batches_tracked.item() == 0
    assert (report.prefix, report.epoch, report.initialized) == ("", None, ())
    assert equal({name: value for name, value in model.state_dict().items() if name in tensors}, tensors)


def test_a_read_out_that_was_never_trained_is_told(tmp_path: Path) -> None:
    tensors = light_tensors(published_tree(10)) | {"fuseav.bias": torch.tensor([-6.0])}
    path = save_published(tmp_path / "save_60.pth", tensors)
    assert "audiovisual read-out still has its initial bias" in load_model_with_report(path)[1].warnings[0]
    assert not load_model_with_report(path, modality="visual")[1].warnings


def test_loading_is_logged_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_published(tmp_path / "visual.pth", light_tensors(published_tree(18)))
    with caplog.at_level(logging.INFO, logger="stavis"):
        model = load_model(path)
    used = len(model.state_dict())
    assert caplog.messages == [
        f"{path}: published checkpoint, epoch 60, key 'state_dict', prefix 'module.' removed -> visual ResNet-18 B: "
        f"{used} entries used, {len(published_tree(18)) - used} dropped, 0 freshly initialized"
    ]


# Initializers


def whole_resnet(depth: int, shortcut: Any, *, counters: bool = False) -> dict[str, Tensor]:
    """A Kinetics classifier's entries, as published: with the fourth stage and the classifier."""
    parts = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")
    tree = {name: shape for name, shape in published_tree(depth, shortcut).items() if name.startswith(parts)}
    tree |= {
        "layer4.0.conv1.weight": torch.Size((512, 256, 3, 3, 3)),
        "layer4.0.bn1.running_mean": torch.Size((512,)),
        "fc.weight": torch.Size((400, 512)),
        "fc.bias": torch.Size((400,)),
    }
    return light_tensors(
        {name: shape for name, shape in tree.items() if counters or not name.endswith("tracked")}
    )


def soundnet_tensors() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {
        name: torch.randn(value.shape) if value.ndim else value
        for name, value in SoundNet().state_dict().items()
    }


@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize(("depth", "shortcut"), [(18, "A"), (50, "B")])
def test_kinetics_weights_start_a_network(depth: int, shortcut: Any, counters: bool, tmp_path: Path) -> None:
    tensors = whole_resnet(depth, shortcut, counters=counters)
    opts = argparse.Namespace(n_classes=400, mean=[114.7748, 107.7354, 99.475])
    beside = {"epoch": 200, "arch": f"resnet-{depth}", "optimizer": {}, "opts": opts}
    path = save_pth(tmp_path / "resnet-kinetics.pth", tensors, **beside)
    model, report = load_model_with_report(path, modality="visual")
    assert model.config == ModelConfig("visual", depth, shortcut)
    assert set(report.used) == {name for name in tensors if not name.startswith(("layer4.", "fc."))}
    assert set(report.dropped) == tensors.keys() - set(report.used)
    state = model.state_dict()
    assert equal({name: state[name] for name in report.used}, tensors)
    assert {name.partition(".")[0] for name in report.initialized} == {"score_dsn", "fuse"}
    assert model.fuse.bias.item() == -6
    assert "must be trained" in report.warnings[0]


def renamed(names: Mapping[str, str], shape: Callable[[torch.Size], tuple[int, ...]]) -> dict[str, Tensor]:
    """SoundNet under other modules' names, its kernels of another shape."""
    result = {}
    for name, value in soundnet_tensors().items():
        module, entry = name.split(".")
        result[f"{names[module]}.{entry}"] = value.reshape(shape(value.shape)) if value.ndim == 4 else value
    return result


LAYERS = [name for name, layer in SoundNet().named_children() if layer.state_dict()]
AS_PUBLISHED = {name: name for name in LAYERS}
AS_PORTED = {name: f"{'batchnorm' if i % 2 else 'conv'}{i // 2 + 1}" for i, name in enumerate(LAYERS)}


@pytest.mark.parametrize(
    ("prefix", "names", "shape"),
    [
        ("module.soundnet8.", AS_PUBLISHED, tuple),
        ("soundnet8.", AS_PUBLISHED, tuple),
        ("", AS_PUBLISHED, tuple),
        ("module.", AS_PUBLISHED, tuple),
        ("", AS_PORTED, lambda shape: (*shape[:2], shape[3], 1)),
        ("net.", AS_PORTED, lambda shape: (*shape[:2], shape[3])),
    ],
)
@pytest.mark.parametrize("bare", [True, False])
def test_soundnet_is_found_under_any_name(
    prefix: str, names: dict[str, str], shape: Any, bare: bool, tmp_path: Path
) -> None:
    tensors = renamed(names, shape)
    if names is AS_PORTED:
        tensors |= {"conv8_objs.weight": torch.zeros(1000, 1024, 8, 1), "conv8_objs.bias": torch.zeros(1000)}
        tensors = dict(sorted(tensors.items(), reverse=True))
    path = tmp_path / "soundnet8.pth"
    if bare:
        torch.save(
            {prefix + name: value for name, value in tensors.items()},
            path,
            _use_new_zipfile_serialization=False,
        )
    else:
        save_pth(path, tensors, prefix=prefix)

    model = STAViS(ModelConfig("audiovisual", 10)).double()
    kept = {
        name: value.clone() for name, value in model.state_dict().items() if not name.startswith("soundnet8.")
    }
    report = initialize(model, path)
    assert equal(
        {name: value.float() for name, value in model.soundnet8.state_dict().items()}, soundnet_tensors()
    )
    assert model.soundnet8[0].weight.dtype == torch.float64
    assert equal(kept, model.state_dict())
    assert report.kind == "SoundNet initializer"
    assert report.prefix == prefix
    assert set(report.initialized) == kept.keys()
    assert set(report.dropped) == ({"conv8_objs.weight", "conv8_objs.bias"} if names is AS_PORTED else set())


def test_soundnet_alone_gives_the_published_network_around_it(tmp_path: Path) -> None:
    model, report = load_model_with_report(save_pth(tmp_path / "soundnet8.pth", soundnet_tensors()))
    assert model.config == ModelConfig()
    assert "must be trained" in report.warnings[0]
    with pytest.raises(
        StavisError, match=r"soundnet8\.pth: a SoundNet initializer, which has nothing for a visual"
    ):
        load_model(tmp_path / "soundnet8.pth", modality="visual")


def test_the_published_two_stages_of_training_can_be_started(tmp_path: Path) -> None:
    kinetics = whole_resnet(10, "B")
    visual = STAViS(ModelConfig("visual", 10))
    initialize(visual, save_pth(tmp_path / "resnet-10-kinetics.pth", kinetics))
    assert equal({"conv1.weight": visual.conv1.weight}, kinetics)
    save_model(visual, tmp_path / "visual")

    audiovisual = STAViS(ModelConfig("audiovisual", 10))
    read_out = audiovisual.fuseav.weight.clone()
    first = initialize(audiovisual, tmp_path / "visual")
    second = initialize(audiovisual, save_pth(tmp_path / "soundnet8.pth", soundnet_tensors()))
    ours, theirs = audiovisual.state_dict(), visual.state_dict()
    common = ours.keys() & theirs.keys()
    assert set(first.used) == common
    assert set(first.dropped) == theirs.keys() - common
    assert equal({name: ours[name] for name in common}, theirs)
    assert set(second.used) == {name for name in ours if name.startswith("soundnet8.")}
    assert torch.equal(audiovisual.fuseav.weight, read_out)


def test_initialize_from_a_published_checkpoint_takes_all_that_fits(tmp_path: Path) -> None:
    tensors = light_tensors(published_tree(10))
    model = STAViS(ModelConfig("audiovisual", 10))
    report = initialize(model, save_published(tmp_path / "visual_split1_save_60.pth", tensors))
    assert not report.initialized
    assert not report.warnings
    assert equal(model.state_dict(), tensors)


def test_initialize_refuses_another_architecture(tmp_path: Path) -> None:
    path = save_pth(tmp_path / "kinetics.pth", whole_resnet(18, "A"))
    for config in (ModelConfig("visual", 10, "A"), ModelConfig("visual", 18, "B")):
        with pytest.raises(StavisError, match=r"weights of a ResNet-18 A; the network is a ResNet-1\d"):
            initialize(STAViS(config), path)


def test_initialize_refuses_half_a_backbone(tmp_path: Path) -> None:
    tensors = whole_resnet(10, "B")
    del tensors["layer2.0.bn1.weight"]
    model = STAViS(ModelConfig("visual", 10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(StavisError, match=r"missing layer2\.0\.bn1\.weight"):
        initialize(model, save_pth(tmp_path / "kinetics.pth", tensors))
    assert equal(model.state_dict(), before)


# The weights folder


@pytest.fixture(scope="module")
def small() -> STAViS:
    torch.manual_seed(0)
    preprocessing = Preprocessing(mean=(1.0, 2.0, 3.5), resize_filter="nearest")
    return STAViS(ModelConfig("audiovisual", 10, "A", preprocessing))


def test_a_folder_gives_back_what_was_saved(small: STAViS, tmp_path: Path) -> None:
    metadata = {"epoch": 3, "scores": {"cc": 0.5}, "note": "Zürich"}
    save_model(small, tmp_path / "new" / "w", metadata=metadata)
    for source in (tmp_path / "new" / "w", str(tmp_path / "new" / "w" / "model.safetensors")):
        model, report = load_model_with_report(source)
        assert model.config == small.config
        assert equal(model.state_dict(), small.state_dict())
        assert not model.training
        assert report.metadata == metadata
        assert (report.kind, report.dropped, report.initialized) == ("weights folder", (), ())
    assert sorted(entry.name for entry in (tmp_path / "new").rglob("*")) == [
        "config.json",
        "model.safetensors",
        "w",
    ]
    assert "Zürich" in (tmp_path / "new" / "w" / "config.json").read_text(encoding="utf-8")
    modes = {entry.stat().st_mode & 0o777 for entry in (tmp_path / "new" / "w").iterdir()}
    (tmp_path / "usual").touch()
    assert modes == {(tmp_path / "usual").stat().st_mode & 0o777}


def test_weights_are_kept_in_float32(small: STAViS, tmp_path: Path) -> None:
    save_model(STAViS(small.config).double(), tmp_path / "w")
    model = load_model(tmp_path / "w")
    assert {one.dtype for one in model.parameters()} == {torch.float32}


def test_saving_again_replaces_the_weights(small: STAViS, tmp_path: Path) -> None:
    save_model(STAViS(ModelConfig("visual", 10)), tmp_path / "w")
    save_model(small, tmp_path / "w")
    assert load_model(tmp_path / "w").config == small.config
    assert [entry.name for entry in tmp_path.iterdir()] == ["w"]


def test_a_failed_save_leaves_what_was_there(
    small: STAViS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(small, tmp_path / "w", metadata={"a": 1})

    def fill_the_disk(_tensors: object, path: Path, **_options: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fill_the_disk)
    for name in ("w", "other"):
        with pytest.raises(StavisError, match="No space left on device"):
            save_model(STAViS(ModelConfig("visual", 10)), tmp_path / name)
    with pytest.raises(TypeError, match="JSON"):
        save_model(small, tmp_path / "w", metadata={"a": object()})
    assert [entry.name for entry in tmp_path.iterdir()] == ["w"]
    model, report = load_model_with_report(tmp_path / "w")
    assert model.config == small.config
    assert report.metadata == {"a": 1}


def test_a_failed_replacement_puts_the_old_weights_back(
    small: STAViS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(small, tmp_path / "w", metadata={"a": 1})
    rename = Path.rename

    def fail_with_the_new(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise PermissionError(13, "Permission denied", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_with_the_new)
    with pytest.raises(StavisError, match=r"cannot be written: .*Permission denied"):
        save_model(small, tmp_path / "w", metadata={"a": 2})
    assert load_model_with_report(tmp_path / "w")[1].metadata == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["w"]


def test_saving_spares_other_files(small: STAViS, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StavisError, match=r"not empty: contains notes\.txt"):
        save_model(small, tmp_path)
    with pytest.raises(StavisError, match="a file is there"):
        save_model(small, tmp_path / "notes.txt")
    with pytest.raises(StavisError, match=r"notes\.txt/w: cannot be written: .*notes\.txt"):
        save_model(small, tmp_path / "notes.txt" / "w")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_saving_takes_the_network_itself(small: STAViS, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes a STAViS, not a Sequential"):
        save_model(torch.nn.Sequential(small), tmp_path / "w")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(small: STAViS, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w"
    save_model(small, path)
    return path


@pytest.fixture
def altered(folder: Path, tmp_path: Path) -> Callable[[Callable[[Any], object]], Path]:
    """A copy of the folder with its config changed by a function."""

    def alter(change: Callable[[Any], object]) -> Path:
        (tmp_path / "model.safetensors").hardlink_to(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return alter


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(color=1), "unknown keys: color"),
        (lambda c: c["model"].update(depht=1), r"unknown keys: model\.depht"),
        (lambda c: c["model"]["preprocessing"].update(gamma=1), r"unknown keys: model\.preprocessing\.gamma"),
        (lambda c: c["model"].pop("depth"), r"missing keys: model\.depth"),
        (lambda c: c.update(model=3), "model is not a JSON object"),
        (lambda c: c.update(metadata=[]), "metadata is not a JSON object"),
        (lambda c: c["model"].update(preprocessing=[]), r"model\.preprocessing is not a JSON object"),
        (
            lambda c: c["model"].update(depth="10"),
            r"model\.depth: Input should be a valid integer, found '10'",
        ),
        (lambda c: c["model"].update(depth=11), r"depth is 11; allowed: 10, 18"),
        (
            lambda c: c["model"].update(modality="both"),
            r"model\.modality: .*'audiovisual' or 'visual', found 'both'",
        ),
        (lambda c: c["model"]["preprocessing"].update(mean=[1, 2]), r"model\.preprocessing\.mean"),
        (lambda c: c["model"]["preprocessing"].update(resize_filter="box"), "found 'box'"),
        (
            lambda c: c["model"]["preprocessing"].update(mean=[math.inf, 0, 0]),
            r"in 0\.\.255 for each of R, G, B$",
        ),
        (
            lambda c: c["model"]["preprocessing"].update(input_size=[100, 112]),
            r"json: model: preprocessing\.input_size is \(100, 112\); the network takes multiples of 16 from 64$",
        ),
        (
            lambda c: c["model"]["preprocessing"].update(clip_length=24),
            "clip_length is 24; .* 1 or a multiple of 16$",
        ),
        (
            lambda c: c["model"]["preprocessing"].update(num_audio_samples=10),
            "audiovisual network takes 12766 or more$",
        ),
        (
            lambda c: c["model"].update(modality="visual"),
            "does not fit a visual ResNet-10 A: unknown fuseav.*more$",
        ),
        (lambda c: c["model"].update(depth=18), r"missing layer1\.1\.bn1.* and \d+ more$"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(altered: Any, change: Any, message: str) -> None:
    with pytest.raises(StavisError, match=message):
        load_model(altered(change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("conv1.weight"), r"missing conv1\.weight$"),
        (lambda t: t.pop("bn1.num_batches_tracked"), r"missing bn1\.num_batches_tracked$"),
        (lambda t: t.update(extra=torch.zeros(1)), r"unknown extra$"),
        (
            lambda t: t.update({"bn1.bias": torch.zeros(65)}),
            r"bn1\.bias has shape \(65,\); the network's is \(64,\)",
        ),
        (lambda t: t["bn1.bias"].fill_(np.nan), r"bn1\.bias has values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(StavisError, match=message):
        load_model(tmp_path)


def test_random_weights_leave_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = load_model("untrained", device="cpu").state_dict()
    fused_operators_work.__wrapped__()
    assert torch.equal(torch.rand(3), expected)
    second = load_model("untrained", device="cpu").state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"model": ' + "[" * 100_000, "[" * 900 + "]" * 900])
def test_a_config_nested_too_deeply_is_refused(folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors").hardlink_to(folder / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(StavisError, match=r"config\.json: "):
        load_model(tmp_path)


@pytest.mark.parametrize("depth", [100, 400, 900])
def test_a_setting_nested_too_deeply_is_refused(altered: Any, depth: int) -> None:
    def nest(config: Any) -> None:
        config["model"]["depth"] = functools.reduce(lambda inner, _: [inner], range(depth), 1)

    with pytest.raises(StavisError, match=r"config\.json: model"):
        load_model(altered(nest))


def test_another_modality_than_the_folders_is_refused(folder: Path) -> None:
    assert load_model(folder, modality="audiovisual").config.modality == "audiovisual"
    with pytest.raises(StavisError, match=r"weights are audiovisual, but modality=.visual. was"):
        load_model(folder, modality="visual")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_half_a_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).hardlink_to(folder / name)
    with pytest.raises(StavisError, match="not a weights folder: it has no "):
        load_model(tmp_path)


# Files that are something else


class Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("old", [True, False])
def test_code_in_a_file_is_never_run(old: bool, tmp_path: Path) -> None:
    path, proof = tmp_path / "a.pth", tmp_path / "proof"
    save_published(path, light_tensors(published_tree(10)), old=old, opts=Malice(proof))
    with pytest.raises(StavisError, match=r"a\.pth: refused: its entry 'opts' holds (posix|nt)\.system"):
        load_model(path)
    assert not proof.exists()
    # The same file does run it where pickles are trusted, so it was a fair test.
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize(
    "content",
    [pickle.dumps({"a": 1}), b"\x80\x02PK", bytes(range(256)) * 40],
    ids=["pickle", "cut pickle", "bytes"],
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(StavisError, match=r"a\.pth: .*not a file of PyTorch weights \(docs/weights\.md\)$"):
        load_model(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds no state dict, but an object of type list"),
        ({}, "the file is an empty dictionary"),
        ({"epoch": 3, "model": {}}, "its 'model' is an empty dictionary, not a state dict"),
        (
            {"epoch": 3, "ema": {}},
            "its entry 'epoch' is of type int, not a tensor; a state dict may also be kept under",
        ),
        ({"state_dict": {"a": 3}}, "its entry 'a' is of type int, not a tensor$"),
        ({"net": {"w": np.ones(3)}}, "its entry 'w' is of type NumPyObject, not a tensor$"),
        (torch.zeros(1), "holds no state dict, but an object of type Tensor"),
        (
            {"module.backbone.w": torch.zeros(1), "module.head.w": torch.zeros(1)},
            r"does not fit a network .*: missing bn1\.bias, .* and 336 more; unknown backbone\.w, head\.w$",
        ),
    ],
)
def test_other_contents_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(StavisError, match=message):
        load_model(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("change", "modality", "message"),
    [
        (lambda t: t.pop("score_dsn.1.side_prep.bias"), None, r"missing score_dsn\.1\.side_prep\.bias"),
        (lambda t: t.pop("fuse.bias"), "visual", r"missing fuse\.bias$"),
        (
            lambda t: t.pop("soundnet8.0.bias"),
            None,
            r"fit an audiovisual ResNet-10 B: missing soundnet8\.0\.bias$",
        ),
        (lambda t: t.update({"layer9.x": torch.zeros(1)}), None, r"unknown layer9\.x$"),
        (lambda t: t.update({"fc.weight": torch.zeros(1)}), None, r"unknown fc\.weight$"),
        (lambda t: t.update({"conv1.weight": torch.zeros(64, 3, 3, 3, 3)}), None, r"conv1\.weight has shape"),
        (lambda t: t.update({"bn1.bias": torch.full((64,), np.inf)}), None, r"bn1\.bias .* not finite"),
        (
            lambda t: t.update({"layer3.1.conv1.weight": torch.zeros(1)}),
            None,
            r"of 1-1-2 basic blocks, .* 10, 18, 34, 50, 101, 152, 200$",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if "score_dsn" in name],
            None,
            r"unknown fuse\.bias, fuse\.weight",
        ),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(
    change: Any, modality: Any, message: str, tmp_path: Path
) -> None:
    tensors = light_tensors(published_tree(10))
    change(tensors)
    path = save_published(tmp_path / "a.pth", tensors)
    with pytest.raises(StavisError, match=message):
        load_model(path, modality=modality)


def test_soundnet_without_a_layer_is_refused(tmp_path: Path) -> None:
    tensors = soundnet_tensors()
    del tensors["14.weight"]
    with pytest.raises(
        StavisError, match=r"missing bn1\.bias.*; unknown 0\.bias, 0\.weight, .* and \d+ more$"
    ):
        load_model(save_pth(tmp_path / "soundnet8.pth", tensors))


def test_missing_and_unreadable_files_are_told(tmp_path: Path) -> None:
    for name in ("a.pth", "folder"):
        with pytest.raises(StavisError, match=rf"{name}: No such file or directory"):
            load_model(tmp_path / name)


@pytest.mark.parametrize("old", [True, False])
def test_any_truncation_is_one_clear_error(old: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("truncated")
    whole = save_published(base / "whole.pth", light_tensors(published_tree(10)), old=old).read_bytes()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(whole) - 1))
    def check(length: int) -> None:
        (base / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(
            StavisError,
            match=r"cut\.pth: (damaged, cut short, or not a|is empty|refused: .*holds \S+,)",
        ):
            load_model(base / "cut.pth")

    check()


def test_a_truncated_folder_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").hardlink_to(folder / "config.json")
    whole = (folder / "model.safetensors").read_bytes()
    for length in (0, 7, 1000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(StavisError, match=r"model\.safetensors: is (not a whole safetensors file|empty)"):
            load_model(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text((folder / "config.json").read_text()[:-20])
    with pytest.raises(StavisError, match=r"config\.json: is not a JSON file"):
        load_model(tmp_path)


# Devices


def test_devices_are_resolved_or_told(folder: Path) -> None:
    there = torch.cuda.is_available()
    assert resolve_device("auto").type == ("cuda" if there else "cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(StavisError, match="device 'cuda:99': this machine has "):
        load_model(folder, device="cuda:99")
    for name in ("gpu", "meta", ""):
        with pytest.raises(
            StavisError, match=f"device '{name}' is not known; allowed: auto, cpu, cuda, cuda:N, mps"
        ):
            load_model(folder, device=name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(StavisError, match="device 'cuda': this machine has no GPU that PyTorch can use"):
        load_model(folder, device="cuda")


# The command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def test_convert_writes_a_folder_and_says_what_it_used(tmp_path: Path) -> None:
    tensors = light_tensors(published_tree(10))
    path = save_published(tmp_path / "visual_split1_save_60.pth", tensors)
    result = run(path, tmp_path / "w", "--resize-filter", "nearest")
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    model, report = load_model_with_report(tmp_path / "w")
    assert (
        lines["file"] == f"{path}: published checkpoint, epoch 60, key 'state_dict', prefix 'module.' removed"
    )
    assert lines["network"] == "visual ResNet-10, shortcut B"
    assert lines["resizing"] == "nearest"
    assert lines["used"].startswith(f"{len(model.state_dict())} entries: conv1 1, bn1 5, ")
    assert lines["dropped"] == "57 entries: soundnet8 49, fusion3 6, fuseav 2"
    assert lines["initialized"] == "nothing"
    assert model.config.preprocessing == Preprocessing(resize_filter="nearest")
    assert equal(model.state_dict(), tensors)
    origin = report.metadata["converted_from"]
    assert (origin["file"], origin["epoch"], origin["sha256"]) == (path.name, 60, lines["sha256"])


def test_convert_replaces_only_when_told(tmp_path: Path) -> None:
    path = save_published(tmp_path / "save_60.pth", light_tensors(published_tree(10)))
    assert run(path, tmp_path / "w").exit_code == 0
    refused = run(path, tmp_path / "w", "--modality", "visual")
    assert isinstance(refused.exception, StavisError)
    assert "exists and is not empty" in str(refused.exception)
    assert load_model(tmp_path / "w").config.modality == "audiovisual"
    assert run(path, tmp_path / "w", "--modality", "visual", "--overwrite").exit_code == 0
    assert load_model(tmp_path / "w").config.modality == "visual"


def test_convert_of_an_initializer_warns_and_is_repeatable(tmp_path: Path) -> None:
    path = save_pth(tmp_path / "resnet-10-kinetics.pth", whole_resnet(10, "B"))
    for name in ("a", "b"):
        result = run(path, tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "warning: " in result.stderr
        assert "must be trained" in result.stderr
    first, second = load_model(tmp_path / "a"), load_model(tmp_path / "b")
    assert equal(first.state_dict(), second.state_dict())


def test_convert_ends_with_one_line_for_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("hello")
    command = [sys.executable, "-m", "stavis", "convert", str(tmp_path / "a.pth"), str(tmp_path / "w")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"stavis: error: {tmp_path / 'a.pth'}: is a text file")
    assert ended.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pth"]
