"""Reference rows beside predictions, categories of videos, and frames in the reports of other data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stavis
from stavis import maps, metrics
from stavis.errors import StavisError
from stavis.evaluation.baselines import FITTED, FIXED
from support.commands import run_command


def gaussian(size: tuple[int, int], x: float, y: float, deviations: tuple[float, float]) -> np.ndarray:
    down, across = ((np.arange(n) + 0.5) / n * 2 - 1 for n in size)
    return np.exp(
        -((across[None] - x) ** 2) / (2 * deviations[0] ** 2)
        - (down[:, None] - y) ** 2 / (2 * deviations[1] ** 2)
    )


def write_image(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


@pytest.fixture
def dhf1k(tmp_path: Path) -> Path:
    """Two videos of the validation set and one for training, whose gaze is right of the center."""
    rng = np.random.default_rng(0)
    for video in ("0001", "0601", "0602"):
        for frame in range(1, 13):
            density = gaussian((36, 64), 0.3, -0.2, (0.15, 0.2)) if video == "0001" else rng.random((36, 64))
            write_image(tmp_path / "annotation" / video / "maps" / f"{frame:04d}.png", maps.to_8bit(density))
            fixated = (rng.random((36, 64)) < 0.02) * 255
            write_image(tmp_path / "annotation" / video / "fixation" / f"{frame:04d}.png", fixated)
            write_image(tmp_path / "maps" / video / f"{frame:04d}.png", rng.integers(0, 255, (18, 32)))
    shutil.rmtree(tmp_path / "maps" / "0001")
    return tmp_path


def test_center_prior_is_fitted_to_training_videos(dhf1k: Path) -> None:
    evaluation = stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1)
    assert evaluation.methods == ["predictions", "center", "shuffled"]
    assert evaluation.databases["center"]["validation"].notes == (FITTED,)
    density = maps.read_map(dhf1k / "annotation" / "0601" / "maps" / "0003.png")
    center = maps.resize(gaussian((112, 112), 0.3, -0.2, (0.15, 0.2)), density.shape)
    score = evaluation.listed["center"][0].scores.scores["cc"][2]
    assert score == pytest.approx(metrics.cc(center, density), abs=2e-3)
    remarks = stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1).unavailable
    assert remarks == {"validation": ["no inter-observer row: these data do not tell observers apart"]}


def test_references_can_be_left_out(dhf1k: Path) -> None:
    evaluation = stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1, references=False)
    assert evaluation.methods == ["predictions"]
    assert evaluation.unavailable == {}


def test_center_prior_without_training_videos_is_fixed(dhf1k: Path) -> None:
    shutil.rmtree(dhf1k / "annotation" / "0001")
    evaluation = stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1)
    assert evaluation.databases["center"]["validation"].notes == (FIXED,)


def test_long_videos_are_scored_on_evenly_spaced_frames(dhf1k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stavis.evaluation.baselines.REFERENCE_FRAMES", 4)
    evaluation = stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1)
    assert evaluation.listed["center"][0].scores.frames.tolist() == [0, 3, 6, 9]
    assert evaluation.listed["predictions"][0].scores.frames.size == 12
    assert evaluation.databases["center"]["validation"].notes == (FITTED, "evenly spaced frames only")
    # A baseline that was asked for is scored on every frame.
    asked = stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1, baselines=["center"])
    assert asked.listed["center"][0].scores.frames.size == 12


def test_challenge_fits_the_center_to_training_fixations(golden: Path, tmp_path: Path) -> None:
    inputs = golden / "challenge" / "inputs"
    shutil.copytree(inputs, tmp_path / "data")
    split = {"train": ["pub_c7"], "private_test": ["pub_priv"]}
    (tmp_path / "data" / "TrainTestSplit.json").write_text(json.dumps(split))
    evaluation = stavis.evaluate(
        inputs / "Submission",
        tmp_path / "data",
        tmp_path / "out",
        protocol="challenge",
        databases=["private_test"],
        jobs=1,
        report=False,
    )
    assert evaluation.methods == ["predictions", "center"]
    assert f"pub_priv: {FITTED}" in evaluation.databases["center"]["private_test"].notes
    info = stavis.media.probe(inputs / "SaliencyTest" / "Test" / "pub_c7.mp4")
    lists = json.loads((inputs / "FixationsTest" / "Test" / "pub_c7" / "fixations.json").read_text())
    row, column = np.mean([point for points in lists for point in points], axis=0)
    center = np.load(tmp_path / "out" / "train-mean" / "center.npy")
    highest = np.unravel_index(center.argmax(), center.shape)
    assert highest == (int((row + 0.5) / info.height * 112), int((column + 0.5) / info.width * 112))


# --- Categories and frames --------------------------------------------------------------------------------------------


def test_categories_have_tables(dhf1k: Path) -> None:
    (dhf1k / "categories.csv").write_text("video,category\n0601,talk\n0601,indoors\n0602,sport\n0009,sport\n")
    out = dhf1k / "out"
    options = ("--protocol", "dhf1k", "--data", dhf1k, "-p", dhf1k / "maps", "-o", out, "-j", 1)
    assert "indoors" in run_command("evaluate", *options)
    scores = json.loads((out / "scores.json").read_text())
    assert list(scores["categories"]) == ["indoors", "sport", "talk"]
    assert scores["categories"]["talk"]["predictions"]["cc"] == scores["videos"]["0601"]["cc"]
    assert scores["categories"]["sport"]["center"]["num_videos"] == 1
    assert "| category | maps |" in (out / "scores.md").read_text()
    assert "<h2>Categories</h2>" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,kind\na,b\n", "columns video, kind; video and category"),
        ("video,category\na,\n", "line 2: .*empty"),
    ],
)
def test_wrong_categories_are_refused(dhf1k: Path, text: str, message: str) -> None:
    (dhf1k / "categories.csv").write_text(text)
    with pytest.raises(StavisError, match=message):
        stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1)


def test_reports_of_other_data_show_best_and_worst_frames(dhf1k: Path) -> None:
    evaluation = stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1)
    evaluation.report(dhf1k / "report.html")
    text = (dhf1k / "report.html").read_text()
    assert "<h3>validation, best</h3>" in text
    assert text.count('<img alt="ground truth"') == text.count('<img alt="prediction"') == 4
    assert '<img alt="frame"' not in text
