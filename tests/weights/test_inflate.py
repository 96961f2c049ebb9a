"""2D ResNets as torchvision names them, inflated: on a still clip the 3D network is the 2D one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import stavis
from stavis.clips.preprocess import Preprocessing
from stavis.errors import StavisError
from stavis.weights import initialize
from stavis.weights.inflate import IMAGENET_MEAN, IMAGENET_STD, inflate
from support.commands import run_command


def flat_resnet(depth: int = 18) -> dict[str, torch.Tensor]:
    """The state dict of a 2D ResNet with random weights, `layer4` and `fc` included."""
    torch.manual_seed(depth)
    model = stavis.STAViS(stavis.ModelConfig(modality="visual", depth=depth))
    flat = {}
    for name, value in model.state_dict().items():
        if name.startswith(("conv1.", "bn1.", "layer")):
            flat[name] = value[:, :, value.shape[2] // 2].clone() if value.ndim == 5 else value.clone()
            if name.endswith("running_mean"):
                flat[name].normal_(std=0.1)
    return flat | {"layer4.0.conv1.weight": torch.zeros(4, 4, 3, 3), "fc.weight": torch.zeros(10, 512)}


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_a_whole_2d_resnet_is_an_initializer(depth: int, tmp_path: Path) -> None:
    torch.save(flat_resnet(depth), tmp_path / "resnet.pth")
    model = stavis.STAViS(stavis.ModelConfig(modality="visual", depth=depth))
    report = initialize(model, tmp_path / "resnet.pth")
    assert report.kind == "inflated 2D initializer"
    assert set(report.dropped) == {"layer4.0.conv1.weight", "fc.weight"}
    assert all(not name.startswith(("conv1.", "bn1.", "layer")) for name in report.initialized)


def test_the_stem_takes_pictures_as_stavis_prepares_them() -> None:
    """The same response, away from the border, as the 2D stem gives for torchvision's normalized picture."""
    flat = flat_resnet()
    picture = torch.rand(1, 3, 48, 48, dtype=torch.float64) * 255
    mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    expected = F.conv2d((picture / 255 - mean) / std, flat["conv1.weight"].double(), stride=2, padding=3)
    expected -= flat["bn1.running_mean"].double()[:, None, None]
    inflated = inflate(flat, "center")
    prepared = (
        picture - torch.tensor(stavis.ModelConfig().preprocessing.mean, dtype=torch.float64)[:, None, None]
    )
    found = F.conv2d(prepared, inflated["conv1.weight"][:, :, 3].double(), stride=2, padding=3)
    found -= inflated["bn1.running_mean"].double()[:, None, None]
    assert torch.allclose(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-4)


def test_a_picture_and_a_still_clip_give_the_same_map(tmp_path: Path) -> None:
    torch.save(flat_resnet(), tmp_path / "resnet.pth")
    model = stavis.STAViS(stavis.ModelConfig(modality="visual", depth=18)).eval()
    initialize(model, tmp_path / "resnet.pth")
    for name, parameter in model.named_parameters():
        if "side_prep.weight" in name or name == "fuse.weight":
            torch.nn.init.normal_(parameter, std=0.05)
    picture = torch.rand(1, 3, 1, 64, 64) * 255 - 105
    with torch.inference_mode():
        still = model(picture.expand(-1, -1, 16, -1, -1)).logits
        flat = model(picture).logits
    assert still.std() > 1e-3
    assert torch.allclose(still, flat, atol=1e-4 * float(still.std()), rtol=1e-4)


def test_mean_spreads_a_kernel_over_time() -> None:
    flat = flat_resnet()
    kernel = inflate(flat, "mean")["layer1.0.conv1.weight"]
    assert kernel.shape[2] == 3
    assert torch.allclose(kernel.sum(2), flat["layer1.0.conv1.weight"], atol=1e-6)
    assert torch.equal(kernel[:, :, 0], kernel[:, :, 2])


def test_convert_inflates(tmp_path: Path) -> None:
    torch.save(flat_resnet(), tmp_path / "resnet18.pth")
    text = run_command(
        "convert", tmp_path / "resnet18.pth", tmp_path / "out", "--modality", "visual", "--inflate", "mean"
    )
    assert "inflated 2D initializer" in text
    model = stavis.load_model(tmp_path / "out")
    assert torch.equal(model.conv1.weight[:, :, 0], model.conv1.weight[:, :, 6])


def test_a_2d_resnet_of_another_shape_is_refused(tmp_path: Path) -> None:
    flat = {name: value for name, value in flat_resnet().items() if not name.startswith("layer2.1")}
    torch.save(flat, tmp_path / "resnet.pth")
    with pytest.raises(StavisError, match=r"resnet\.pth: a 3D ResNet of 2-1-2 basic blocks"):
        stavis.load_model(tmp_path / "resnet.pth")


def test_an_audiovisual_network_can_begin_with_the_visual_ones_maps(tmp_path: Path) -> None:
    from stavis.weights import save_model

    config = {"depth": 10, "preprocessing": Preprocessing(input_size=(64, 64))}
    torch.manual_seed(3)
    visual = stavis.STAViS(stavis.ModelConfig(modality="visual", **config)).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(visual.fuse.weight, std=0.1)
    save_model(visual, tmp_path / "visual")
    network = stavis.STAViS(stavis.ModelConfig(**config)).eval()  # type: ignore[arg-type]
    initialize(network, tmp_path / "visual", keep_read_out=True)
    clip, audio = torch.randn(1, 3, 16, 64, 64) * 50, torch.randn(1, 35280) * 30
    with torch.inference_mode():
        assert torch.allclose(visual(clip).logits, network(clip, audio).logits, atol=1e-5)
        assert torch.allclose(
            network(*network.encode(clip, audio)).logits, network(clip, audio).logits, atol=1e-5
        )


def test_the_real_initializers_are_used_whole(shared: Path) -> None:
    model = stavis.STAViS(stavis.ModelConfig(depth=18))
    report = initialize(model, shared / "weights" / "resnet-18-imagenet-inflated-centre.pth")
    assert (len(report.used), report.dropped) == (90, ())
    report = initialize(model, shared / "weights" / "soundnet8.pth")
    assert (len(report.used), report.dropped) == (49, ())
    assert np.isfinite([float(value.abs().max()) for value in model.state_dict().values()]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda flat: flat.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}),
            "conv1.weight has shape .*a 2D ResNet's is",
        ),
        (lambda flat: flat.update({"bn1.running_mean": torch.zeros(1)}), "bn1.running_mean has shape"),
        (lambda flat: flat.pop("bn1.running_mean"), "does not fit a 2D ResNet: missing bn1.running_mean"),
        (
            lambda flat: flat.update({"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 0)}),
            "layer1.0.conv1.weight has shape",
        ),
    ],
)
def test_stems_that_cannot_be_inflated_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    flat = flat_resnet()
    change(flat)
    torch.save(flat, tmp_path / "resnet.pth")
    with pytest.raises(StavisError, match=message):
        initialize(stavis.STAViS(stavis.ModelConfig("visual", 18)), tmp_path / "resnet.pth")
