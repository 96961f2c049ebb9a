import time

import pytest

from stavis.errors import counted
from stavis.runtime.progress import track

Lines = list[str]


def show(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    total: float | None,
    seconds: list[float],
    unit: str = "frames",
) -> Lines:
    """The lines where each item takes so many seconds."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with track("work", total, unit=unit) as advance:
        for one in seconds:
            now += one
            advance()
    return capsys.readouterr().err.splitlines()


def test_the_last_line_is_printed_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert show(capsys, monkeypatch, 3, [20, 10, 10]) == [
        "work: 1/3 frames, 20 s per frame",
        "work: 2/3 frames, 15 s per frame, 10 s left",
        "work: 3/3 frames, 13 s per frame",
    ]
    assert show(capsys, monkeypatch, None, [1, 19]) == ["work: 2 frames, 0.1 frames/s"]
    assert show(capsys, monkeypatch, 2, [0.1, 0.1], "clips") == ["work: 2/2 clips, 10.0 clips/s"]


def test_fewer_items_than_announced_end_without_a_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert show(capsys, monkeypatch, 3, [1, 10]) == [
        "work: 2/3 frames, 0.2 frames/s, 10 s left",
        "work: 2 frames, 0.2 frames/s",
    ]
    assert show(capsys, monkeypatch, 1, [1, 10]) == ["work: 2 frames, 0.2 frames/s"]


def test_what_was_done_before_counts_but_not_for_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with track("work", 9, unit="files", already_done=5) as advance:
        for _ in range(2):
            now += 10
            advance()
    assert capsys.readouterr().err.splitlines()[1] == "work: 7/9 files, 0.1 files/s, 20 s left"


def test_one_is_singular(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert show(capsys, monkeypatch, None, [1]) == ["work: 1 frame, 1.0 frames/s"]
    assert show(capsys, monkeypatch, 1, [1]) == ["work: 1/1 frame, 1.0 frames/s"]
    assert [counted(n, "frames") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
