"""Protocols of other data: challenges, the MSU benchmark and DHF1K, against numbers recorded from published scripts."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import stavis
from stavis import maps, metrics
from stavis.errors import StavisError
from stavis.evaluation.summary import Evaluation
from stavis.maps.bilinear import resize_bilinear
from stavis.metrics.challenge import count_at_least, expected_auc, stepwise_auc
from support.commands import run_command

CHALLENGE_METRICS = ("cc", "sim", "nss", "auc_judd")


def frames_of(evaluation: Evaluation, video: str, method: str = "predictions") -> dict[str, np.ndarray]:
    return {
        m: np.asarray(v)
        for x in evaluation.listed[method]
        if x.scores.video == video
        for m, v in x.scores.scores.items()
    }


# --- Challenges -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def challenge(golden: Path) -> Path:
    return golden / "challenge"


@pytest.fixture(scope="module")
def expected(challenge: Path) -> Any:
    return json.loads((challenge / "expected.json").read_text())


def challenge_tolerance(metric: str, recorded: Any) -> float:
    if metric == "auc_judd":
        return 1e-12 if recorded["gt_hw"] == recorded["pred_hw"] else 3e-4
    return 2e-6 if "gray" in recorded["pred_encoded_as"] else 1e-9


@pytest.fixture(scope="module")
def reference(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Any]:
    out = tmp_path_factory.mktemp("challenge")
    evaluation = stavis.evaluate(
        challenge / "inputs" / "Submission",
        challenge / "inputs",
        out,
        protocol="challenge",
        quirks="reference",
        jobs=1,
    )
    return evaluation, json.loads((out / "scores.json").read_text())


def test_challenge_equals_the_script(reference: tuple[Evaluation, Any], expected: Any) -> None:
    evaluation, record = reference
    for name, recorded in expected["videos"].items():
        scores = frames_of(evaluation, name)
        for metric in CHALLENGE_METRICS:
            tolerance = challenge_tolerance(metric, recorded)
            np.testing.assert_allclose(
                scores[metric],
                recorded["per_frame"][metric],
                rtol=0,
                atol=tolerance,
                err_msg=f"{name} {metric}",
            )
            tolerance = min(tolerance, 5e-5)
            assert record["videos"][name][metric] == pytest.approx(recorded["mean"][metric], abs=tolerance)
    for subset, recorded in expected["final"].items():
        for metric, value in recorded["mean_of_video_means"].items():
            assert record["databases"][subset][metric] == pytest.approx(value, abs=5e-5)


@pytest.fixture
def private(challenge: Path, tmp_path: Path) -> Path:
    """The data of one video, to be changed."""
    root = tmp_path / "data"
    for part in (
        "SaliencyTest/Test/pub_priv.mp4",
        "FixationsTest/Test/pub_priv/fixations.json",
        "Submission/pub_priv.mp4",
    ):
        (root / part).parent.mkdir(parents=True)
        shutil.copy(challenge / "inputs" / part, root / part)
    (root / "TrainTestSplit.json").write_text(json.dumps({"train": ["tr_0"], "private_test": ["pub_priv"]}))
    return root


def evaluate_private(root: Path, quirks: Any) -> dict[str, np.ndarray]:
    evaluation = stavis.evaluate(root / "Submission", root, protocol="challenge", quirks=quirks, jobs=1)
    return frames_of(evaluation, "pub_priv")


def test_challenge_mutations(private: Path, expected: Any) -> None:
    """Edits of one frame's fixations give what the script gave, or are refused where it stopped."""
    path = private / "FixationsTest/Test/pub_priv/fixations.json"
    original = json.loads(path.read_text())
    num_tried = 0
    for mutation in expected["mutations"]:
        change = mutation.get("set_fixations")
        if change is None:
            continue
        lists = list(original)
        lists[change["frame_index"]] = change["value"]
        path.write_text(json.dumps(lists))
        num_tried += 1
        if mutation["raises"]:
            with pytest.raises(StavisError, match="the published script stops there"):
                evaluate_private(private, "reference")
            continue
        scores = evaluate_private(private, "reference")
        for metric, value in mutation["frame_result"].items():
            assert scores[metric][change["frame_index"]] == pytest.approx(value, abs=1e-9), mutation[
                "mutation"
            ]
    assert num_tried >= 8


def test_challenge_fixed_differs_where_documented(private: Path, expected: Any) -> None:
    path = private / "FixationsTest/Test/pub_priv/fixations.json"
    lists = json.loads(path.read_text())[:12]
    lists[3] = []
    lists[4] = [[3.0, 2.0], [96, 0], [-1, 5]]
    path.write_text(json.dumps(lists))
    evaluation = stavis.evaluate(private / "Submission", private, protocol="challenge", jobs=1)
    scores, recorded = frames_of(evaluation, "pub_priv"), expected["videos"]["pub_priv"]["per_frame"]
    for metric in ("cc", "sim"):
        np.testing.assert_allclose(scores[metric], recorded[metric], rtol=0, atol=1e-9)
    assert math.isnan(scores["nss"][3])
    assert math.isnan(scores["auc_judd"][3])
    # Two here, and one that the recorded file has in another frame.
    assert evaluation.listed["predictions"][0].scores.notes == ("3 fixations outside the frame ignored",)
    # Elsewhere, AUC-Judd differs by the number of distinct fixated pixels.
    inside = [min(map(min, points), default=-1) >= 0 for points in lists]
    unchanged = [i for i in range(12) if inside[i]]
    assert len(unchanged) == 9
    np.testing.assert_allclose(
        scores["auc_judd"][unchanged], np.array(recorded["auc_judd"])[unchanged], atol=5e-3
    )


def test_challenge_predictions_of_other_lengths_are_refused(private: Path, challenge: Path) -> None:
    shutil.copy(challenge / "inputs/Submission/pub_a001.mp4", private / "Submission" / "pub_priv.mp4")
    with pytest.raises(StavisError, match="20 frames, the ground truth has 12"):
        evaluate_private(private, "reference")
    (private / "Submission" / "pub_priv.mp4").unlink()
    with pytest.raises(StavisError, match="no maps of any"):
        evaluate_private(private, "fixed")
    with pytest.raises(StavisError, match="no TrainTestSplit"):
        stavis.evaluate(private / "Submission", private / "Submission", protocol="challenge")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("split", '{"test": "pub_priv"}', "not of the form"),
        ("split", '["pub_priv"]', "not of the form"),
        ("split", '{"test": ["../pub_priv"]}', "'../pub_priv' is not a name"),
        ("split", '{"a/../../b": ["pub_priv"]}', "'a/../../b' is not a name"),
        ("fixations", "[[[1" + 400 * "0" + ", 1]]]", r"frame 1: not a list of \[row, column\]"),
        ("fixations", "[[[]]]", r"frame 1: not a list of \[row, column\]"),
        ("fixations", "[[[[1, 2], [3, 4]]]]", r"frame 1: not a list of \[row, column\]"),
        ("fixations", 100_000 * "[", "not JSON"),
    ],
    ids=["string", "list", "parent", "folders", "huge", "empty", "nested", "deep"],
)
def test_wrong_challenge_files_are_named(private: Path, file: str, text: str, message: str) -> None:
    path = {"split": "TrainTestSplit.json", "fixations": "FixationsTest/Test/pub_priv/fixations.json"}[file]
    (private / path).write_text(text)
    with pytest.raises(StavisError, match=message) as refused:
        evaluate_private(private, "fixed")
    assert path in str(refused.value)


def test_challenge_folders_as_they_come(private: Path, tmp_path: Path) -> None:
    """Behind links, with a byte order mark, a name twice, a position far outside, and hidden files."""
    path = private / "FixationsTest/Test/pub_priv/fixations.json"
    expected = evaluate_private(private, "fixed")
    lists = json.loads(path.read_text())
    lists[0] = [*lists[0], [1e300, -1e300]]
    path.write_text(json.dumps(lists), encoding="utf-8-sig")
    (private / "TrainTestSplit.json").write_text('{"test": ["pub_priv", "pub_priv"]}', encoding="utf-8-sig")
    (private / "SaliencyTest/Test/._pub_priv.mp4").write_bytes(b"of macOS")
    (tmp_path / "linked").mkdir()
    for entry in private.iterdir():
        (tmp_path / "linked" / entry.name).symlink_to(entry)
    (private / "SaliencyTest/again").symlink_to(private / "SaliencyTest")
    for metric, scores in evaluate_private(tmp_path / "linked", "fixed").items():
        np.testing.assert_array_equal(scores, expected[metric])
    shutil.copytree(private / "SaliencyTest/Test", private / "SaliencyOld")
    with pytest.raises(StavisError, match=r"SaliencyTest/Test/pub_priv.mp4: both are of pub_priv"):
        evaluate_private(private, "fixed")


def test_frame_1000_is_paired_in_order_of_text() -> None:
    from stavis.evaluation.protocols.challenge import _text_order

    names = [f"{number:03d}" for number in range(1, 1013)]
    order = _text_order(1012)
    assert [order.index(position) for position in range(1012)] == sorted(range(1012), key=names.__getitem__)
    assert sum(position != frame for frame, position in enumerate(order)) == 912  # as recorded


# --- Parts ------------------------------------------------------------------------------------------------------------


def test_pixels_that_reach_thresholds_are_counted_exactly() -> None:
    rng = np.random.default_rng(0)
    for values in (
        rng.random(5000),
        rng.integers(0, 6, 5000) / 5,
        np.full(40, 0.3),
        1 + rng.random(999) * 1e-9,
    ):
        thresholds = np.sort(values[rng.integers(0, values.size, 30)])[::-1]
        expected = (values >= thresholds[:, None]).sum(axis=1)
        np.testing.assert_array_equal(count_at_least(values, thresholds), expected)


def test_without_ties_both_aucs_agree() -> None:
    rng = np.random.default_rng(1)
    prediction = rng.permutation(30 * 40).reshape(30, 40) / 1200
    fixated = rng.choice(1200, 17, replace=False)
    assert stepwise_auc(prediction, fixated, 17) == pytest.approx(
        expected_auc(prediction, fixated), abs=1e-12
    )


def test_bilinear_resizing_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(2).random((13, 22))
    for size in ((40, 61), (7, 9), (13, 50), (1, 1)):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(values)[None, None], size, mode="bilinear"
        )[0, 0]
        np.testing.assert_allclose(resize_bilinear(values, size), expected, atol=1e-12)


# --- MSU benchmark ----------------------------------------------------------------------------------------------------

MSU_TOLERANCES = {"adapted": {"nss": 5e-3, "auc_judd": 1e-3}, "plain": {"auc_judd": 3e-4}}


@pytest.mark.parametrize("model", ["smooth", "inverted", "levels"])
def test_msu_equals_the_script(model: str, golden: Path, tmp_path: Path) -> None:
    from stavis.evaluation.protocols.msu import read_adaptation

    folder = golden / "challenge" / "vspb"
    models = json.loads((folder / "expected.json").read_text())["models"]
    if model not in models:
        pytest.skip("only all recorded numbers have this model: set STAVIS_GOLDENS to their folder")
    recorded = models[model]
    evaluation = stavis.evaluate(
        folder / "inputs" / "models" / model,
        folder / "inputs",
        tmp_path,
        protocol="msu",
        quirks="reference",
        report=False,
        jobs=1,
    )
    adaptation = read_adaptation(next((tmp_path / "adaptation").iterdir()))
    counts = np.array(recorded["bin_counts"])
    assert adaptation.beta == pytest.approx(recorded["beta"], abs=1e-5)
    assert np.abs(adaptation.counts - counts).sum() <= 1e-3 * counts.sum()
    squares = counts * (adaptation.curve - np.array(recorded["map"])) ** 2
    assert math.sqrt(squares.sum() / counts.sum()) <= 5e-4
    for method, kind in (("predictions", "adapted"), ("unadapted", "plain")):
        for video, values in recorded[kind].items():
            scores = frames_of(evaluation, video, method)
            for metric, frames in values["per_frame"].items():
                default = 1e-4 if kind == "adapted" else 1e-9
                tolerance = MSU_TOLERANCES[kind].get(metric, default)
                if kind == "plain" and metric == "auc_judd" and model == "levels":
                    tolerance = 2e-2
                difference = np.abs(scores[metric] - np.array(frames))
                if kind == "plain" and model == "smooth" and metric in ("cc", "nss", "auc_judd"):
                    difference = np.delete(
                        difference, 3
                    )  # a constant frame: the script's scores are rounding noise
                assert difference.max() <= tolerance, (kind, video, metric)
        for metric, value in recorded[f"{kind}_final"].items():
            loose = {"auc_judd": 2e-2, "nss": 1e-3}.get(metric, 1e-4)
            if not (kind == "plain" and model == "smooth"):
                assert evaluation.means(method)["MSU"][metric] == pytest.approx(value, abs=loose)


def test_adaptation_recovers_a_known_curve() -> None:
    from stavis.metrics.adaptation import Fit

    rng = np.random.default_rng(3)
    prior, curve = rng.random((40, 50)), np.sqrt(np.arange(256) / 255) * 0.7 - 0.1
    fit = Fit()
    for _ in range(3):
        level = rng.integers(0, 256, (40, 50))
        fit.add(level / 255, prior, curve[level] + 0.25 * prior)
    adaptation = fit.solve()
    assert adaptation.beta == pytest.approx(0.25, abs=1e-6)
    np.testing.assert_allclose(adaptation.curve, curve, atol=1e-6)


# --- DHF1K ------------------------------------------------------------------------------------------------------------


def test_python_variants_equal_the_recorded_scores(golden: Path) -> None:
    from stavis.metrics.variants import unisal_scores, vinet_scores

    folder = golden / "challenge" / "dhf1k_style"
    recorded = json.loads((folder / "expected.json").read_text())
    tolerances = {"auc_judd": 1e-9, "auc_shuffled": 1e-9, "nss": 5e-6}
    names = {"kldiv": "kld", "auc_shuffled": "shuffled_auc"}
    with np.load(folder / "inputs" / "frames.npz") as frames:
        for i in range(len(frames["pred"])):
            truth = (frames["gt"][i], frames["fix"][i])
            rng = np.random.RandomState(1000 + i)
            unisal = unisal_scores(frames["pred_used"][i], *truth, frames["other"][i], rng=rng)
            vinet = vinet_scores(frames["pred"][i], *truth)
            for scores, expected, aliases in (
                (unisal, recorded["unisal"], names),
                (vinet, recorded["vinet"], {"sim": "similarity"}),
            ):
                for metric, score in scores.items():
                    value = expected[aliases.get(metric, metric)][i]
                    if isinstance(value, float):
                        assert score == pytest.approx(value, abs=tolerances.get(metric, 3e-6)), (i, metric)
                    else:
                        assert math.isnan(score)


@pytest.fixture
def dhf1k(tmp_path: Path) -> Path:
    """Two validation videos in DHF1K's folders, with predictions of half the size."""
    rng = np.random.default_rng(4)
    for video in ("0601", "0602"):
        for frame in range(1, 5):
            density = maps.to_8bit(maps.blur(rng.random((36, 64)), 5) - 0.45)
            fixated = (rng.random((36, 64)) < 0.01).astype(np.uint8) * 255
            for kind, values in (("maps", density), ("fixation", fixated)):
                path = tmp_path / "data" / "annotation" / video / kind / f"{frame:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
            path = tmp_path / "maps" / video / f"{frame:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (18, 32)).astype(np.uint8)).save(path)
    return tmp_path


def test_dhf1k_scores_by_the_matlab_formulas(dhf1k: Path) -> None:
    evaluation = stavis.evaluate(
        dhf1k / "maps", dhf1k / "data", protocol="dhf1k", baselines=["center", "shuffled"], jobs=1
    )
    assert list(evaluation.scores) == ["validation"]
    scores = frames_of(evaluation, "0601")
    folder = dhf1k / "data" / "annotation"
    read = [
        maps.read_map(folder / v / "fixation" / f"{f:04d}.png") > 0
        for v in ("0601", "0602")
        for f in range(1, 5)
    ]
    others = np.any(read[4:], axis=0)
    for frame in range(4):
        saliency = maps.resize(maps.read_map(dhf1k / "maps" / "0601" / f"{frame + 1:04d}.png"), (36, 64))
        density = maps.read_map(folder / "0601" / "maps" / f"{frame + 1:04d}.png")
        assert scores["cc"][frame] == pytest.approx(metrics.cc(saliency, density), abs=1e-12)
        assert scores["sim"][frame] == pytest.approx(metrics.sim(saliency, density), abs=1e-12)
        assert scores["nss"][frame] == pytest.approx(metrics.nss(saliency, read[frame]), abs=1e-12)
        assert scores["auc_shuffled"][frame] == pytest.approx(
            metrics.auc_shuffled(saliency, read[frame], others), abs=1e-12
        )
    # The baseline "shuffled" compares with the other video's density maps.
    other = maps.read_map(folder / "0602" / "maps" / "0001.png")
    density = maps.read_map(folder / "0601" / "maps" / "0001.png")
    shuffled = frames_of(evaluation, "0601", "shuffled")["cc"][0]
    assert shuffled == pytest.approx(metrics.cc(other, density), abs=1e-12)


def test_dhf1k_negatives_are_of_all_videos_of_the_subset(dhf1k: Path) -> None:
    """Also of those without predictions; and every subset has its own."""
    arguments = {"protocol": "dhf1k", "jobs": 1, "references": False}
    both = stavis.evaluate(dhf1k / "maps", dhf1k / "data", **arguments).listed["predictions"]
    for kind in ("data/annotation", "maps"):
        for before, after in (("0601", "0001"), ("0602", "0002")):
            shutil.copytree(dhf1k / kind / before, dhf1k / kind / after)
    shutil.rmtree(dhf1k / "maps" / "0602")
    again = stavis.evaluate(dhf1k / "maps", dhf1k / "data", dhf1k / "out", allow_missing=True, **arguments)
    listed = {
        one.listed.entry.video: one.scores.scores["auc_shuffled"] for one in again.listed["predictions"]
    }
    np.testing.assert_array_equal(listed["0601"], both[0].scores.scores["auc_shuffled"])
    np.testing.assert_array_equal(listed["0001"], listed["0601"])
    one = stavis.evaluate(dhf1k / "maps", dhf1k / "data", databases="train", **arguments)
    assert list(one.scores) == ["train"]


def test_dhf1k_as_unisal_differs_in_sim(dhf1k: Path) -> None:
    arguments = {"protocol": "dhf1k", "jobs": 1}
    fixed = stavis.evaluate(dhf1k / "maps", dhf1k / "data", **arguments)
    reference = stavis.evaluate(dhf1k / "maps", dhf1k / "data", quirks="reference", **arguments)
    assert reference.scores["validation"]["cc"] == pytest.approx(fixed.scores["validation"]["cc"], abs=1e-2)
    assert abs(reference.scores["validation"]["sim"] - fixed.scores["validation"]["sim"]) > 1e-3


def test_color_predictions_are_reported(dhf1k: Path) -> None:
    for path in (dhf1k / "maps" / "0601").iterdir():
        gray = maps.read_map(path)
        Image.fromarray(np.stack([gray, 255 - gray, gray // 2], axis=-1)).save(path)
    out = dhf1k / "out"
    options = ("--protocol", "dhf1k", "--data", dhf1k / "data", "-p", dhf1k / "maps", "-o", out, "-j", 1)
    assert "validation: 0601: 4 maps are in color" in run_command("evaluate", *options, "--quiet")
    evaluation = stavis.evaluate(dhf1k / "maps", dhf1k / "data", protocol="dhf1k", jobs=1)
    assert "0601: 4 maps are in color" in " ".join(evaluation.databases["predictions"]["validation"].notes)
