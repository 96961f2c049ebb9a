"""Engines: from resized frames, windows over them and their sound to saliency maps."""

from stavis.engine.factory import EngineFactory, EngineName
from stavis.engine.plain import PlainEngine
from stavis.engine.precision import Precision
from stavis.engine.protocol import Engine, Example, MakeEngine
from stavis.engine.streaming import StreamingEngine

__all__ = [
    "Engine",
    "EngineFactory",
    "EngineName",
    "Example",
    "MakeEngine",
    "PlainEngine",
    "Precision",
    "StreamingEngine",
]
