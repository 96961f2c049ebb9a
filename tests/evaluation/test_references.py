"""Reference rows beside predictions, categories of videos, and frames in the reports of other data."""

import json
import os
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
    (center_file,) = (tmp_path / "out" / "train-mean").glob("center_*.npy")
    center = np.load(center_file)
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


# --- What is fitted to the data ---------------------------------------------------------------------------------------


def test_overwrite_fits_again(dhf1k: Path) -> None:
    """The center prior and the negatives of the shuffled AUC are of the data as they are now."""

    def scores(**options: bool) -> np.ndarray:
        run = stavis.evaluate(dhf1k / "maps", dhf1k, dhf1k / "out", protocol="dhf1k", jobs=1, **options)
        return np.array(
            [run.means(m)["validation"][k] for m, k in (("center", "cc"), ("predictions", "auc_shuffled"))]
        )

    before = scores(report=False)
    folder = dhf1k / "annotation"
    for frame in range(1, 13):
        density = maps.read_map(folder / "0001" / "maps" / f"{frame:04d}.png")
        write_image(folder / "0001" / "maps" / f"{frame:04d}.png", density[:, ::-1])
        for video in ("0601", "0602"):
            fixated = maps.read_map(folder / video / "fixation" / f"{frame:04d}.png")
            write_image(folder / video / "fixation" / f"{frame:04d}.png", np.roll(fixated, 5, axis=1))
    after = scores(report=False, overwrite=True)
    assert (np.abs(after - before) > 1e-6).all()
    shutil.rmtree(dhf1k / "out")
    np.testing.assert_allclose(scores(report=False), after)


def test_shuffled_frames_have_the_same_number(dhf1k: Path) -> None:
    """Also of a longer video, whose first frames follow its last, and where not all frames are scored."""
    for frame in range(9, 13):
        for kind in ("maps", "fixation"):
            (dhf1k / "annotation" / "0602" / kind / f"{frame:04d}.png").unlink()
    run = stavis.evaluate(
        None, dhf1k, protocol="dhf1k", databases=["validation"], baselines=["shuffled"], stride=3, jobs=1
    )
    (scores,) = (x.scores for x in run.listed["shuffled"] if x.scores.video == "0601")
    assert scores.frames.tolist() == [0, 3, 6, 9]
    folder = dhf1k / "annotation"
    for score, frame, other in zip(scores.scores["cc"], (1, 4, 7, 10), (1, 4, 7, 2), strict=True):
        density = maps.read_map(folder / "0601" / "maps" / f"{frame:04d}.png")
        expected = metrics.cc(maps.read_map(folder / "0602" / "maps" / f"{other:04d}.png"), density)
        assert score == pytest.approx(expected, abs=1e-12)


def test_frames_without_ground_truth_shift_no_others(dhf1k: Path) -> None:
    for kind in ("maps", "fixation"):
        (dhf1k / "annotation" / "0601" / kind / "0003.png").unlink()
    run = stavis.evaluate(dhf1k / "maps", dhf1k, dhf1k / "out", protocol="dhf1k", references=False, jobs=1)
    (scores,) = (x.scores for x in run.listed["predictions"] if x.scores.video == "0601")
    assert scores.frames.tolist() == [0, 1, *range(3, 12)]
    density = maps.read_map(dhf1k / "annotation" / "0601" / "maps" / "0012.png")
    saliency = maps.resize(maps.read_map(dhf1k / "maps" / "0601" / "0012.png"), density.shape)
    assert scores.scores["cc"][-1] == pytest.approx(metrics.cc(saliency, density), abs=1e-12)


@pytest.fixture
def msu(tmp_path: Path) -> Path:
    """One frame each of two videos."""
    rng = np.random.default_rng(0)
    for video in ("a", "b"):
        for kind in ("gaussians", "fixations"):
            values = (
                rng.integers(0, 255, (36, 64)) if kind == "gaussians" else (rng.random((36, 64)) < 0.1) * 255
            )
            write_image(tmp_path / "GT" / video / kind / "0001.png", values)
        write_image(tmp_path / "maps" / video / "0001.png", rng.integers(0, 255, (36, 64)))
    return tmp_path


def test_msu_center_is_the_benchmarks(msu: Path) -> None:
    write_image(msu / "gt_cp.png", gaussian((36, 64), 0.4, 0.2, (0.2, 0.3)) * 255)

    def center() -> float:
        run = stavis.evaluate(msu / "maps", msu, protocol="msu", jobs=1)
        return run.listed["center"][0].scores.scores["cc"][0]

    own = center()
    prior, density = (maps.read_map(p) for p in (msu / "gt_cp.png", msu / "GT/a/gaussians/0001.png"))
    assert own == pytest.approx(metrics.cc(prior, density), abs=0.01)
    (msu / "gt_cp.png").unlink()
    assert abs(center() - own) > 0.01


def test_msu_takes_archives_as_images(msu: Path) -> None:
    """Their fit and their scores have the same values, whatever the type."""

    def scores() -> np.ndarray:
        run = stavis.evaluate(msu / "maps", msu, protocol="msu", jobs=1, references=False)
        return np.array([run.means(method)["MSU"]["cc"] for method in ("predictions", "unadapted")])

    expected = scores()
    saliency = maps.read_map(msu / "maps" / "a" / "0001.png")[None]
    shutil.rmtree(msu / "maps" / "a")
    for values in (saliency, saliency.astype(np.uint16) * 257, saliency / 255):
        np.savez(msu / "maps" / "a.npz", saliency=values, index=[0])
        np.testing.assert_allclose(scores(), expected, atol=1e-12)
    np.savez(msu / "maps" / "a.npz", saliency=saliency * 1.0, index=[0])
    with pytest.raises(StavisError, match=r"a\.npz: values of frame 1 are .* in 0..1, are allowed"):
        scores()


# --- Names and numbers ------------------------------------------------------------------------------------------------


def test_videos_of_any_name(dhf1k: Path) -> None:
    """Hidden folders are passed over; a name in another encoding, or that numpy uses itself, is like any other."""
    expected = stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1).means("predictions")
    names = {"0601": os.fsdecode(b"v\xff"), "0602": "file"}
    for folder in (dhf1k / "annotation", dhf1k / "maps"):
        for name, other in names.items():
            (folder / name).rename(folder / other)
    shutil.rmtree(dhf1k / "annotation" / "0001")
    (dhf1k / "annotation" / ".thumbnails" / "maps").mkdir(parents=True)
    run = stavis.evaluate(dhf1k / "maps", dhf1k, dhf1k / "out", protocol="dhf1k", jobs=1)
    assert run.means("predictions")["DHF1K"] == pytest.approx(expected["validation"])
    assert {x.scores.video for x in run.listed["predictions"]} == set(names.values())
    assert "v?" in (dhf1k / "out" / "frames.csv").read_text()


def test_numbers_beyond_dhf1k_are_one_set(dhf1k: Path) -> None:
    for folder in (dhf1k / "annotation", dhf1k / "maps"):
        (folder / "0602").rename(folder / "1001")
    shutil.rmtree(dhf1k / "annotation" / "0001")
    assert list(stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1).scores) == ["DHF1K"]
    with pytest.raises(StavisError, match="0601 has 12 frames, and scoring starts at frame 14"):
        stavis.evaluate(dhf1k / "maps", dhf1k, protocol="dhf1k", jobs=1, first_frame=13)
