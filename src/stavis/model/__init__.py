"""The STAViS network, one module per block."""

from stavis.model.config import DEPTHS, Modality, ModelConfig, Shortcut
from stavis.model.stavis import Prediction, STAViS, VisualFeatures

__all__ = ["DEPTHS", "Modality", "ModelConfig", "Prediction", "STAViS", "Shortcut", "VisualFeatures"]
