"""Saliency metrics, equal to the MATLAB ones."""

from stavis.metrics.auc import auc_borji, auc_judd, auc_shuffled, exact_auc, stretched_grid_auc
from stavis.metrics.checks import Array, Float64, Indices, Protocol, check_protocol, is_varied
from stavis.metrics.similarity import EPSILON, cc, information_gain, kl_divergence, nss, sim
from stavis.metrics.ties import JITTER, NearPixels

__all__ = [
    "EPSILON",
    "JITTER",
    "Array",
    "Float64",
    "Indices",
    "NearPixels",
    "Protocol",
    "auc_borji",
    "auc_judd",
    "auc_shuffled",
    "cc",
    "check_protocol",
    "exact_auc",
    "information_gain",
    "is_varied",
    "kl_divergence",
    "nss",
    "sim",
    "stretched_grid_auc",
]
