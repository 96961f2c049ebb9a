"""Protocols of other data: challenges, the MSU benchmark and DHF1K, against numbers recorded from published scripts."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stavis
from stavis.errors import StavisError
from stavis.evaluation.summary import Evaluation
from stavis.maps.bilinear import resize_bilinear
from stavis.metrics.challenge import count_at_least, expected_auc, stepwise_auc

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
def challenge(goldens: Path) -> Path:
    return goldens / "challenge"


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
