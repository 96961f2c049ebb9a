"""Preparation of your own videos and gaze in the layout of the published databases."""

from stavis.preparation.folds import FoldChoice
from stavis.preparation.options import Preparation, PreparedVideo, PrepareOptions

__all__ = ["FoldChoice", "Preparation", "PrepareOptions", "PreparedVideo"]
