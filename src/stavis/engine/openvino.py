"""The network behind the stem through OpenVINO, which is faster than PyTorch on Intel and AMD processors.

The compiled network is cached on disk by OpenVINO itself, so that later commands start at once.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stavis.engine.folded import FoldedNetwork
from stavis.errors import StavisError
from stavis.model import STAViS


class OpenVINOBackend:
    """Computes logits from the stem's output, one window at a time.

    Args:
        model: A network in eval mode, on the CPU.
        precision: "float32", or "bfloat16" on processors that compute in it.

    Raises:
        StavisError: OpenVINO is not installed.
    """

    def __init__(self, model: STAViS, *, precision: str = "float32") -> None:
        openvino = import_openvino()
        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(cache_folder())})
        network = convert_network(model)
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        }
        self._compiled = core.compile_model(network, "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def __call__(self, pooled: Tensor, mean: Tensor, sound: Tensor | None) -> Tensor:
        inputs = [pooled, mean] if sound is None else [pooled, mean, sound]
        logits = []
        for window in zip(*inputs, strict=True):
            result = self._request.infer([one[None].numpy() for one in window], share_inputs=True)
            logits.append(np.array(result[0]))
        return torch.from_numpy(np.concatenate(logits))


def import_openvino() -> Any:
    """The library, or an error that tells how to install it."""
    # It would report its use over the network at every start.
    os.environ.setdefault("OPENVINO_TELEMETRY_ENABLE", "0")
    try:
        import openvino
    except ImportError:
        raise StavisError(
            "engine 'openvino' needs OpenVINO, which is not installed: pip install 'stavis[openvino]'"
        ) from None
    return openvino


def convert_network(model: STAViS) -> Any:
    """The network behind the stem as an OpenVINO model for one window."""
    openvino = import_openvino()
    network = _Traceable(FoldedNetwork(model, fuse=False))
    examples = network.examples()
    with torch.no_grad():
        return openvino.convert_model(
            network, example_input=examples, input=[tuple(example.shape) for example in examples]
        )


class _Traceable(nn.Module):
    """`FoldedNetwork` with a fixed number of inputs."""

    def __init__(self, network: FoldedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pooled: Tensor, mean: Tensor, *sound: Tensor) -> Tensor:
        return self.network(pooled, mean, sound[0] if sound else None)  # type: ignore[no-any-return]

    def examples(self) -> tuple[Tensor, ...]:
        config = self.network.model.config
        height, width = (side // 2 for side in config.preprocessing.input_size)
        inputs = [
            torch.zeros(1, 64, config.preprocessing.clip_length // 2, height, width),
            torch.zeros(1, 64, height, width),
        ]
        if config.modality == "audiovisual":
            inputs.append(torch.zeros(1, 1024))
        return tuple(inputs)


def cache_folder() -> Path:
    """Where compiled networks are kept: `$XDG_CACHE_HOME/stavis`, by default `~/.cache/stavis`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stavis" / "openvino"
