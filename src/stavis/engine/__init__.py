"""Engines: from resized frames, windows over them and their sound to saliency maps."""

import importlib.util
from typing import Literal, get_args

from stavis.engine.plain import PlainEngine
from stavis.engine.protocol import Engine
from stavis.engine.streaming import StreamingEngine
from stavis.errors import StavisError
from stavis.model import STAViS

EngineName = Literal["auto", "plain", "torch", "openvino"]

__all__ = ["Engine", "EngineName", "PlainEngine", "StreamingEngine", "make_engine"]


def make_engine(model: STAViS, name: EngineName = "auto") -> Engine:
    """Makes the engine of that name around a network.

    Args:
        model: In eval mode, on the device that it is to run on.
        name: "plain": the whole forward pass a window, the reference for the others. "torch": what windows share is
            computed once, the rest rearranged. "openvino": the same, the rest through OpenVINO, on CPUs. "auto":
            "openvino" on a CPU where it is installed, else "torch".

    Raises:
        StavisError: "openvino" is not installed, or the network is not on a CPU.
    """
    if name not in get_args(EngineName):
        raise StavisError(f"engine {name!r} is not known; allowed: {', '.join(get_args(EngineName))}")
    on_cpu = next(model.parameters()).device.type == "cpu"
    if name == "auto":
        name = "openvino" if on_cpu and importlib.util.find_spec("openvino") is not None else "torch"
    if name == "plain":
        return PlainEngine(model)
    if name == "torch":
        return StreamingEngine(model)
    if not on_cpu:
        raise StavisError("engine 'openvino' is for CPUs; on a GPU use 'torch' or 'auto'")
    from stavis.engine.openvino import OpenVINOBackend

    return StreamingEngine(model, OpenVINOBackend(model))
