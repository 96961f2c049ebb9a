"""The network behind the stem through OpenVINO, which is faster than PyTorch on Intel and AMD processors.

Converting and compiling a network takes seconds. The result is cached on disk, so that later commands start at once.
"""

import contextlib
import dataclasses
import gc
import hashlib
import importlib.metadata
import json
import logging
import mmap
import os
import platform
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stavis.engine.folded import FoldedNetwork
from stavis.engine.quantization import Inputs, quantize
from stavis.model import ModelConfig, STAViS
from stavis.runtime.allocator import return_free_memory
from stavis.runtime.files import write_bytes
from stavis.runtime.telemetry import switch_off_telemetry
from stavis.version import __version__

switch_off_telemetry()
import openvino  # noqa: E402

MOST_KEPT = 16  # compiled networks on disk; an audiovisual one of depth 50 takes 75 MB

_log = logging.getLogger("stavis")


class OpenVINOBackend:
    """Computes logits from the stem's output, one window at a time.

    Args:
        model: A network in eval mode, on the CPU.
        precision: "float32", "bf16" (on processors that support it) or "int8".
        windows: For "int8": inputs of the network for some of the windows to come, to calibrate its ranges.
    """

    def __init__(self, model: STAViS, precision: str = "float32", windows: Sequence[Inputs] = ()) -> None:
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        path = compiled_path(model, precision, windows)
        kept = _KeptNetwork.open(core, path, settings)
        if kept is None:
            network = convert_network(model)
            if precision == "int8":
                network = quantize(network, windows)
            gc.collect()  # tracing leaves reference cycles with copies of the weights
            compiled = core.compile_model(network, "CPU", settings)
            del network
            _keep(path, compiled.export_model().getvalue())
            # Read back from the file it takes much less memory than as compiled.
            kept = _KeptNetwork.open(core, path, settings) or _KeptNetwork(compiled)
            del compiled
            return_free_memory()
        self._request = kept.compiled.create_infer_request()
        self._file = kept.file  # must live as long as the network

    def __call__(self, pooled: Tensor, mean: Tensor, sound: Tensor | None) -> Tensor:
        inputs = [pooled, mean] if sound is None else [pooled, mean, sound]
        logits = []
        for window in zip(*inputs, strict=True):
            result = self._request.infer([one[None].numpy() for one in window], share_inputs=True)
            logits.append(np.array(result[0]))
        return torch.from_numpy(np.concatenate(logits))


class _KeptNetwork(NamedTuple):
    compiled: Any  # the network
    file: mmap.mmap | None = None  # memory map that holds its weights; None if it owns them

    @classmethod
    def open(cls, core: openvino.Core, path: Path | None, settings: dict[str, Any]) -> "_KeptNetwork | None":
        """Reads the network kept in `path`; None if there is none, or none for this processor."""
        if path is None or not os.path.exists(path):
            return None
        try:
            with contextlib.suppress(OSError):
                path.touch()  # the least recently used one is removed first
            with path.open("rb") as file:
                # OpenVINO shares only writable memory; what is written to this copy never reaches the file.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            blob = openvino.Tensor(np.frombuffer(mapped, np.uint8), shared_memory=True)
            compiled = core.import_model(blob, "CPU", settings)
        except (RuntimeError, OSError, ValueError):  # from another processor, or truncated
            return None
        if hasattr(mmap, "MADV_DONTNEED"):
            # OpenVINO has made its own copy of the weights; if it reads them again, so is the file.
            mapped.madvise(mmap.MADV_DONTNEED)
        return cls(compiled, mapped)


def can_compute(capability: str) -> bool:
    """Whether this processor has instructions for "BF16" or "INT8"."""
    return capability in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def is_compiled(model: STAViS, precision: str = "float32") -> bool:
    """Whether this network was compiled on this machine before."""
    path = compiled_path(model, precision)
    return path is not None and os.path.exists(path)


def compiled_path(model: STAViS, precision: str, windows: Sequence[Inputs] = ()) -> Path | None:
    """File for this network's compiled form, below `$XDG_CACHE_HOME/stavis`, by default `~/.cache/stavis`.

    None if the user has no home directory, as in some containers.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:
        return None
    digest = hashlib.blake2b(digest_size=12)
    description = [
        dataclasses.asdict(model.config),
        precision,
        __version__,  # which arranges the network before it is compiled
        torch.get_num_threads(),
        openvino.__version__,
        torch.__version__,
        importlib.metadata.version("nncf") if precision == "int8" else None,
        platform.machine(),
        platform.processor(),
    ]
    digest.update(json.dumps(description).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy())
    for window in windows:
        for one in window:
            digest.update(one.tobytes())
    return folder / "stavis" / "openvino" / f"{digest.hexdigest()}.blob"


def _keep(path: Path | None, compiled: bytes) -> None:
    """Writes a compiled network, and removes the least recently used ones if there are too many."""
    if path is None:
        return
    try:
        write_bytes(path, compiled)
        kept = sorted(path.parent.glob("*.blob"), key=lambda one: one.stat().st_mtime)
        for old in kept[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.info("%s: the compiled network cannot be kept: %s", path, error)


def convert_network(model: STAViS) -> Any:
    """The network behind the stem as an OpenVINO model for one window."""
    examples = _example_inputs(model.config)
    network = _Traceable(FoldedNetwork(model, fuse=False)).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, but OpenVINO needs it
        # Traced here, since OpenVINO would have PyTorch check the trace by running the network twice more.
        traced = torch.jit.trace(network, examples, check_trace=False)  # type: ignore[no-untyped-call]
        return openvino.convert_model(traced, input=[tuple(example.shape) for example in examples])


class _Traceable(nn.Module):
    """`FoldedNetwork` with as many inputs as its network has."""

    def __init__(self, network: FoldedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pooled: Tensor, mean: Tensor, *sound: Tensor) -> Tensor:
        return self.network(pooled, mean, sound[0] if sound else None)  # type: ignore[no-any-return]


def _example_inputs(config: ModelConfig) -> tuple[Tensor, ...]:
    height, width = (side // 2 for side in config.preprocessing.input_size)
    sizes = [(1, 64, config.preprocessing.clip_length // 2, height, width), (1, 64, height, width), (1, 1024)]
    return tuple(torch.zeros(size) for size in sizes[: 3 if config.modality == "audiovisual" else 2])
