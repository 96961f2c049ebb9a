"""Saliency metrics of one frame, equal to those of the field's MATLAB code.

Maps are numpy arrays or torch tensors of one size, (H, W) or batches (N, H, W); scores are computed in float64. A
fixation map is boolean, or numeric and fixated where above 0. Undefined scores are nan; formulas, conventions and those
cases are in docs/metrics.md.

Where the MATLAB code draws random numbers (ties of AUC-Judd, negatives of the shuffled AUC and of AUC-Borji), the
default here is the exact expectation over those draws. `rng` draws them.
"""

from stavis.metrics.auc import auc_borji, auc_judd, auc_shuffled, exact_auc, stretched_grid_auc
from stavis.metrics.checks import (
    Array,
    Float64,
    Indices,
    MapLike,
    Protocol,
    as_array,
    check_protocol,
    is_varied,
)
from stavis.metrics.similarity import EPSILON, cc, information_gain, kl_divergence, nss, sim
from stavis.metrics.ties import JITTER, NearPixels

__all__ = [
    "EPSILON",
    "JITTER",
    "Array",
    "Float64",
    "Indices",
    "MapLike",
    "NearPixels",
    "Protocol",
    "as_array",
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
