"""Audiovisual saliency: where people look in a video with its sound (STAViS, CVPR 2020)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stavis import clips as clips
    from stavis import gaze as gaze
    from stavis import maps as maps
    from stavis import media as media
    from stavis import metrics as metrics
    from stavis import model as model
    from stavis import weights as weights
    from stavis.areas.measure import AreaAttention as AreaAttention
    from stavis.areas.measure import measure_areas as measure_areas
    from stavis.datasets.database import Database as Database
    from stavis.datasets.dataset import SaliencyDataset as SaliencyDataset
    from stavis.encoding.encode import encode as encode
    from stavis.encoding.roi import write_roi as write_roi
    from stavis.errors import StavisError as StavisError
    from stavis.evaluation.evaluate import evaluate as evaluate
    from stavis.evaluation.leaderboard import make_leaderboard as make_leaderboard
    from stavis.evaluation.submission import make_submission as make_submission
    from stavis.evaluation.summary import Evaluation as Evaluation
    from stavis.fetching.fetch import fetch as fetch
    from stavis.metrics.frame import FrameScores as FrameScores
    from stavis.metrics.frame import score_frame as score_frame
    from stavis.metrics.frame import score_video as score_video
    from stavis.model import ModelConfig as ModelConfig
    from stavis.model import Prediction as Prediction
    from stavis.model import STAViS as STAViS
    from stavis.prediction.batch import predict_files as predict_files
    from stavis.prediction.folder import FolderResult as FolderResult
    from stavis.prediction.predict import FrameSaliency as FrameSaliency
    from stavis.prediction.predict import predict_frames as predict_frames
    from stavis.prediction.predict import predict_video as predict_video
    from stavis.prediction.saliency_video import SaliencyVideo as SaliencyVideo
    from stavis.prediction.saliency_video import predict as predict
    from stavis.preparation.prepare import prepare as prepare
    from stavis.reframing.camera import CameraSettings as CameraSettings
    from stavis.reframing.reframe import plan_reframing as plan_reframing
    from stavis.reframing.reframe import reframe as reframe
    from stavis.training.loop import load_recipe as load_recipe
    from stavis.training.loop import train as train
    from stavis.training.recipe import Recipe as Recipe
    from stavis.version import __version__ as __version__
    from stavis.weights import load_model as load_model

# Public names are imported when first used, so that `import stavis` and `stavis --help` do not wait for torch.
_NAMES = {
    "areas.measure": ("AreaAttention", "measure_areas"),
    "datasets.database": ("Database",),
    "datasets.dataset": ("SaliencyDataset",),
    "encoding.encode": ("encode",),
    "encoding.roi": ("write_roi",),
    "errors": ("StavisError",),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.leaderboard": ("make_leaderboard",),
    "evaluation.submission": ("make_submission",),
    "evaluation.summary": ("Evaluation",),
    "fetching.fetch": ("fetch",),
    "metrics.frame": ("FrameScores", "score_frame", "score_video"),
    "model": ("ModelConfig", "Prediction", "STAViS"),
    "prediction.batch": ("predict_files",),
    "prediction.folder": ("FolderResult",),
    "prediction.predict": ("FrameSaliency", "predict_frames", "predict_video"),
    "prediction.saliency_video": ("SaliencyVideo", "predict"),
    "preparation.prepare": ("prepare",),
    "reframing.camera": ("CameraSettings",),
    "reframing.reframe": ("plan_reframing", "reframe"),
    "training.loop": ("load_recipe", "train"),
    "training.recipe": ("Recipe",),
    "version": ("__version__",),
    "weights": ("load_model",),
}
_HOMES = {name: f"stavis.{module}" for module, names in _NAMES.items() for name in names}
_MODULES = ("clips", "gaze", "maps", "media", "metrics", "model", "weights")

__all__ = sorted(_HOMES.keys() - {"__version__"})


if not TYPE_CHECKING:  # a type checker would accept any misspelled name

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        if name in _MODULES:
            return importlib.import_module(f"stavis.{name}")
        raise AttributeError(f"module 'stavis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
