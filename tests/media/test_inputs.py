from pathlib import Path

import pytest

from stavis.errors import StavisError
from stavis.media.inputs import find_videos, name_folders


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("clips/b.mp4", "clips/a.MOV", "clips/notes.txt", "frames/img_00001.jpg", "deep/x/c.webm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_files_folders_and_patterns(tree: Path) -> None:
    found = find_videos(
        [str(tree / "clips"), str(tree / "clips/b.mp4"), str(tree / "frames"), str(tree / "**/*.webm")]
    )
    assert [path.relative_to(tree).as_posix() for path in found] == [
        "clips/a.MOV",
        "clips/b.mp4",
        "frames",
        "deep/x/c.webm",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [("empty", "neither videos"), ("none.mp4", "no such file"), ("*.xyz", "matches nothing")],
)
def test_missing_databases_videos_and_frames_are_named(tree: Path, name: str, message: str) -> None:
    with pytest.raises(StavisError, match=message) as caught:
        find_videos([str(tree / name)])
    assert name in str(caught.value)


def test_a_file_with_magic_characters_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "take [1].mp4").touch()
    assert find_videos([str(tmp_path / "take [1].mp4")]) == [tmp_path / "take [1].mp4"]


def test_folder_names_are_distinct() -> None:
    videos = [Path("a/x.mp4"), Path("a/x.mov"), Path("b/x.mp4"), Path("y.mp4")]
    names = name_folders(videos)
    assert names == {videos[0]: "x_mp4", videos[1]: "x_mov", videos[2]: "x_mp4_2", videos[3]: "y"}
