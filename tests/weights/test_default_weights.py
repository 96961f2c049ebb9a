"""Weights by name: those that come with the package, and the published ones."""

import functools
import http.server
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import stavis
from stavis.clips.preprocess import Preprocessing
from stavis.errors import StavisError
from stavis.fetching import site
from stavis.synthetic import render_clip
from stavis.weights import WEIGHTS_FILE, initialize, load_model, load_model_with_report, save_model, sources
from support.commands import run_command
from support.datasets import write_data_set

SMALL = Preprocessing(input_size=(64, 64))


def small_network(seed: int = 0, modality: Any = "audiovisual") -> stavis.STAViS:
    torch.manual_seed(seed)
    return stavis.STAViS(stavis.ModelConfig(modality, depth=10, preprocessing=SMALL))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "talk.mp4"
    render_clip(path, seed=0, seconds=1.0, size=(96, 64), frame_rate=12.0, num_observers=2)
    return path


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights where those of the package are looked for."""
    folder = tmp_path / "package" / "default_weights"
    save_model(small_network(3), folder, half_precision=True)
    (folder / "MODEL_CARD.md").write_text("# Card\n")
    monkeypatch.setattr(sources, "DEFAULT_FOLDER", folder)
    return folder


@pytest.fixture
def no_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEFAULT_FOLDER", tmp_path / "nothing")


# --- The package's ----------------------------------------------------------------------------------------------------


def test_a_video_needs_no_further_argument(
    default: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run_command("predict", clip)
    assert "default" in printed
    assert "not the paper's weights" in printed
    result = tmp_path / "stavis-output" / "talk"
    summary = json.loads((result / "summary.json").read_text())
    assert "default" in summary["weights"]
    assert "not the paper's weights" in summary["weights"]
    assert summary["weights_sha256"] == load_model_with_report(default)[1].sha256
    assert (result / "overlay.mp4").is_file()


def test_the_default_is_taken_wherever_weights_are(default: Path, tmp_path: Path) -> None:
    expected = load_model(default).state_dict()
    for model in (stavis.load_model(), stavis.load_model("default")):
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    data = write_data_set(tmp_path / "data", ("AVAD",), num_frames=(10,), annotations=False).root
    assert "not the paper's weights" in run_command(
        "test", "--data", data, "-o", tmp_path / "run", "--split", 1
    )
    record = json.loads((tmp_path / "run" / "testrun.json").read_text())
    assert "not the paper's weights" in record["weights"]["1"]["name"]
    started = small_network(4)
    report = initialize(started, "default")
    assert report.source == default
    assert all(torch.equal(value, expected[name]) for name, value in started.state_dict().items())


@pytest.mark.usefixtures("no_default")
def test_a_package_without_default_weights_says_so(clip: Path, tmp_path: Path) -> None:
    for command in (
        ["predict", clip, "-o", tmp_path / "out"],
        ["test", "--data", write_data_set(tmp_path / "data", ("AVAD",)).root, "-o", tmp_path / "run"],
        ["export", tmp_path / "exported"],
    ):
        with pytest.raises(StavisError, match="has no default weights"):
            run_command(*command)
    with pytest.raises(StavisError, match="has no default weights"):
        stavis.load_model()
    assert not (tmp_path / "out").exists()


# --- Half precision ---------------------------------------------------------------------------------------------------


def test_half_precision_is_half_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    network = small_network()
    with torch.no_grad():
        network.fusion3.affine_rgb.weight[0, 0] = 70_000.0  # beyond float16
    save_model(network, tmp_path / "whole")
    save_model(network, tmp_path / "half", half_precision=True)
    sizes = [(tmp_path / name / WEIGHTS_FILE).stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    stored = safetensors.torch.load_file(tmp_path / "half" / WEIGHTS_FILE)
    original, loaded = network.state_dict(), load_model(tmp_path / "half").state_dict()
    for name, value in original.items():
        if name == "fusion3.affine_rgb.weight" or value.ndim < 2:
            assert torch.equal(loaded[name], value), "kept as it was"
        else:
            assert stored[name].dtype == torch.float16
            torch.testing.assert_close(loaded[name], value, rtol=2**-11, atol=2**-25)
        assert loaded[name].dtype == value.dtype


def test_convert_to_half_tells_what_it_changes(tmp_path: Path) -> None:
    network = small_network(5)
    save_model(network, tmp_path / "whole", metadata={"recipe": {"seed": 5}})
    with pytest.raises(StavisError, match="--half"):
        run_command("convert", tmp_path / "whole", tmp_path / "copy")
    with pytest.raises(StavisError, match="another folder"):
        run_command("convert", tmp_path / "whole", tmp_path / "whole", "--half", "--overwrite")
    printed = run_command("convert", tmp_path / "whole", tmp_path / "half", "--half")
    assert "maps change by up to" in printed
    assert float(printed.split("maps change by up to ")[1].split()[0]) < 1e-3
    report = load_model_with_report(tmp_path / "half")[1]
    assert report.metadata["recipe"] == {"seed": 5}
    assert report.metadata["converted_from"]["sha256"] == load_model_with_report(tmp_path / "whole")[1].sha256


# --- The published ones -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with published checkpoints, of a small network, in the site's layout."""
    data = tmp_path_factory.mktemp("published")
    tensors = small_network(1, "audiovisual").state_dict() | small_network(1, "visual").state_dict()
    for modality, folder in (("visual", "stavis_visual_only"), ("audiovisual", "stavis_audiovisual")):
        for split in (1, 2):
            path = data / "pretrained_models" / folder / f"{modality}_split{split}_save_60.pth"
            path.parent.mkdir(parents=True, exist_ok=True)
            scaled = {
                name: value * split if value.is_floating_point() else value for name, value in tensors.items()
            }
            torch.save({"epoch": 60, "state_dict": {f"module.{n}": v for n, v in scaled.items()}}, path)
    return data


PREDICT = ("--outputs", "npz", "--stride", 12)


@pytest.mark.parametrize("modality", ["audiovisual", "visual"])
def test_published_weights_by_name(
    published: Path, clip: Path, modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAVIS_DATA", str(published))
    options = () if modality == "audiovisual" else ("--modality", modality)
    printed = run_command("predict", clip, "-w", "published-2", "-o", tmp_path, *options, *PREDICT)
    assert f"{modality}_split2_save_60.pth" in printed
    summary = json.loads((tmp_path / "talk" / "summary.json").read_text())
    assert summary["weights"].endswith(f"{modality}_split2_save_60.pth")


def test_published_weights_that_are_not_there(
    published: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StavisError, match="stavis fetch weights --data data` gets them"):
        run_command("predict", clip, "-w", "published-1")
    with pytest.raises(StavisError, match="published-1, published-2, published-3"):
        run_command("predict", clip, "-w", "published-4")
    with pytest.raises(StavisError, match="--fetch is for weights published-1"):
        run_command("predict", clip, "-w", "untrained", "--fetch")
    monkeypatch.setenv("STAVIS_DATA", str(published))
    with pytest.raises(StavisError, match="audiovisual_split3"):
        run_command("predict", clip, "-w", "published-3")


def test_test_runs_take_published_weights_from_their_data_folder(published: Path, tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", ("AVAD",), num_frames=(10,), annotations=False).root
    (data / "pretrained_models").symlink_to(published / "pretrained_models")
    for split in (1, 2):
        run_command(
            "test", "--data", data, "-w", "published-{split}", "-o", tmp_path / "run", "--split", split
        )
    record = json.loads((tmp_path / "run" / "testrun.json").read_text())
    for split in ("1", "2"):
        assert record["weights"][split]["name"].endswith(f"audiovisual_split{split}_save_60.pth")


@pytest.fixture
def server(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The published site on this machine; gives the requests that it got."""
    root = tmp_path / "site"
    (root / "data").mkdir(parents=True)
    with tarfile.open(root / "data" / "pretrained_models.tar.gz", "w:gz", compresslevel=0) as archive:
        archive.add(published / "pretrained_models", "pretrained_models")
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            requests.append(f"{self.command} {self.path}")

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(root))
    ) as one:
        monkeypatch.setattr(site, "SITE", f"http://127.0.0.1:{one.server_port}")
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield requests
        one.shutdown()
        thread.join()


def test_published_weights_are_fetched_if_asked(
    server: list[str], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAVIS_DATA", str(tmp_path / "data"))
    command = ("predict", clip, "-w", "published-1", "-o", tmp_path / "out", *PREDICT)
    with pytest.raises(StavisError, match="stavis fetch weights"):
        run_command(*command)
    with pytest.raises(StavisError, match="published-1, published-2, published-3"):
        run_command("predict", clip, "-w", "published-12", "--fetch")
    assert server == [], "nothing is fetched for a name that there is not"
    run_command(*command, "--fetch")
    assert (tmp_path / "out" / "talk" / "saliency.npz").is_file()
    assert any("pretrained_models" in request for request in server)
    server.clear()
    run_command(*command, "--fetch", "--overwrite")
    assert server == [], "what is there is not asked for again"
