from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stavis.maps.overlay import OverlayStyle, draw_overlay, normalize, peak_position, resize_smoothly
from stavis.prediction.timeline import Thumbnail, draw_timeline


def blob(row: int, column: int, size: int = 112) -> np.ndarray:
    ys, xs = np.mgrid[0:size, 0:size]
    return np.exp(-((xs - column) ** 2 + (ys - row) ** 2) / (2 * 8.0**2)).astype(np.float32)


def test_heat_lies_where_saliency_is() -> None:
    picture = np.full((360, 640, 3), 90, dtype=np.uint8)
    overlay = draw_overlay(picture, blob(28, 84), OverlayStyle(color_bar=False))
    changed = np.abs(overlay.astype(int) - 90).sum(axis=2)
    ys, xs = np.nonzero(changed > 150)
    assert abs(ys.mean() / 360 - 28.5 / 112) < 0.02
    assert abs(xs.mean() / 640 - 84.5 / 112) < 0.02
    assert changed[-40:, :200].max() <= 3, "unsalient parts show the picture"


def test_peak_ring_contour_and_bar_are_drawn() -> None:
    picture = np.zeros((240, 320, 3), dtype=np.uint8)
    plain = draw_overlay(picture, blob(56, 56), OverlayStyle(color_bar=False))
    for style in (
        OverlayStyle(color_bar=True),
        OverlayStyle(False, contour=0.2),
        OverlayStyle(False, peak=True),
    ):
        assert (draw_overlay(picture, blob(56, 56), style) != plain).any()


def test_any_size_and_a_flat_map() -> None:
    for height, width in ((1, 1), (5, 300), (95, 2000)):
        picture = np.full((height, width, 3), 50, dtype=np.uint8)
        style = OverlayStyle(contour=0.2, peak=True)
        assert draw_overlay(picture, np.full((112, 112), 0.3, np.float32), style).shape == picture.shape


@pytest.mark.parametrize("size", [(641, 359), (1280, 720), (112, 112), (50, 40), (1, 1), (300, 2)])
@pytest.mark.parametrize("shape", [(112, 112), (64, 80)])
def test_resize_is_bicubic(size: tuple[int, int], shape: tuple[int, int]) -> None:
    saliency = np.random.default_rng(0).uniform(-0.1, 1.1, shape).astype(np.float32)
    expected = np.asarray(Image.fromarray(saliency).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    np.testing.assert_allclose(resize_smoothly(saliency, size), expected, atol=2e-6)


def test_normalize_and_resize_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    saliency = rng.uniform(0.2, 0.4, (112, 112)).astype(np.float32)
    stretched = normalize(saliency)
    assert (stretched.min(), stretched.max()) == (0.0, 1.0)
    large = resize_smoothly(stretched, (641, 359))
    assert large.shape == (359, 641)
    assert large.min() >= 0
    assert large.max() <= 1
    assert (normalize(np.full((4, 4), 0.7, np.float32)) == 0).all()


def test_peak_position() -> None:
    assert peak_position(blob(10, 100)) == (100.5 / 112, 10.5 / 112)


def test_timeline_with_and_without_sound(tmp_path: Path) -> None:
    times = [i / 25 for i in range(50)]
    thumbnails = [Thumbnail(0.0, np.zeros((90, 160, 3), np.uint8))]
    for name, level in (("a.png", [-20.0] * 50), ("b.png", None)):
        draw_timeline(
            tmp_path / name,
            title="50 $ clip_1",
            time_seconds=times,
            audio_level_db=level,
            entropy_bits=[8.0] * 50,
            thumbnails=thumbnails,
        )
        assert Image.open(tmp_path / name).size[0] == 1400
    draw_timeline(
        tmp_path / "one.png",
        title="one frame",
        time_seconds=[0.0],
        audio_level_db=None,
        entropy_bits=[1.0],
        thumbnails=[],
    )
