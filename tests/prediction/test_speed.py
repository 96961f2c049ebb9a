"""`--speed`: which mode is chosen, and what the summary says of it."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import stavis
from stavis.clips.preprocess import Preprocessing
from stavis.prediction import speed
from stavis.prediction.speed import LEAST_CC, MEASURED_FILE, bench_file, choose_mode, keep_measurements
from stavis.weights import save_model


@pytest.fixture(scope="module")
def model() -> stavis.STAViS:
    torch.manual_seed(0)
    return stavis.STAViS(
        stavis.ModelConfig("visual", 10, preprocessing=Preprocessing(input_size=(64, 64)))
    ).eval()


def report(network: dict[str, float], setup: float = 0.0, write_fps: float = 1000.0) -> dict[str, object]:
    engines = [
        {"precision": name, "network_seconds": seconds, "setup_seconds": setup if name == "int8" else 0}
        for name, seconds in network.items()
    ]
    media = {"decode_fps": 1000, "write_fps": write_fps}
    return {"machine": {"device": "cpu"}, "media": media, "engines": engines}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_measured_deviations_are_plausible() -> None:
    record = json.loads(MEASURED_FILE.read_text())
    assert len(record["videos"]) >= 3
    assert record["modes"]["float32, stride 1"] == {
        "cc": 1.0,
        "lowest_cc": 1.0,
        "sim": 1.0,
        "nss_difference": 0.0,
    }
    strides = [record["modes"][f"float32, stride {stride}"]["cc"] for stride in (1, 2, 4, 8, 16)]
    assert strides == sorted(strides, reverse=True)


def test_without_measurements_strides_of_exact_maps_are_chosen(model: stavis.STAViS, measured: Path) -> None:
    assert choose_mode("exact", model, None) is None
    balanced, fast = choose_mode("balanced", model, None), choose_mode("fast", model, None)
    assert balanced is not None
    assert fast is not None
    assert balanced.precision == fast.precision == "float32"
    assert 1 < balanced.stride <= fast.stride
    for mode in (balanced, fast):
        assert mode.deviation["cc"] >= LEAST_CC[mode.speed][0]
        assert mode.deviation["lowest_cc"] >= LEAST_CC[mode.speed][1]
        assert not mode.measured_here
        assert not mode.same_weights
    with pytest.raises(ValueError, match="speed=slow"):
        choose_mode("slow", model, None)  # type: ignore[arg-type]


def test_the_choice_rests_on_what_this_machine_was_measured_to_do(
    model: stavis.STAViS, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino, _ = pytest.importorskip("stavis.engine.openvino"), pytest.importorskip("nncf")
    if not openvino.can_compute("INT8"):
        pytest.skip("this processor has no INT8 instructions")
    record = json.loads(MEASURED_FILE.read_text())
    record["modes"]["int8, stride 1"] = {"cc": 0.999, "lowest_cc": 0.995, "sim": 0.99, "nss_difference": 0.0}
    (measured / "speed.json").write_text(json.dumps(record))
    monkeypatch.setattr(speed, "MEASURED_FILE", measured / "speed.json")
    assert choose_mode("balanced", model, None).precision == "float32"  # type: ignore[union-attr]
    for kept, precision in (
        (report({"float32": 0.1, "int8": 0.001}), "int8"),
        (report({"float32": 0.001, "int8": 0.1}), "float32"),
        (report({"float32": 0.1, "int8": 0.001}, setup=100.0), "float32"),  # it calibrates for too long
        (report({"float32": 0.1, "int8": 0.001}, write_fps=2.0), "float32"),  # writing is slower
    ):
        keep_measurements(kept)
        mode = choose_mode("balanced", model, None)
        assert mode is not None
        assert (mode.precision, mode.measured_here) == (precision, True)


@pytest.mark.parametrize("text", ["", "[]", '{"cpu": {}}', '{"cpu": {"media": {"decode_fps": 0}}}'])
def test_damaged_measurements_are_ignored(model: stavis.STAViS, measured: Path, text: str) -> None:
    path = bench_file()
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_text(text)
    mode = choose_mode("balanced", model, None)
    assert mode is not None
    assert not mode.measured_here


def test_the_summary_names_the_mode_and_its_deviation(
    model: stavis.STAViS, measured: Path, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "weights")
    clip = tmp_path / "clip"
    clip.mkdir()
    for i in range(6):
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(clip / f"img_{i + 1:05d}.png")
    lines: list[str] = []
    options = {"weights": tmp_path / "weights", "outputs": "npz", "frame_rate": 25}
    (result,) = stavis.predict_files(clip, tmp_path / "out", speed="balanced", report=lines.append, **options)
    assert result.error is None
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["speed"]["speed"] == "balanced"
    assert summary["options"]["stride"] == summary["speed"]["stride"] > 1
    assert set(summary["speed"]["deviation"]) == {"cc", "lowest_cc", "sim", "nss_difference"}
    assert any(line.startswith("speed balanced: float32, stride ") for line in lines)
    with pytest.raises(ValueError, match="stride"):
        stavis.predict_files(clip, tmp_path / "out", speed="fast", stride=3, **options)
