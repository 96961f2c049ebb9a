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
from PIL import Image

import stavis
from support.datasets import write_data_set
from support.networks import tiny_weights
from support.videos import make_video, tone

pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.slow  # a local Ray takes several seconds to start
NUM_VIDEOS, NUM_FRAMES = 12, 20


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")


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


def test_weights_that_cannot_be_loaded_stop_everything(manifest: Path, tmp_path: Path) -> None:
    process = on_ray(manifest, tmp_path / "nowhere", tmp_path / "out")
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "nowhere" in printed
    assert "Traceback" not in printed
    assert read_index(tmp_path / "out") == []


def test_test_runs_and_evaluations_equal_those_of_one_process(weights: Path, tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", ("DIEM",), num_frames=(20, 12), audio=False).root
    options = ["--data", str(data), "--weights", str(weights), "--audio", "silent", "--quiet"]
    on_cluster = ["--ray", "local", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "stavis", *arguments], check=True, env=environment, cwd=tmp_path
        )

    run("test", *options, "--output", "one")
    run("test", *options, "--output", "ray", *on_cluster)
    maps = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.jpg")}
        for root in map(tmp_path.joinpath, ("one", "ray"))
    ]
    assert maps[0] == maps[1]
    assert len(maps[0]) == 3 * (12 + 4)
    scored = [
        "evaluate",
        "--data",
        str(data),
        "--predictions",
        "one",
        "--no-report",
        "--no-references",
        "--quiet",
    ]
    run(*scored, "--output", "scores-one", "--jobs", "1")
    run(*scored, "--output", "scores-ray", *on_cluster)
    for name in ("frames.csv", "videos.csv"):
        assert (tmp_path / "scores-one" / name).read_bytes() == (tmp_path / "scores-ray" / name).read_bytes()


def test_many_videos_from_and_to_object_storage(weights: Path, tmp_path: Path) -> None:
    """On Ray, with a server that fails now and then, and every twentieth video damaged."""
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    from support.object_store import object_store

    num_videos = int(os.environ.get("STAVIS_NUM_VIDEOS", "200"))
    make_video(tmp_path / "a.mp4", 10, sounds=[("aac", tone(0.4, 44100), 44100, 0.0)])
    good = (tmp_path / "a.mp4").read_bytes()
    names = [f"v{number:03}" for number in range(num_videos)]
    damaged = set(names[7::20])
    rows = "".join(f"s3://videos/{name}.mp4,{name},{len(good)}\n" for name in names)
    (tmp_path / "videos.csv").write_text("uri,name,size\n" + rows)
    (local,) = stavis.predict_files(tmp_path / "a.mp4", tmp_path, weights=weights, outputs="npz", quiet=True)
    with object_store() as store:
        files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        files.mkdir("videos")
        files.mkdir("results")
        for name in names:
            files.pipe_file(f"videos/{name}.mp4", b"damaged" if name in damaged else good)
        store.reset()
        store.fail(busy=23, cut=41)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        more = ("--ray", "local", "--jobs", "2")
        command = [
            sys.executable,
            "-m",
            "stavis",
            *arguments(tmp_path / "videos.csv", weights, Path("out"), *more),
        ]
        command[command.index("out")] = "s3://results/out"
        printed = subprocess.run(command, env=environment, capture_output=True, text=True).stderr
        store.fail()
        read = store.counts("/videos/v")
        with files.open("results/out/index.parquet") as file:
            index = pyarrow_parquet.read_table(file).to_pylist()
        assert [row["name"] for row in index] == names, printed
        assert {row["name"] for row in index if row["status"] == "failed"} == damaged
        assert all(row["error"].startswith(row["uri"]) for row in index if row["status"] == "failed")
        expected = (local.folder / "saliency.npz").read_bytes()
        for name in set(names) - damaged:
            assert files.cat_file(f"results/out/{name}/saliency.npz") == expected
    whole = (num_videos - len(damaged)) * len(good)
    sent = sum(num_bytes for _, num_bytes in read.values())
    assert whole <= sent < 1.15 * whole, "each byte once, but for requests that were cut"
    assert "do-not-print-me" not in printed
