"""Engines: from resized frames, windows over them and their sound to saliency maps."""

from stavis.engine.plain import PlainEngine
from stavis.engine.protocol import Engine

__all__ = ["Engine", "PlainEngine"]
