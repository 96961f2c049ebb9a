"""Random numbers that depend on what they are for, never on the order in which they are asked for."""

import zlib

import numpy as np


def generator(seed: int, *purpose: int | str) -> np.random.Generator:
    """A Philox stream of its own for every (seed, purpose).

    Args:
        seed: The user's seed, >= 0.
        purpose: What the numbers are for: a database's name, a video's index, "observers".
    """
    words = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in purpose]
    # SeedSequence takes [a] and [a, 0] for the same, so the number of words goes first.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([len(words), seed, *words])))
