"""Checks and scaling that all metrics share."""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

Protocol = Literal["stavis", "cross-video", "tuebingen"]

_CONSTANT_BELOW = 1e-12  # relative range: resizing a constant map leaves about 1e-15 of rounding noise


# --- Shared steps -----------------------------------------------------------------------------------------------------


def same_size(first: Array, second: Array) -> tuple[Float64, Array]:
    """Both as arrays, the first in float64, the second too unless it is boolean."""
    first = np.asarray(first, dtype=np.float64)
    second = np.asarray(second)
    if first.ndim != 2 or first.shape != second.shape or first.size == 0:
        raise ValueError(f"two maps of one size (H, W) are needed, not {first.shape} and {second.shape}")
    return first, second if second.dtype == np.bool_ else np.asarray(second, dtype=np.float64)


def check_protocol(protocol: str) -> None:
    """Raises ValueError if there is no such protocol."""
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol is {protocol!r}; allowed: {', '.join(get_args(Protocol))}")


def is_varied(lowest: float, highest: float) -> bool:
    """Whether values in this range differ by more than rounding. False when they are not finite."""
    return highest - lowest > _CONSTANT_BELOW * max(abs(lowest), abs(highest))


def is_constant(values: Array) -> bool:
    """Also true of a map with nan."""
    return not is_varied(float(values.min()), float(values.max()))


def stretched(values: Float64) -> Float64:
    """Linearly to 0..1; all nan for a constant map."""
    lowest, highest = float(values.min()), float(values.max())
    if not is_varied(lowest, highest):
        return np.full(values.shape, np.nan)
    return (values - lowest) / (highest - lowest)
