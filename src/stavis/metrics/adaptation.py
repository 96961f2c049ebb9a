"""Domain adaptation of the MSU benchmark: a monotone curve of gray levels plus a weighted center prior."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression, minimize_scalar

from stavis.metrics.checks import Float64, Indices

NUM_LEVELS = 256
LOWEST, HIGHEST = -0.5, 1.0  # of the curve


@dataclass(frozen=True)
class Adaptation:
    """The map that replaces a prediction P, in 0..1, is clip(curve[round(255 P)] + beta * prior, 0, 1)."""

    beta: float  # weight of the center prior
    curve: Float64  # (256,) non-decreasing, -0.5..1
    counts: Indices  # (256,) number of pixels of each level that it was fitted to

    def apply(self, prediction: Float64, prior: Float64) -> Float64:
        """The adapted (H, W) map."""
        return np.asarray((self.curve[levels(prediction)] + self.beta * prior).clip(0.0, 1.0))


def levels(prediction: Float64) -> Indices:
    """Gray levels 0..255 of a map in 0..1; halves are rounded to even."""
    return np.asarray(np.rint(255.0 * prediction), dtype=np.intp).clip(0, NUM_LEVELS - 1)


class Fit:
    """Least-squares fit of an adaptation to frames that are added one by one.

    Minimizes the sum over all pixels of (curve[level] + beta * prior - truth)^2. For a fixed beta the best curve is a
    weighted isotonic regression of the levels' means, clipped to its bounds. What remains is a search for beta,
    of which the loss is a convex function.
    """

    def __init__(self) -> None:
        self._counts, self._priors, self._truths = np.zeros((3, NUM_LEVELS))
        self._prior_squares = self._products = 0.0

    def add(self, prediction: Float64, prior: Float64, truth: Float64) -> None:
        """Adds a frame: (H, W) maps of one size."""
        level = levels(prediction).ravel()
        self._counts += np.bincount(level, minlength=NUM_LEVELS)
        self._priors += np.bincount(level, prior.ravel(), NUM_LEVELS)
        self._truths += np.bincount(level, truth.ravel(), NUM_LEVELS)
        self._prior_squares += float(np.vdot(prior, prior))
        self._products += float(np.vdot(prior, truth))

    def __add__(self, other: "Fit") -> "Fit":
        both = Fit()
        for name in vars(self):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def solve(self) -> Adaptation:
        """The best adaptation. Levels that do not occur are interpolated. Raises ValueError if no frame was added."""
        used = np.flatnonzero(self._counts)
        if not used.size:
            raise ValueError("an adaptation needs at least one frame")
        counts, priors, truths = self._counts[used], self._priors[used], self._truths[used]

        def curve(beta: float) -> Float64:
            means = (truths - beta * priors) / counts
            return np.asarray(isotonic_regression(means, weights=counts).x.clip(LOWEST, HIGHEST))

        def loss(beta: float) -> float:
            m = curve(beta)
            return float(
                (counts * m * m).sum()
                + beta * beta * self._prior_squares
                + 2 * beta * (m * priors).sum()
                - 2 * (m * truths).sum()
                - 2 * beta * self._products
            )

        beta = float(minimize_scalar(loss, bracket=(-1.0, 1.0), options={"xtol": 1e-12}).x)
        full = np.interp(np.arange(NUM_LEVELS), used, curve(beta))
        return Adaptation(beta, np.asarray(full), self._counts.astype(np.intp))
