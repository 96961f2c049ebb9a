import json
import os
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


def write_result(folder: Path, video: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"stavis": "1", "input": str(video)}))
    (folder / "overlay.mp4").touch()
    (folder / "maps").mkdir()
    for number in range(3):
        (folder / "maps" / f"map_{number:06d}.png").touch()
    return folder


def test_images_beside_videos_are_passed_over(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jpg", "b_001.png", "b_002.png", ".c.mp4", "folder.JPG"):
        (tree / "clips" / name).touch()
    expected = [tree / "clips/a.MOV", tree / "clips/b.mp4"]
    assert find_videos([str(tree / "clips")]) == expected
    assert "4 images beside videos are passed over" in caplog.text
    assert find_videos([str(tree / "cl*")]) == find_videos([str(tree / "clips/*")]) == expected


@pytest.mark.parametrize("suffix", [".ppm", ".PGM", ".TiF"])
def test_folders_of_all_documented_image_formats_are_videos(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"1{suffix}").touch()
    assert find_videos([str(tmp_path)]) == [tmp_path]


def test_one_file_by_several_paths_is_one_video(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    (tree / "clips/0_link.mp4").symlink_to("b.mp4")
    (tree / "hard.mp4").hardlink_to(tree / "clips/b.mp4")
    for number in range(12):  # which make 12 ** 40 paths for those who follow them all
        (tree / f"clips/loop_{number}").symlink_to(".")
    (tree / "other").symlink_to("clips")
    video = Path("clips/b.mp4")
    for inputs in (
        ["clips/0_link.mp4", "clips/b.mp4", str(tree / "clips/b.mp4"), "hard.mp4"],
        ["other/b.mp4", "clips/b.mp4"],
        ["clips/**/*.mp4"],
        ["**/*.mp4"],
    ):
        assert find_videos(inputs) == [video]
    (tree / "hard.mp4").unlink()
    assert sorted(find_videos(["**"])) == [Path("clips/a.MOV"), video, Path("deep/x/c.webm")]


def test_results_are_not_taken_for_videos(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    result = write_result(tree / "stavis-output/b", tree / "clips/b.mp4")
    assert find_videos(["**/*.mp4"]) == [Path("clips/b.mp4")]
    assert find_videos(["*", "**"]) == find_videos(["**"])
    assert not any("stavis-output" in str(path) for path in find_videos(["**"]))
    assert find_videos(["clips/b.mp4", "stavis-output/b/overlay.mp4"]) == [Path("clips/b.mp4")]
    assert find_videos([str(result / "overlay.mp4")]) == [result / "overlay.mp4"]
    with pytest.raises(StavisError, match="a result of stavis predict, not a folder of videos"):
        find_videos([str(result)])
    with pytest.raises(StavisError, match="the pattern matches nothing that is a video"):
        find_videos(["stavis-output/**/*.mp4"])


def test_a_video_keeps_the_name_of_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    videos = [Path("a/x.mp4"), Path("b/x.mp4"), Path("b/x.mov")]
    for video in videos:
        video.parent.mkdir(exist_ok=True)
        video.touch()
    output = tmp_path / "output"
    first = name_folders(videos, output)
    assert list(first.values()) == ["x_mp4", "x_mp4_2", "x_mov"]
    for video, name in first.items():
        write_result(output / name, video)
    for given in ([videos[1]], videos[::-1], [videos[2], videos[0]], [tmp_path / "b/x.mp4"]):
        names = name_folders(given, output)
        assert names == {video: first[Path(os.path.relpath(video, tmp_path))] for video in given}
    (tmp_path / "new").mkdir()
    (tmp_path / "new/x.mp4").touch()
    assert name_folders([*videos, Path("new/x.mp4")], output)[Path("new/x.mp4")] == "x_mp4_3"


def test_the_current_folder_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shots").mkdir()
    monkeypatch.chdir(tmp_path / "shots")
    assert name_folders([Path(".")]) == {Path("."): "shots"}


def write_other_results(folder: Path, video: Path) -> None:
    """Files as reframe, encode, areas and roi leave them."""
    folder.mkdir(parents=True)
    for name in (
        "reframed.mp4",
        "preview.mp4",
        "encoded.mkv",
        "areas.mp4",
        "areas_summary.csv",
        "saliency-x264.mp4",
    ):
        (folder / name).touch()
    for name in ("reframe.json", "encode.json"):
        (folder / name).write_text(json.dumps({"settings": {"video": str(video)}}))


def test_results_of_other_commands_are_passed_over(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    write_other_results(Path("stavis-output/b"), tree / "clips/b.mp4")
    video = Path("clips/b.mp4")
    assert find_videos(["**/*.mp4"]) == [video]
    assert (
        sorted(find_videos(["**"])) == [Path("clips/a.MOV"), video, Path("deep/x/c.webm"), Path("frames")][:3]
    )
    assert find_videos([str(video), *map(str, Path("stavis-output/b").glob("*.m*"))]) == [video]
    assert find_videos(["stavis-output/b/encoded.mkv"]) == [Path("stavis-output/b/encoded.mkv")]
    with pytest.raises(StavisError, match="neither videos nor images"):
        find_videos(["stavis-output/b"])
    Path("clips/preview.mp4").touch()
    assert Path("clips/preview.mp4") in find_videos(["clips"]), "not beside a path of reframe"


def test_a_video_keeps_the_name_of_results_of_other_commands(tmp_path: Path) -> None:
    videos = [tmp_path / "x.mp4", tmp_path / "x.mov"]
    for video in videos:
        video.touch()
    output = tmp_path / "output"
    for video, name in name_folders(videos, output).items():
        write_other_results(output / name, video)
    assert name_folders(videos[1:], output) == {videos[1]: "x_mov"}
    write_result(output / "x", videos[0])
    (output / "x/encode.json").write_text(json.dumps({"settings": {"video": str(videos[1])}}))
    assert name_folders(videos, output) == {videos[0]: "x", videos[1]: "x_mov"}
