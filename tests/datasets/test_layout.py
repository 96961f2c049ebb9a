"""The published layout: fold lists, which files are there, which names."""

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stavis.datasets.fold_lists import format_fold_list, read_fold_list
from stavis.datasets.layout import FoldEntry, Layout, find_files, list_numbers, result_folder
from stavis.errors import StavisError

names = st.text(string.ascii_letters + string.digits + "_-.", min_size=1).filter(
    lambda n: n not in (".", "..")
)
entries = st.builds(
    FoldEntry,
    names,
    st.integers(1, 10**6),
    st.integers(1, 240_000_000).map(lambda millionths: millionths / 1e6),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(entries))
def test_a_fold_list_reads_back_as_written(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text(format_fold_list(written))
    assert read_fold_list(path) == written


def test_blank_lines_windows_ends_and_byte_order_marks_are_read(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfone 30 25\r\n\r\n  two   7  23.976024\r\n\n")
    assert read_fold_list(path) == [FoldEntry("one", 30, 25.0), FoldEntry("two", 7, 23.976024)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_lists_that_windows_programs_write_are_read(tmp_path, encoding):
    path = tmp_path / "list.txt"
    path.write_bytes("señora 30 25\r\nAttaché 7 23.976\r\n".encode(encoding))
    assert read_fold_list(path) == [FoldEntry("señora", 30, 25.0), FoldEntry("Attaché", 7, 23.976)]


@pytest.mark.parametrize(
    "line",
    [
        "one",
        "one 30",
        "one 30 25 x",
        "one x 25",
        "one 30 x",
        "one 0 25",
        "one 30 0",
        "one 30 inf",
        "one 3 nan",
    ],
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"good 30 25\n{line}\n")
    with pytest.raises(StavisError, match=r"list\.txt, line 2: .*name frames fps"):
        read_fold_list(path)


@pytest.mark.parametrize("name", ["..", "../../x", "/etc", "a/b", "a\\b"])
def test_a_list_cannot_name_a_path(tmp_path, name):
    path = tmp_path / "list.txt"
    path.write_text(f"{name} 30 25\n")
    with pytest.raises(StavisError, match="not the name of a folder"):
        read_fold_list(path)


def test_missing_and_binary_lists(tmp_path):
    with pytest.raises(StavisError, match="fold list not found"):
        read_fold_list(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(StavisError, match="not a text file"):
        read_fold_list(tmp_path / "binary.txt")


def test_paths_count_from_1():
    layout = Layout(Path("data"))
    assert layout.frame("DIEM", "v", 0) == Path("data/video_frames/DIEM/v/img_00001.jpg")
    assert layout.frame("DIEM", "v", 123455) == Path("data/video_frames/DIEM/v/img_123456.jpg")
    assert layout.density_map("DIEM", "v", 8) == Path("data/annotations/DIEM/v/maps/eyeMap_00009.jpg")
    assert layout.fixation_map("DIEM", "v", 8) == Path("data/annotations/DIEM/v/fixMap_00009.mat")
    assert layout.wave("DIEM", "v") == Path("data/video_audio/DIEM/v/v.wav")


def test_fold_list_names(tmp_path):
    folder = tmp_path / "fold_lists"
    folder.mkdir()
    layout = Layout(tmp_path)
    assert layout.fold_list("AVAD", "train", 2) == folder / "AVAD_list_train_2_fps.txt"
    assert layout.fold_list("DIEM", "test", 3) == folder / "DIEM_list_test_fps.txt"
    assert layout.fold_list("Own", "test", 1) == folder / "Own_list_test_1_fps.txt"
    (folder / "Own_list_test_fps.txt").touch()
    assert layout.fold_list("Own", "test", 1) == folder / "Own_list_test_fps.txt"
    (folder / "Own_list_test_1_fps.txt").touch()
    assert layout.fold_list("Own", "test", 1) == folder / "Own_list_test_1_fps.txt"
    assert layout.fold_list("Own", "test", 2) == folder / "Own_list_test_fps.txt"


def test_databases_and_splits(tmp_path):
    layout = Layout(tmp_path)
    with pytest.raises(StavisError, match="no folder 'fold_lists'"):
        layout.databases()
    folder = tmp_path / "fold_lists"
    folder.mkdir()
    with pytest.raises(StavisError, match="no fold list in it"):
        layout.databases()
    for name in (
        "Own_list_train_5",
        "Own_list_test_10",
        "SumMe_list_test_1",
        "DIEM_list_train",
        "A_list_test",
    ):
        (folder / f"{name}_fps.txt").touch()
    (folder / "readme.txt").touch()
    assert layout.databases() == ["DIEM", "SumMe", "A", "Own"]
    assert layout.splits("Own") == (5, 10)
    assert layout.splits("SumMe") == (1,)
    assert layout.splits("DIEM") == layout.splits("A") == ()


def test_result_folders():
    assert [result_folder(name) for name in ("Coutrot_db1", "ETMD_av", "MyVideos")] == [
        "coutrot1",
        "etmd",
        "myvideos",
    ]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 25)), st.sets(st.integers(0, 25)), st.sets(st.integers(0, 25)), st.booleans())
def test_find_files_finds_what_is_there(tmp_path_factory, frames, density_maps, fixation_maps, wave):
    layout = Layout(tmp_path_factory.mktemp("data"))
    entry = FoldEntry("v", 20, 25.0)
    paths = [layout.frame("Own", "v", i) for i in frames]
    paths += [layout.density_map("Own", "v", i) for i in density_maps]
    paths += [layout.fixation_map("Own", "v", i) for i in fixation_maps]
    paths += [layout.wave("Own", "v")] * wave
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if frames:  # what does not follow the naming is not counted
        (layout.frames_folder("Own", "v") / "img_1.png").touch()
        (layout.frames_folder("Own", "v") / "img_first.jpg").touch()
    files = find_files(layout, "Own", entry)
    wanted = {"frames": frames, "density_maps": density_maps, "fixation_maps": fixation_maps}
    for part, numbers in wanted.items():
        assert set(np.flatnonzero(getattr(files, part))) == {i for i in numbers if i < 20}
        assert files.surplus[part] == sum(i >= 20 for i in numbers)
    assert files.wave is wave


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ([], ""),
        ([2], "3"),
        ([2, 6, 7, 8, 14], "3, 7-9, 15"),
        (range(30), "1-30"),
        (range(0, 20, 2), "1, 3, 5, 7, 9 and 5 more runs"),
    ],
)
def test_list_numbers(frames, text):
    assert list_numbers(frames) == text
