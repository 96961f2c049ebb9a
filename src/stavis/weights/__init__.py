"""Weights: names, files, and networks loaded from them."""

from stavis.weights.device import resolve_device as resolve_device
from stavis.weights.files import CONFIG_FILE as CONFIG_FILE
from stavis.weights.files import WEIGHTS_FILE as WEIGHTS_FILE
from stavis.weights.files import save_model as save_model
from stavis.weights.load import LoadReport as LoadReport
from stavis.weights.load import initialize as initialize
from stavis.weights.load import load_model_with_report as load_model_with_report
from stavis.weights.load import untrained_model as untrained_model
from stavis.weights.names import load_model as load_model
from stavis.weights.sources import DEFAULT as DEFAULT
from stavis.weights.sources import DEFAULT_FOLDER as DEFAULT_FOLDER
from stavis.weights.sources import has_default_weights as has_default_weights
