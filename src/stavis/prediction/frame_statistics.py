"""A saliency map in a few numbers, in pixels of the video."""

from dataclasses import dataclass, fields

import numpy as np

from stavis.prediction.predict import FrameSaliency

TOP_SHARE = 0.2  # of the picture's area


@dataclass(frozen=True, slots=True)
class FrameStatistics:
    """One row of `frames.csv`. Positions are in pixels of the video as displayed, from its top left corner."""

    frame: int  # from 0
    time_seconds: float  # presentation time
    # Where saliency is highest.
    peak_x: float
    peak_y: float
    peak_probability: float  # the highest value of the map, before any stretching
    # The map's center of mass, the map taken as a distribution.
    center_x: float
    center_y: float
    # Entropy of that distribution over the map's cells: log2 of their number where all are alike.
    entropy_bits: float
    spread_pixels: float  # root mean square distance from the center of mass under that distribution
    # The box around the fifth of the picture that is most salient.
    box_left: float
    box_top: float
    box_right: float
    box_bottom: float
    computed: int  # 1, or 0 where the map is interpolated (`--stride`)

    @staticmethod
    def header() -> str:
        """The first line of `frames.csv`."""
        return ",".join(field.name for field in fields(FrameStatistics))

    def row(self) -> str:
        """A line of `frames.csv`: at most 6 digits behind the point."""
        values = (getattr(self, field.name) for field in fields(self))
        return ",".join(
            f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
            for value in values
        )


def measure(frame: FrameSaliency, size: tuple[int, int]) -> FrameStatistics:
    """Measures the map of a frame of `size` = (width, height) pixels."""
    saliency = frame.saliency
    height, width = saliency.shape
    scale_x, scale_y = size[0] / width, size[1] / height
    xs = (np.arange(width) + 0.5) * scale_x
    ys = (np.arange(height) + 0.5) * scale_y
    values = saliency.astype(np.float64)
    total = values.sum()
    weights = values / total if total > 0 else np.full_like(values, 1 / values.size)
    along_x, along_y = weights.sum(axis=0), weights.sum(axis=1)
    center_x, center_y = float(along_x @ xs), float(along_y @ ys)
    variance = float(along_x @ (xs - center_x) ** 2 + along_y @ (ys - center_y) ** 2)
    positive = weights[weights > 0]
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    top = values >= np.quantile(values, 1 - TOP_SHARE)
    rows, columns = np.flatnonzero(top.any(axis=1)), np.flatnonzero(top.any(axis=0))
    return FrameStatistics(
        frame=frame.index,
        time_seconds=frame.time_seconds,
        peak_x=float(xs[column]),
        peak_y=float(ys[row]),
        peak_probability=float(values.max()),
        center_x=center_x,
        center_y=center_y,
        entropy_bits=float(-(positive * np.log2(positive)).sum()),
        spread_pixels=float(np.sqrt(max(variance, 0.0))),
        box_left=float(columns[0] * scale_x),
        box_top=float(rows[0] * scale_y),
        box_right=float((columns[-1] + 1) * scale_x),
        box_bottom=float((rows[-1] + 1) * scale_y),
        computed=int(frame.computed),
    )
