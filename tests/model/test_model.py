"""The network against the recorded numbers, and against what its construction implies."""

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stavis.clips.preprocess import Preprocessing
from stavis.model import DEPTHS, ModelConfig, Prediction, STAViS
from stavis.model.dsam import DSAM, attend
from stavis.model.fusion import AudiovisualFusion
from stavis.model.resnet3d import SubsamplingShortcut
from stavis.model.soundnet import MIN_NUM_SAMPLES, SoundNet
from stavis.training.losses import cc_loss, nss_loss


def config_of(run: dict[str, Any]) -> ModelConfig:
    modality = "audiovisual" if run["audiovisual"] else "visual"
    return ModelConfig(modality, run["depth"], run["shortcut"])


def recipe_weights(module: nn.Module, recipe: ModuleType, seed: int, prefix: str = "") -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.asarray(recipe.tensor(prefix + name, value.shape, seed)))
        for name, value in module.state_dict().items()
    }


def recipe_model(config: ModelConfig, recipe: ModuleType, seed: int) -> STAViS:
    with torch.device("meta"):
        model = STAViS(config)
    model.load_state_dict(recipe_weights(model, recipe, seed), assign=True)
    return model


def outputs_in_golden_order(prediction: Prediction) -> list[Tensor]:
    return [*prediction.side_logits, prediction.logits]


def moments(activation: Tensor) -> list[float]:
    return [activation.mean().item(), activation.std(unbiased=False).item(), activation.abs().max().item()]


def record_activations(model: STAViS, names: Iterable[str]) -> dict[str, Tensor]:
    """What the modules of these names give at the next forward, as far as the model has them."""
    activations: dict[str, Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: activations.__setitem__(name, output.clone())

    for name in names:
        if hasattr(model, name):
            model.get_submodule(name).register_forward_hook(record(name))
    return activations


# Against the recorded numbers


@pytest.mark.parametrize(
    "depths", [(10, 18), pytest.param(DEPTHS, marks=pytest.mark.slow)], ids=["shallow", "all"]
)
def test_forward_is_the_recorded_one(
    depths: tuple[int, ...], golden: Path, recipe: ModuleType, subtests: pytest.Subtests
) -> None:
    """Of the deeper networks, tests of published checkpoints run the ResNet-50s in the fast suite, too."""
    files = sorted(golden.glob("model/forward_*.json"))
    assert files
    for file in files:
        run = json.loads(file.read_text())
        if run["depth"] not in depths:
            continue
        recorded = np.load(file.with_suffix(".npz"))
        with subtests.test(file.stem), torch.inference_mode():
            model = recipe_model(config_of(run), recipe, run["seed"]).eval()
            activations = record_activations(model, run["activation_mean_std_absmax"])
            clips = torch.from_numpy(recipe.clip(run["batch"], run["seed"], run["frames"], run["size"]))
            audio = torch.from_numpy(recipe.audio(run["batch"], run["seed"]))
            np.testing.assert_allclose([clips.mean(), clips.std()], run["input_clip_mean_std"], rtol=1e-4)

            outputs = outputs_in_golden_order(model(clips, audio))

            assert len(outputs) == run["outputs"]
            for place, output in enumerate(outputs):
                logits = recorded[f"logits_{place}"]  # of the first clip alone in the numbers that travel
                assert output.shape == (run["batch"], *logits.shape[1:])
                np.testing.assert_allclose(
                    output[: len(logits)].numpy(), logits, rtol=0, atol=1e-5 * np.abs(logits).max()
                )
            # The recorded visual network runs SoundNet for nothing; ours has none. It is tested below.
            expected = set(run["activation_mean_std_absmax"])
            assert activations.keys() == (expected if run["audiovisual"] else expected - {"soundnet8"})
            for name, activation in activations.items():
                wanted = run["activation_mean_std_absmax"][name]
                np.testing.assert_allclose(
                    moments(activation), wanted, rtol=0, atol=1e-5 * wanted[2], err_msg=name
                )


def test_soundnet_is_the_recorded_one(golden: Path, recipe: ModuleType) -> None:
    file = sorted(golden.glob("model/forward_*_visual_*.json"))[0]
    run = json.loads(file.read_text())
    soundnet = SoundNet().eval()
    soundnet.load_state_dict(recipe_weights(soundnet, recipe, run["seed"], "soundnet8."))
    with torch.inference_mode():
        features = soundnet(torch.from_numpy(recipe.audio(run["batch"], run["seed"])))
    wanted = run["activation_mean_std_absmax"]["soundnet8"]
    np.testing.assert_allclose(moments(features), wanted, rtol=0, atol=1e-5 * wanted[2])


def test_names_and_shapes_are_the_published_ones(golden: Path) -> None:
    published = json.loads((golden / "model/state_dict_resnet50.json").read_text())
    trees = {}
    with torch.device("meta"):
        for modality in ("visual", "audiovisual"):
            model = STAViS(ModelConfig(modality))
            trees[modality] = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert trees["visual"] | trees["audiovisual"] == published
    # What each variant never trains is not there.
    untrained = {f"score_dsn.{i}.upscale_.weight" for i in range(4)}
    untrained |= {"score_dsn.3.score_dsn.weight", "score_dsn.3.score_dsn.bias", "fuse.weight", "fuse.bias"}
    assert published.keys() - trees["audiovisual"].keys() == untrained
    assert published.keys() - trees["visual"].keys() == {
        name for name in published if name.startswith(("soundnet8.", "fusion3.", "fuseav."))
    }
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = [shape for name, shape in published.items() if not name.endswith(buffers)]
    assert sum(int(np.prod(shape)) for shape in parameters) == 21_815_398


@pytest.mark.slow
def test_training_forward_is_the_recorded_one(
    golden: Path, recipe: ModuleType, subtests: pytest.Subtests
) -> None:
    """The first micro-batch, in float64, before any update; tests of the training go on from there."""
    files = sorted(golden.glob("model/train_*.json"))
    assert files
    for file in files:
        run = json.loads(file.read_text())
        assert run["dtype"] == "float64"
        batch, seed = run["microbatch"], run["input_seeds"][0]
        with subtests.test(file.stem), torch.no_grad():
            model = recipe_model(config_of(run), recipe, run["seed"]).double().train()
            clips, audio, density_maps, fixation_maps = (
                torch.from_numpy(array).double()
                for array in (recipe.clip(batch, seed), recipe.audio(batch, seed), *recipe.maps(batch, seed))
            )
            prediction = model(clips, audio)
            assert all(output.dtype == torch.float64 for output in outputs_in_golden_order(prediction))
            recorded = run["per_microbatch"][0]
            assert cc_loss(prediction.logits, density_maps).mean().item() == pytest.approx(
                recorded["cc"], rel=1e-6
            )
            assert nss_loss(prediction.logits, fixation_maps).mean().item() == pytest.approx(
                recorded["nss"], rel=1e-6
            )


# Construction


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("shortcut", "modality"), [("A", "visual"), ("B", "audiovisual")])
def test_every_network_can_be_built(depth: int, shortcut: Any, modality: Any) -> None:
    with torch.device("meta"):
        model = STAViS(ModelConfig(modality, depth, shortcut))
        prediction = model(torch.empty(2, 3, 16, 64, 96), torch.empty(2, 35280))
    assert prediction.logits.shape == (2, 1, 64, 96)
    assert len(prediction.side_logits) == (4 if modality == "visual" else 0)
    assert all(one.shape == (2, 1, 64, 96) for one in prediction.side_logits)
    # A ResNet is called by its layers: those of three stages, the stem, and of the fourth stage and the read-out that
    # are cut away.
    cut = {10: (1, 2), 18: (2, 2), 34: (3, 2), 50: (3, 3), 101: (3, 3), 152: (3, 3), 200: (3, 3)}[depth]
    convolutions = [name for name, one in model.named_modules() if isinstance(one, nn.Conv3d)]
    counted = [name for name in convolutions if "downsample" not in name]
    assert len(counted) + cut[0] * cut[1] + 1 == depth
    assert (len(convolutions) > len(counted)) == (shortcut == "B")


def test_every_parameter_receives_a_gradient() -> None:
    torch.manual_seed(0)
    for modality, shortcut in (("visual", "A"), ("audiovisual", "B")):
        model = STAViS(ModelConfig(modality, 10, shortcut)).train()
        clips, audio = torch.randn(2, 3, 16, 64, 64) * 50, torch.randn(2, 13000) * 50
        prediction = model(clips, audio)
        sum(output.square().mean() for output in outputs_in_golden_order(prediction)).backward()
        missing = [name for name, one in model.named_parameters() if one.grad is None]
        assert not missing
        assert all(bool(torch.isfinite(one.grad).all()) for one in model.parameters())


@pytest.mark.parametrize(("name", "value"), [("modality", "audio"), ("depth", 42), ("shortcut", "C")])
def test_config_says_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} is .*{value}.*; allowed: \w+, "):
        ModelConfig(**{name: value})


# Initialization


def test_upsampling_starts_as_bilinear_interpolation() -> None:
    model = STAViS(ModelConfig("visual", 10))
    for place, dsam in enumerate(model.score_dsn, start=1):
        scale = 2**place
        for upscale, channels in ((dsam.upscale, 16), (dsam.upscale_, 1)):
            maps = torch.randn(1, channels, 6, 7)
            wanted = nn.functional.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)
            # Beyond the outermost pixels' centers the convolution sees zeros; interpolation repeats the edge.
            inside = (..., slice(scale // 2, -(scale // 2)), slice(scale // 2, -(scale // 2)))
            torch.testing.assert_close(upscale(maps)[inside], wanted[inside])


def test_initial_weights_follow_the_published_distributions() -> None:
    torch.manual_seed(0)
    for modality in ("visual", "audiovisual"):
        model = STAViS(ModelConfig(modality, 50))
        for name, one in model.named_parameters():
            module = model.get_submodule(name.rpartition(".")[0])
            if name in ("fuse.bias", "fuseav.bias") or name.endswith("score_dsn.bias"):
                assert one.tolist() == [-6.0], name
            elif name.endswith("bias"):
                assert not one.any(), name
            elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                assert bool((one == 1).all()), name
            elif not isinstance(module, nn.ConvTranspose2d):
                fan_out = one[:, 0].numel() if one.ndim > 2 else one.shape[0]
                std = 0.001 if isinstance(module, nn.Conv2d) else (2 / fan_out) ** 0.5
                # A sample's std lies within five of its own standard deviations, std / sqrt(2 n).
                assert one.std(unbiased=False).item() == pytest.approx(
                    std, rel=5 / (2 * one.numel()) ** 0.5
                ), name
                assert abs(one.mean().item()) < 5 * std / one.numel() ** 0.5, name


# The blocks, each against its definition


def test_subsampling_shortcut_skips_positions_and_appends_zeros() -> None:
    x = torch.randn(2, 3, 4, 6, 8, requires_grad=True)
    out = SubsamplingShortcut(3, 5, stride=2)(x)
    assert out.shape == (2, 5, 2, 3, 4)
    assert torch.equal(out[:, :3], x[:, :, ::2, ::2, ::2])
    assert not out[:, 3:].any()
    assert not out.requires_grad


def test_attention_is_a_softmax_over_all_positions() -> None:
    x, logits = torch.rand(2, 3, 4, 5, 6), torch.randn(2, 1, 5, 6) * 3
    raised = attend(x, logits)
    attention = (raised / x - 1)[:, 0, 0]
    torch.testing.assert_close(attention.sum(dim=(1, 2)), torch.ones(2))
    weights = logits[:, 0].exp()
    torch.testing.assert_close(
        attention, weights / weights.sum(dim=(1, 2), keepdim=True), atol=1e-6, rtol=1e-4
    )
    torch.testing.assert_close(raised / x, (raised / x)[:, :1, :1].expand_as(x))


@settings(max_examples=20, deadline=None)
@given(place=st.integers(1, 4), rows=st.integers(4, 9), columns=st.integers(4, 9))
def test_dsam_crops_as_the_published_code_does(place: int, rows: int, columns: int) -> None:
    """Ours pads; the published way is an unpadded transposed convolution, and then half the surplus off each side."""
    scale = 2**place
    dsam = DSAM(5, scale, attention=True, side_output=True)
    x = torch.randn(2, 5, 3, rows, columns)
    out = dsam(x)
    height, width = scale * rows, scale * columns
    prepared = dsam.side_prep(x.mean(dim=2))
    uncropped = nn.functional.conv_transpose2d(prepared, dsam.upscale.weight, stride=scale)
    top, left = (uncropped.shape[2] - height) // 2, (uncropped.shape[3] - width) // 2
    wanted = uncropped[:, :, top : top + height, left : left + width]
    torch.testing.assert_close(out.features, wanted)
    assert out.attention_logits is not None
    assert out.side_logits is not None
    assert out.attention_logits.shape == (2, 1, rows, columns)
    assert out.side_logits.shape == (2, 1, height, width)


@settings(max_examples=10, deadline=None)
@given(time=st.integers(2, 6).map(lambda half: 2 * half), batch=st.integers(1, 3))
def test_fusion_is_the_bilinear_form_of_the_middle_two_steps(time: int, batch: int) -> None:
    fusion = AudiovisualFusion(6)
    layer2, sound = torch.randn(batch, 6, time, 4, 5), torch.randn(batch, 1024)
    middle = (layer2[:, :, time // 2 - 1] + layer2[:, :, time // 2]) / 2
    visual = fusion.affine_rgb(middle.permute(0, 2, 3, 1)).relu()
    audio = fusion.affine_audio(sound).relu()[:, None, None].expand(-1, 4, 5, -1)
    wanted = fusion.w_a_rgb(visual.contiguous(), audio.contiguous()).permute(0, 3, 1, 2)
    wanted = nn.functional.interpolate(wanted, size=(32, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(fusion(layer2, sound), wanted, atol=1e-4, rtol=1e-4)


def test_soundnet_leaves_one_vector_of_the_documented_lengths() -> None:
    with torch.device("meta"):
        soundnet = SoundNet().eval()
        for num_samples, num_vectors in ((MIN_NUM_SAMPLES, 1), (35_280, 1), (78_301, 1), (78_302, 2)):
            assert soundnet(torch.empty(1, 1, 1, num_samples)).shape == (1, 1024, 1, num_vectors)
        with pytest.raises(RuntimeError, match="too small"):
            soundnet(torch.empty(1, 1, 1, MIN_NUM_SAMPLES - 1))


# What the network takes


@pytest.fixture(scope="module")
def small() -> dict[str, STAViS]:
    torch.manual_seed(0)
    return {modality: STAViS(ModelConfig(modality, 10)).eval() for modality in ("visual", "audiovisual")}


CLIP = (2, 3, 16, 64, 64)
SOUND = (2, 1, 1, 35280)


@pytest.mark.parametrize(
    ("modality", "clips", "audio", "message"),
    [
        ("visual", (3, 16, 64, 64), None, r"clips have shape \(3, 16, 64, 64\); expected \(B, 3, T, H, W\)"),
        ("visual", (2, 1, 16, 64, 64), None, r"expected \(B, 3, T, H, W\)"),
        ("visual", (2, 16, 64, 64, 3), None, r"expected \(B, 3, T, H, W\)"),
        ("visual", (2, 3, 12, 64, 64), None, "T 1 or a multiple of 8"),
        ("visual", (2, 3, 0, 64, 64), None, "T 1 or a multiple of 8"),
        ("audiovisual", (2, 3, 8, 64, 64), SOUND, "T 1 or a multiple of 16"),
        ("audiovisual", (2, 3, 24, 64, 64), SOUND, "T 1 or a multiple of 16"),
        ("visual", (2, 3, 16, 48, 64), None, "multiples of 16 from 64"),
        ("visual", (2, 3, 16, 64, 120), None, "multiples of 16 from 64"),
        ("audiovisual", CLIP, None, r"needs audio \(2, 1, 1, S\) or \(2, S\)"),
        ("audiovisual", CLIP, (1, 1, 1, 35280), r"expected \(2, 1, 1, S\)"),
        ("audiovisual", CLIP, (2, 1, 35280), r"audio has shape \(2, 1, 35280\)"),
        ("audiovisual", CLIP, (2, 2, 1, 35280), r"audio has shape"),
        ("audiovisual", CLIP, (35280,), r"audio has shape"),
        ("audiovisual", CLIP, (2, MIN_NUM_SAMPLES - 1), f"S at least {MIN_NUM_SAMPLES}"),
    ],
)
def test_wrong_shapes_are_refused_with_what_was_expected(
    small: dict[str, STAViS],
    modality: str,
    clips: tuple[int, ...],
    audio: tuple[int, ...] | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        small[modality](torch.zeros(clips), None if audio is None else torch.zeros(audio))


@pytest.mark.parametrize(
    ("modality", "setting", "message"),
    [
        (
            "visual",
            {"clip_length": 17},
            "preprocessing.clip_length is 17; the visual network takes 1 or a multiple of 8",
        ),
        (
            "audiovisual",
            {"clip_length": 8},
            "clip_length is 8; the audiovisual network takes 1 or a multiple of 16",
        ),
        (
            "visual",
            {"input_size": (48, 64)},
            r"preprocessing.input_size is \(48, 64\); .* multiples of 16 from 64",
        ),
        ("visual", {"input_size": (64, 100)}, "input_size"),
        ("audiovisual", {"num_audio_samples": MIN_NUM_SAMPLES - 1}, f"takes {MIN_NUM_SAMPLES} or more"),
    ],
)
def test_a_configuration_that_no_clip_can_pass_is_refused(modality: Any, setting: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(modality, preprocessing=Preprocessing(**setting))


@pytest.mark.parametrize(
    ("modality", "setting"),
    [
        ("visual", {"num_audio_samples": 1}),
        ("visual", {"clip_length": 1}),
        ("audiovisual", {"clip_length": 1}),
    ],
)
def test_still_pictures_and_sound_that_nobody_hears_are_allowed(modality: Any, setting: Any) -> None:
    ModelConfig(modality, preprocessing=Preprocessing(**setting))


def test_integer_clips_are_refused(small: dict[str, STAViS]) -> None:
    with pytest.raises(ValueError, match=r"dtype torch\.uint8; expected floats"):
        small["visual"](torch.zeros(CLIP, dtype=torch.uint8))


@settings(max_examples=4, deadline=None)
@given(
    length=st.sampled_from([8, 16, 24]),
    height=st.sampled_from([64, 80, 112]),
    width=st.sampled_from([64, 96, 144]),
    batch=st.integers(1, 2),
)
def test_sizes_that_are_allowed_work(
    small: dict[str, STAViS], length: int, height: int, width: int, batch: int
) -> None:
    with torch.inference_mode():
        visual = small["visual"](torch.randn(batch, 3, length, height, width) * 50)
        assert visual.logits.shape == (batch, 1, height, width)
        if length % 16 == 0:
            clips, audio = (
                torch.randn(batch, 3, length, height, width) * 50,
                torch.randn(batch, MIN_NUM_SAMPLES),
            )
            assert small["audiovisual"](clips, audio).logits.shape == (batch, 1, height, width)


def test_audio_of_two_and_four_axes_is_the_same(small: dict[str, STAViS]) -> None:
    clips, audio = torch.randn(CLIP) * 50, torch.randn(SOUND) * 50
    with torch.inference_mode():
        four, two = small["audiovisual"](clips, audio), small["audiovisual"](clips, audio.flatten(1))
    assert torch.equal(four.logits, two.logits)


def test_longer_sound_is_averaged(small: dict[str, STAViS]) -> None:
    audio = torch.randn(1, 1, 1, 150_000) * 50
    with torch.inference_mode():
        features = small["audiovisual"].soundnet8(audio)
        assert features.shape[3] > 1
        torch.testing.assert_close(small["audiovisual"].listen(audio), features[:, :, 0].mean(dim=2))


def test_a_clip_is_predicted_alone_as_in_a_batch(recipe: ModuleType) -> None:
    model = recipe_model(ModelConfig("audiovisual", 10), recipe, 0).eval()
    clips, audio = torch.from_numpy(recipe.clip(3, 0, size=64)), torch.from_numpy(recipe.audio(3, 0))
    with torch.inference_mode():
        together = model(clips, audio).logits
        alone = torch.cat([model(clips[i : i + 1], audio[i : i + 1]).logits for i in range(3)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5 * together.abs().max().item())


@pytest.mark.parametrize("modality", ["visual", "audiovisual"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_clip_can_be_trained_on(modality: Any, dtype: torch.dtype) -> None:
    model = STAViS(ModelConfig(modality, 10)).to(dtype).train()
    clips, audio = torch.randn(1, 3, 16, 64, 64, dtype=dtype), torch.randn(1, MIN_NUM_SAMPLES, dtype=dtype)
    logits = model(clips, audio).logits
    logits.sum().backward()
    assert logits.dtype == dtype
    assert bool(torch.isfinite(logits).all())
    assert all(bool(torch.isfinite(one.grad).all()) for one in model.parameters() if one.grad is not None)


def test_the_pieces_make_the_whole(small: dict[str, STAViS]) -> None:
    clips, audio = torch.randn(CLIP) * 50, torch.randn(SOUND) * 50
    with torch.inference_mode():
        for model in small.values():
            sound = model.listen(audio) if model.config.modality == "audiovisual" else None
            stem = model.conv1(clips)
            kept = stem.clone()
            pieces = model.read_out(model.see(stem), sound)
            assert torch.equal(stem, kept)  # an engine may use it again
            for one, other in zip(
                outputs_in_golden_order(pieces), outputs_in_golden_order(model(clips, audio)), strict=True
            ):
                assert torch.equal(one, other)


# What is done with networks


@pytest.mark.parametrize("modality", ["visual", "audiovisual"])
def test_network_can_be_exported(small: dict[str, STAViS], modality: str, tmp_path: Path) -> None:
    if modality == "audiovisual" and torch.__version__ < (2, 8):
        pytest.skip("torch 2.7 takes the size of the batch for a constant")
    model = small[modality]
    inputs = (torch.randn(CLIP) * 50, torch.randn(SOUND) * 50)
    inputs = inputs if modality == "audiovisual" else inputs[:1]
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {"clips": {0: batch}, "audio": {0: batch}}
    names = ("clips", "audio")[: len(inputs)]
    program = torch.export.export(model, inputs, dynamic_shapes={name: shapes[name] for name in names})
    more = tuple(torch.cat([one, one[:1]]) for one in inputs)
    with torch.inference_mode():
        for ours, exported in zip(
            outputs_in_golden_order(model(*more)),
            outputs_in_golden_order(program.module()(*more)),
            strict=True,
        ):
            torch.testing.assert_close(ours, exported)


def test_network_can_be_copied_and_compiled_whole(small: dict[str, STAViS]) -> None:
    model = copy.deepcopy(small["audiovisual"])
    inputs = (torch.randn(CLIP) * 50, torch.randn(SOUND) * 50)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs).logits, model(*inputs).logits)
