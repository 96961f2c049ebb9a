"""Saliency metrics of one frame, equal to those of the field's MATLAB code.

Maps are numpy arrays or torch tensors of one size, (H, W) or batches (N, H, W); scores are computed in float64. A
fixation map is boolean, or numeric and fixated where above 0. Undefined scores are nan; formulas, conventions and those
cases are in docs/metrics.md.

Where the MATLAB code draws random numbers (ties of AUC-Judd, negatives of the shuffled AUC and of AUC-Borji), the
default here is the exact expectation over those draws. `rng` draws them.
"""

from stavis.metrics.auc import auc_borji as auc_borji
from stavis.metrics.auc import auc_judd as auc_judd
from stavis.metrics.auc import auc_shuffled as auc_shuffled
from stavis.metrics.auc import exact_auc as exact_auc
from stavis.metrics.auc import stretched_grid_auc as stretched_grid_auc
from stavis.metrics.checks import Array as Array
from stavis.metrics.checks import Float64 as Float64
from stavis.metrics.checks import Indices as Indices
from stavis.metrics.checks import MapLike as MapLike
from stavis.metrics.checks import Protocol as Protocol
from stavis.metrics.checks import as_array as as_array
from stavis.metrics.checks import check_protocol as check_protocol
from stavis.metrics.checks import is_varied as is_varied
from stavis.metrics.similarity import EPSILON as EPSILON
from stavis.metrics.similarity import cc as cc
from stavis.metrics.similarity import information_gain as information_gain
from stavis.metrics.similarity import kl_divergence as kl_divergence
from stavis.metrics.similarity import nss as nss
from stavis.metrics.similarity import sim as sim
from stavis.metrics.ties import JITTER as JITTER
from stavis.metrics.ties import NearPixels as NearPixels
