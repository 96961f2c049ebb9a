"""`stavis fetch` killed at any point resumes to the same result."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from support.archives import FRAMES, archive_of, content_of, frames_of, noise
from support.site import Answer, Site, expect_frames, run_process

CRASHES = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path

from stavis import fetch

url, scratch, step = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
WRITING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.utime", "os.chmod"}


def run(data, kill_at):
    # A child that fetches and is killed right before its n-th change to the file system. True if it was.
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event, args):
            nonlocal count
            opened_to_write = event == "open" and args[2] and args[2] & (os.O_WRONLY | os.O_RDWR)
            if event in WRITING or opened_to_write:
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        fetch(["lists", "datasets"], databases=["AVAD"], data=data, base_url=url, retries=0, quiet=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, (kill_at, status)
    return os.WIFSIGNALED(status)


def prepare(name):
    data = scratch / name
    (data / "fold_lists").mkdir(parents=True)
    (data / "fold_lists" / "mine_list_test_1_fps.txt").write_text("v 1 25")
    return data


def result(data):
    state = json.loads((data / ".stavis-fetch" / "state.json").read_text())
    for record in state["parts"].values():
        del record["date"]
    # Folders of archives may stand empty; the lock is a file without content.
    files = {
        str(path.relative_to(data)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mode)
        for path in data.rglob("*")
        if path.is_file() and path.name not in ("state.json", "lock", "mine_list_test_1_fps.txt")
    }
    times = {str(path): path.stat().st_mtime for path in data.glob("video_frames/*/*/*")}
    folders = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_dir())
    return files, state, sorted(times.values()), [name for name in folders if not name.startswith(".stavis-fetch/")]


undisturbed = prepare("undisturbed")
assert not run(undisturbed, -1)
expected = result(undisturbed)
num_points = 0
kill_at = 1
while True:
    data = prepare(f"killed{kill_at}")
    if not run(data, kill_at):
        break
    # Now and then the second attempt is killed, too, at a place that wanders.
    if num_points % 3 == 0:
        run(data, 1 + kill_at * 7 % 40)
    assert not run(data, -1)
    assert result(data) == expected, (kill_at, result(data), expected)
    shutil.rmtree(data)
    num_points += 1
    kill_at += step
print(num_points)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_write_it_resumes_to_the_same_result(site: Site, tmp_path: Path, step: int) -> None:
    lists = dict(list(content_of("fold_lists").items())[:2])
    site.put("fold_lists", archive_of("fold_lists", content=lists))
    site.put(FRAMES, archive_of(FRAMES, content=frames_of(num_videos=1)))
    site.requests = deque(maxlen=10)  # type: ignore[assignment]
    script = [sys.executable, "-c", CRASHES, site.url, str(tmp_path), str(step)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 60 // step


def kill_when(condition: Callable[[], bool], *arguments: object) -> None:
    """Starts `stavis fetch`, kills it with no chance to clean up as soon as `condition` holds."""
    command = [sys.executable, "-m", "stavis", "fetch", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not condition():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL


def test_killed_while_downloading(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES, content=frames_of(num_bytes=50_000)), Answer(seconds_per_kb=0.01))
    part = tmp_path / ".stavis-fetch" / "archives" / f"{FRAMES}.tar.gz.part"
    arguments = ("datasets", "--databases", "AVAD", "--data", tmp_path, "--base-url", site.url)
    kill_when(lambda: part.exists() and part.stat().st_size > 20_000, *arguments)
    received = part.stat().st_size
    done = run_process(*arguments)
    assert done.returncode == 0, done.stderr
    assert site.gets()[-1]["range"] == f"bytes={received}-"
    expect_frames(tmp_path, frames_of(num_bytes=50_000))


def test_killed_while_unpacking(site: Site, tmp_path: Path) -> None:
    content = {f"v/img_{frame:05d}.jpg": noise(str(frame), 300) for frame in range(1, 3001)}
    site.put(FRAMES, archive_of(FRAMES, content=content))
    unpacked = tmp_path / "video_frames" / ".AVAD.unpacking" / "AVAD" / "v"
    arguments = ("datasets", "--databases", "AVAD", "--data", tmp_path, "--base-url", site.url)
    kill_when(lambda: (unpacked / "img_00020.jpg").exists(), *arguments)
    assert 20 <= len(list(unpacked.iterdir())) < 3000
    assert not (tmp_path / FRAMES).exists()
    site.requests.clear()
    done = run_process(*arguments)
    assert done.returncode == 0, done.stderr
    assert site.gets() == []
    expect_frames(tmp_path, content)
