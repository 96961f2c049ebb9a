"""`stavis submit`: what is refused, and what a submission contains."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stavis import media
from stavis.errors import StavisError
from stavis.evaluation.submission import make_submission
from support.commands import run_command


def write_video(
    path: Path, num_frames: int, *, size: tuple[int, int] = (64, 48), color: bool = False
) -> None:
    rng = np.random.default_rng(num_frames)
    with media.VideoWriter(path, width=size[0], height=size[1], frame_rate=25) as writer:
        for _ in range(num_frames):
            gray = np.kron(rng.integers(0, 255, (size[1] // 8, size[0] // 8)), np.ones((8, 8))).astype(
                np.uint8
            )
            writer.write(np.stack([gray, 255 - gray if color else gray, gray], axis=-1))


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "TrainTestSplit.json").write_text(
        json.dumps({"train": ["t"], "public_test": ["a", "b"]})
    )
    for name, num in (("a", 5), ("b", 7)):
        write_video(tmp_path / "data" / "VideosTest" / f"{name}.mp4", num, size=(128, 96))
        write_video(tmp_path / "maps" / f"{name}.mp4", num)
    return tmp_path


def test_challenge_submission(challenge: Path) -> None:
    output = challenge / "out.zip"
    printed = run_command(
        "submit",
        "challenge",
        "--predictions",
        challenge / "maps",
        "--data",
        challenge / "data",
        "--output",
        output,
    )
    assert "2 videos, 12 maps" in printed
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["a.mp4", "b.mp4"]
        assert archive.read("a.mp4") == (challenge / "maps" / "a.mp4").read_bytes()
    first = output.read_bytes()
    make_submission("challenge", challenge / "maps", challenge / "data", output)
    assert output.read_bytes() == first


def test_all_problems_are_listed(challenge: Path) -> None:
    write_video(challenge / "maps" / "a.mp4", 4, size=(64, 64), color=True)
    (challenge / "maps" / "b.mp4").unlink()
    write_video(challenge / "maps" / "c.mp4", 3)
    submission = make_submission("challenge", challenge / "maps", challenge / "data", challenge / "out.zip")
    problems = "\n".join(submission.problems)
    for part in (
        "b: no prediction",
        "not in the test set: c",
        "a: no map of 1 of 5 frames, first 5",
        "a: maps of 64x64, the video has 128x96: another aspect ratio",
        "a: 4 maps are in color",
    ):
        assert part in problems
    assert submission.output is None
    assert not (challenge / "out.zip").exists()


def test_dhf1k_submission(tmp_path: Path) -> None:
    write_video(tmp_path / "video" / "701.mkv", 3)
    rng = np.random.default_rng(0)
    saliency = rng.random((3, 12, 16)).astype(np.float32)
    (tmp_path / "maps").mkdir()
    np.savez(tmp_path / "maps" / "0701.npz", saliency=saliency, index=np.arange(3))
    submission = make_submission("dhf1k", tmp_path / "maps", tmp_path / "video", tmp_path / "out.zip")
    assert submission.problems == ()
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == [f"0701/{number:04d}.png" for number in (1, 2, 3)]
        with archive.open("0701/0002.png") as file:
            stored = np.asarray(Image.open(file))
    np.testing.assert_allclose(stored / 255, saliency[1] / saliency[1].max(), atol=0.003)
    np.savez(tmp_path / "maps" / "0701.npz", saliency=np.zeros((3, 12, 16)), index=np.arange(3))
    problems = make_submission("dhf1k", tmp_path / "maps", tmp_path / "video", tmp_path / "out.zip").problems
    assert problems == ("0701: 3 constant maps, first of frame 1",)
    with pytest.raises(StavisError, match="no test videos"):
        make_submission("dhf1k", tmp_path / "maps", tmp_path / "maps", tmp_path / "out.zip")
    with pytest.raises(ValueError, match="kind is 'mit'"):
        make_submission("mit", tmp_path / "maps", tmp_path / "video", tmp_path / "out.zip")


def test_dhf1k_predictions_are_found_by_the_names_of_their_inputs(tmp_path: Path) -> None:
    for name in ("701.mp4", "702.mp4"):
        write_video(tmp_path / "video" / name, 2)
        (tmp_path / "predictions" / name[:3]).mkdir(parents=True)
        maps = {"saliency": np.random.default_rng(0).random((2, 12, 16)), "index": np.arange(2)}
        np.savez(tmp_path / "predictions" / name[:3] / "saliency.npz", **maps)
    submission = make_submission("dhf1k", tmp_path / "predictions", tmp_path / "video", tmp_path / "out.zip")
    assert submission.problems == ()
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == [
            f"0{video}/000{number}.png" for video in (701, 702) for number in (1, 2)
        ]
    shutil.copytree(tmp_path / "predictions" / "701", tmp_path / "predictions" / "703")
    (problem,) = make_submission(
        "dhf1k", tmp_path / "predictions", tmp_path / "video", tmp_path / "out.zip"
    ).problems
    assert problem == "not in the test set: 703"


def test_folders_as_they_come(challenge: Path) -> None:
    """A ZIP file among the predictions, hidden files, dots in names and links."""
    (challenge / "data" / "TrainTestSplit.json").write_text('{"test": ["a", "b.v2"]}')
    (challenge / "data" / "VideosTest" / "b.mp4").rename(challenge / "b.v2.mp4")
    (challenge / "data" / "more").symlink_to(challenge / "elsewhere")
    (challenge / "elsewhere").mkdir()
    (challenge / "b.v2.mp4").rename(challenge / "elsewhere" / "b.v2.mp4")
    (challenge / "maps" / "b.v2").mkdir()
    (challenge / "maps" / "b.mp4").rename(challenge / "maps" / "b.v2" / "saliency.mp4")
    (challenge / "maps" / "._a.mp4").write_bytes(b"of macOS")
    output = challenge / "maps" / "submission.zip"
    for _ in range(2):
        submission = make_submission("challenge", challenge / "maps", challenge / "data", output)
        assert submission.problems == ()
        assert submission.num_frames == 12
    write_video(challenge / "elsewhere" / "b.v2.mp4", 6, size=(128, 96))
    (problem,) = make_submission("challenge", challenge / "maps", challenge / "data", output).problems
    assert problem == "b.v2: 7 maps, the video has 6 frames"
    (challenge / "data" / "TrainTestSplit.json").write_text('{"train": ["a"]}')
    with pytest.raises(StavisError, match="names no test videos"):
        make_submission("challenge", challenge / "maps", challenge / "data", output)


def test_two_videos_of_one_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    for name in ("701.mp4", "0701.mp4"):
        write_video(tmp_path / "video" / name, 2)
    with pytest.raises(StavisError, match=r"0701\.mp4 and .*701\.mp4: both are of 0701"):
        make_submission("dhf1k", tmp_path / "maps", tmp_path / "video", tmp_path / "out.zip")
