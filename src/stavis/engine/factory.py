"""Which engine runs a network."""

import importlib.util
from typing import Literal, get_args

from stavis.engine.folded import FoldedNetwork
from stavis.engine.plain import PlainEngine
from stavis.engine.protocol import Engine
from stavis.engine.streaming import Backend, StreamingEngine
from stavis.errors import StavisError
from stavis.model import STAViS

EngineName = Literal["auto", "plain", "torch", "openvino"]

WORTH_COMPILING = 300  # windows: about where OpenVINO's gain makes up for its first compilation


class EngineFactory:
    """Makes engines around one network, a new one a video, that share what does not depend on the video.

    Args:
        model: In eval mode, on the device that it is to run on. Its weights must not change afterwards.
        name: "plain": the whole forward pass a window, the reference for the others. "torch": what windows share is
            computed once, the rest rearranged. "openvino": the same, the rest through OpenVINO, on CPUs. "auto": on a
            CPU "openvino" where it is installed and has compiled this network before or has enough to do; else "torch".

    Raises:
        StavisError: The name is unknown, "openvino" is not installed, or the network is not on a CPU.
    """

    def __init__(self, model: STAViS, name: EngineName = "auto") -> None:
        if name not in get_args(EngineName):
            raise StavisError(f"engine {name!r} is not known; allowed: {', '.join(get_args(EngineName))}")
        on_cpu = next(model.parameters()).device.type == "cpu"
        installed = importlib.util.find_spec("openvino") is not None
        if name == "openvino" and not on_cpu:
            raise StavisError("engine 'openvino' is for CPUs; on a GPU use 'torch' or 'auto'")
        if name == "openvino" and not installed:
            raise StavisError("engine 'openvino' is not installed: pip install 'stavis[openvino]'")
        self.model = model
        self.name = name
        self._may_compile = on_cpu and installed
        self._backends: dict[str, Backend] = {}

    def __call__(self, num_windows: int | None = None) -> Engine:
        """An engine for a video of about `num_windows`, if that is known."""
        if self.name == "plain":
            return PlainEngine(self.model)
        return StreamingEngine(self.model, self._backend(self._choose(num_windows)))

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

                self._backends[name] = OpenVINOBackend(self.model)
            else:
                self._backends[name] = FoldedNetwork(self.model)
        return self._backends[name]
