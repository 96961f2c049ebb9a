"""Windows that are due while frames arrive: against the plain definition over the whole video."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stavis.clips import Window, reference_windows, repeat_window
from stavis.clips.schedule import WindowSchedule

lengths = st.integers(1, 200)
strides = st.integers(1, 40)


def stream(schedule: WindowSchedule, num_frames: int, chunk: int = 1) -> list[Window]:
    """All windows in the order in which they come, checking that each can be computed when it comes."""
    windows: list[Window] = []
    oldest = 0
    for known in range(1, num_frames + 1):
        due = schedule.advance(known) if known % chunk == 0 else []
        assert all(max(w.frames) < known for w in due), "a window came before its last frame"
        assert all(min(w.frames) >= oldest for w in due), "a window asks for a frame that was given up"
        windows += due
        oldest = schedule.oldest_needed()
    due = schedule.finish(num_frames)
    assert all(min(w.frames) >= oldest and max(w.frames) < num_frames for w in due)
    return windows + due


@given(lengths, strides, st.integers(1, 7))
def test_repeat_gives_every_stride_th_frame_and_the_last(num_frames: int, stride: int, chunk: int) -> None:
    targets = sorted({*range(0, num_frames, stride), num_frames - 1})
    expected = [repeat_window(target, num_frames) for target in targets]
    assert stream(WindowSchedule(stride=stride, edges="repeat"), num_frames, chunk) == expected


@given(lengths, st.integers(1, 7))
def test_reference_past_the_end_is_the_published_test_run(num_frames: int, chunk: int) -> None:
    schedule = WindowSchedule(edges="reference", past_end=True)
    assert stream(schedule, num_frames, chunk) == list(reference_windows(num_frames))


@given(lengths, strides)
def test_reference_omits_targets_after_the_end(num_frames: int, stride: int) -> None:
    windows = stream(WindowSchedule(stride=stride, edges="reference"), num_frames)
    targets = [w.target for w in windows]
    inside = range(8, num_frames)
    assert targets == sorted({*inside[::stride], *inside[-1:]})
    published = {w.target: w for w in reference_windows(num_frames)}
    assert all(published[w.target] == w for w in windows)


@given(st.integers(16, 300))
def test_few_frames_are_remembered(num_frames: int) -> None:
    schedule = WindowSchedule()
    for known in range(1, num_frames + 1):
        schedule.advance(known)
        assert known - schedule.oldest_needed() <= 16


@pytest.mark.parametrize("bad", [{"stride": 0}, {"edges": "loop"}])
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"stride|edges"):
        WindowSchedule(**bad)  # type: ignore[arg-type]
