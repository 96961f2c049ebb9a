"""What fails, fails alone: one output of a video, one video of a batch."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stavis
from stavis import media
from stavis.__main__ import main
from stavis.errors import StavisError, printable
from stavis.prediction import folder as folder_module
from support.networks import tiny_weights

NUM_FRAMES = 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")


def write_images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i in range(NUM_FRAMES):
        Image.new("RGB", (32, 32), (80 * i, 0, 0)).save(folder / f"img_{i + 1:05d}.png")
    return folder


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["stavis", "predict", "--frame-rate", "25", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as exit_:
            status = int(exit_.code or 0)
    return status, capfd.readouterr().err.splitlines()


def refuse_at_once(_self: object, *_: object, **__: object) -> None:
    raise StavisError("the encoder takes no such pictures")


def fail_at_the_second_frame() -> Callable[..., None]:
    calls = iter(range(99))

    def write(_self: object, *_: object) -> None:
        if next(calls) == 1:
            raise MemoryError

    return write


@pytest.mark.parametrize("when", ["opening", "writing", "finishing"])
def test_an_output_that_fails_leaves_the_others(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    when: str,
) -> None:
    clip = write_images(tmp_path / "clip")
    command = (clip, "-w", weights, "-o", tmp_path / "out", "--outputs", "maps,npz,overlay", "-q")
    with monkeypatch.context() as patch:
        if when == "opening":
            patch.setattr(media.VideoWriter, "__init__", refuse_at_once)
        elif when == "writing":
            patch.setattr(media.VideoWriter, "write", fail_at_the_second_frame())
        else:
            patch.setattr(media.VideoWriter, "close", refuse_at_once)
        status, lines = run(capfd, *command)
    reason = "MemoryError" if when == "writing" else "the encoder takes no such pictures"
    assert status == 1
    assert any(line.startswith("stavis: error: ") and "overlay" in line and reason in line for line in lines)
    folder = tmp_path / "out" / "clip"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["outputs"] == ["maps", "npz"]
    assert summary["failed_outputs"] == {"overlay": reason}
    assert len(list((folder / "maps").iterdir())) == NUM_FRAMES
    assert np.load(folder / "saliency.npz")["saliency"].shape == (NUM_FRAMES, 64, 64)
    assert not (folder / "overlay.mp4").exists()
    stamp = (folder / "saliency.npz").stat().st_mtime_ns
    assert run(capfd, *command)[0] == 0, "run again, it writes what is missing"
    assert (folder / "overlay.mp4").is_file()
    assert (folder / "saliency.npz").stat().st_mtime_ns == stamp
    assert json.loads((folder / "summary.json").read_text())["failed_outputs"] == {}


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), KeyError("side data 31")])
def test_an_unexpected_error_is_that_videos_failure(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    first, second = write_images(tmp_path / "first"), write_images(tmp_path / "second")
    probe = media.probe

    def fail_at_the_first(path: Path, **options: object) -> media.VideoInfo:
        if path == first:
            raise error
        return probe(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(folder_module.media, "probe", fail_at_the_first)
    command = (first, second, "-w", weights, "--outputs", "npz")
    status, lines = run(capfd, *command, "-o", tmp_path / "out")
    assert status == 1
    (failed,) = [line for line in lines if line.startswith("failed: ")]
    assert failed.startswith(f"failed: {first}: unexpected error")
    assert type(error).__name__ in failed
    assert "--verbose" in failed
    assert not any("Traceback" in line for line in lines)
    assert lines[-1].endswith("1 of 2 inputs failed, as listed above; the others are done")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["second"]
    _, lines = run(capfd, *command, "-o", tmp_path / "out", "--verbose")
    assert any("fail_at_the_first" in line for line in lines), "the traceback says where"


@pytest.mark.parametrize(("clip", "relation"), [("clip", "is"), ("clip/raw/clip", "contains")])
def test_an_input_in_its_result_folder_is_refused(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], clip: str, relation: str
) -> None:
    images = write_images(tmp_path / clip)
    status, lines = run(capfd, images, "-w", weights, "-o", tmp_path, "-q", "--overwrite")
    assert status == 1
    assert lines[-1].endswith(
        f"{tmp_path / 'clip'}, which {relation} the input itself; choose another output folder"
    )
    assert len(list(images.iterdir())) == NUM_FRAMES


def test_only_own_results_are_replaced(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip, folder = write_images(tmp_path / "clip"), tmp_path / "out" / "clip"
    (folder / "raw").mkdir(parents=True)
    others = [folder / name for name in ("reframed.mp4", "areas.csv", "raw/clip.mp4")]
    for path in others:
        path.write_text(path.name)
    command = (clip, "-w", weights, "-o", tmp_path / "out", "-q", "--outputs")
    assert run(capfd, *command, "npz,published")[0] == 0
    assert run(capfd, *command, "npz", "--stride", 2, "--overwrite")[0] == 0
    assert [path.read_text() for path in others] == [path.name for path in others]
    written = {"saliency.npz", "summary.json", "frames.csv", "timeline.png"}
    assert {path.name for path in folder.iterdir()} == {"reframed.mp4", "areas.csv", "raw", *written}
    assert [path.name for path in folder.parent.iterdir()] == ["clip"]


def test_files_of_the_names_of_results_are_refused(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip, mine = write_images(tmp_path / "clip"), tmp_path / "out" / "clip" / "maps" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.touch()
    status, lines = run(capfd, clip, "-w", weights, "-o", tmp_path / "out", "-q", "--outputs", "npz")
    assert (status, mine.exists()) == (1, True)
    assert "clip: holds maps, which no finished prediction wrote" in lines[-1]
    assert "--overwrite" in lines[-1]


@pytest.mark.parametrize("how", ["failed", "killed"])
def test_a_replacement_that_is_cut_off_leaves_what_was_finished(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    how: str,
) -> None:
    clip, folder = write_images(tmp_path / "clip"), tmp_path / "out" / "clip"
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    command = (clip, "-w", weights, "-o", tmp_path / "out", "-q", "--outputs", "npz")
    assert run(capfd, *command)[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if how == "failed":
        rename = Path.rename

        def fail_with_the_last(self: Path, target: Path) -> Path:
            if self.parent.name == ".clip.partial" and self.name == "summary.json":
                raise PermissionError(13, "Permission denied", str(target))
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fail_with_the_last)
            status, lines = run(capfd, *command, "--overwrite", "--stride", 2)
        assert status == 1
        assert "cannot be written" in lines[-1]
    else:
        old = folder.with_name(".clip.old")
        old.mkdir()
        for name in ("summary.json", "saliency.npz"):
            (folder / name).rename(old / name)
        (folder / "saliency.npz").touch()  # of the new result
    assert run(capfd, *command)[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["clip"]


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_an_output_folder_that_is_a_file(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    (tmp_path / "out").touch()
    status, lines = run(
        capfd, write_images(tmp_path / "clip"), "-w", weights, "-o", tmp_path / "out", *options
    )
    assert status == 1
    assert lines[-1] == f"stavis: error: {tmp_path / 'out'}: is a file, not a folder"


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
@pytest.mark.parametrize("name", [b"z\xe1\xf8\xed", b"tab\tand\x1b[31mred", "right\u202eleft".encode()])
def test_any_name_of_a_file_will_do(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: bytes
) -> None:
    clip = write_images(tmp_path / os.fsdecode(name))
    status, _ = run(capfd, clip, "-w", weights, "-o", tmp_path / "out", "--outputs", "npz")
    assert status == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert (folder / "timeline.png").is_file()
    assert json.loads((folder / "summary.json").read_text())["num_frames"] == NUM_FRAMES
    printable(clip.name).encode()  # what is drawn


@pytest.mark.parametrize("home", ["none", "a file"])
def test_without_a_home_a_compiled_network_is_not_kept(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("stavis.engine.openvino")
    monkeypatch.delenv("XDG_CACHE_HOME")
    if home == "none":

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", no_home)
    else:
        (tmp_path / "home").write_text("")
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    model = stavis.load_model("untrained", modality="visual", device="cpu")
    assert not openvino.is_compiled(model)
    openvino._keep(openvino.compiled_path(model, "float32"), b"compiled")
    assert not openvino.is_compiled(model)
