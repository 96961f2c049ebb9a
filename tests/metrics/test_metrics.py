"""The scores against Octave's, against closed forms worked out by enumeration, and against pysaliency."""

import importlib.util
import itertools
import json
import math
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stavis import maps, metrics
from stavis.datasets.fold_lists import read_fold_list
from stavis.metrics import auc
from support.places import GOLDENS

NEEDS_GOLDENS = pytest.mark.skip(reason="needs recorded numbers: set STAVIS_GOLDENS to their folder")
FINITE = 1e-9  # CC, SIM, NSS, KL and information gain against Octave


def number(value: float | None) -> float:
    """JSON's null is nan."""
    return math.nan if value is None else float(value)


def assert_score(actual: float, expected: float | None, tolerance: float, what: str) -> None:
    __tracebackhide__ = True
    if math.isnan(number(expected)):
        assert math.isnan(actual), f"{what}: {actual}, not nan"
    else:
        assert abs(actual - number(expected)) <= tolerance, f"{what}: {actual}, not {expected} +- {tolerance}"


# --- Recorded cases ---------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One recorded frame: its inputs, and what was recorded (`octave`) or derived from it (`derived`)."""

    folder: Path
    octave: dict[str, Any]
    derived: dict[str, Any]

    def array(self, name: str) -> np.ndarray:
        return load(self.folder / "cases_inputs.npz")[f"{self.octave['id']}_{name}"]

    @property
    def density(self) -> np.ndarray:
        return self.array("density")

    @property
    def fixations(self) -> np.ndarray:
        result = np.zeros(self.density.shape)
        rows, columns, values = self.array("fix").T
        result[rows, columns] = values
        return result

    @property
    def others(self) -> np.ndarray:
        union = np.zeros(self.density.shape, dtype=bool)
        union[tuple(self.array("shufall").T)] = True
        return maps.other_fixations(union, self.fixations)

    @property
    def saliency(self) -> np.ndarray:
        return maps.resize(maps.postprocess(self.array("pred")), self.density.shape)

    @property
    def downscaled(self) -> bool:
        """Octave's antialiasing is not MATLAB's: what MATLAB's gives is recorded beside it."""
        return "matlab_emulated" in self.octave

    @property
    def reference(self) -> dict[str, Any]:
        return self.octave | self.octave.get("matlab_emulated", {})

    def flagged(self, word: str) -> bool:
        return any(word in flag for flag in self.derived["flags"])


@cache
def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def golden_cases() -> list[Any]:
    cases = []
    for path in sorted(GOLDENS.rglob("cases_octave.json")):
        derived = json.loads((path.parent / "cases_derived.json").read_text())
        for octave in json.loads(path.read_text()):
            name = f"{octave['id']}-{octave['name']}"
            cases.append(pytest.param(Case(path.parent, octave, derived[octave["id"]]), id=name))
    return cases or [pytest.param(None, marks=NEEDS_GOLDENS)]


cases = pytest.mark.parametrize("case", golden_cases())


@cases
def test_case_maps(case: Case) -> None:
    for name, actual in (("post", maps.postprocess(case.array("pred"))), ("salmap", case.saliency)):
        samples = case.octave[name]
        values = samples["values_rowmajor"]
        if name == "salmap" and case.downscaled:
            values = case.reference["salmap_values_rowmajor"]
        sampled = actual[np.ix_(samples["rows"], samples["cols"])].ravel()
        np.testing.assert_allclose(sampled, np.asarray(values, dtype=float), rtol=0, atol=1e-12, err_msg=name)


@cases
def test_case_without_random_numbers(case: Case) -> None:
    saliency, density, fixations, others = case.saliency, case.density, case.fixations, case.others
    scores = {
        "CC": metrics.cc(saliency, density),
        "similarity": metrics.sim(saliency, density),
        "NSS": metrics.nss(saliency, fixations),
        "AUC_shuffled_allother": metrics.auc_shuffled(saliency, fixations, others),
    }
    if case.flagged("unspecified"):
        # A constant prediction: Octave scores what resizing rounds. Here it is a constant, whatever its size.
        assert all(math.isnan(score) for score in scores.values()), scores
        return
    for name, score in scores.items():
        if name == "CC" and case.flagged("constant non-zero density"):
            assert math.isnan(score)
        else:
            tolerance = 1e-12 if name == "AUC_shuffled_allother" else FINITE
            assert_score(score, case.reference[name], tolerance, name)


@cases
def test_case_auc_judd(case: Case) -> None:
    saliency, fixations = case.saliency, case.fixations
    score = metrics.auc_judd(saliency, fixations)
    if not case.flagged("plateaus") and not case.flagged("unspecified"):
        without_jitter = auc._auc_judd_given_jitter(saliency, fixations, 0.0)
        assert_score(without_jitter, case.reference["AUC_Judd_nojitter"], FINITE, "without jitter")
        assert_score(score, case.reference["AUC_Judd_nojitter"], 5e-6, "no ties to speak of")
    if case.downscaled:
        return  # the runs are of Octave's own antialiasing
    assert_score(score, case.derived["AUC_Judd_expected"], 1e-6, "expectation")
    runs = case.octave["AUC_Judd"]
    if runs["std"] is not None:
        tolerance = 1e-6 if runs["std"] < 1e-6 else 4 * runs["std"] / math.sqrt(len(runs["runs"]))
        assert_score(score, runs["mean"], tolerance, "mean of Octave's runs")


@cases
def test_case_auc_shuffled(case: Case) -> None:
    if case.downscaled or case.flagged("unspecified"):
        return
    score = metrics.auc_shuffled(case.saliency, case.fixations, case.others)
    assert_score(score, case.derived["AUC_shuffled_expected"], 1e-12, "expectation")
    num_runs = len(case.octave["AUC_shuffled"]["runs"])
    tolerance = 1e-12 + 5 * number(case.derived["AUC_shuffled_se_100splits"]) / math.sqrt(num_runs)
    assert_score(score, case.octave["AUC_shuffled"]["mean"], tolerance, "mean of Octave's runs")


@cases
def test_case_beyond_the_five(case: Case) -> None:
    if case.downscaled:
        return
    saliency, density, fixations = case.saliency, case.density, case.fixations
    divergence = metrics.kl_divergence(saliency, density)
    real, imaginary = case.octave["KLdiv"]
    if imaginary == 0:
        assert_score(divergence, real, FINITE, "KL")
    else:
        assert math.isfinite(divergence)
        assert divergence >= 0

    baseline = maps.resize(load(case.folder / "cases_inputs.npz")["baseline"], density.shape)
    gain = metrics.information_gain(saliency, fixations, baseline)
    if case.flagged("unspecified"):
        assert math.isnan(gain)
    elif not case.flagged("InfoGain"):
        assert_score(gain, case.octave["InfoGain"], FINITE, "information gain")

    borji = case.octave["AUC_Borji"]
    score = metrics.auc_borji(saliency, fixations)
    if not case.flagged("unspecified"):
        tolerance = 5 * number(borji["std"]) / math.sqrt(len(borji["runs"]))
        assert_score(score, borji["mean"], tolerance, "AUC-Borji")


def test_given_octaves_random_numbers_the_scores_are_octaves(golden: Path) -> None:
    num_checked = 0
    for param in golden_cases():
        (case,) = param.values
        if "trace" not in case.octave:
            continue
        num_checked += 1
        trace = case.octave["trace"]
        recorded = load(case.folder / f"trace_{case.octave['id']}.npz")
        saliency, fixations = case.saliency, case.fixations
        np.testing.assert_allclose(saliency, recorded["salmap"], rtol=0, atol=1e-12)
        score = auc._auc_judd_given_jitter(saliency, fixations, recorded["jitter"])
        assert_score(score, trace["AUC_Judd_given_jitter"], 1e-12, "AUC-Judd")
        samples = np.ravel_multi_index((recorded["samp_rows"], recorded["samp_cols"]), saliency.shape)
        stretched = (saliency - saliency.min()) / (saliency.max() - saliency.min())
        splits = auc._auc_given_samples(stretched.ravel(), np.flatnonzero(fixations), samples, 0.1)
        np.testing.assert_allclose(splits, trace["auc_per_split"], rtol=0, atol=1e-12)
        assert_score(float(np.mean(splits)), trace["AUC_shuffled_given_samples"], 1e-12, "shuffled AUC")
    assert num_checked


def golden_tiny() -> list[Any]:
    units = [
        unit
        for path in sorted(GOLDENS.rglob("units_octave.json"))
        for unit in json.loads(path.read_text())["tiny_metrics"]
    ]
    return units or [pytest.param(None, marks=NEEDS_GOLDENS)]


@pytest.mark.parametrize("unit", golden_tiny())
def test_tiny_maps_of_any_range(unit: dict[str, Any]) -> None:
    names = ("map", "density", "fix", "other")
    saliency, density, fixations, others = (
        np.reshape(np.asarray(unit[f"{name}_rowmajor"], dtype=float), unit["size"]) for name in names
    )
    assert_score(metrics.cc(saliency, density), unit["CC"], FINITE, "CC")
    assert_score(metrics.sim(saliency, density), unit["similarity"], FINITE, "SIM")
    assert_score(metrics.nss(saliency, fixations), unit["NSS"], FINITE, "NSS")
    without_jitter = auc._auc_judd_given_jitter(saliency, fixations, 0.0)
    assert_score(without_jitter, unit["AUC_Judd_nojitter"], FINITE, "AUC-Judd")
    if unit["KLdiv"][1] == 0:
        assert_score(metrics.kl_divergence(saliency, density), unit["KLdiv"][0], FINITE, "KL")
    # Recorded with few others, so a mean of 100 draws: where all are drawn it is exact.
    num_fixated, num_others = int((fixations > 0).sum()), int((others > 0).sum())
    score = metrics.auc_shuffled(saliency, fixations, others)
    if num_others <= num_fixated or num_fixated == 0:
        assert_score(score, unit["AUC_shuffled"], 1e-12, "shuffled AUC")
    else:
        tolerance = 5 * shuffled_standard_error(saliency, fixations, others)
        assert_score(score, unit["AUC_shuffled"], tolerance, "shuffled AUC")


def shuffled_standard_error(saliency: np.ndarray, fixations: np.ndarray, others: np.ndarray) -> float:
    """Of the mean of 100 draws without replacement."""
    if np.isnan(saliency).any():
        return math.nan
    stretched = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    grid = np.arange(1, 11) * 0.1
    positive, negative = (np.searchsorted(grid, stretched[m > 0], side="right") for m in (fixations, others))
    if positive.size == 0 or negative.size <= min(positive.size, negative.size):
        return 0.0
    g = ((positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)).mean(axis=0)
    finite = (negative.size - positive.size) / (negative.size - 1)
    return math.sqrt(g.var() / positive.size * finite / 100)


# --- Recorded pipeline ------------------------------------------------------------------------------------------------


def golden_videos() -> list[Any]:
    videos = []
    for path in sorted(GOLDENS.rglob("pipeline_octave.json")):
        for video in json.loads(path.read_text())["videos"]:
            videos.append(
                pytest.param(path.parent / "tree", video, id=f"{video['results_dir']}-{video['video']}")
            )
    return videos or [pytest.param(None, None, marks=NEEDS_GOLDENS)]


@pytest.mark.parametrize(("tree", "video"), golden_videos())
def test_every_frame_of_the_recorded_pipeline(tree: Path, video: dict[str, Any]) -> None:
    """From the files to the raw scores of each frame, before anything is averaged."""
    name = video["video"]
    (annotations,) = (tree / "data" / "annotations").glob(f"*/{name}")
    database = annotations.parent.name
    lists = (tree / "data" / "fold_lists").glob(f"{database}_list_test*.txt")
    num_frames = {e.video: e.num_frames for path in lists for e in read_fold_list(path)}[name]
    split = video["results_dir"][-1]
    folders = (tree / "experiments").glob(f"*/split{split}_results/*/{name}")
    predictions = sorted(path for folder in folders for path in folder.glob("*jpg"))
    assert [int(path.stem.split("_")[-1]) for path in predictions] == video["prediction_frames"]

    fixations = {
        t: maps.read_fixation_map(annotations / f"fixMap_{t:05d}.mat") for t in range(1, num_frames + 1)
    }
    union = maps.union_of_fixations(fixations.values())
    evaluated = [path for path in predictions if int(path.stem.split("_")[-1]) <= num_frames]
    assert len(evaluated) == video["n_evaluated"]
    for i, path in enumerate(evaluated):
        frame = int(path.stem.split("_")[-1])
        density = maps.read_density_map(annotations / "maps" / f"eyeMap_{frame:05d}.jpg")
        saliency = maps.resize(maps.postprocess(maps.read_map(path)), density.shape)
        others = maps.other_fixations(union, fixations[frame])
        assert_score(metrics.cc(saliency, density), video["CC"]["frames"][i], FINITE, f"CC {frame}")
        assert_score(metrics.sim(saliency, density), video["similarity"]["frames"][i], FINITE, f"SIM {frame}")
        assert_score(
            metrics.nss(saliency, fixations[frame]), video["NSS"]["frames"][i], FINITE, f"NSS {frame}"
        )

        recorded, num_runs = video["AUC_Judd"], 20
        spread = number(recorded["frames_std"][i])
        tolerance = 1e-6 if spread < 1e-6 else 6 * spread / math.sqrt(num_runs)
        score = metrics.auc_judd(saliency, fixations[frame])
        assert_score(score, recorded["frames_mean"][i], tolerance, f"AUC-Judd {frame}")

        recorded = video["AUC_shuffled1"]
        tolerance = 1e-12 + 5 * shuffled_standard_error(saliency, fixations[frame], others) / math.sqrt(
            num_runs
        )
        score = metrics.auc_shuffled(saliency, fixations[frame], others)
        assert_score(score, recorded["frames_mean"][i], tolerance, f"shuffled AUC {frame}")


# --- Exact expectations -----------------------------------------------------------------------------------------------

few_levels = hnp.arrays(np.float64, (2, 3), elements=st.sampled_from([0.0, 0.25, 1.0]))
six_bits = hnp.arrays(np.bool_, (2, 3))


@given(few_levels, six_bits)
@settings(max_examples=30, deadline=None)
def test_auc_judd_is_the_mean_over_all_orders_of_tied_pixels(
    saliency: np.ndarray, fixations: np.ndarray
) -> None:
    """Noise orders tied pixels at random, each order equally likely: 6! orders of 6 pixels."""
    score = metrics.auc_judd(saliency, fixations)
    orders = [np.reshape(order, (2, 3)) * (metrics.JITTER / 6) for order in itertools.permutations(range(6))]
    runs = [auc._auc_judd_given_jitter(saliency, fixations, order) for order in orders]
    assert score == pytest.approx(np.mean(runs), abs=1e-12, nan_ok=True)


def brute_force_auc_judd(saliency: np.ndarray, fixations: np.ndarray) -> float:
    """The definition in docs/metrics.md, pair by pair, its integral summed in small steps."""
    fixated, others = saliency[fixations > 0], saliency[fixations <= 0]
    t = (fixated[:, None] - others) / metrics.JITTER
    phi = np.where(t <= -1, 0, np.where(t < 0, (1 + t) ** 2 / 2, np.where(t < 1, 1 - (1 - t) ** 2 / 2, 1)))
    steps = 40_000
    v = (np.arange(steps) + 0.5) / steps
    stay_higher = np.ones((others.size, steps))
    for value in fixated:
        d = (others - value) / metrics.JITTER
        stay_higher *= np.clip(1 - d[:, None] - v, 0, 1)
    reach_lowest = (1 - stay_higher.mean(axis=1)).mean()
    return float(phi.mean() + reach_lowest / (2 * fixated.size))


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.05, 8))
@settings(max_examples=60, deadline=None)
def test_auc_judd_of_near_ties_is_the_definition(seed: int, num_fixated: int, spread: float) -> None:
    """Values a fraction of the noise apart, some of them equal."""
    rng = np.random.default_rng(seed)
    saliency = rng.random((4, 7)) * spread * metrics.JITTER
    saliency = (
        np.where(rng.random((4, 7)) < 0.4, np.round(saliency / metrics.JITTER) * metrics.JITTER, saliency)
        + 0.3
    )
    saliency[0, 0], saliency[3, 6] = 0, 1
    fixations = np.zeros(28, dtype=bool)
    fixations[rng.choice(28, num_fixated, replace=False)] = True
    fixations = fixations.reshape(4, 7)
    expected = brute_force_auc_judd(saliency, fixations)
    assert metrics.auc_judd(saliency, fixations) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("num_fixated", [1, 3, 40, 700])
def test_auc_judd_on_one_plateau_has_a_closed_form(num_fixated: int) -> None:
    """k fixated and T other pixels tied: 1/2 + (k / (k + 1)) / (2 k); the map's rounding noise changes nothing."""
    fixations = np.zeros(60 * 70, dtype=bool)
    fixations[::6][:num_fixated] = True
    fixations = fixations.reshape(60, 70)
    rounding = np.random.default_rng(0).integers(-3, 4, (60, 70)) * np.spacing(0.5)
    expected = 0.5 + 1 / (2 * (num_fixated + 1))
    assert metrics.auc_judd(np.full((60, 70), 0.5), fixations) == pytest.approx(expected, abs=1e-12)
    assert metrics.auc_judd(0.5 + rounding, fixations) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 255.0, 1e7, 1e10, 1e15, 1e300])
def test_auc_judd_of_any_magnitude(scale: float) -> None:
    """Integers with ties: as long as they stay further apart than the noise, how far does not matter."""
    rng = np.random.default_rng(0)
    saliency = rng.integers(0, 12, (20, 30)) * scale
    for marked in (0.05, 0.95):
        fixations = rng.random((20, 30)) < marked
        expected = auc_judd_with_exact_ties(saliency[fixations], saliency[~fixations])
        assert metrics.auc_judd(saliency, fixations) == pytest.approx(expected, abs=1e-12)
        assert metrics.auc_judd(-saliency, fixations) == pytest.approx(
            auc_judd_with_exact_ties(-saliency[fixations], -saliency[~fixations]), abs=1e-12
        )


def auc_judd_with_exact_ties(fixated: np.ndarray, others: np.ndarray) -> float:
    """k fixated and T other pixels tied at the lowest fixated value: of the T, k / (k + 1) are expected to reach it."""
    mann_whitney = scipy.stats.mannwhitneyu(fixated, others).statistic / (fixated.size * others.size)
    num_lowest = (fixated == fixated.min()).sum()
    reaching = (others > fixated.min()).mean() + (others == fixated.min()).mean() * num_lowest / (
        num_lowest + 1
    )
    return float(mann_whitney + reaching / (2 * fixated.size))


def test_auc_judd_draws_from_rng() -> None:
    saliency = np.repeat([[0.0, 0.5], [0.5, 1.0]], 20, axis=1)
    fixations = np.zeros(saliency.shape, dtype=bool)
    fixations[0, 3:30:5] = True
    rng = np.random.default_rng(0)
    runs = [metrics.auc_judd(saliency, fixations, rng=rng) for _ in range(3000)]
    assert runs[0] == metrics.auc_judd(saliency, fixations, rng=np.random.default_rng(0))
    assert np.std(runs) > 1e-3
    error = 5 * np.std(runs) / math.sqrt(len(runs))
    assert metrics.auc_judd(saliency, fixations) == pytest.approx(np.mean(runs), abs=error)


@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(0, 1)), st.integers(1, 4), st.integers(1, 5), st.integers(0, 999)
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_auc_shuffled_is_the_mean_over_all_draws(
    saliency: np.ndarray, num_fixated: int, num_others: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).permutation(12)
    fixated, others = pixels[:num_fixated], pixels[num_fixated : num_fixated + num_others]
    fixations, negatives = (np.isin(np.arange(12), p).reshape(3, 4) for p in (fixated, others))
    score = metrics.auc_shuffled(saliency, fixations, negatives)
    if is_constant(saliency):
        assert math.isnan(score)
        return
    levels = ((saliency - saliency.min()) / (saliency.max() - saliency.min())).ravel()
    num_drawn = min(num_fixated, num_others)
    draws = np.array(list(itertools.combinations(others, num_drawn))).T
    splits = [roc_area(levels[fixated], levels[draw]) for draw in draws.T]
    assert score == pytest.approx(np.mean(splits), abs=1e-12)
    np.testing.assert_allclose(
        auc._auc_given_samples(levels, fixated, draws, 0.1), splits, rtol=0, atol=1e-12
    )


def is_constant(saliency: np.ndarray) -> bool:
    """Up to the rounding noise of resizing."""
    return bool(np.ptp(saliency) <= 1e-12 * np.abs(saliency).max())


def roc_area(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Thresholds 0, 0.1, ... up to the largest value, walked down, as the MATLAB code does."""
    top = max(positives.max(), negatives.max())
    thresholds = [0.1 * k for k in range(11) if 0.1 * k <= top][::-1]
    true = [0.0, *((positives >= t).mean() for t in thresholds), 1.0]
    false = [0.0, *((negatives >= t).mean() for t in thresholds), 1.0]
    return float(sum((false[i + 1] - false[i]) * (true[i + 1] + true[i]) / 2 for i in range(len(true) - 1)))


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(0, 1)))
@settings(max_examples=40, deadline=None)
def test_auc_borji_is_the_mean_over_all_draws(saliency: np.ndarray) -> None:
    fixations = np.array([[1, 0, 0], [0, 0, 1]])
    if is_constant(saliency):
        assert math.isnan(metrics.auc_borji(saliency, fixations))
        return
    levels = ((saliency - saliency.min()) / (saliency.max() - saliency.min())).ravel()
    draws = itertools.product(range(6), repeat=2)
    expected = np.mean([roc_area(levels[[0, 5]], levels[list(draw)]) for draw in draws])
    assert metrics.auc_borji(saliency, fixations) == pytest.approx(expected, abs=1e-12)


def test_shuffled_and_borji_draw_from_rng() -> None:
    saliency, _, fixations, others = frame()
    for expected, draw in (
        (metrics.auc_shuffled(saliency, fixations, others), metrics.auc_shuffled),
        (metrics.auc_borji(saliency, fixations), metrics.auc_borji),
    ):
        arguments = (saliency, fixations, others)[: 3 if draw is metrics.auc_shuffled else 2]
        once = draw(*arguments, rng=np.random.default_rng(3))
        assert once == draw(*arguments, rng=np.random.default_rng(3))
        assert once != expected
        rng = np.random.default_rng(4)
        runs = [draw(*arguments, rng=rng, num_splits=50) for _ in range(40)]
        assert expected == pytest.approx(np.mean(runs), abs=5 * np.std(runs) / math.sqrt(len(runs)))


def test_step_makes_the_shuffled_auc_finer() -> None:
    saliency, _, fixations, others = frame()
    exact = metrics.auc_shuffled(saliency, fixations, others, protocol="tuebingen")
    fine = metrics.auc_shuffled(saliency, fixations, others, step=1e-5)
    coarse = metrics.auc_shuffled(saliency, fixations, others)
    assert abs(fine - exact) < 1e-4 < abs(coarse - exact)


# --- Identities -------------------------------------------------------------------------------------------------------


def frame(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A smooth saliency map without ties, a density map, its fixations, other fixations."""
    rng = np.random.default_rng(seed)
    saliency = maps.resize(maps.postprocess(rng.random((30, 30)) ** 3), (96, 120))
    fixations, others = np.zeros((2, 96, 120), dtype=bool)
    fixations[rng.integers(96, size=15), rng.integers(120, size=15)] = True
    others[rng.integers(96, size=200), rng.integers(120, size=200)] = True
    density = maps.to_8bit(maps.density_from_fixations(fixations, 6))
    return saliency, density, fixations, others & ~fixations


real_maps = hnp.arrays(np.float64, (5, 6), elements=st.floats(-100, 100, allow_subnormal=False))


def well_spread(values: np.ndarray) -> bool:
    """Not constant up to the rounding that an affine change adds."""
    return bool(np.ptp(values) > 1e-3)


@given(real_maps, st.floats(0.01, 100), st.floats(-100, 100))
def test_identical_maps(saliency: np.ndarray, scale: float, offset: float) -> None:
    if not well_spread(saliency):
        return
    assert metrics.sim(saliency, saliency) == pytest.approx(1, abs=1e-12)
    assert metrics.cc(saliency, saliency * scale + offset) == pytest.approx(1, abs=1e-9)
    assert metrics.cc(saliency, -saliency * scale + offset) == pytest.approx(-1, abs=1e-9)
    assert metrics.kl_divergence(saliency - saliency.min(), saliency - saliency.min()) == pytest.approx(
        0, abs=1e-12
    )


@given(real_maps, real_maps, hnp.arrays(np.bool_, (5, 6)), st.floats(0.01, 100), st.floats(-100, 100))
@settings(deadline=None)
def test_positive_affine_changes_do_not_matter(
    saliency: np.ndarray, density: np.ndarray, fixations: np.ndarray, scale: float, offset: float
) -> None:
    if not well_spread(saliency) or not well_spread(density):
        return
    changed = saliency * scale + offset
    assert metrics.cc(changed, density) == pytest.approx(metrics.cc(saliency, density), abs=1e-8)
    assert metrics.sim(changed, density) == pytest.approx(metrics.sim(saliency, density), abs=1e-8)
    assert metrics.sim(density, changed) == pytest.approx(metrics.sim(density, saliency), abs=1e-8)
    assert metrics.nss(changed, fixations) == pytest.approx(
        metrics.nss(saliency, fixations), abs=1e-6, nan_ok=True
    )


def test_increasing_changes_do_not_matter_to_aucs_on_ranks() -> None:
    saliency, _, fixations, others = frame()
    saliency = saliency.round(4)  # different values stay further apart than the noise
    for change in (np.sqrt, np.exp, lambda s: s**3 + 5, lambda s: 3 * s + 1):
        changed = change(saliency - saliency.min() + 0.1)
        exact = [
            metrics.auc_shuffled(m, fixations, others, protocol="tuebingen") for m in (saliency, changed)
        ]
        assert exact[0] == pytest.approx(exact[1], abs=1e-12)
        judd = [metrics.auc_judd(m, fixations) for m in (saliency, changed)]
        assert judd[0] == pytest.approx(judd[1], abs=1e-12)
    affine = [metrics.auc_shuffled(m, fixations, others) for m in (saliency, 3 * saliency + 1)]
    assert affine[0] == pytest.approx(affine[1], abs=1e-12)
    # The 0.1 grid sees increasing changes that are not affine.
    assert abs(metrics.auc_shuffled(np.exp(5 * saliency), fixations, others) - affine[0]) > 1e-3


@given(st.integers(0, 10_000), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_auc_judd_lies_above_mann_whitney_by_a_known_amount(seed: int, num_fixated: int) -> None:
    rng = np.random.default_rng(seed)
    saliency = rng.permutation(200).reshape(10, 20) / 200  # no ties
    fixations = np.zeros(200, dtype=bool)
    fixations[rng.choice(200, num_fixated, replace=False)] = True
    fixations = fixations.reshape(10, 20)
    fixated, others = saliency[fixations], saliency[~fixations]
    mann_whitney = scipy.stats.mannwhitneyu(fixated, others).statistic / (fixated.size * others.size)
    fraction_above = (others >= fixated.min()).mean()
    expected = mann_whitney + fraction_above / (2 * num_fixated)
    assert metrics.auc_judd(saliency, fixations) == pytest.approx(expected, abs=1e-12)
    if num_fixated == 1:
        assert expected == pytest.approx(1 - fraction_above / 2)


@given(few_levels, six_bits, hnp.arrays(np.int64, (2, 3), elements=st.integers(0, 3)))
@settings(max_examples=50, deadline=None)
def test_tuebingen_counts_every_fixation(
    saliency: np.ndarray, fixations: np.ndarray, others: np.ndarray
) -> None:
    counts = fixations * 2 + np.roll(fixations, 1)
    score = metrics.auc_shuffled(saliency, counts, others, protocol="tuebingen")
    if not counts.any() or not others.any():
        assert math.isnan(score)
        return
    positives, negatives = (np.repeat(saliency.ravel(), c.ravel()) for c in (counts, others))
    statistic = scipy.stats.mannwhitneyu(positives, negatives).statistic
    assert score == pytest.approx(statistic / (positives.size * negatives.size), abs=1e-12)


def test_cross_video_is_the_published_formula() -> None:
    saliency, _, fixations, others = frame()
    same = [metrics.auc_shuffled(saliency, fixations, others, protocol=p) for p in ("stavis", "cross-video")]
    assert same[0] == same[1]


# --- What is not defined ----------------------------------------------------------------------------------------------


def all_scores(
    saliency: np.ndarray, density: np.ndarray, fixations: np.ndarray, others: np.ndarray
) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # undefined scores come without numpy's complaints
        return {
            "cc": metrics.cc(saliency, density),
            "sim": metrics.sim(saliency, density),
            "nss": metrics.nss(saliency, fixations),
            "auc_judd": metrics.auc_judd(saliency, fixations),
            "auc_shuffled": metrics.auc_shuffled(saliency, fixations, others),
            "tuebingen": metrics.auc_shuffled(saliency, fixations, others, protocol="tuebingen"),
            "auc_borji": metrics.auc_borji(saliency, fixations),
            "kl_divergence": metrics.kl_divergence(saliency, density),
            "information_gain": metrics.information_gain(saliency, fixations, density),
        }


def undefined(scores: dict[str, float]) -> set[str]:
    return {name for name, score in scores.items() if math.isnan(score)}


def test_degenerate_frames() -> None:
    saliency, density, fixations, others = frame()
    nothing = np.zeros_like(fixations)
    blank = np.zeros_like(density)
    assert not undefined(all_scores(saliency, density, fixations, others))
    assert undefined(all_scores(np.full_like(saliency, np.nan), density, fixations, others)) == {
        *all_scores(*frame())
    }

    scores = all_scores(saliency, blank, fixations, others)
    assert undefined(scores) == {"cc", "information_gain"}
    assert scores["sim"] == 0
    assert scores["kl_divergence"] == 0

    scores = all_scores(saliency, np.full_like(density, 128), fixations, others)
    assert undefined(scores) == {"cc", "sim", "information_gain"}

    scores = all_scores(saliency, density, nothing, others)
    assert undefined(scores) == {
        "nss",
        "auc_judd",
        "auc_shuffled",
        "tuebingen",
        "auc_borji",
        "information_gain",
    }

    scores = all_scores(saliency, density, fixations, nothing)
    assert undefined(scores) == {"auc_shuffled", "tuebingen"}

    everywhere = np.ones_like(fixations)
    assert math.isnan(metrics.auc_judd(saliency, everywhere))
    assert metrics.nss(saliency, everywhere) == pytest.approx(0, abs=1e-12)

    one = nothing.copy()
    one[4, 5] = True
    assert undefined(all_scores(saliency, density, one, others)) == {"auc_borji"}

    # A constant prediction, also after it went through resizing, which leaves rounding noise.
    for constant in (np.full((96, 120), 0.7), maps.resize(np.full((31, 37), 0.7), (96, 120))):
        scores = all_scores(constant, density, fixations, others)
        assert undefined(scores) == {"cc", "sim", "nss", "auc_shuffled", "auc_borji", "information_gain"}
        assert scores["auc_judd"] == pytest.approx(0.5 + 0.5 / (fixations.sum() + 1), abs=1e-7)
    assert scores["tuebingen"] != 0.5  # of the rounding noise
    assert metrics.auc_shuffled(np.full((96, 120), 0.7), fixations, others, protocol="tuebingen") == 0.5

    # All zero, without post-processing: the two maps that are compared as sums stay as they are.
    scores = all_scores(np.zeros_like(saliency), density, fixations, others)
    assert scores["sim"] == 0
    assert scores["kl_divergence"] > 20
    assert metrics.sim(np.zeros((3, 3)), np.zeros((3, 3))) == 0


def test_numeric_fixation_maps() -> None:
    saliency, _, fixations, others = frame()
    for kind in (np.uint8, np.int16, np.float32, np.float64):
        numeric = fixations.astype(kind)
        assert metrics.nss(saliency, numeric) == metrics.nss(saliency, fixations)
        assert metrics.auc_judd(saliency, numeric * 7) == metrics.auc_judd(saliency, fixations)
        fortran = np.asfortranarray(numeric)
        score = metrics.auc_shuffled(saliency, fortran, np.asfortranarray(others))
        assert score == metrics.auc_shuffled(saliency, fixations, others)
    # Below 0 counts for NSS alone, as published.
    signed = np.where(fixations, -1.0, 0.0)
    assert metrics.nss(saliency, signed) == metrics.nss(saliency, fixations)
    assert math.isnan(metrics.auc_judd(saliency, signed))


def test_integer_and_float32_maps_are_scored_in_float64() -> None:
    saliency, density, fixations, others = frame()
    eight_bit = maps.to_8bit(saliency)
    assert all_scores(eight_bit, density, fixations, others) == all_scores(
        eight_bit.astype(np.float64), density.astype(np.float32), fixations, others
    )
    for score in all_scores(saliency, density, fixations, others).values():
        assert type(score) is float


@pytest.mark.parametrize(
    ("first", "second"),
    [((4, 5), (5, 4)), ((4, 5), (1, 5)), ((20,), (20,)), ((4, 5, 3), (4, 5, 4)), ((0, 5), (0, 5))],
)
def test_maps_of_other_sizes_are_refused(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    saliency, other = np.zeros(first), np.zeros(second)
    for score in (
        metrics.cc,
        metrics.sim,
        metrics.nss,
        metrics.auc_judd,
        metrics.kl_divergence,
        metrics.auc_borji,
    ):
        with pytest.raises(ValueError, match="two maps of one size"):
            score(saliency, other)
    for score in (metrics.auc_shuffled, metrics.information_gain):
        for arguments in ((saliency, saliency, other), (saliency, other, saliency)):
            with pytest.raises(ValueError, match="two maps of one size"):
                score(*arguments)


def test_unknown_protocols_are_refused() -> None:
    saliency, _, fixations, others = frame()
    with pytest.raises(ValueError, match="protocol is 'mit'; allowed: stavis, cross-video, tuebingen"):
        metrics.auc_shuffled(saliency, fixations, others, protocol="mit")
    with pytest.raises(ValueError, match="rng must be None"):
        metrics.auc_shuffled(saliency, fixations, others, protocol="tuebingen", rng=np.random.default_rng())


@pytest.mark.parametrize(
    ("bad", "allowed"),
    [
        ({"rng": 1}, r"`rng=1`: must be a numpy\.random\.Generator"),
        ({"step": 0}, "`step=0`: must be above 0 and at most 1"),
        ({"step": -1}, "`step=-1`: must be above 0"),
        ({"num_splits": 0}, "`num_splits=0`: must be 1 or more"),
    ],
)
def test_draws_that_cannot_be_made_are_refused(bad: dict[str, Any], allowed: str) -> None:
    saliency, _, fixations, others = frame()
    with pytest.raises(ValueError, match=allowed):
        metrics.auc_shuffled(saliency, fixations, others, **bad)
    with pytest.raises(ValueError, match=allowed):
        metrics.auc_borji(saliency, fixations, **bad)
    if "rng" in bad:
        with pytest.raises(ValueError, match=allowed):
            metrics.auc_judd(saliency, fixations, **bad)


@pytest.mark.parametrize("scale", [1e308, 1e300, 1e150, 1e-150, 1e-300])
def test_scores_of_extreme_values_are_those_of_ordinary_ones(scale: float) -> None:
    saliency, density, fixations, others = frame()
    density = density / 255.0
    plain = all_scores(saliency, density, fixations, others)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = all_scores(saliency * scale, density * scale, fixations, others)
        metrics.auc_judd(saliency * 1e-310, fixations)
        signed = np.where(fixations, -scale, scale)
        assert metrics.cc(signed, -signed) == pytest.approx(-1)
        assert math.isnan(metrics.kl_divergence(np.where(fixations, np.inf, saliency), density))
    del plain["auc_judd"], scaled["auc_judd"]  # of ranks, with noise of a fixed size
    assert scaled == pytest.approx(plain, rel=1e-9)


# --- pysaliency -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pysaliency() -> Iterator[tuple[ModuleType, ModuleType]]:
    """Its modules of metrics and of ROC curves, loaded without the package's own imports, which need much more."""
    spec = importlib.util.find_spec("pysaliency")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("numba") is None:
        pytest.skip("needs pysaliency: pip install pysaliency")
    modules = []
    for name in ("metrics", "numba_utils"):
        path = Path(spec.submodule_search_locations[0]) / f"{name}.py"
        module_spec = importlib.util.spec_from_file_location(f"pysaliency_{name}", path)
        assert module_spec is not None
        assert module_spec.loader is not None
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
        modules.append(module)
    return modules[0], modules[1]


@pytest.mark.parametrize("seed", range(5))
def test_agreement_with_pysaliency(pysaliency: tuple[ModuleType, ModuleType], seed: int) -> None:
    theirs, roc = pysaliency
    saliency, density, fixations, others = frame(seed)
    density = density.astype(float)
    assert metrics.cc(saliency, density) == pytest.approx(theirs.CC(saliency, density), abs=1e-12)
    # It subtracts the minimum only where that is below 0: the same once both minima are 0.
    lowered = saliency - saliency.min()
    assert metrics.sim(lowered, density) == pytest.approx(theirs.SIM(lowered, density), abs=1e-12)
    # Its eps has fewer digits, which shows where a map is 0.
    raised, density = lowered + 0.01, density + 1
    assert metrics.kl_divergence(raised, density) == pytest.approx(
        theirs.MIT_KLDiv(raised, density), abs=1e-12
    )
    # It divides by the population's standard deviation.
    population = math.sqrt(saliency.size / (saliency.size - 1))
    rows, columns = np.nonzero(fixations)
    nss = theirs.NSS(saliency, columns, rows).mean()
    assert metrics.nss(saliency, fixations) * population == pytest.approx(nss, abs=1e-12)
    areas = [roc.auc_for_one_positive(value, saliency[others]) for value in saliency[fixations]]
    score = metrics.auc_shuffled(saliency, fixations, others, protocol="tuebingen")
    assert score == pytest.approx(np.mean(areas), abs=1e-12)
