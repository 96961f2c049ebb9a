"""Every engine gives the maps of the plain forward pass: windows of any form, any network, any order of use."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stavis
from stavis.clips import Window, reference_window, repeat_window
from stavis.clips.preprocess import Preprocessing, make_clip
from stavis.clips.schedule import WindowSchedule
from stavis.engine import Engine, EngineFactory, Example, PlainEngine, StreamingEngine, stage
from stavis.engine.convolution import fused_operators_work
from stavis.engine.folded import FoldedNetwork
from stavis.engine.precision import AutocastBackend
from stavis.engine.stem import StemCache
from stavis.errors import StavisError
from stavis.metrics import cc
from stavis.model import DEPTHS
from support.networks import forget_time_in_stem_and_layer1, frames, lively_network, sound

TOLERANCE = 1e-4  # of a probability
has_openvino = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not has_openvino, reason="needs OpenVINO: pip install 'stavis[openvino]'")
FAST = ["torch", pytest.param("openvino", marks=needs_openvino)]


NETWORKS = {
    "audiovisual": {},
    "visual": {"modality": "visual"},
    "bottleneck": {"depth": 50},
    "shortcut A": {"depth": 18, "shortcut": "A", "modality": "visual"},
    "spatial layer1": {"depth": 18},
}


@pytest.fixture(scope="module")
def networks() -> dict[str, stavis.STAViS]:
    found = {name: lively_network(**config) for name, config in NETWORKS.items()}
    forget_time_in_stem_and_layer1(found["spatial layer1"])
    return found


def run(engine: Engine, clip: np.ndarray, batches: list[list[Window]], audio: bool) -> np.ndarray:
    for index, frame in enumerate(clip):
        engine.add_frame(index, frame)
    maps = [engine.predict(batch, sound(len(batch)) if audio else None) for batch in batches]
    return np.concatenate(maps)


# Compiling with OpenVINO takes seconds: one network is enough for the fast suite.
CASES = [
    *(("torch", network) for network in NETWORKS),
    *(
        pytest.param(
            "openvino",
            network,
            marks=[needs_openvino, *([] if network == "audiovisual" else [pytest.mark.slow])],
        )
        for network in NETWORKS
    ),
]


@pytest.mark.parametrize(("name", "network"), CASES)
def test_maps_are_those_of_the_plain_forward(
    networks: dict[str, stavis.STAViS], network: str, name: str
) -> None:
    model = networks[network]
    clip = frames(18)
    windows = [repeat_window(t, 18) for t in (0, 1, 7, 8, 9, 10, 17)] + [reference_window(12, 18)]
    batches = [windows[:3], windows[3:4], windows[4:]]
    audio = model.config.modality == "audiovisual"
    exact = run(PlainEngine(model), clip, batches, audio)
    found = run(EngineFactory(model, name)(), clip, batches, audio)  # type: ignore[arg-type]
    assert exact.max() - exact.min() > 0.5, "the maps must differ for this test to mean anything"
    np.testing.assert_allclose(found, exact, atol=TOLERANCE)


def stem_by_definition(
    model: stavis.STAViS, clip: np.ndarray, window: Window
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.from_numpy(make_clip(clip[list(window.frames)], model.config.preprocessing))[None]
    with torch.inference_mode():
        stem = model.activate_stem(model.conv1(pixels))
        return torch.nn.functional.max_pool3d(stem, (3, 1, 1), (2, 1, 1), (1, 0, 0))[0], stem.mean(dim=2)[0]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num=st.integers(1, 40),
    stride=st.integers(1, 20),
    edges=st.sampled_from(["repeat", "reference"]),
    data=st.data(),
)
def test_the_stem_over_any_stream(
    networks: dict[str, stavis.STAViS], num: int, stride: int, edges, data
) -> None:  # type: ignore[no-untyped-def]
    """Lengths, strides and edges as a video brings them, with frames dropped as early as allowed."""
    model, clip = networks["visual"], frames(num)
    cache = StemCache(model)
    mean = torch.tensor(model.config.preprocessing.mean)[:, None, None]
    schedule = WindowSchedule(stride=stride, edges=edges, past_end=data.draw(st.booleans()))
    checked = set(data.draw(st.lists(st.integers(0, 39), max_size=4)))

    def check(windows: list[Window]) -> None:
        for window in windows:
            _, maxima, average = cache.window(window.frames)
            pooled = torch.stack(maxima, dim=1)
            if window.target in checked or window.target in (0, num - 1):
                expected = stem_by_definition(model, clip, window)
                torch.testing.assert_close(pooled, expected[0], atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(average, expected[1], atol=1e-4, rtol=1e-4)
        cache.drop_frames_before(schedule.oldest_needed())

    with torch.inference_mode():
        for index in range(num):
            cache.add_frame(index, torch.from_numpy(clip[index]).permute(2, 0, 1).float() - mean)
            check(schedule.advance(index + 1))
        check(schedule.finish(num))


def test_the_stem_forgets(networks: dict[str, stavis.STAViS]) -> None:
    cache = StemCache(networks["visual"])
    schedule = WindowSchedule()
    sizes = []
    with torch.inference_mode():
        for index in range(60):
            cache.add_frame(index, torch.zeros(3, 64, 64))
            for window in schedule.advance(index + 1):
                cache.window(window.frames)
            cache.drop_frames_before(schedule.oldest_needed())
            kept = (cache._responses, cache._sums, cache._outputs, cache._maxima)
            sizes.append(sum(len(one) for one in kept))
    assert max(sizes[30:]) == max(sizes[40:]) == max(sizes[50:])


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("torch", (10, 18)),
        pytest.param("torch", DEPTHS, marks=pytest.mark.slow),
        pytest.param("openvino", DEPTHS, marks=[needs_openvino, pytest.mark.slow]),
    ],
    ids=["torch-shallow", "torch-all", "openvino-all"],
)
def test_golden_forwards(golden: Path, recipe: ModuleType, name: str, depths: tuple[int, ...]) -> None:
    """Every recorded forward pass that an engine can be fed with: 16 frames of 8-bit pictures are not, so the stem is
    fed with the recorded pass's own clip."""
    paths = sorted((golden / "model").glob("forward_*.json"))
    assert paths
    for path in paths:
        run = json.loads(path.read_text())
        if run["depth"] not in depths:
            continue
        modality = "audiovisual" if run["audiovisual"] else "visual"
        size, num = run["size"], run["frames"]
        config = stavis.ModelConfig(
            modality=modality,
            depth=run["depth"],
            shortcut=run["shortcut"],
            preprocessing=Preprocessing(input_size=(size, size), clip_length=num),
        )
        model = stavis.STAViS(config).eval()
        state = {
            n: torch.from_numpy(recipe.tensor(n, tuple(v.shape), run["seed"]))
            for n, v in model.state_dict().items()
        }
        model.load_state_dict(state)
        clips = recipe.clip(run["batch"], run["seed"], num, size)
        audio = recipe.audio(run["batch"], run["seed"]) if run["audiovisual"] else None
        recorded = np.load(path.with_suffix(".npz"))[f"logits_{run['outputs'] - 1}"]
        engine = EngineFactory(model, name)()  # type: ignore[arg-type]
        assert isinstance(engine, StreamingEngine)
        with torch.inference_mode():
            for b, clip in enumerate(clips[: len(recorded)]):
                cache = StemCache(model)
                for t in range(num):
                    cache.add_frame(t, torch.from_numpy(clip[:, t]))
                _, maxima, mean = cache.window(tuple(range(num)))
                pooled = torch.stack(maxima, dim=1)
                heard = None if audio is None else model.listen(torch.from_numpy(audio[b : b + 1]))
                logits = engine.backend(pooled[None], mean[None], heard).numpy()[0]
                largest = np.abs(recorded).max()
                np.testing.assert_allclose(logits, recorded[b], atol=2e-5 * largest, err_msg=path.name)


@needs_openvino
def test_a_compiled_network_is_kept_and_found_again(
    networks: dict[str, stavis.STAViS], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from stavis.engine import openvino

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, windows = networks["visual"], [[repeat_window(9, 18)]]
    factory = EngineFactory(model)
    assert factory._choose(10) == "torch", "ten windows are not worth compiling"
    assert factory._choose(1000) == "openvino"
    assert not openvino.is_compiled(model)
    first = run(EngineFactory(model, "openvino")(), frames(18), windows, False)
    assert openvino.is_compiled(model)
    assert EngineFactory(model)._choose(10) == "openvino"

    def compile_again(model: stavis.STAViS) -> None:
        raise AssertionError("the kept network was not used")

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "convert_network", compile_again)
        again = run(EngineFactory(model, "openvino")(), frames(18), windows, False)
    np.testing.assert_array_equal(first, again)
    # Other weights are another network, and a damaged file is made anew.
    assert not openvino.is_compiled(networks["shortcut A"])
    openvino.compiled_path(model, "float32").write_bytes(b"damaged")
    np.testing.assert_array_equal(run(EngineFactory(model, "openvino")(), frames(18), windows, False), first)


def test_names_and_devices() -> None:
    model = stavis.STAViS(stavis.ModelConfig(modality="visual", depth=10)).eval()
    assert isinstance(EngineFactory(model, "plain")(), PlainEngine)
    assert isinstance(EngineFactory(model, "torch")(), StreamingEngine)
    with pytest.raises(StavisError, match="auto, plain, torch, openvino"):
        EngineFactory(model, "tensorrt")  # type: ignore[arg-type]


def test_without_fused_operators_results_are_the_same(
    networks: dict[str, stavis.STAViS], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = networks["bottleneck"]
    windows = [[repeat_window(9, 18)]]
    fused = run(EngineFactory(model, "torch")(), frames(18), windows, True)
    monkeypatch.setattr("stavis.engine.convolution.fused_operators_work", lambda: False)
    plain = run(EngineFactory(model, "torch")(), frames(18), windows, True)
    np.testing.assert_allclose(fused, plain, atol=TOLERANCE)
    assert isinstance(fused_operators_work(), bool)


def examples(model: stavis.STAViS, clip: np.ndarray) -> list[Example]:
    audio = sound(1)[0] if model.config.modality == "audiovisual" else None
    return [Example(clip[start : start + 16], audio) for start in (0, len(clip) - 16)]


def mean_cc(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean([cc(a, b) for a, b in zip(found, exact, strict=True)]))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize(
    "network",
    ["audiovisual", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bottleneck", "visual"))],
)
def test_approximate_maps_are_near(
    networks: dict[str, stavis.STAViS],
    network: str,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    openvino = pytest.importorskip("stavis.engine.openvino")
    if precision == "int8":
        pytest.importorskip("nncf")
    if not openvino.can_compute(precision.upper()):
        pytest.skip(f"this processor does not compute in {precision}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, clip = networks[network], frames(24)
    windows = [[repeat_window(t, 24) for t in (0, 9, 15, 23)]]
    audio = model.config.modality == "audiovisual"
    exact = run(EngineFactory(model, "torch")(), clip, windows, audio)
    factory = EngineFactory(model, precision=precision)  # type: ignore[arg-type]
    found = run(factory(examples=lambda: examples(model, clip)), clip, windows, audio)
    assert mean_cc(found, exact) > 0.99
    assert np.abs(found - exact).max() > TOLERANCE, "float32 was computed under another name"
    # The same network over the same windows is found again, not made again.
    monkeypatch.delattr(openvino, "convert_network")
    again = run(factory(examples=lambda: examples(model, clip)), clip, windows, audio)
    np.testing.assert_array_equal(found, again)


@pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="needs NNCF")
@pytest.mark.parametrize("network", ["audiovisual", "shortcut A"])
def test_only_the_stages_are_quantized(networks: dict[str, stavis.STAViS], network: str) -> None:
    """By the definition: a convolution computes in integers if its input comes from a quantizer."""
    from stavis.engine.openvino import convert_network
    from stavis.engine.quantization import quantize

    model = networks[network]
    rng = np.random.default_rng(0)
    window = [rng.random(shape, dtype=np.float32) for shape in ((1, 64, 8, 32, 32), (1, 64, 32, 32))]
    if model.config.modality == "audiovisual":
        window.append(rng.random((1, 1024), dtype=np.float32))
    quantized, other = set(), set()
    for operation in quantize(convert_network(model), [window]).get_ops():
        if operation.get_type_name() == "Add" and "/aten::add/" in operation.get_friendly_name():
            # Sums of parts of the logits: in integers they cost nearly all that int8 costs.
            kinds = {one.get_source_output().get_node().get_type_name() for one in operation.inputs()}
            assert "FakeQuantize" not in kinds, operation.get_friendly_name()
        if operation.get_type_name() in ("Convolution", "ConvolutionBackpropData", "MatMul"):
            source = operation.input_value(0).get_node()
            if source.get_type_name() == "MaxPool":  # takes integers as they are
                source = source.input_value(0).get_node()
            found = quantized if source.get_type_name() == "FakeQuantize" else other
            found.add(operation.get_friendly_name())
    stages = [m for stage in (model.layer1, model.layer2, model.layer3) for m in stage.modules()]
    assert len(quantized) == sum(isinstance(m, torch.nn.Conv3d) for m in stages)
    assert all(".stages." in name for name in quantized)
    assert other
    assert not any(".stages." in name for name in other)


@pytest.mark.parametrize("name", FAST)
def test_a_model_that_is_given_up(name: str) -> None:
    """What an engine has for itself takes no memory any more; later videos get the same maps."""
    model, windows = lively_network(), [[repeat_window(9, 18)]]
    exact = run(PlainEngine(model), frames(18), windows, True)
    factory = EngineFactory(model, name, keep_model=False)  # type: ignore[arg-type]
    for _ in range(2):
        np.testing.assert_allclose(run(factory(), frames(18), windows, True), exact, atol=TOLERANCE)
    assert all(parameter.is_meta for parameter in model.layer2.parameters())
    assert all(parameter.is_meta for parameter in model.soundnet8.parameters())


@needs_openvino
def test_a_model_is_kept_while_another_engine_may_come() -> None:
    """A short video first, which is not worth compiling, then a long one."""
    model, windows = lively_network(modality="visual"), [[repeat_window(9, 18)]]
    exact = run(PlainEngine(model), frames(18), windows, False)
    factory = EngineFactory(model, "auto", keep_model=False)
    for num_windows in (10, 1000, 10):
        found = run(factory(num_windows), frames(18), windows, False)
        np.testing.assert_allclose(found, exact, atol=TOLERANCE)
        assert model.layer2[0].conv1.weight.is_meta == (num_windows == 1000 or len(factory._backends) == 2)


@pytest.mark.parametrize("network", ["audiovisual", "bottleneck", "shortcut A"])
def test_several_windows_at_once(networks: dict[str, stavis.STAViS], network: str) -> None:
    """As GPUs take them; a CPU takes one after the other."""
    model = networks[network]
    windows = [[repeat_window(t, 18) for t in (0, 3, 9, 17)]]
    audio = model.config.modality == "audiovisual"
    exact = run(PlainEngine(model), frames(18), windows, audio)
    engine = EngineFactory(model, "torch")()
    assert isinstance(engine, StreamingEngine)
    engine._num_at_once = None
    np.testing.assert_allclose(run(engine, frames(18), windows, audio), exact, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_sixteen_bits_through_pytorch(networks: dict[str, stavis.STAViS], dtype: torch.dtype) -> None:
    """What GPUs run; here on the CPU."""
    model, windows = networks["audiovisual"], [[repeat_window(t, 18) for t in (3, 9)]]
    exact = run(EngineFactory(model, "torch")(), frames(18), windows, True)
    engine = StreamingEngine(model, AutocastBackend(model, dtype))
    engine._num_at_once = None
    found = run(engine, frames(18), windows, True)
    assert mean_cc(found, exact) > 0.99
    assert np.abs(found - exact).max() > TOLERANCE


def test_precision_that_is_not_to_be_had(
    networks: dict[str, stavis.STAViS], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = networks["visual"]
    for engine, precision, message in (
        ("auto", "float64", "float32, bf16, fp16, int8"),
        ("plain", "bf16", "`engine=plain` computes in float32 only"),
        ("torch", "bf16", "needs `engine=openvino`"),
        ("torch", "int8", "needs `engine=openvino`"),
        ("auto", "fp16", "is for GPUs"),
    ):
        with pytest.raises(StavisError, match=message):
            EngineFactory(model, engine, precision)  # type: ignore[arg-type]
    find_spec = importlib.util.find_spec
    pytest.importorskip("openvino")
    for package, precision, message in (
        ("openvino", "bf16", r"stavis\[openvino\]"),
        ("nncf", "int8", r"stavis\[int8\]"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(importlib.util, "find_spec", lambda n, p=package: None if n == p else find_spec(n))
            with pytest.raises(StavisError, match=message):
                EngineFactory(model, precision=precision)  # type: ignore[arg-type]


@needs_openvino
def test_a_processor_without_bf16(
    networks: dict[str, stavis.STAViS], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stavis.engine.openvino.can_compute", lambda capability: capability != "BF16")
    with pytest.raises(StavisError, match="this processor has no instructions for bf16"):
        EngineFactory(networks["visual"], precision="bf16")


@needs_openvino
def test_only_so_many_compiled_networks_are_kept(tmp_path: Path) -> None:
    from stavis.engine.openvino import MOST_KEPT, _keep

    for number in range(MOST_KEPT + 3):
        path = tmp_path / f"{number:03d}.blob"
        _keep(path, b"network")
        os.utime(path, (number, number))
    os.utime(tmp_path / "003.blob")  # used just now
    _keep(tmp_path / "new.blob", b"network")
    kept = sorted(path.stem for path in tmp_path.glob("*.blob"))
    assert len(kept) == MOST_KEPT
    assert kept[0] == "003"
    assert kept[-1] == "new"


@needs_openvino
def test_openvino_sends_no_telemetry() -> None:
    """OpenVINO and NNCF report each conversion to their makers, if the package for it is installed."""
    program = """
import sys, stavis.engine.openvino
from openvino.tools.ovc import telemetry_utils
assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub", telemetry_utils.tm
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("gain", [1, 20], ids=["weak attention", "strong attention"])
def test_layer1_without_time_is_shared_where_attention_allows(
    gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stem and layer1 that were never trained in time run as 2D kernels, layer1 once for several windows."""
    model = forget_time_in_stem_and_layer1(lively_network(modality="visual"))
    with torch.no_grad():
        model.fuse.bias -= 7  # back to where the maps use the range of probabilities
        model.score_dsn[0].score_dsn.weight *= gain
    video = frames(40)
    num_steps: list[int] = []
    enter = FoldedNetwork.enter

    def counted(self: FoldedNetwork, pooled: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        num_steps.append(pooled.shape[2])
        return enter(self, pooled, factor)

    def predict(engine: str) -> np.ndarray:
        num_steps.clear()
        found = stavis.predict_frames(model, video, frame_rate=25, engine=engine)  # type: ignore[arg-type]
        return np.stack([one.saliency for one in found])

    monkeypatch.setattr(FoldedNetwork, "enter", counted)
    expected, maps = predict("plain"), predict("torch")
    assert model.conv1.kernel_size == (7, 7, 7)  # the caller's network is left alone
    assert EngineFactory(model).model.conv1.kernel_size == (1, 7, 7)
    assert EngineFactory(model).name == "torch"
    assert expected.std() > 0.01
    assert np.abs(maps - expected).max() < TOLERANCE
    # All 8 steps of each window, or only the first and the last, and those whose attention has changed.
    assert np.mean(num_steps) == 8 if gain > 1 else np.mean(num_steps) < 4
    if gain > 1:  # this attention must not be shared
        monkeypatch.setattr(stage, "LARGEST_CHANGE", np.inf)
        assert np.abs(predict("torch") - expected).max() > TOLERANCE
