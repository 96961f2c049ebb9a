"""Input conversion, checks and scaling shared by all metrics."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
MapLike = Any
"""A map as users hold it: a numpy array, a torch tensor on any device, or nested lists."""

Protocol = Literal["stavis", "cross-video", "tuebingen"]

_CONSTANT_BELOW = 1e-12  # relative range: resizing a constant map leaves about 1e-15 of rounding noise
_MODERATE = (1e-100, 1e100)  # magnitudes whose squares, and sums of these, are floats

P = ParamSpec("P")


def as_array(values: MapLike) -> Array:
    """A numpy array of the same values. A torch tensor is detached and copied to the CPU; torch is not imported."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        try:
            return np.asarray(values.numpy())
        except TypeError:  # bfloat16, which numpy lacks
            return np.asarray(values.float().numpy())
    return np.asarray(values)


def per_map(metric: Callable[P, float]) -> Callable[P, Any]:
    """Extends a metric of (H, W) arrays to numpy arrays and torch tensors, (H, W) or batches (N, H, W).

    The result is a float, or (N,) float64 if a map is a batch; a single map is then compared with every map of it.
    """

    @functools.wraps(metric)
    def of_any(*args: P.args, **kwargs: P.kwargs) -> Any:
        positional: list[Any] = [as_array(value) for value in args]
        named: dict[str, Any] = {k: as_array(v) if k.endswith("_map") else v for k, v in kwargs.items()}
        length = batch_length(*positional, *named.values())
        if length is None:
            return metric(*positional, **named)
        return np.array(
            [
                metric(*(map_of(v, i) for v in positional), **{k: map_of(v, i) for k, v in named.items()})
                for i in range(length)
            ]
        )

    return of_any


def batch_length(*values: Any) -> int | None:
    """The number of maps of the batches (N, H, W) among `values`; None without a batch."""
    lengths = {value.shape[0] for value in values if isinstance(value, np.ndarray) and value.ndim == 3}
    if len(lengths) > 1:
        raise ValueError(f"batches of one length are needed, not of {sorted(lengths)} maps")
    return lengths.pop() if lengths else None


def map_of(value: Any, index: int) -> Any:
    """Map `index` of a batch; anything else as it is."""
    return value[index] if isinstance(value, np.ndarray) and value.ndim == 3 else value


def same_size(first: Array, second: Array) -> tuple[Float64, Array]:
    """Both as arrays, the first in float64, the second too unless it is boolean."""
    first = np.asarray(first, dtype=np.float64)
    second = np.asarray(second)
    if first.ndim != 2 or first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"two maps of one size (H, W), or batches (N, H, W), are needed, not {first.shape} and {second.shape}"
        )
    return first, second if second.dtype == np.bool_ else np.asarray(second, dtype=np.float64)


def check_protocol(protocol: str) -> None:
    """Raises ValueError if there is no such protocol."""
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol is {protocol!r}; allowed: {', '.join(get_args(Protocol))}")


def is_varied(lowest: float, highest: float) -> bool:
    """Whether values in this range differ by more than rounding. False when they, or their range, are not finite."""
    return math.inf > highest - lowest > _CONSTANT_BELOW * max(abs(lowest), abs(highest))


def is_constant(values: Array) -> bool:
    """Whether all values are equal up to rounding; also true of a map with nan."""
    return not is_varied(float(values.min()), float(values.max()))


def scale_exponent(lowest: float, highest: float) -> int:
    """The power of two that scales a map of this range to about 1, where squares of its values are no floats; else 0.

    It is exact, so that scores that do not depend on a map's scale stay as they are.
    """
    largest = max(abs(lowest), abs(highest))
    if largest == 0 or not math.isfinite(largest) or _MODERATE[0] < largest < _MODERATE[1]:
        return 0
    return -math.frexp(largest)[1]


def moderate(values: Array) -> Array:
    """The values, scaled by a power of two if they are extreme."""
    exponent = scale_exponent(float(values.min()), float(values.max()))
    return np.ldexp(values, exponent) if exponent else values


def stretched(values: Float64) -> Float64:
    """Linearly scaled to 0..1; all nan for a constant map."""
    lowest, highest = float(values.min()), float(values.max())
    if not is_varied(lowest, highest):
        return np.full(values.shape, np.nan)
    return (values - lowest) / (highest - lowest)
