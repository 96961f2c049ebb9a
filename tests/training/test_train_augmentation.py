"""Augmentation: within its limits, the same for frames and maps, a function of seed, epoch and sample."""

import numpy as np
import pytest

from stavis.training.augmentation import (
    Augmentation,
    change_color,
    change_sound,
    enlarge,
    random_state,
)

MEAN = (114.7748, 107.7354, 99.4750)


def make_clip(rng: np.random.RandomState) -> np.ndarray:
    pixels = rng.uniform(40, 200, (3, 4, 16, 20)).astype(np.float32)
    return pixels - np.array(MEAN, np.float32)[:, None, None, None]


def pixels_of(clip: np.ndarray) -> np.ndarray:
    return clip + np.array(MEAN, np.float32)[:, None, None, None]


def test_nothing_is_changed_by_default() -> None:
    rng = np.random.RandomState(0)
    clip, maps = make_clip(rng), rng.uniform(0, 255, (2, 16, 20)).astype(np.float32)
    maps[1] = maps[1] > 200
    audio = rng.standard_normal(100).astype(np.float32)
    np.testing.assert_allclose(change_color(clip, MEAN, 0.0, rng), clip, atol=1e-4)
    larger, larger_maps = enlarge(clip, maps, 0.0, rng)
    np.testing.assert_array_equal(larger, clip)
    np.testing.assert_array_equal(larger_maps, maps)
    np.testing.assert_array_equal(change_sound(audio, Augmentation(), rng), audio)


def test_colors_stay_in_range_and_change_alike_in_all_frames() -> None:
    clip = np.repeat(make_clip(np.random.RandomState(0))[:, :1], 4, axis=1)
    changed = change_color(clip, MEAN, 0.9, np.random.RandomState(1))
    pixels = pixels_of(changed)
    assert pixels.min() >= -1e-3
    assert pixels.max() <= 255 + 1e-3
    assert not np.allclose(changed, clip)
    for frame in range(1, 4):
        np.testing.assert_allclose(changed[:, frame], changed[:, 0], atol=1e-4)


def test_gray_stays_gray() -> None:
    clip = np.full((3, 2, 8, 8), 100, np.float32) - np.array(MEAN, np.float32)[:, None, None, None]
    pixels = pixels_of(change_color(clip, MEAN, 0.5, np.random.RandomState(3)))
    np.testing.assert_allclose(pixels[0], pixels[1], atol=1e-3)
    np.testing.assert_allclose(pixels[0], pixels[2], atol=1e-3)


@pytest.mark.parametrize("seed", range(10))
def test_enlarging_moves_pictures_and_maps_together(seed: int) -> None:
    """A spot in the frames, the density map and the fixation map ends at one place."""
    y, x = np.mgrid[:48, :64]
    spot = np.exp(-((y - 20) ** 2 + (x - 30) ** 2) / 20).astype(np.float32)
    clip = np.broadcast_to(spot, (3, 2, 48, 64)).copy()
    maps = np.stack([255 * spot, spot > 0.99]).astype(np.float32)
    larger, larger_maps = enlarge(clip, maps, 0.3, np.random.RandomState(seed))
    assert larger.shape == clip.shape
    assert larger_maps.shape == maps.shape
    assert set(np.unique(larger_maps[1])) <= {0.0, 1.0}
    np.testing.assert_allclose(larger[0, 0] * 255, larger_maps[0], rtol=1e-4, atol=1e-3)
    if larger_maps[1].any():
        rows, columns = np.nonzero(larger_maps[1])
        peak = np.unravel_index(larger_maps[0].argmax(), (48, 64))
        assert abs(rows.mean() - peak[0]) <= 1.5
        assert abs(columns.mean() - peak[1]) <= 1.5


def test_sound_changes_within_its_limits_and_only_where_it_is() -> None:
    audio = np.zeros(1000, np.float32)
    audio[300:700] = 10.0
    for seed in range(20):
        rng = np.random.RandomState(seed)
        louder = change_sound(audio, Augmentation(audio_gain_decibels=6.0), rng)
        assert 10 ** (-6 / 20) <= louder[500] / 10 <= 10 ** (6 / 20)
        noisy = change_sound(audio, Augmentation(audio_noise=0.1), np.random.RandomState(seed))
        assert not noisy[:300].any()
        assert not noisy[700:].any()
        assert (noisy[300:700] - 10).std() <= 0.1 * 256 * 1.2
    assert not change_sound(audio, Augmentation(audio_silence=1.0), np.random.RandomState(0)).any()
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(
        change_sound(silence, Augmentation(audio_noise=0.5), np.random.RandomState(0)), silence
    )


def test_draws_depend_on_seed_epoch_and_index_alone() -> None:
    draws = {
        (seed, epoch, index): random_state(seed, epoch, index).uniform()
        for seed in (1, 2)
        for epoch in (1, 2)
        for index in (0, 1)
    }
    assert len(set(draws.values())) == 8
    assert random_state(1, 2, 0).uniform() == draws[1, 2, 0]
