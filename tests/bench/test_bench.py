"""What the benchmark counts and shows; the whole command on a tiny network."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stavis
from stavis.bench.bench import BenchReport, draw_roofline
from stavis.bench.machine import MachineSpeed, count_work, moving_pictures, peak_megabytes
from stavis.bench.measure import EngineSpeed, MediaSpeed
from stavis.clips.preprocess import Preprocessing
from stavis.weights import save_model

SMALL = Preprocessing(input_size=(64, 64))


def test_work_is_counted_by_the_definition() -> None:
    config = stavis.ModelConfig(modality="visual", depth=10, preprocessing=SMALL)
    whole, shared = (count_work(config, shared_stem=shared) for shared in (False, True))
    stem = 2 * 64 * 16 * 32 * 32 * 3 * 7**3  # products and sums of 16 frames
    assert whole.flop - shared.flop == pytest.approx(stem * 15 / 16)

    # Every layer of the residual stages, from its sizes: (channels in, out, taps, output places).
    def places(scale: int) -> int:
        return 16 // (scale // 2) * (64 // scale) ** 2

    layers = [(64, 64, 27, places(4))] * 2
    layers += [(64, 128, 27, places(8)), (128, 128, 27, places(8)), (64, 128, 1, places(8))]
    layers += [(128, 256, 27, places(16)), (256, 256, 27, places(16)), (128, 256, 1, places(16))]
    stages = sum(2 * i * o * taps * n for i, o, taps, n in layers)
    sides = 0
    for scale, channels in ((2, 64), (4, 64), (8, 128), (16, 256)):
        n = (64 // scale) ** 2
        sides += 2 * n * (channels * 16 * 9 + 16)  # side_prep, score_dsn
        sides += 2 * n * (16 * 16 + 1) * (2 * scale) ** 2  # upscale, upscale_
    assert whole.flop == pytest.approx(stem + stages + sides + 2 * 64 * 64 * 64)
    assert whole.bytes > shared.bytes > 4 * sum(p.numel() for p in stavis.STAViS(config).parameters()) * 0.9


def a_report() -> BenchReport:
    machine = MachineSpeed("cpu", "A processor", 2, 138.0, 20.0)
    engine = EngineSpeed("torch", "float32", 1.0, 0.18, 5.5, 73.0, 60.0, 5.9, 900.0)
    engines = (engine, replace(engine, engine="openvino", precision="int8", gflops=260.0, intensity=240.0))
    return BenchReport(
        "0.1", "2.13", "untrained", 50, "audiovisual", "generated", 1280, 720, 64, machine, MediaSpeed(150, 60), engines
    )  # fmt: skip


def test_the_roofline_is_a_picture(tmp_path: Path) -> None:
    draw_roofline(a_report(), tmp_path / "roofline.png")
    with Image.open(tmp_path / "roofline.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_pictures_move() -> None:
    pictures = list(moving_pictures(3, (64, 48)))
    assert pictures[0].shape == (48, 64, 3)
    assert not np.array_equal(pictures[0], pictures[1])


def test_the_peak_is_that_of_this_process() -> None:
    before = peak_megabytes()
    held = torch.ones(50_000_000)  # 200 MB
    assert peak_megabytes() >= before
    assert peak_megabytes() > held.numel() * 4 / 1e6


@pytest.mark.slow
def test_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stavis.__main__ import main

    torch.manual_seed(0)
    save_model(stavis.STAViS(stavis.ModelConfig(depth=10, preprocessing=SMALL)), tmp_path / "weights")
    arguments = ["bench", "-w", str(tmp_path / "weights"), "-o", str(tmp_path / "out"), "--frames", "17"]
    monkeypatch.setattr(sys, "argv", ["stavis", *arguments, "--device", "cpu", "--threads", "1"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    shown = capfd.readouterr().out
    assert "plain" in shown
    report = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [one["engine"] for one in report["engines"]][:2] == ["plain", "torch"]
    for one in report["engines"]:
        assert one["network_fps"] > 0
        assert one["end_to_end_fps"] > 0
        assert one["peak_megabytes"] > 100
    assert (tmp_path / "out" / "roofline.png").stat().st_size > 10_000


def test_a_video_that_is_not_there(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stavis.__main__ import main

    monkeypatch.setattr(sys, "argv", ["stavis", "bench", "--video", "nowhere.mp4"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    assert "nowhere.mp4: no such file (--video)" in capfd.readouterr().err
