"""Work on several videos: what fails, fails alone and at once."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stavis.cli import app
from stavis.errors import StavisError
from stavis.runtime.jobs import for_each, is_finished


@pytest.mark.parametrize("verbose", [False, True])
def test_an_unexpected_error_is_one_videos_failure(tmp_path: Path, verbose: bool) -> None:
    def work(video: Path, _: Path) -> str:
        if video.name == "b":
            raise KeyError("side data 31")
        return f"{video}: done"

    lines: list[str] = []
    tasks = [(Path(name), tmp_path / name) for name in "abc"]
    with pytest.raises(StavisError, match="1 of 3 inputs failed"):
        for_each(tasks, work, lines.append, quiet=False, verbose=verbose)
    trace = [line for line in lines if line.startswith("Traceback")]
    assert len(trace) == verbose
    assert [line for line in lines if line not in trace] == [
        "a: done",
        "c: done",
        "failed: b: unexpected error, please report it (`verbose=True` shows where it arose): KeyError: 'side data 31'",
    ]


def test_an_interruption_ends_all(tmp_path: Path) -> None:
    def work(*_: Path) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for_each([(Path("a"), tmp_path / "a")], work, print, quiet=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_the_folder(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").touch()
    for folder in (tmp_path / "out", tmp_path / "out" / "clip"):
        with pytest.raises(StavisError, match="out: is a file, not a folder"):
            is_finished(folder / "reframe.json", {}, [], overwrite=overwrite)
        with pytest.raises(StavisError, match="out: is a file, not a folder"):
            for_each([(Path("clip"), folder)], lambda *_: pytest.fail("too late"), print, quiet=True)


def test_a_folder_of_images_and_its_frame_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = tmp_path / "clip"
    clip.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (80 * number, 0, 0)).save(clip / f"{number}.png")
    np.savez(tmp_path / "maps.npz", saliency=np.ones((3, 8, 8), np.float32))
    command = [
        "roi",
        str(clip),
        "--for",
        "kvazaar",
        "--maps",
        str(tmp_path / "maps.npz"),
        "-q",
        "--overwrite",
    ]

    def warnings(*options: str) -> int:
        caplog.clear()
        result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out"), *options])
        assert result.exit_code == 0, result.output
        return caplog.text.count("no frame rate is given")

    assert warnings() == 1
    assert warnings("--frame-rate", "30") == 0
    # Results go where others of the same video are, whatever that is called.
    (tmp_path / "out" / "clip").rename(tmp_path / "out" / "clip_2")
    record = {"settings": {"video": str(clip)}}
    (tmp_path / "out" / "clip_2" / "reframe.json").write_text(json.dumps(record))
    warnings()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip_2"]
    refused = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out"), "--frame-rate", "-1"])
    assert "`frame_rate=-1.0`: must be above 0" in str(refused.exception)
