"""Weights: names, files, and networks loaded from them."""

from stavis.weights.device import resolve_device
from stavis.weights.files import CONFIG_FILE, WEIGHTS_FILE, save_model
from stavis.weights.load import LoadReport, initialize, load_model_with_report, untrained_model
from stavis.weights.names import load_model
from stavis.weights.sources import DEFAULT, DEFAULT_FOLDER, has_default_weights

__all__ = [
    "CONFIG_FILE",
    "DEFAULT",
    "DEFAULT_FOLDER",
    "WEIGHTS_FILE",
    "LoadReport",
    "has_default_weights",
    "initialize",
    "load_model",
    "load_model_with_report",
    "resolve_device",
    "save_model",
    "untrained_model",
]
