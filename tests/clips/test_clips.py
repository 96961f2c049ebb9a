"""Window, target and audio arithmetic against the published rules, written out anew in their own counting from 1."""

import json
import math
import statistics
import wave
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stavis import clips

num_frames = st.integers(1, 400)


@given(num_frames, st.integers(1, 40))
def test_loop_to_length_appends_the_list_to_itself(num, length):
    published = list(range(num))[:length]
    for frame in published:  # the list grows while it is read
        if len(published) >= length:
            break
        published.append(frame)
    assert clips.loop_to_length(range(num), length)[:length] == tuple(published)


def test_loop_to_length_refuses_an_empty_list():
    with pytest.raises(ValueError, match="empty"):
        clips.loop_to_length([], 16)


@given(num_frames, st.data())
def test_repeat_window_is_the_published_one_inside_the_video(num, data):
    target = data.draw(st.integers(0, num - 1))
    window = clips.repeat_window(target, num)
    assert window.target == target
    assert len(window.frames) == clips.CLIP_LENGTH
    assert all(0 <= frame < num for frame in window.frames)
    assert all(0 <= b - a <= 1 for a, b in zip(window.frames, window.frames[1:], strict=False))
    assert window.frames[clips.TARGET_OFFSET] == target
    start = target - clips.TARGET_OFFSET
    if start >= 0 and start + clips.CLIP_LENGTH <= num:
        assert window == clips.reference_window(start, num)


@pytest.mark.parametrize("function", [clips.repeat_window, clips.reference_window])
@pytest.mark.parametrize("index", [-1, 10])
def test_windows_outside_the_video_are_refused(function, index):
    with pytest.raises(ValueError, match=r"outside the video's frames 0\.\.9"):
        function(index, 10)


@given(num_frames)
def test_reference_windows_start_at_every_frame_but_the_last(num):
    windows = list(clips.reference_windows(num))
    assert [window.frames[0] for window in windows] == list(range(num - 1))
    assert [window.target for window in windows] == [s + 8 for s in range(num - 1)]
    for start, window in enumerate(windows):
        tail = list(range(start, min(start + 16, num)))
        assert window.frames == tuple((tail * 16)[:16])


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20))
def test_target_frame_is_the_rounded_median_counted_from_1(frames):
    assert clips.target_frame(frames) == round(statistics.median(f + 1 for f in frames)) - 1


def test_target_frame_alternates_and_middle_frame_does_not():
    starts = [[s + i - 1 for i in range(16)] for s in (1, 2, 3, 4)]
    assert [clips.target_frame(frames) + 1 for frames in starts] == [8, 10, 10, 12]
    assert [clips.middle_frame(frames) + 1 for frames in starts] == [9, 10, 11, 12]


@given(num_frames)
def test_training_windows_start_every_74_frames(num):
    published = [list(range(j, min(num + 1, j + 90))) for j in range(1, num, 74)]
    assert [[f + 1 for f in window] for window in clips.training_windows(num)] == published
    if num > 1:  # every frame is in one of them, so none of the video is lost to training
        assert set().union(*clips.training_windows(num)) == set(range(num))


@given(st.integers(1, 90), st.integers(0, 1000), st.data())
def test_crops_lie_inside_their_window(length, start, data):
    window = range(start, start + length)
    num = clips.num_crop_begins(length)
    assert num == max(0, length - 16 - 1) + 1
    begin = data.draw(st.integers(0, num - 1))
    crop = clips.crop_window(window, begin)
    assert len(crop) == 16
    assert crop[0] == start + begin
    assert set(crop) <= set(window)
    if length > 16:
        assert crop == tuple(range(start + begin, start + begin + 16))
    else:
        assert crop == tuple((list(window) * 16)[:16])


@given(st.integers(1, 90))
def test_center_crop_is_in_the_middle(length):
    begin = clips.center_crop_begin(length)
    crop = clips.crop_window(range(length), begin)
    if length >= 16:
        assert crop == tuple(range(begin, begin + 16))
        before, after = begin, length - begin - 16
        assert abs(before - after) <= 1
    else:
        assert begin == 0


frame_rates = st.sampled_from([10.0, 12.5, 20.0, 23.976024, 24.0, 25.0, 29.97, 30.0, 60.0])
sample_rates = st.sampled_from([16000, 22050, 44100, 48000])


@given(st.integers(0, 5000), frame_rates, sample_rates, st.integers(0, 10_000_000))
def test_frame_samples_are_half_a_frame_to_either_side(frame, frame_rate, sample_rate, num_samples):
    first, last = clips.frame_samples(frame, frame_rate, sample_rate, num_samples)
    center = frame / frame_rate * sample_rate
    half = sample_rate / frame_rate / 2
    assert first == pytest.approx(max(0, center - half), abs=1.001)
    assert last == pytest.approx(min(num_samples, center + half), abs=1.001)
    assert first >= 0
    assert last <= num_samples


@given(st.integers(0, 3000), frame_rates, sample_rates)
def test_consecutive_frames_share_no_gap(frame, frame_rate, sample_rate):
    _, last = clips.frame_samples(frame, frame_rate, sample_rate, 10**9)
    first, _ = clips.frame_samples(frame + 1, frame_rate, sample_rate, 10**9)
    assert abs(first - last) <= 1


@given(st.integers(0, 500), st.integers(2, 500), frame_rates, sample_rates, st.integers(0, 2_000_000))
def test_clip_samples_are_a_range_of_the_sound(start, num, frame_rate, sample_rate, num_samples):
    assume(start < num)
    frames = clips.reference_window(start, num).frames
    samples = clips.clip_samples(frames, frame_rate, sample_rate, num_samples)
    assert 0 <= samples.start <= samples.stop
    if samples.start < samples.stop:
        assert samples.stop <= num_samples
        longest = math.ceil(16 / frame_rate * sample_rate) + 2
        assert samples.stop - samples.start <= longest


def test_frame_samples_equal_the_recorded_ones(goldens: Path):
    for path in sorted(goldens.glob("dataset/dataset_samples.json")):
        recorded = json.loads(path.read_text())
        data = path.parent / "data"
        name = recorded["videos"][0]["video_id"]
        lists = [p.read_text().splitlines() for p in sorted((data / "fold_lists").glob("*_test_*fps.txt"))]
        frame_rate = next(float(f[2]) for ls in lists for f in map(str.split, ls) if f and f[0] == name)
        (wave_path,) = data.glob(f"video_audio/*/{name}/{name}.wav")
        with wave.open(str(wave_path)) as file:
            sample_rate, num_samples = file.getframerate(), file.getnframes()
        assert sample_rate == recorded["videos"][0]["Fs"]
        starts, ends = recorded["starts_first_video"][1:], recorded["ends_first_video"][1:]
        assert len(starts) == len(ends) > 0
        for frame, ends_recorded in enumerate(zip(starts, ends, strict=True)):
            assert clips.frame_samples(frame, frame_rate, sample_rate, num_samples) == ends_recorded


def test_frame_samples_multiply_in_the_published_order():
    """25 frames per second at 22050 Hz: exact ends are integers, and the order of the arithmetic shows."""
    sample_rate, frame_rate, differing = 22050, 25.0, 0
    for frame in range(3000):
        half = sample_rate / frame_rate / 2
        center = frame * (1.0 / frame_rate) * sample_rate
        expected = int(max(0, center - half)), int(center + half)
        assert clips.frame_samples(frame, frame_rate, sample_rate, 10**9) == expected
        center = frame / frame_rate * sample_rate
        differing += expected != (int(max(0, center - half)), int(center + half))
    assert differing > 100
