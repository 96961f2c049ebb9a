"""The STAViS network, one module per block."""

from stavis.model.config import DEPTHS as DEPTHS
from stavis.model.config import Modality as Modality
from stavis.model.config import ModelConfig as ModelConfig
from stavis.model.config import Shortcut as Shortcut
from stavis.model.stavis import Prediction as Prediction
from stavis.model.stavis import STAViS as STAViS
from stavis.model.stavis import VisualFeatures as VisualFeatures
