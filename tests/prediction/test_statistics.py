import math

import numpy as np
import pytest

from stavis.prediction.frame_statistics import FrameStatistics, measure
from stavis.prediction.predict import FrameSaliency


def of(saliency: np.ndarray, size: tuple[int, int] = (200, 100)) -> FrameStatistics:
    return measure(FrameSaliency(3, 0.5, saliency.astype(np.float32)), size)


def test_a_single_point() -> None:
    saliency = np.zeros((10, 20))
    saliency[4, 5] = 0.25
    found = of(saliency)
    assert (found.peak_x, found.peak_y) == (55.0, 45.0)
    assert (found.center_x, found.center_y) == pytest.approx((55.0, 45.0))
    assert found.peak_probability == 0.25
    assert found.entropy_bits == pytest.approx(0.0)
    assert found.spread_pixels == pytest.approx(0.0, abs=1e-6)


def test_a_flat_map_is_as_spread_out_as_can_be() -> None:
    found = of(np.full((10, 20), 0.1))
    assert found.entropy_bits == pytest.approx(math.log2(200))
    assert (found.center_x, found.center_y) == pytest.approx((100.0, 50.0))
    # Cells of 10 x 10 pixels: the variances of 20 and of 10 evenly spaced points.
    assert found.spread_pixels == pytest.approx(10 * math.sqrt((20**2 - 1) / 12 + (10**2 - 1) / 12))
    assert (found.box_left, found.box_top, found.box_right, found.box_bottom) == (0, 0, 200, 100)


def test_the_box_holds_the_top_fifth() -> None:
    saliency = np.zeros((10, 10))
    saliency[2:6, 3:8] = np.linspace(0.5, 1, 20).reshape(4, 5)
    found = of(saliency, size=(100, 100))
    assert (found.box_left, found.box_top, found.box_right, found.box_bottom) == (30, 20, 80, 60)


def test_an_all_zero_map_is_taken_as_flat() -> None:
    assert of(np.zeros((4, 4))).entropy_bits == pytest.approx(4.0)


def test_a_row_fits_the_header() -> None:
    found = of(np.full((4, 4), 0.5))
    row = dict(zip(FrameStatistics.header().split(","), found.row().split(","), strict=True))
    assert row["frame"] == "3"
    assert float(row["time_seconds"]) == 0.5
    assert row["computed"] == "1"
