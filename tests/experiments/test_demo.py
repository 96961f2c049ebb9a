"""`stavis demo` as users run it, on a clip of two seconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stavis
from stavis.clips.preprocess import Preprocessing
from stavis.experiments import demo
from stavis.experiments.demo import NUM_MOMENTS, choose_moments, score
from stavis.synthetic import render_clip
from stavis.synthetic.oracle import SETTLED_SECONDS, oracle_density
from stavis.weights import save_model, sources
from support.commands import run_command


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "CLIP_SECONDS", 2.0)
    monkeypatch.setattr(demo, "CLIP_SIZE", (96, 72))


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that depends on sound: in a fresh one the audio branch has almost no effect."""
    torch.manual_seed(0)
    network = stavis.STAViS(stavis.ModelConfig(depth=10, preprocessing=Preprocessing(input_size=(64, 64))))
    with torch.no_grad():
        for parameter in network.soundnet8.parameters():
            if parameter.ndim > 1:
                parameter *= 100
        network.fuseav.weight *= 100
    path = tmp_path_factory.mktemp("weights") / "default_weights"
    save_model(network, path)
    return path


def test_the_demo_with_default_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEFAULT_FOLDER", folder)
    printed = run_command("demo", "--output", tmp_path)
    assert "default (not the paper's weights)" in printed
    assert "UNTRAINED" not in printed
    assert "stavis predict VIDEO\n" in printed
    record = load(tmp_path / "scores.json")
    assert record["weights"] == "default (not the paper's weights)"
    scores = record["scores"]
    # What is printed is what is saved.
    for row in scores.values():
        line = next(line for line in printed.splitlines() if f"{row['nss']:.3f}" in line)
        assert f"{row['auc_judd']:.3f}" in line
    assert scores["with_sound"] != scores["without_sound"]
    assert scores["center"]["nss"] < scores["knows_sight_and_sound"]["nss"]
    assert scores["one_observer"]["cc"] is None
    for name in ("with-sound", "without-sound"):
        assert (tmp_path / name / "overlay.mp4").is_file()
        assert load(tmp_path / name / "summary.json")["options"]["silent"] == (name == "without-sound")
    with Image.open(tmp_path / "moments.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 20
    again = run_command("demo", "--output", tmp_path)
    assert "Generating" not in again
    assert load(tmp_path / "scores.json") == record, "the same numbers every time"


def test_without_default_weights_it_runs_untrained_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "DEFAULT_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr(demo, "CLIP_SECONDS", 1.0)
    printed = run_command("demo", "--output", tmp_path / "out", "--device", "cpu")
    assert "UNTRAINED" in printed
    assert "their scores\nmean nothing" in printed
    assert "--weights WEIGHTS" in printed
    assert load(tmp_path / "out" / "scores.json")["weights"] == "untrained"


def test_moments_and_scores_follow_from_the_truth(tmp_path: Path) -> None:
    truth = render_clip(tmp_path / "clip.mp4", seed=4, preset="sound-decides", seconds=7.0, size=(96, 72))
    moments = choose_moments(truth)
    assert 1 <= len(moments) <= NUM_MOMENTS
    wait = SETTLED_SECONDS * truth.frame_rate
    for frame in moments:
        source = truth.sounding[frame]
        assert source >= 0
        others = np.flatnonzero(truth.sounding[:frame] != source)
        begun = int(others[-1]) + 1 if others.size else 0
        assert wait <= frame - begun < wait + 1, "as soon as observers have reacted"
    frames = range(truth.num_frames)
    hears, sees = (
        {f: oracle_density(truth, f, hears=h).astype(np.float32) for f in frames} for h in (True, False)
    )
    scores = score(truth, hears, sees)
    for metric in ("cc", "nss", "sim", "auc_judd"):  # the same but for the size, which is the published maps'
        assert scores["with_sound"][metric] == pytest.approx(
            scores["knows_sight_and_sound"][metric], rel=0.03
        )
        assert scores["without_sound"][metric] == pytest.approx(scores["knows_sight"][metric], rel=0.03)
    assert scores["with_sound"]["nss"] > scores["without_sound"]["nss"]
    quiet = render_clip(tmp_path / "other.mp4", seed=4, preset="unrelated", seconds=2.0, size=(96, 72))
    assert choose_moments(quiet) == [6, 19, 31, 44]
