"""Audiovisual saliency: where people look in a video with its sound (STAViS, CVPR 2020)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stavis.model import ModelConfig as ModelConfig
    from stavis.model import Prediction as Prediction
    from stavis.model import STAViS as STAViS
    from stavis.prediction.predict import FrameSaliency as FrameSaliency
    from stavis.prediction.predict import predict_video as predict_video
    from stavis.version import __version__ as __version__
    from stavis.weights import load_model as load_model

# Public names are imported when first used, so that `import stavis` and `stavis --help` do not wait for torch.
_HOMES = {
    "ModelConfig": "stavis.model",
    "Prediction": "stavis.model",
    "STAViS": "stavis.model",
    "FrameSaliency": "stavis.prediction.predict",
    "predict_video": "stavis.prediction.predict",
    "__version__": "stavis.version",
    "load_model": "stavis.weights",
}
_MODULES = ("clips", "maps", "media", "metrics", "model", "predict", "preprocess", "weights")

__all__ = ["FrameSaliency", "ModelConfig", "Prediction", "STAViS", "load_model", "predict_video"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"stavis.{name}")
    raise AttributeError(f"module 'stavis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
