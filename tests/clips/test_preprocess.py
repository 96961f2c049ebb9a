"""Pictures and sound as the network takes them, against the published steps written out with Pillow."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from stavis.clips.preprocess import (
    ACTIVITYNET_MEAN,
    Preprocessing,
    audio_excerpt,
    make_clip,
    point_fixation_map,
    resize_density_map,
    resize_fixation_map,
    resize_frame,
)

P = Preprocessing()
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@settings(deadline=None)
@given(sizes, st.integers(0, 2**31))
def test_a_frame_is_resized_in_the_two_published_steps(size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    pillow = Image.fromarray(image).resize((320, 240), Image.BICUBIC).resize((112, 112), Image.BILINEAR)
    resized = resize_frame(image, P)
    assert resized.shape == (112, 112, 3)
    assert resized.dtype == np.uint8
    assert np.array_equal(resized, np.asarray(pillow))


def test_the_filter_before_pillow_7_is_a_setting():
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    pillow = Image.fromarray(image).resize((320, 240), Image.NEAREST).resize((112, 112), Image.BILINEAR)
    nearest = resize_frame(image, dataclasses.replace(P, resize_filter="nearest"))
    assert np.array_equal(nearest, np.asarray(pillow))
    assert not np.array_equal(nearest, resize_frame(image, P))


def test_other_sizes_are_height_by_width():
    wide = dataclasses.replace(P, input_size=(64, 96))
    assert resize_frame(np.zeros((20, 30, 3), np.uint8), wide).shape == (64, 96, 3)
    assert resize_density_map(np.zeros((20, 30), np.uint8), wide).shape == (64, 96)
    assert resize_fixation_map(np.zeros((20, 30), np.uint8), wide).shape == (64, 96)
    assert point_fixation_map(np.zeros((20, 30), np.uint8), wide).shape == (64, 96)


def test_a_density_map_is_resized_like_frames():
    density = np.random.default_rng(0).integers(0, 256, (270, 480), dtype=np.uint8)
    as_frame = resize_frame(np.repeat(density[..., None], 3, axis=2), P)
    assert np.array_equal(resize_density_map(density, P), as_frame[..., 0])


@settings(deadline=None)
@given(sizes, st.integers(0, 2**31), st.sampled_from([np.uint8, np.bool_, np.float64, np.int16]))
def test_fixation_maps_are_resized_as_published(size, seed, dtype):
    fixations = (np.random.default_rng(seed).random(size) < 0.01).astype(dtype)
    spread = np.asarray(Image.fromarray(fixations.astype(np.float32)).resize((320, 240), Image.BILINEAR)) > 0
    small = Image.fromarray((255 * spread).astype(np.uint8)).resize((112, 112), Image.BILINEAR)
    resized = resize_fixation_map(fixations, P)
    assert resized.dtype == np.bool_
    assert np.array_equal(resized, np.asarray(small) > 0)
    assert resized.any() == fixations.any()


@settings(deadline=None)
@given(st.integers(112, 800), st.integers(112, 1300), st.data())
def test_one_fixation_is_a_blob_or_a_point(height, width, data):
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    fixations = np.zeros((height, width), np.uint8)
    fixations[row, column] = 1
    blob, point = resize_fixation_map(fixations, P), point_fixation_map(fixations, P)
    assert point.sum() == 1
    assert point[row * 112 // height, column * 112 // width]
    assert blob[point].all()


def test_a_fixation_in_a_large_picture_covers_several_pixels():
    fixations = np.zeros((720, 1280), np.uint8)
    fixations[300, 500] = 1
    assert resize_fixation_map(fixations, P).sum() >= 4
    assert point_fixation_map(fixations, P).sum() == 1


def test_a_clip_is_planes_minus_the_mean():
    frames = np.random.default_rng(0).integers(0, 256, (16, 20, 30, 3), dtype=np.uint8)
    clip = make_clip(frames, P)
    assert clip.shape == (3, 16, 20, 30)
    assert clip.dtype == np.float32
    assert clip.flags.c_contiguous
    for channel in range(3):
        expected = frames[..., channel].astype(np.float32) - np.float32(ACTIVITYNET_MEAN[channel])
        assert np.array_equal(clip[channel], expected)
    assert np.array_equal(make_clip(list(frames), P), clip)


@given(st.integers(0, 35280), st.integers(0, 2**31))
def test_audio_is_windowed_in_the_middle(length, seed):
    samples = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    buffer = audio_excerpt(samples, P)
    assert buffer.shape == (35280,)
    assert buffer.dtype == np.float32
    begin = 17640 - length // 2
    expected = np.zeros(35280)
    expected[begin : begin + length] = samples * 256.0 * np.hanning(length)
    assert np.abs(buffer - expected).max() < 1e-4


def test_one_sample_keeps_its_value_and_full_scale_is_256():
    assert audio_excerpt(np.array([-1.0], np.float32), P)[17640] == -256


@given(st.integers(35281, 80000))
def test_the_middle_of_too_long_audio_is_used(length):
    samples = np.linspace(-1, 1, length, dtype=np.float32)
    begin = (length - 35280) // 2
    middle = audio_excerpt(samples[begin : begin + 35280], P)
    assert np.array_equal(audio_excerpt(samples, P), middle)


@given(hnp.arrays(np.float32, st.integers(0, 500), elements=st.floats(-1, 1, width=32)))
def test_the_input_is_not_modified(samples):
    before = samples.copy()
    first = audio_excerpt(samples, P)
    assert np.array_equal(samples, before)
    assert np.array_equal(audio_excerpt(samples, P), first)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"resize_filter": "bicubik"}, r"resize_filter is 'bicubik'; allowed: nearest, bilinear"),
        ({"final_resize_filter": ""}, "final_resize_filter"),
        ({"mean": (1.0, 2.0)}, "mean"),
        ({"mean": (1.0, 2.0, float("inf"))}, r"mean is .*inf\); expected a value in 0\.\.255 for each"),
        ({"mean": (1.0, 2.0, float("nan"))}, "mean"),
        ({"intermediate_size": (320, 0)}, "intermediate_size"),
        (
            {"intermediate_size": (10**9, 10**9)},
            "intermediate_size is .*; expected two numbers from 1 to 8192",
        ),
        ({"input_size": (112,)}, "input_size"),
        ({"clip_length": 0}, "clip_length"),
        ({"sample_rate": -1}, "sample_rate"),
        ({"num_audio_samples": 0}, "num_audio_samples"),
        ({"num_audio_samples": 10**15}, "num_audio_samples is 10+; it must be 1 or more, at most 16777216"),
    ],
)
def test_invalid_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**setting)
