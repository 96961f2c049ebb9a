"""Exported networks, run without stavis, give the maps of the network that they came from."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import stavis
from stavis.clips.preprocess import Preprocessing
from stavis.engine.export import FILES, export_model
from stavis.errors import StavisError
from stavis.weights import save_model

SMALL = Preprocessing(input_size=(64, 64))

# What docs/export.md shows: no import of stavis.
CONSUMERS = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path)
saliency = session.run(["saliency"], inputs)[0]
""",
    "openvino": """
import openvino
network = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
saliency = network(inputs)["saliency"]
""",
    "torch-export": """
import torch
network = torch.export.load(path).module()
saliency = network(**{name: torch.from_numpy(value) for name, value in inputs.items()}).detach().numpy()
""",
}


def network(modality: str) -> stavis.STAViS:
    torch.manual_seed(0)
    config = stavis.ModelConfig(modality=modality, depth=10, preprocessing=SMALL)  # type: ignore[arg-type]
    model = stavis.STAViS(config).eval()
    readout = model.fuseav if modality == "audiovisual" else model.fuse
    with torch.no_grad():
        readout.weight.normal_()
        readout.bias.zero_()
    return model


# Exporting takes seconds each; the fast suite tests torch-export through the command.
FAST = {("onnx", "audiovisual")}
CASES = [
    pytest.param(f, m, marks=() if (f, m) in FAST else pytest.mark.slow)
    for f in FILES
    for m in ("audiovisual", "visual")
]


@pytest.mark.parametrize(("export_format", "modality"), CASES)
def test_another_program_gets_the_same_maps(tmp_path: Path, export_format: str, modality: str) -> None:
    pytest.importorskip({"onnx": "onnxscript", "openvino": "openvino"}.get(export_format, "torch"))
    model = network(modality)
    report = export_model(model, tmp_path / "out", export_format)  # type: ignore[arg-type]
    assert report.path == tmp_path / "out" / FILES[export_format]  # type: ignore[index]
    assert report.max_difference < 1e-5
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["inputs"]["clips"] == ["batch", 3, 16, 64, 64]
    assert tuple(config["model"]["preprocessing"]["mean"]) == SMALL.mean

    rng = np.random.default_rng(0)
    inputs = {"clips": rng.uniform(-110, 140, (5, 3, 16, 64, 64)).astype(np.float32)}
    if modality == "audiovisual":
        inputs["audio"] = rng.normal(0, 40, (5, 35280)).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", **inputs)
    program = f"""
import sys, numpy
path, inputs = sys.argv[1], dict(numpy.load(sys.argv[2]))
{CONSUMERS[export_format]}
assert "stavis" not in sys.modules
numpy.save(sys.argv[3], saliency)
"""
    command = [sys.executable, "-c", program, str(report.path), tmp_path / "inputs.npz", tmp_path / "out.npy"]
    subprocess.run(command, check=True, capture_output=True)
    with torch.inference_mode():
        tensors = [torch.from_numpy(value) for value in inputs.values()]
        expected = torch.sigmoid(model(*tensors).logits).numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)


def test_a_folder_with_something_in_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StavisError, match="not empty"):
        export_model(network("visual"), tmp_path, "torch-export")
    (tmp_path / "model.pt2").touch()
    with pytest.raises(StavisError, match=r"not empty: contains notes\.txt"):
        export_model(network("visual"), tmp_path, "torch-export", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt2", "notes.txt"]


def test_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stavis.__main__ import main

    save_model(network("visual"), tmp_path / "weights")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").touch()  # of an earlier export
    arguments = ["stavis", "export", str(tmp_path / "out"), "-w", str(tmp_path / "weights"), "--overwrite"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--format", "torch-export"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    assert "largest difference to PyTorch" in capfd.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.pt2"]
