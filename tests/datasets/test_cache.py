"""The frame cache: right, whole, made once, shared, and made anew where a source has changed."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
from typer.testing import CliRunner

from stavis.cli import app
from stavis.clips.preprocess import Preprocessing
from stavis.datasets import cache as cache_module
from stavis.datasets.cache import (
    CachedReader,
    CacheFile,
    FrameCache,
    default_cache_folder,
    plan_cache,
    summarize,
)
from stavis.datasets.dataset import SaliencyDataset
from stavis.datasets.layout import FoldEntry, Layout
from stavis.datasets.quirks import LoaderQuirks
from stavis.datasets.sources import DirectReader
from stavis.errors import StavisError
from stavis.runtime.workers import run_parallel
from support.datasets import write_data_set, write_video

P = Preprocessing()


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> Layout:
    return write_data_set(tmp_path_factory.mktemp("data"), num_frames=(24, 7))


@pytest.fixture
def own_layout(layout: Layout, tmp_path: Path) -> Layout:
    """A copy to be changed."""
    shutil.copytree(layout.root, tmp_path / "copy")
    return Layout(tmp_path / "copy")


def frame_cache(folder: Path, layout: Layout, **settings) -> FrameCache:
    return FrameCache(folder, layout, dataclasses.replace(P, **settings), LoaderQuirks())


def build(cache: FrameCache, jobs: int = 1, **choice) -> list[CacheFile]:
    files, problems = plan_cache(cache, **choice)
    assert not problems
    cache.build(files, jobs=jobs, quiet=True)
    return files


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a cache, but for its locks."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# --- What is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_cache_keeps_what_the_sources_decode_to(layout: Layout, tmp_path: Path, jobs: int) -> None:
    cache = frame_cache(tmp_path, layout)
    files = build(cache, jobs, databases=["DIEM"])
    assert [(f.part, f.database, f.entry.video) for f in files] == [
        (part, "DIEM", f"{subset}_{i}")
        for subset in ("train", "test")
        for i in range(2)
        for part in ("frames", "maps", "wave")
    ]
    direct, cached = DirectReader(layout, P, LoaderQuirks()), CachedReader(files)
    for file in files:
        array = np.load(file.path)
        num = file.entry.num_frames
        if file.part == "frames":
            assert array.shape == (num, 112, 112, 3)
            assert file.num_bytes == file.path.stat().st_size == 128 + 37_632 * num
            for frames in (range(num), [0, 1, 2, 0, 1], [3], [5, 3, 5]):
                expected = direct.frames(file.database, file.entry, frames)
                assert np.array_equal(cached.frames(file.database, file.entry, frames), expected)
        elif file.part == "maps":
            assert array.shape == (num, 2, 112, 112)
            assert file.num_bytes == file.path.stat().st_size == 128 + 25_088 * num
            for frame in range(num):
                expected = direct.maps(file.database, file.entry, frame)
                assert np.array_equal(cached.maps(file.database, file.entry, frame), expected)
        else:
            samples, rate = cached.waveform(file.database, file.entry)
            expected, expected_rate = direct.waveform(file.database, file.entry)
            assert rate == expected_rate == 22050
            assert np.array_equal(samples, expected)
            assert file.num_bytes == pytest.approx(file.path.stat().st_size, rel=0.02)
    assert all(array.dtype == np.uint8 for array in map(np.load, (f.path for f in files if f.part != "wave")))


def test_cached_arrays_cannot_be_written_to(layout: Layout, tmp_path: Path) -> None:
    files = build(frame_cache(tmp_path, layout), databases=["DIEM"], split=1)
    frames = CachedReader(files).frames("DIEM", files[0].entry, range(4))
    with pytest.raises(ValueError, match="read-only"):
        frames[0] = 0


def test_existing_cache_files_are_not_made_again(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = frame_cache(tmp_path, layout)
    files = build(cache, maps=False, audio=False)
    assert {file.part for file in files} == {"frames"}
    monkeypatch.setattr(cache_module, "load_frame", None)
    assert cache.build(files, jobs=1, quiet=True) == []
    more, _ = plan_cache(cache)
    assert {file.part for file in cache.missing(more)} == {"maps", "wave"}


# --- When it is made anew ---------------------------------------------------------------------------------------------


def test_a_changed_source_is_seen(own_layout: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "cache"

    def first_sample():
        data = SaliencyDataset(
            own_layout.root, databases=["DIEM"], mode="test", cache=folder, jobs=1, quiet=True
        )
        return data[0]

    before, files = first_sample(), set(contents(folder))
    assert set(contents(folder)) == files
    source = own_layout.frame("DIEM", "train_0", 3)
    source.write_bytes(own_layout.frame("DIEM", "train_0", 20).read_bytes())
    after = first_sample()
    assert not np.array_equal(before.clip, after.clip)
    assert np.array_equal(before.clip[:, :3], after.clip[:, :3])
    now = set(contents(folder))
    (old,), (new,) = files - now, now - files
    assert old.startswith("DIEM/train_0/frames-24-")
    assert new.startswith(old.rpartition("-")[0])  # another source hash; the outdated file is gone


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (part, change)
        for part in ("frames", "maps", "wave")
        for change in ("time", "size", "removed", "renamed", "added")
        if (part, change) != ("wave", "added")
    ],
)
def test_every_kind_of_change_asks_for_another_file(tmp_path: Path, part: str, change: str) -> None:
    layout, entry = Layout(tmp_path / "data"), FoldEntry("v", 3, 25.0)
    sources = {
        "frames": layout.frame("DIEM", "v", 1),
        "maps": layout.fixation_map("DIEM", "v", 1),
        "wave": layout.wave("DIEM", "v"),
    }
    for path in (*sources.values(), layout.density_map("DIEM", "v", 1)):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"some")
    parts = tuple(sources)
    before = {each: frame_cache(tmp_path, layout).file(each, "DIEM", entry) for each in parts}
    assert before == {each: frame_cache(tmp_path, layout).file(each, "DIEM", entry) for each in parts}
    source, status = sources[part], sources[part].stat()
    if change == "time":
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "size":
        with source.open("ab") as file:
            file.write(b"x")
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "removed":
        source.unlink()
    elif change == "renamed":
        source.rename(source.with_name("other" + source.suffix))
    else:
        shutil.copy2(source, source.with_name(source.name.replace("00002", "00003")))
    after = {each: frame_cache(tmp_path, layout).file(each, "DIEM", entry) for each in parts}
    assert {each for each in parts if after[each].path != before[each].path} == {part}


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ({"resize_filter": "nearest"}, {"frames", "maps"}),
        ({"final_resize_filter": "bicubic"}, {"frames", "maps"}),
        ({"input_size": (64, 64)}, {"frames", "maps"}),
        ({"intermediate_size": (160, 120)}, {"frames", "maps"}),
        ({"sample_rate": 16000}, {"wave"}),
        ({"mean": (0.0, 0.0, 0.0), "clip_length": 8, "num_audio_samples": 100}, set()),
    ],
)
def test_settings_that_change_the_contents_change_the_name(
    layout: Layout, tmp_path: Path, setting, parts
) -> None:
    entry = FoldEntry("train_0", 24, 25.0)
    one, other = frame_cache(tmp_path, layout), frame_cache(tmp_path, layout, **setting)
    differing = {
        p for p in ("frames", "maps", "wave") if one.file(p, "DIEM", entry) != other.file(p, "DIEM", entry)
    }
    assert differing == parts


def test_quirks_and_decoder_versions_change_the_name(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = FoldEntry("train_0", 24, 25.0)

    def names(quirks: LoaderQuirks) -> dict[str, str]:
        cache = FrameCache(tmp_path, layout, P, quirks)
        return {part: cache.file(part, "DIEM", entry).path.name for part in ("frames", "maps", "wave")}

    def differing(one: dict[str, str], other: dict[str, str]) -> set[str]:
        return {part for part in one if one[part] != other[part]}

    fixed = names(LoaderQuirks())
    assert differing(fixed, names(LoaderQuirks(native_sample_rate=True))) == {"wave"}
    assert differing(fixed, names(LoaderQuirks(fixation_blobs=False))) == {"maps"}
    assert differing(fixed, names(LoaderQuirks(silent_last_video=True, alternating_target=True))) == set()
    monkeypatch.setattr("PIL.__version__", "0.0")
    assert differing(fixed, names(LoaderQuirks())) == {"frames", "maps"}


def test_caches_of_two_settings_live_side_by_side(layout: Layout, tmp_path: Path) -> None:
    one, other = frame_cache(tmp_path, layout), frame_cache(tmp_path, layout, resize_filter="nearest")
    files = build(one, databases=["DIEM"])
    build(other, databases=["DIEM"])
    assert one.missing(files) == []
    known = json.loads((tmp_path / "settings.json").read_text())
    hashes = {path.name.split("-")[2] for path in tmp_path.rglob("*.npy")}
    assert set(known) == hashes
    assert {settings["resize_filter"] for settings in known.values() if settings["part"] == "frames"} == {
        "bicubic",
        "nearest",
    }


# --- Interruptions ----------------------------------------------------------------------------------------------------


def command(folder: Path, data: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "stavis", "data", "cache", str(data), "--cache", str(folder), *options]


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def long_layout(tmp_path_factory) -> Layout:
    """One video is slow to cache and the others are not, so that a kill finds finished and half-made files."""
    layout = write_data_set(tmp_path_factory.mktemp("long"), ["Own"], num_frames=(4, 5), frame_rate=25.0)
    entry = FoldEntry("long", 40, 25.0)
    write_video(layout, "Own", entry, size=(540, 960))
    for split in (1, 2, 3):
        path = layout.fold_list("Own", "train", split)
        path.write_text(path.read_text() + "long 40 25.0\n")
    return layout


@pytest.fixture(scope="module")
def undisturbed(long_layout: Layout, tmp_path_factory) -> dict[str, bytes]:
    """What an undisturbed run makes of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    build(frame_cache(folder, long_layout))
    return contents(folder)


@pytest.mark.parametrize("sig", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_killed_run_resumes(
    long_layout: Layout, undisturbed: dict[str, bytes], tmp_path: Path, sig: signal.Signals
) -> None:
    folder = tmp_path / "cache"
    process = subprocess.Popen(
        command(folder, long_layout.root, "--jobs", "2"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # The largest file is begun first; as soon as it is being written it is half-made.
    wait_until(lambda: any(path.stat().st_size for path in folder.rglob(".frames-40-*.npy")))
    process.send_signal(sig)
    _, errors = process.communicate(timeout=60)
    wait_until(lambda: group_is_gone(process.pid))  # no worker outlives its parent
    if sig == signal.SIGKILL:
        assert process.returncode == -9
        assert list(folder.rglob(".frames-40-*.npy"))  # what it was writing is still there
    else:
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert not list(folder.rglob(".*.npy"))
    half = contents(folder)
    visible = {name for name in half if not Path(name).name.startswith(".")}
    assert visible < set(undisturbed)
    assert all(half[name] == undisturbed[name] for name in visible)

    again = subprocess.run(
        command(folder, long_layout.root, "--jobs", "2"), capture_output=True, text=True, check=True
    )
    assert "to cache" in again.stderr
    assert contents(folder) == undisturbed


def test_processes_share_the_work(long_layout: Layout, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    processes = [
        subprocess.Popen(command(folder, long_layout.root, "--jobs", jobs), stderr=subprocess.PIPE, text=True)
        for jobs in ("1", "2")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert contents(folder) == undisturbed


def test_a_file_that_another_process_makes_is_waited_for(layout: Layout, tmp_path: Path) -> None:
    cache = frame_cache(tmp_path, layout)
    files, _ = plan_cache(cache, databases=["DIEM"], maps=False, audio=False)
    held = files[0]
    held.path.parent.mkdir(parents=True)
    lock = filelock.FileLock(held.path.parent / ".frames.lock")
    lock.acquire()
    process = subprocess.Popen(
        command(tmp_path, layout.root, "--databases", "DIEM", "--no-maps", "--no-audio", "--quiet")
    )
    try:
        wait_until(lambda: all(file.path.exists() for file in files[1:]))  # all others are made meanwhile
        assert process.poll() is None
        assert not held.path.exists()
    finally:
        lock.release()
    assert process.wait(timeout=60) == 0
    assert held.path.exists()


def test_leftovers_of_killed_processes_are_removed(layout: Layout, tmp_path: Path) -> None:
    cache = frame_cache(tmp_path, layout)
    files, _ = plan_cache(cache, databases=["DIEM"])
    folder = files[0].path.parent
    folder.mkdir(parents=True)
    (folder / ".frames-24-abc-x1y2.npy").write_bytes(b"half")
    (folder / "frames-99-other-settings.npy").write_bytes(b"of another length: kept")
    build(cache, databases=["DIEM"])
    assert {path.name.split("-")[0] for path in folder.glob(".*") if path.suffix == ".npy"} == set()
    assert (folder / "frames-99-other-settings.npy").exists()


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_insufficient_disk_space_is_reported_beforehand(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StavisError, match=r"8 videos, 8\.2 MB to cache, but 1\.0 MB are free"):
        build(frame_cache(tmp_path / "cache", layout))
    assert not (tmp_path / "cache").exists()


def test_a_broken_source_is_named_and_the_rest_is_kept(own_layout: Layout, tmp_path: Path) -> None:
    own_layout.frame("DIEM", "test_1", 2).write_bytes(b"no picture")
    cache = frame_cache(tmp_path / "cache", own_layout)
    for jobs in (1, 2):
        with pytest.raises(StavisError, match=r"test_1/img_00003\.jpg: not a readable picture"):
            build(cache, jobs, databases=["DIEM"])
    files, _ = plan_cache(cache, databases=["DIEM"])
    missing = cache.missing(files)
    assert len(missing) < len(files)
    assert not list((tmp_path / "cache").rglob(".*.npy"))
    shutil.copy2(own_layout.frame("DIEM", "test_1", 1), own_layout.frame("DIEM", "test_1", 2))
    build(cache, databases=["DIEM"])


def test_a_damaged_cache_file_is_named(layout: Layout, tmp_path: Path) -> None:
    files = build(frame_cache(tmp_path, layout), databases=["DIEM"])
    reader = CachedReader(files)
    frames = files[0]
    frames.path.write_bytes(frames.path.read_bytes()[:1000])
    with pytest.raises(StavisError, match=r"frames-24-.*\.npy: not readable .*remove it"):
        reader.frames("DIEM", frames.entry, range(16))
    frames.path.write_bytes(b"")
    with pytest.raises(StavisError, match=r"frames-24-.*\.npy: not readable .*remove it"):
        reader.frames("DIEM", frames.entry, range(16))
    frames.path.unlink()
    with pytest.raises(StavisError, match="gone from the frame cache"):
        reader.frames("DIEM", frames.entry, range(16))


def _fail(task: int, advance) -> int:
    advance(1)
    if task == 3:
        raise StavisError("task 3 failed")
    return task * task


def _die(task: int, advance) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_work_in_processes_keeps_its_order_and_its_errors(capfd: pytest.CaptureFixture[str]) -> None:
    settings = {"description": "squares", "total": 3, "unit": "tasks"}
    for jobs in (1, 2):
        assert run_parallel(_fail, [5, 1, 2], jobs=jobs, **settings) == [25, 1, 4]
        assert "squares: 3/3 tasks" in capfd.readouterr().err
        with pytest.raises(StavisError, match="task 3 failed"):
            run_parallel(_fail, [1, 3, 5], jobs=jobs, **settings)
        assert run_parallel(_fail, [], jobs=jobs, quiet=True, **settings) == []
    with pytest.raises(StavisError, match="squares: a worker process was killed"):
        run_parallel(_die, [1, 2], jobs=2, quiet=True, **settings)


# --- The command ------------------------------------------------------------------------------------------------------


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in ("data", "cache", *arguments)])


def test_the_command_makes_what_training_reads(own_layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(own_layout.root, "--dry-run")
    assert result.exit_code == 0
    assert "8 videos, 8.2 MB to cache, of 8 videos, 8.2 MB" in result.output
    folder = default_cache_folder(own_layout.root)
    assert not folder.exists()
    assert run(own_layout.root, "--jobs", 1).exit_code == 0
    for name in ("load_frame", "load_maps", "load_waveform"):
        monkeypatch.setattr(cache_module, name, None)
    for split, subset in ((1, "train"), (3, "test")):
        data = SaliencyDataset(own_layout.root, split=split, subset=subset, cache=folder, quiet=True)
        assert data[0].clip.shape == (3, 16, 112, 112)


def test_the_command_can_make_a_part(layout: Layout, tmp_path: Path) -> None:
    result = run(
        layout.root, "--cache", tmp_path, "--databases", "DIEM,AVAD", "--split", 2, "--no-maps", "--no-audio"
    )
    assert result.exit_code == 0
    assert "8 videos" in result.output
    assert {path.name.split("-")[0] for path in tmp_path.rglob("*.npy")} == {"frames"}


def test_the_command_names_what_is_missing(own_layout: Layout, tmp_path: Path) -> None:
    own_layout.frame("AVAD", "train_0", 0).unlink()
    own_layout.wave("AVAD", "train_1").unlink()
    result = run(own_layout.root, "--cache", tmp_path / "cache", "--jobs", 1)
    assert isinstance(result.exception, StavisError)
    assert "1 of 24 frames missing (number 1); and 1 more missing part" in str(result.exception)
    assert not (tmp_path / "cache").exists()
    result = run(own_layout.root, "--cache", tmp_path / "cache", "--jobs", 1, "--allow-missing")
    assert result.exit_code == 0
    assert "warning: " in result.output
    assert "train_1.wav: WAV file not found" in result.output
    result = run(own_layout.root, "--databases", "UCF")
    assert "no fold list of database 'UCF'" in str(result.exception)


def test_sizes_have_units() -> None:
    entry = FoldEntry("v", 10, 25.0)
    files = [CacheFile("frames", "DIEM", entry, Path(str(i)), 1_234_000_000) for i in range(3)]
    assert summarize(files) == "1 video, 3.7 GB"
    assert summarize([]) == "0 videos, 0 bytes"
