"""Prediction of manifests on Ray, and what happens when its processes are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import stavis
from stavis.clips.preprocess import Preprocessing
from stavis.weights import save_model

pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.slow  # a local Ray takes several seconds to start
NUM_VIDEOS, NUM_FRAMES = 12, 20


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = stavis.ModelConfig("visual", 10, preprocessing=Preprocessing(input_size=(64, 64)))
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(stavis.STAViS(config), folder)
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve folders of images, one of them damaged."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(NUM_VIDEOS):
        (folder / f"v{number}").mkdir()
        for i in range(NUM_FRAMES):
            color = (10 * i, 20 * number, 50)
            Image.new("RGB", (96, 64), color).save(folder / f"v{number}" / f"img_{i + 1:05d}.png")
    (folder / "v7" / "img_00001.png").write_bytes(b"damaged")
    table = folder / "videos.csv"
    table.write_text("uri,name\n" + "".join(f"v{number},v{number}\n" for number in range(NUM_VIDEOS)))
    return table


def arguments(manifest: Path, weights: Path, output: Path, *more: str) -> list[str]:
    options = {
        "--manifest": manifest,
        "--weights": weights,
        "--output": output,
        "--outputs": "npz",
        "--frame-rate": 25,
    }
    return ["predict", *(str(one) for pair in options.items() for one in pair), "--quiet", *more]


def on_ray(manifest: Path, weights: Path, output: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [
        sys.executable,
        "-m",
        "stavis",
        *arguments(manifest, weights, output, "--ray", "local", "--jobs", "2"),
    ]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read_index(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow_parquet.read_table(output / "index.parquet").to_pylist()
    return rows


def check(output: Path, expected: Path) -> None:
    """Every video once, with the results of an undisturbed run."""
    found = [{**row, "seconds": 0} for row in read_index(output)]
    wanted = [{**row, "seconds": 0} for row in read_index(expected)]
    assert [row["name"] for row in found] == sorted(f"v{number}" for number in range(NUM_VIDEOS))
    for row, other in zip(found, wanted, strict=True):
        assert row["status"] == other["status"] == ("failed" if row["name"] == "v7" else "done")
        assert row["frames"] == other["frames"]
        if row["status"] == "done":
            archive = Path(row["name"]) / "saliency.npz"
            assert (output / archive).read_bytes() == (expected / archive).read_bytes()
        else:
            assert "img_00001.png" in row["error"]
            assert "img_00001.png" in other["error"]


@pytest.fixture(scope="module")
def expected(manifest: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("expected")
    results = stavis.predict_files(
        output=output, manifest=manifest, weights=weights, outputs="npz", quiet=True, frame_rate=25
    )
    assert len(results) == NUM_VIDEOS
    return output


def finished(output: Path) -> list[Path]:
    return list(output.glob("v*/summary.json"))


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    for _ in range(2400):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("nothing happened in four minutes")


def workers_of(process: "subprocess.Popen[str]") -> Iterator[Any]:
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "ray::" in " ".join(child.cmdline()) and "MapWorker" in " ".join(child.cmdline()):
                yield child
        except psutil.Error:
            continue


def test_killed_workers_and_drivers_lose_nothing(
    manifest: Path, weights: Path, expected: Path, tmp_path: Path
) -> None:
    driver = on_ray(manifest, weights, tmp_path)
    wait_for(lambda: len(finished(tmp_path)) >= 2, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    done = {path: path.stat().st_mtime_ns for path in finished(tmp_path)}
    assert 2 <= len(done) < NUM_VIDEOS - 1

    again = on_ray(manifest, weights, tmp_path)
    wait_for(lambda: len(finished(tmp_path)) > len(done) and any(workers_of(again)), again)
    next(workers_of(again)).kill()
    printed, _ = again.communicate(timeout=600)
    assert again.returncode == 1, printed
    assert "1 of 12 inputs failed" in printed
    check(tmp_path, expected)
    assert all(path.stat().st_mtime_ns == before for path, before in done.items()), (
        "finished work was done again"
    )
    assert json.loads(next(iter(done)).read_text())["num_frames"] == NUM_FRAMES
