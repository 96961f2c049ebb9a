"""Choice of the engine that runs a network."""

import copy
import importlib.util
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import nn

from stavis.clips import Window
from stavis.engine import quantization
from stavis.engine.folded import FoldedNetwork, FoldedSoundNet
from stavis.engine.plain import PlainEngine
from stavis.engine.precision import AutocastBackend, Precision
from stavis.engine.protocol import Engine, Example
from stavis.engine.streaming import Backend, StreamingEngine
from stavis.errors import StavisError
from stavis.model import STAViS
from stavis.model.resnet3d import has_zero_slices, is_spatial, trim_temporal_kernels
from stavis.runtime.allocator import return_free_memory

EngineName = Literal["auto", "plain", "torch", "openvino"]

WORTH_COMPILING = 300  # windows: roughly where OpenVINO's gain makes up for its first compilation
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class EngineFactory:
    """Makes an engine per video around one network; they share what does not depend on the video.

    Args:
        model: In eval mode, on the device to run on. Its weights must not change afterwards.
        name: "plain": the whole forward pass per window, the reference for the others. "torch": computes what windows
            share once, and the rest rearranged. "openvino": the same, the rest through OpenVINO, on CPUs. "auto": on a
            CPU "openvino" if it is installed and has compiled this network before or has enough to do; else "torch".
            For networks whose layer1 has no temporal kernels, as the default weights', always "torch", which shares it
            and is nearly as fast without compiling.
        precision: "float32": exact. Approximations, of all but the stem: "bf16" and "fp16" on GPUs through "torch",
            "bf16" and "int8" on CPUs through "openvino". "int8" is calibrated on examples of each video.
        keep_model: Whether the model is needed elsewhere. If not, the weights of its residual stages and SoundNet are
            given up when an engine has a form of its own of them and no other engine is to come: "torch" and "openvino"
            at once, "auto" when it has chosen "openvino"; "plain" and "int8" need them for every video.

    Raises:
        StavisError: The name or the precision is unknown, not installed, or not for this engine or processor.
    """

    def __init__(
        self,
        model: STAViS,
        name: EngineName = "auto",
        precision: Precision = "float32",
        *,
        keep_model: bool = True,
    ) -> None:
        if name not in get_args(EngineName):
            raise StavisError(f"`engine={name}`: allowed are {', '.join(get_args(EngineName))}")
        if precision not in get_args(Precision):
            raise StavisError(f"`precision={precision}`: allowed are {', '.join(get_args(Precision))}")
        on_cpu = next(model.parameters()).device.type == "cpu"
        installed = importlib.util.find_spec("openvino") is not None
        if name == "openvino" and not on_cpu:
            raise StavisError("engine 'openvino' is for CPUs; on a GPU use 'torch' or 'auto'")
        if name == "openvino" and not installed:
            raise StavisError("engine 'openvino' is not installed: pip install 'stavis[openvino]'")
        if precision != "float32":
            _check_precision(name, precision, on_cpu=on_cpu)
            name = "openvino" if on_cpu else "torch"
        if name != "plain" and any(isinstance(m, nn.Conv3d) and has_zero_slices(m) for m in model.modules()):
            model = copy.deepcopy(model) if keep_model else model
            trim_temporal_kernels(model)
        if name == "auto" and on_cpu and is_spatial(model.layer1):
            name = "torch"  # it shares layer1 between windows
        self.model = model
        self.name = name
        self.precision = precision
        self.keep_model = keep_model
        self._may_compile = on_cpu and installed
        self._backends: dict[str, Backend] = {}
        hears = model.config.modality == "audiovisual" and name != "plain"
        self._listen = FoldedSoundNet(model.soundnet8) if hears else None

    def __call__(
        self, num_windows: int | None = None, examples: Callable[[], Sequence[Example]] | None = None
    ) -> Engine:
        """Makes an engine for a video of about `num_windows`, if known; "int8" needs `examples` of its windows."""
        if self.name == "plain":
            return PlainEngine(self.model)
        if self.precision == "int8":
            if examples is None:
                raise ValueError("precision int8 needs examples of the windows to come")
            return StreamingEngine(self.model, self._fit(examples()), self._listen)
        backend = self._backend(self._choose(num_windows))
        return StreamingEngine(self.model, backend, self._listen)

    def _choose(self, num_windows: int | None) -> str:
        if self.name != "auto":
            return self.name
        if not self._may_compile:
            return "torch"
        if "openvino" in self._backends:
            return "openvino"
        from stavis.engine import openvino

        worth_it = num_windows is not None and num_windows >= WORTH_COMPILING
        return "openvino" if worth_it or openvino.is_compiled(self.model) else "torch"

    def _backend(self, name: str) -> Backend:
        if name not in self._backends:
            if name == "openvino":
                from stavis.engine.openvino import OpenVINOBackend

                self._backends[name] = OpenVINOBackend(self.model, self.precision)
            elif self.precision in HALVES:
                self._backends[name] = AutocastBackend(self.model, HALVES[self.precision])
            else:
                self._backends[name] = FoldedNetwork(self.model)
            if not self.keep_model and (name == self.name or name == "openvino"):
                self._give_up_model()
        return self._backends[name]

    def _give_up_model(self) -> None:
        parts = [self.model.layer1, self.model.layer2, self.model.layer3]
        if self._listen is not None:
            parts.append(self.model.soundnet8)
        for part in parts:
            part.to("meta")  # shapes without contents
        return_free_memory()

    def _fit(self, examples: Sequence[Example]) -> Backend:
        from stavis.engine.openvino import OpenVINOBackend

        windows = []
        with torch.inference_mode():
            for example in examples:
                engine = StreamingEngine(self.model, _no_backend, self._listen)
                for index, frame in enumerate(example.frames):
                    engine.add_frame(index, frame)
                window = Window(tuple(range(len(example.frames))), target=0)
                audio = None if example.audio is None else example.audio[None]
                inputs = engine.begin([window], audio)
                windows.append([one.numpy() for one in inputs if one is not None])
        return OpenVINOBackend(self.model, "int8", windows)


def _no_backend(pooled: torch.Tensor, mean: torch.Tensor, sound: torch.Tensor | None) -> torch.Tensor:
    raise AssertionError("only the stem is wanted")


def _check_precision(name: EngineName, precision: Precision, *, on_cpu: bool) -> None:
    """Checks that this engine offers an approximation on this machine.

    Raises StavisError if it does not; the message says what to do instead.
    """
    if name == "plain":
        raise StavisError("`engine=plain` computes in float32 only; choose another, or `precision=float32`")
    if not on_cpu:
        if precision == "int8":
            raise StavisError("precision 'int8' is for CPUs; on a GPU use 'bf16' or 'fp16'")
        if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise StavisError("this GPU cannot compute in bf16; use `precision=fp16` or `precision=float32`")
        return
    if precision == "fp16":
        raise StavisError("precision 'fp16' is for GPUs; on a CPU use 'bf16' or 'int8'")
    if name == "torch":
        raise StavisError(f"on a CPU `precision={precision}` needs `engine=openvino` or `engine=auto`")
    if importlib.util.find_spec("openvino") is None:
        raise StavisError(f"on a CPU precision {precision!r} needs OpenVINO: pip install 'stavis[openvino]'")
    if precision == "int8" and not quantization.is_installed():
        raise StavisError("precision 'int8' needs NNCF: pip install 'stavis[int8]'")
    from stavis.engine import openvino

    if not openvino.can_compute(precision.upper()):
        raise StavisError(f"this processor has no instructions for {precision}; use `precision=float32`")
