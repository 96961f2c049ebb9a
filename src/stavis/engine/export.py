"""Export of the network to ONNX, OpenVINO and torch.export, checked against PyTorch before it is kept."""

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stavis.errors import StavisError
from stavis.model import STAViS
from stavis.runtime.folders import atomic_folder
from stavis.runtime.telemetry import switch_off_telemetry
from stavis.version import __version__

ExportFormat = Literal["onnx", "openvino", "torch-export"]
FILES: dict[ExportFormat, str] = {"onnx": "model.onnx", "openvino": "model.xml", "torch-export": "model.pt2"}
# Everything that an export may write; large ONNX models and OpenVINO keep weights in a file of their own.
WRITTEN = (*FILES.values(), "model.onnx.data", "model.bin", "config.json")
OPSET = 18
LARGEST_DIFFERENCE = 1e-4  # of a probability, on random clips
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class ExportReport:
    path: Path  # file of the model
    # Largest difference of a probability to PyTorch, over random clips in batches of 1 and 3.
    max_difference: float
    versions: dict[str, str]  # package -> version, of the packages that wrote and checked it


def export_model(
    model: STAViS, folder: Path, export_format: ExportFormat, *, overwrite: bool = False
) -> ExportReport:
    """Writes a network for another runtime, with a `config.json` that describes its inputs.

    Inputs are `clips` (B, 3, T, H, W), RGB in 0..255 minus the mean, and for the audiovisual network `audio` (B, S) in
    -256..256; the output is `saliency` (B, 1, H, W), probabilities. B is dynamic.

    Args:
        model: A network in eval mode, on the CPU.
        folder: Folder to write; it appears when everything is checked.
        export_format: "onnx", "openvino" or "torch-export".
        overwrite: Replace an earlier export in `folder`.

    Raises:
        ValueError: The format is unknown.
        StavisError: Its packages are missing, `folder` is not empty or holds other files than those of an export, or
            the exported network gives other maps.
    """
    if export_format not in get_args(ExportFormat):
        raise ValueError(f"`export_format={export_format}`: allowed are {', '.join(get_args(ExportFormat))}")
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        raise StavisError(f"{folder}: not empty; choose another folder, or replace it (`overwrite=True`)")
    with atomic_folder(folder, may_replace=WRITTEN) as temporary:
        network = _WithProbabilities(model).eval()
        path = temporary / FILES[export_format]
        with _quiet():
            versions = _write(network, path, export_format)
            difference = max(_compare(network, path, export_format, batch) for batch in (1, 3))
        if not difference <= LARGEST_DIFFERENCE:
            raise StavisError(
                f"the exported network differs from PyTorch by {difference:.2g} (allowed {LARGEST_DIFFERENCE:g}); "
                "nothing was kept"
            )
        report = ExportReport(folder / path.name, difference, versions)
        _write_config(model, temporary / "config.json", export_format, report)
    return report


class _WithProbabilities(nn.Module):
    """The network with plain tensors as inputs and output."""

    def __init__(self, model: STAViS) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor, audio: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.model(clips, audio).logits)

    def examples(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        p = self.model.config.preprocessing
        generator = torch.Generator().manual_seed(seed)
        clips = torch.rand(batch, 3, p.clip_length, *p.input_size, generator=generator) * 255
        inputs = {"clips": clips - torch.tensor(p.mean)[:, None, None, None]}
        if self.model.config.modality == "audiovisual":
            inputs["audio"] = torch.randn(batch, p.num_audio_samples, generator=generator) * 30
        return inputs


def _write(network: _WithProbabilities, path: Path, export_format: ExportFormat) -> dict[str, str]:
    inputs = network.examples(2)
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with torch.no_grad():
        program = torch.export.export(
            network, (), kwargs=inputs, dynamic_shapes={name: {0: batch} for name in inputs}
        )
    if export_format == "torch-export":
        torch.export.save(program, path)
        return _versions("torch")
    if export_format == "onnx":
        _require("onnx", "onnxscript", "onnxruntime")
        onnx_program = torch.onnx.export(
            program,
            (),
            kwargs=inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["saliency"],
            verbose=False,
        )
        assert onnx_program is not None
        onnx_program.save(str(path))
        return _versions("torch", "onnx", "onnxscript", "onnxruntime")
    _require("openvino")
    switch_off_telemetry()
    import openvino

    converted = openvino.convert_model(program)
    for port, name in zip(converted.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
    converted.outputs[0].get_tensor().set_names({"saliency"})
    openvino.save_model(converted, path, compress_to_fp16=False)
    return _versions("torch", "openvino")


def run_exported(
    path: Path, export_format: ExportFormat, inputs: dict[str, npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Runs an exported network in its own runtime: arrays by name in, (B, 1, H, W) probabilities out."""
    result: Any
    if export_format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        result = session.run(["saliency"], inputs)[0]
    elif export_format == "openvino":
        switch_off_telemetry()
        import openvino

        compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        result = compiled(inputs)["saliency"]
    else:
        module = torch.export.load(path).module()
        with torch.no_grad():
            result = module(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()
    return np.asarray(result, dtype=np.float32)


def _compare(network: _WithProbabilities, path: Path, export_format: ExportFormat, batch: int) -> float:
    inputs = network.examples(batch, seed=batch)
    with torch.no_grad():
        expected = network(**inputs).numpy()
    found = run_exported(path, export_format, {name: value.numpy() for name, value in inputs.items()})
    return float(np.abs(found - expected).max())


def _write_config(model: STAViS, path: Path, export_format: ExportFormat, report: ExportReport) -> None:
    p = model.config.preprocessing
    height, width = p.input_size
    inputs = {"clips": ["batch", 3, p.clip_length, height, width]}
    if model.config.modality == "audiovisual":
        inputs["audio"] = ["batch", p.num_audio_samples]
    config = {
        "stavis": __version__,
        "format": export_format,
        "model": dataclasses.asdict(model.config),
        "inputs": inputs,
        "outputs": {"saliency": ["batch", 1, height, width]},
        "max_difference_to_pytorch": report.max_difference,
        "versions": report.versions,
    }
    if export_format == "onnx":
        config["opset"] = OPSET
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _require(*packages: str) -> None:
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise StavisError(f"this export needs {package}: pip install 'stavis[export]'") from None


def _versions(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporters' warnings about their own deprecations and about packages that are not needed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
