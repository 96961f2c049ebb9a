"""Work spread over processes while threads of the parent hold locks, and from a script without a main guard."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from stavis import media
from stavis.runtime.workers import run_parallel

SETTINGS = {"description": "tasks", "total": 2, "unit": "tasks", "quiet": True}
LOCK = threading.Lock()


def _take_lock(task: int, advance) -> bool:
    return LOCK.acquire(timeout=5)


def _count_frames(path: Path, advance) -> int:
    return sum(1 for _ in media.read_frames(path))


@pytest.mark.skipif(sys.platform != "linux", reason="the others have always started anew")
def test_workers_inherit_no_lock_of_a_thread() -> None:
    with LOCK:  # in a fork, nobody would ever release it
        assert run_parallel(_take_lock, [1, 2], jobs=2, **SETTINGS) == [True, True]


def test_workers_decode_while_the_parent_does(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with media.VideoWriter(path, width=64, height=48, frame_rate=25) as writer:
        for i in range(30):
            writer.write(np.full((48, 64, 3), i, np.uint8))
    frames = media.read_frames(path)
    next(frames)  # FFmpeg's threads are at work
    assert run_parallel(_count_frames, [path, path], jobs=2, **SETTINGS) == [30, 30]
    assert sum(1 for _ in frames) == 29


NO_GUARD = """
import operator
from stavis.runtime.workers import run_parallel
settings = {'description': 'x', 'total': 2, 'unit': 'tasks', 'quiet': True}
print(run_parallel(operator.is_, [1, 2], jobs=2, **settings))
"""
OWN_FUNCTION = """
from functools import partial
from stavis.runtime.workers import run_parallel
def add(a, b, advance):
    return a + b
if __name__ == '__main__':
    settings = {'description': 'x', 'total': 2, 'unit': 'tasks', 'quiet': True}
    print(run_parallel(partial(add, 10), [1, 2], jobs=2, **settings))
"""


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        pytest.param(NO_GUARD, "[False, False]\n", id="no main guard"),
        pytest.param(OWN_FUNCTION, "[11, 12]\n", id="its own function with arguments"),
    ],
)
def test_a_script_spreads_work(tmp_path: Path, text: str, printed: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == (printed, 0), done.stderr
