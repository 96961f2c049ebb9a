"""Engines: from resized frames, windows over them and their sound to saliency maps."""

from stavis.engine.factory import EngineFactory as EngineFactory
from stavis.engine.factory import EngineName as EngineName
from stavis.engine.plain import PlainEngine as PlainEngine
from stavis.engine.precision import Precision as Precision
from stavis.engine.protocol import Engine as Engine
from stavis.engine.protocol import Example as Example
from stavis.engine.protocol import MakeEngine as MakeEngine
from stavis.engine.streaming import StreamingEngine as StreamingEngine
