"""`stavis predict` as its users run it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stavis
from stavis import media
from stavis.clips.preprocess import Preprocessing
from stavis.prediction.outputs import write_published_map
from stavis.prediction.predict import FrameSaliency
from stavis.weights import save_model

NUM_FRAMES, RATE, SIZE = 12, 10, (96, 64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(
        stavis.STAViS(stavis.ModelConfig(depth=10, preprocessing=Preprocessing(input_size=(64, 64)))), folder
    )
    return folder


def write_clip(path: Path, num_frames: int = NUM_FRAMES, *, sound: bool = True) -> Path:
    wave = path.with_suffix(".source.wav")
    media.write_wave(wave, np.sin(np.arange(22050 * 2) / 9).astype(np.float32) / 2, 22050)
    width, height = SIZE
    with media.VideoWriter(
        path, width=width, height=height, frame_rate=RATE, audio_from=wave if sound else None
    ) as writer:
        for i in range(num_frames):
            picture = np.full((height, width, 3), 40, np.uint8)
            picture[20:40, 4 * i : 4 * i + 20] = 220
            writer.write(picture)
    wave.unlink()
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "loud.mp4")
    write_clip(folder / "mute.mkv", sound=False)
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> "Run":
    return Run(capfd)


class Run:
    """Runs the command line in this process; `lines` is what it printed to standard error."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd
        self.text = ""

    def __call__(self, *arguments: object) -> int:
        from stavis.__main__ import main

        argv, sys.argv = sys.argv, ["stavis", *map(str, arguments)]
        try:
            main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        finally:
            sys.argv = argv
        self.text = self.capfd.readouterr().err
        return status


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_all_outputs_of_several_inputs(run: Run, clips: Path, weights: Path, tmp_path: Path) -> None:
    assert (
        run("predict", clips, "-w", weights, "-o", tmp_path, "--outputs", "all", "--contour", 0.2, "--peak")
        == 0
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loud", "mute"]
    for name in ("loud", "mute"):
        folder = tmp_path / name
        maps = sorted((folder / "maps").iterdir())
        assert [m.name for m in maps] == [f"map_{i:06d}.png" for i in range(NUM_FRAMES)]
        first = np.asarray(Image.open(maps[0]))
        assert first.shape == (SIZE[1], SIZE[0])
        assert first.dtype == np.uint8
        archive = np.load(folder / "saliency.npz")
        assert archive["saliency"].shape == (NUM_FRAMES, 64, 64)
        assert archive["saliency"].dtype == np.float16
        assert archive["time_seconds"] == pytest.approx(np.arange(NUM_FRAMES) / RATE)
        assert sorted(p.name for p in (folder / "pred_sal").iterdir())[0] == "pred_sal_000001.jpg"
        for video, has_sound in (("saliency.mp4", False), ("overlay.mp4", name == "loud")):
            info = media.probe(folder / video)
            assert (info.width, info.height) == SIZE
            assert info.frame_rate == RATE
            assert (info.audio is not None) == has_sound
            assert len(list(media.read_frames(folder / video))) == NUM_FRAMES
        rows = (folder / "frames.csv").read_text().splitlines()
        assert len(rows) == NUM_FRAMES + 1
        assert rows[0].startswith("frame,time_seconds,peak_x,")
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["num_frames"] == NUM_FRAMES
        assert summary["sound"] == ("its own" if name == "loud" else "none")
        assert len(summary["weights_sha256"]) == 64
        assert Image.open(folder / "timeline.png").size[0] == 1400


def test_the_gray_video_holds_the_maps(run: Run, clips: Path, weights: Path, tmp_path: Path) -> None:
    assert run("predict", clips / "mute.mkv", "-w", weights, "-o", tmp_path, "--outputs", "maps,video") == 0
    frames = list(media.read_frames(tmp_path / "mute" / "saliency.mp4"))
    for frame, path in zip(frames, sorted((tmp_path / "mute" / "maps").iterdir()), strict=True):
        difference = np.abs(frame.image[..., 0].astype(int) - np.asarray(Image.open(path)).astype(int))
        assert difference.mean() < 3


def test_16_bit_probabilities_at_network_size(run: Run, clips: Path, weights: Path, tmp_path: Path) -> None:
    options = (
        "--map-bits",
        16,
        "--map-size",
        "network",
        "--map-values",
        "probability",
        "--outputs",
        "maps,npz",
    )
    assert run("predict", clips / "mute.mkv", "-w", weights, "-o", tmp_path, *options) == 0
    saliency = np.load(tmp_path / "mute" / "saliency.npz")["saliency"].astype(np.float64)
    for i, path in enumerate(sorted((tmp_path / "mute" / "maps").iterdir())):
        stored = np.asarray(Image.open(path)).astype(np.float64) / 65535
        assert stored == pytest.approx(saliency[i], abs=1e-3)


def test_finished_work_is_skipped_and_missing_outputs_are_added(
    run: Run, clips: Path, weights: Path, tmp_path: Path
) -> None:
    clip, folder = clips / "loud.mp4", tmp_path / "loud"
    assert run("predict", clip, "-w", weights, "-o", tmp_path, "--outputs", "npz") == 0
    stamp = (folder / "saliency.npz").stat().st_mtime_ns
    assert run("predict", clip, "-w", weights, "-o", tmp_path, "--outputs", "npz") == 0
    assert "already finished" in run.text
    assert run("predict", clip, "-w", weights, "-o", tmp_path, "--outputs", "npz,published") == 0
    assert (folder / "saliency.npz").stat().st_mtime_ns == stamp
    assert len(list((folder / "pred_sal").iterdir())) == NUM_FRAMES
    assert json.loads((folder / "summary.json").read_text())["outputs"] == ["npz", "published"]
    # Other settings neither mix with the finished result nor replace it unasked.
    assert run("predict", clip, "-w", weights, "-o", tmp_path, "--outputs", "npz", "--stride", 4) == 1
    assert "stride was 1, now 4" in run.text
    assert (folder / "saliency.npz").stat().st_mtime_ns == stamp
    assert (
        run("predict", clip, "-w", weights, "-o", tmp_path, "--outputs", "npz", "--stride", 4, "--overwrite")
        == 0
    )
    assert (folder / "saliency.npz").stat().st_mtime_ns != stamp
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_bad_file_among_many(run: Run, clips: Path, weights: Path, tmp_path: Path, jobs: int) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\0" * 100)
    output = tmp_path / "out"
    options = ("--outputs", "npz", "--stride", 6, "--jobs", jobs)
    assert (
        run("predict", bad, clips / "loud.mp4", clips / "mute.mkv", "-w", weights, "-o", output, *options)
        == 1
    )
    assert sorted(path.name for path in output.iterdir()) == ["loud", "mute"]
    assert run.text.count("bad.mp4") == 1
    assert "1 of 3 inputs failed" in run.text
    assert "Traceback" not in run.text


def test_reference_quirks_write_the_published_files(
    run: Run, clips: Path, weights: Path, tmp_path: Path
) -> None:
    options = ("--quirks", "reference", "--outputs", "published")
    assert run("predict", clips / "loud.mp4", "-w", weights, "-o", tmp_path, *options) == 0
    names = sorted(path.name for path in (tmp_path / "loud" / "pred_sal").iterdir())
    assert names == [f"pred_sal_{i:06d}.jpg" for i in range(9, NUM_FRAMES + 8)]
    first = Image.open(tmp_path / "loud" / "pred_sal" / names[0])
    assert (first.size, first.mode) == ((112, 112), "L"), "whatever the network's size"


def test_published_maps_are_stretched_enlarged_and_cut_to_8_bits(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    saliency = (0.2 + 0.5 * np.exp(-((y - 20) ** 2 + (x - 40) ** 2) / 200)).astype(np.float32)
    write_published_map(tmp_path, FrameSaliency(4, 0.2, saliency))
    with Image.open(tmp_path / "pred_sal_000005.jpg") as picture:
        written = np.asarray(picture).astype(float)
    assert written.shape == (112, 112)
    # A Gaussian again, at the same place of the picture and as wide in it.
    y, x = (np.mgrid[:112, :112] + 0.5) / 112 * 64 - 0.5
    np.testing.assert_allclose(written, 255 * np.exp(-((y - 20) ** 2 + (x - 40) ** 2) / 200), atol=6)


def test_a_folder_of_pictures_with_another_sound(run: Run, weights: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(5):
        Image.new("RGB", SIZE, (40 * i, 20, 90)).save(frames / f"img_{i + 1:05d}.jpg")
    media.write_wave(
        tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 22050).astype(np.float32), 22050
    )
    options = ("--frame-rate", 12.5, "--audio", tmp_path / "noise.wav", "--outputs", "overlay")
    assert run("predict", frames, "-w", weights, "-o", tmp_path / "out", *options) == 0
    info = media.probe(tmp_path / "out" / "frames" / "overlay.mp4")
    assert info.frame_rate == 12.5
    assert info.audio is not None


BAD = [
    (("--edges", "reference"), "short.mp4", "first 8"),
    (("--start", "9"), "clip.mp4", "has no frame from 9 s on"),
    (("--start", "9", "--context"), "clip.mp4", "has no frame from 9 s on"),
    (("--end", "1", "--start", "2"), "clip.mp4", "must be greater than --start"),
    (("--outputs", "maps,heat"), "clip.mp4", "--outputs heat: allowed"),
    (("--map-bits", "12"), "clip.mp4", "8, 16"),
    (("--device", "cuda:7"), "clip.mp4", "cuda:7"),
    (("--device", "abacus"), "clip.mp4", "abacus"),
    (("--audio-stream", "5"), "clip.mp4", "5"),
    (("--audio", "nothing.wav"), "clip.mp4", "nothing.wav"),
    (("--contour", "2"), "clip.mp4", "--contour"),
    ((), "absent.mp4", "absent.mp4"),
    ((), "text.mp4", "text.mp4"),
    ((), "empty.mp4", "empty.mp4"),
]


@pytest.fixture(scope="module")
def oddities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    write_clip(folder / "clip.mp4")
    write_clip(folder / "short.mp4", 4)
    (folder / "text.mp4").write_text("hello")
    (folder / "empty.mp4").touch()
    return folder


@pytest.mark.parametrize(("options", "name", "message"), BAD, ids=[f"{b[1]}{' '.join(b[0])}" for b in BAD])
def test_bad_input_is_one_clear_line(
    run: Run, oddities: Path, weights: Path, tmp_path: Path, options: tuple[str, ...], name: str, message: str
) -> None:
    assert run("predict", oddities / name, "-w", weights, "-o", tmp_path / "out", "-q", *options) == 1
    lines = [line for line in run.text.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1, run.text
    assert lines[0].startswith("stavis: error: ")
    assert message in lines[0]
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("what", ["absent", "text", "empty folder"])
def test_weights_that_are_none(run: Run, clips: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "weights"
    if what == "text":
        path.write_text("hello")
    elif what == "empty folder":
        path.mkdir()
    assert run("predict", clips / "mute.mkv", "-w", path, "-o", tmp_path / "out") == 1
    assert "Traceback" not in run.text
    assert str(path) in run.text
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(run: Run, clips: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run("predict", clips / "mute.mkv", "-w", weights, "-o", tmp_path / "file") == 1
    assert str(tmp_path / "file") in run.text
    assert "Traceback" not in run.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 kB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kind", ["maps", "npz", "overlay"])
def test_a_full_disk_leaves_nothing(
    run: Run, clips: Path, weights: Path, small_disk: Path, kind: str
) -> None:
    (small_disk / "filler").write_bytes(b"\0" * 40_000)
    assert run("predict", clips / "loud.mp4", "-w", weights, "-o", small_disk / "out", "--outputs", kind) == 1
    assert "space" in run.text.lower()
    assert "Traceback" not in run.text
    assert list((small_disk / "out").iterdir()) == []


def test_untrained_weights_are_said_to_mean_nothing(run: Run, oddities: Path, tmp_path: Path) -> None:
    options = ("-w", "untrained", "-o", tmp_path, "--stride", 12, "--outputs", "npz")
    assert run("predict", oddities / "short.mp4", *options) == 0
    assert "untrained" in run.text


def test_a_terminal_is_not_needed_and_pipes_get_plain_lines(
    run: Run, clips: Path, weights: Path, tmp_path: Path
) -> None:
    assert (
        run("predict", clips / "mute.mkv", "-w", weights, "-o", tmp_path, "--outputs", "npz", "--stride", 6)
        == 0
    )
    assert "mute.mkv: 12/12 frames" in run.text
    assert "\x1b" not in run.text


@pytest.mark.parametrize(("option", "expected"), [("--edges", "2/2 frames"), ("--quirks", "9/9 frames")])
def test_frames_without_a_map_are_not_waited_for(
    run: Run, weights: Path, tmp_path: Path, option: str, expected: str
) -> None:
    video = write_clip(tmp_path / "ten.mkv", 10, sound=False)
    options = ("-w", weights, "-o", tmp_path / "out", "--outputs", "npz", option, "reference")
    assert run("predict", video, *options) == 0
    assert f"ten.mkv: {expected}, " in run.text


def test_one_frame_is_singular(run: Run, weights: Path, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "one.mkv", 1, sound=False)
    assert run("predict", video, "-w", weights, "-o", tmp_path / "out", "--outputs", "npz") == 0
    assert f"{video}: 1 frame, " in run.text
