"""Oracle predictions from the ground truth, with and without sound: upper bounds for any model."""

import math

import numpy as np
import numpy.typing as npt

from stavis.synthetic.observers import EYES, Eyes, simulate_observers
from stavis.synthetic.presets import DRIVES
from stavis.synthetic.randomness import generator
from stavis.synthetic.truth import SimulatedGaze, Truth

Array = npt.NDArray[np.float64]

SETTLED_SECONDS = 1.2
"""So long after a change of source, the eyes of nearly all observers have answered it."""


def drive_densities(truth: Truth, frame: int) -> Array:
    """Returns where each drive leads at a frame, (5, H, W) in the order of `DRIVES`, including the observers' errors.

    Each has sum 1, but "source" is zero while no object on screen sounds.
    """
    width, height = truth.width, truth.height
    densities = np.zeros((len(DRIVES), height, width))
    densities[0] = _gaussian(
        truth, width / 2, height / 2, EYES.center_sigma[0] * width, EYES.center_sigma[1] * height
    )
    cells = truth.contrast_map[frame].astype(np.float64)
    rows = (np.arange(height) * cells.shape[0] // height)[:, None]
    columns = np.arange(width) * cells.shape[1] // width
    densities[1] = cells[rows, columns] if cells.any() else 1.0
    densities[1] /= densities[1].sum()
    appeal = truth.appeal[frame]
    for actor in np.flatnonzero(appeal):
        densities[2] += appeal[actor] / appeal.sum() * _around_actor(truth, frame, int(actor))
    if not appeal.any():
        densities[2] = 1 / (width * height)
    if truth.sounding[frame] >= 0:
        densities[3] = _around_actor(truth, frame, int(truth.sounding[frame]))
    densities[4] = 1 / (width * height)
    return densities


def oracle_density(truth: Truth, frame: int, *, hears: bool) -> Array:
    """Returns the (H, W) expected density of the observers' choices at a frame, given all shares and locations.

    If the oracle `hears`, it knows the sounding object. If not, all candidates are equally likely in shots with the
    routes "semantic" or "synchrony"; with the route "sight", vision reveals as much as sound.
    """
    densities = drive_densities(truth, frame)
    if not hears and truth.sounding[frame] >= 0 and truth.route(frame) != "sight":
        candidates = truth.candidates(frame)
        densities[3] = np.mean([_around_actor(truth, frame, actor) for actor in candidates], axis=0)
    return np.asarray(np.tensordot(truth.drive_shares(frame), densities, axes=1))


def settled_frames(truth: Truth) -> list[int]:
    """Returns the frames whose visible source has sounded for `SETTLED_SECONDS` without change."""
    wait = math.ceil(SETTLED_SECONDS * truth.frame_rate)
    return [
        frame
        for frame in range(wait, truth.num_frames)
        if truth.sounding[frame] >= 0
        and (truth.sounding[frame - wait : frame] == truth.sounding[frame]).all()
    ]


def fresh_observers(truth: Truth, num_observers: int, seed: int = 0, eyes: Eyes = EYES) -> SimulatedGaze:
    """Simulates further observers of the same video with the same shares, to estimate a ceiling."""
    rng = generator(truth.seed, "fresh observers", seed, truth.num_frames, len(truth.actors))
    return simulate_observers(rng, truth, num_observers, eyes)


def _around_actor(truth: Truth, frame: int, actor: int) -> Array:
    x, y, sigma = (float(value) for value in truth.targets[frame, actor])
    return _gaussian(truth, x, y, sigma, sigma)


def _gaussian(truth: Truth, x: float, y: float, sigma_x: float, sigma_y: float) -> Array:
    """Returns a Gaussian widened by the observers' errors, cropped to the picture, with sum 1."""
    error = math.hypot(EYES.calibration_sigma, EYES.jitter_sigma) * truth.width
    across = np.exp(-0.5 * ((np.arange(truth.width) + 0.5 - x) / math.hypot(sigma_x, error)) ** 2)
    down = np.exp(-0.5 * ((np.arange(truth.height) + 0.5 - y) / math.hypot(sigma_y, error)) ** 2)
    density = down[:, None] * across[None, :]
    total = density.sum()
    if total < 1e-12:  # far outside the picture, where nobody can look
        return np.full(density.shape, 1 / density.size)
    return np.asarray(density / total)
