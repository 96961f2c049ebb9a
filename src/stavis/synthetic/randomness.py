"""Random streams that depend on their purpose, never on the order of use."""

import zlib

import numpy as np


def generator(seed: int, *purpose: int | str) -> np.random.Generator:
    """Returns a separate Philox stream for every (seed, purpose).

    The purpose is what the numbers are for: the name of a database, the index of a video, "observers".
    """
    words = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in purpose]
    # SeedSequence takes [a] and [a, 0] for the same, so the number of words goes first.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([len(words), seed, *words])))
