"""QP offsets of a video's blocks from its saliency maps: finer quantization where people look, at the same rate."""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatArray = npt.NDArray[np.float64]

QP_PER_OCTAVE = 6.0  # the quantizer's step doubles every 6 QP
SMOOTHING_SECONDS = 0.3  # of the exponential average of maps over time
RATE_EXPONENT = 0.8  # of a block's complexity, to estimate its share of the bits


@dataclass(frozen=True)
class OffsetSettings:
    """How maps become QP offsets.

    Attributes:
        strength: 1 gives the offsets that minimize the saliency-weighted squared error at a given rate, if the maps are
            right and error and rate depend on QP as at high rates; 0 gives none. From 0.75 to 1 the picture as a whole
            loses more than is gained where people look (docs/encoding.md).
        floor: Share of the weight that all blocks get alike, so that nothing falls apart where nobody is expected to
            look.
        max_offset: Largest offset in QP, up and down.
        step: Offsets are multiples of this, in QP.
    """

    strength: float = 0.75
    floor: float = 0.25
    max_offset: float = 9.0
    step: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 4:
            raise ValueError(f"`strength={self.strength}`: must be 0 to 4")
        if not 0 < self.floor <= 1:
            raise ValueError(f"`floor={self.floor}`: must be above 0, at most 1")
        if not 0 < self.max_offset <= 25:
            raise ValueError(f"`max_offset={self.max_offset}`: must be above 0, at most 25")
        if not 0 < self.step <= self.max_offset:
            raise ValueError(f"`step={self.step}`: must be above 0, at most `max_offset`")


def block_size(width: int, height: int) -> int:
    """The side of a picture's blocks in pixels: a multiple of 16, about 40 blocks along the longer side."""
    return max(16, round(max(width, height) / 40 / 16) * 16)


def block_shape(width: int, height: int, size: int) -> tuple[int, int]:
    """(rows, columns) of blocks that cover a picture."""
    return math.ceil(height / size), math.ceil(width / size)


class OffsetPlanner:
    """Turns the maps of a video, fed frame by frame, into QP offsets of blocks.

    With weights w, an encoder minimizes the weighted squared error at a given rate if w * error is alike in all blocks.
    The error doubles every 3 QP, so a block's offset is -3 log2(w) and a constant. The constant is chosen so that
    the estimated bits of the frame stay what they were: a block's bits fall by half every 6 QP, and its share of
    them is estimated from its detail and motion.
    """

    def __init__(self, width: int, height: int, size: int, settings: OffsetSettings) -> None:
        """Args: the picture's size in pixels, the blocks' side, and the settings."""
        self.settings = settings
        self._size = size
        self._shape = block_shape(width, height, size)
        self._picture = (height, width)
        self._average: FloatArray | None = None
        self._last_time = 0.0
        self._last_luma: FloatArray | None = None
        self._last_offsets: FloatArray | None = None

    def add(
        self, image: npt.NDArray[np.uint8], saliency: npt.NDArray[np.floating], time_seconds: float
    ) -> FloatArray:
        """The (rows, columns) offsets in QP of the next frame, from its (H, W, 3) RGB picture and (h, w) map."""
        weights = self._weights(saliency, time_seconds)
        bits = self._complexity(image) ** RATE_EXPONENT
        s = self.settings
        offsets = -3.0 * s.strength * np.log2(weights)
        offsets = balance(offsets, bits).clip(-s.max_offset, s.max_offset)
        # Clipping takes more on one side than on the other.
        offsets = balance(offsets, bits).clip(-s.max_offset, s.max_offset)
        rounded = np.round(offsets / s.step) * s.step
        if self._last_offsets is not None:
            # Hysteresis: a value between two steps does not go back and forth.
            changed = np.abs(offsets - self._last_offsets) > 0.75 * s.step
            rounded = np.where(changed, rounded, self._last_offsets)
        self._last_offsets = rounded
        return rounded

    def _weights(self, saliency: npt.NDArray[np.floating], time_seconds: float) -> FloatArray:
        rows, columns = (
            _overlaps(self._shape[axis], self._size, self._picture[axis], saliency.shape[axis])
            for axis in (0, 1)
        )
        blocks = rows @ np.asarray(saliency, float) @ columns.T
        blocks = blocks / blocks.mean() if blocks.any() else np.ones_like(blocks)
        if self._average is None:
            self._average = blocks
        else:
            kept = math.exp(-max(0.0, time_seconds - self._last_time) / SMOOTHING_SECONDS)
            self._average = kept * self._average + (1 - kept) * blocks
        self._last_time = time_seconds
        return self.settings.floor + (1 - self.settings.floor) * self._average

    def _complexity(self, image: npt.NDArray[np.uint8]) -> FloatArray:
        """(rows, columns) detail and motion of each block: gray levels between neighbors in space and in time."""
        # A quarter of a block per pixel is enough to estimate with.
        rows, columns = self._shape
        small = Image.fromarray(image).convert("L").resize((columns * 8, rows * 8), Image.Resampling.BOX)
        luma = np.asarray(small, float)
        detail = np.zeros_like(luma)
        detail[:, 1:] += np.abs(np.diff(luma, axis=1))
        detail[1:] += np.abs(np.diff(luma, axis=0))
        if self._last_luma is not None and self._last_luma.shape == luma.shape:
            detail = 0.25 * detail + np.abs(luma - self._last_luma)
        self._last_luma = luma
        return np.asarray(detail.reshape(rows, 8, columns, 8).mean(axis=(1, 3)) + 0.5)


def balance(offsets: FloatArray, bits: FloatArray) -> FloatArray:
    """Shifts offsets so that blocks of these shares of the bits need as many bits as without offsets."""
    factor = float((bits * 2.0 ** (-offsets / QP_PER_OCTAVE)).sum() / bits.sum())
    return offsets + QP_PER_OCTAVE * math.log2(factor)


@functools.lru_cache(maxsize=16)
def _overlaps(num_blocks: int, size: int, length: int, num_cells: int) -> FloatArray:
    """(num_blocks, num_cells): what each cell of a map along an axis of `length` pixels adds to each block's mean."""
    blocks = np.minimum(np.arange(num_blocks + 1) * size, length) / length * num_cells
    cells = np.arange(num_cells + 1)
    overlap = np.minimum(blocks[1:, None], cells[1:]) - np.maximum(blocks[:-1, None], cells[:-1])
    overlap = overlap.clip(0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True))


def merge_blocks(grid: npt.NDArray[np.floating]) -> Iterator[tuple[int, int, int, int, float]]:
    """Covers a grid by rectangles of one value each, without overlap; blocks of value 0 are left out.

    Yields:
        (row, column, number of rows, number of columns, value).
    """
    open_runs: dict[tuple[int, int, float], int] = {}
    for row in range(len(grid) + 1):
        runs = set(_runs(grid[row])) if row < len(grid) else set()
        for run in [run for run in open_runs if run not in runs]:
            first = open_runs.pop(run)
            yield first, run[0], row - first, run[1] - run[0], run[2]
        for run in runs:
            open_runs.setdefault(run, row)


def _runs(line: npt.NDArray[np.floating]) -> Iterator[tuple[int, int, float]]:
    ends = [0, *(np.flatnonzero(np.diff(line)) + 1).tolist(), len(line)]
    for begin, end in itertools.pairwise(ends):
        if line[begin] != 0:
            yield begin, end, float(line[begin])
