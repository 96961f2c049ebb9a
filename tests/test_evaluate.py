"""`stavis evaluate`: the recorded pipeline, the forms of predictions, bad input, baselines, comparison."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from stavis.cli import app
from stavis.data.layout import result_folder

OCTAVE_NAMES = {
    "cc": "CC",
    "sim": "similarity",
    "nss": "NSS",
    "auc_judd": "AUC_Judd",
    "auc_shuffled": "AUC_shuffled1",
}


def evaluate(*arguments: object) -> str:
    """Runs the command in this process; gives what it prints. Errors of users are raised."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def frame_scores(
    output: Path, method: str = "predictions"
) -> dict[tuple[str, int, str], dict[str, list[float]]]:
    """(database, split, video) -> metric -> scores, from frames.csv."""
    scores: dict[tuple[str, int, str], dict[str, list[float]]] = {}
    with (output / "frames.csv").open() as file:
        for row in csv.DictReader(file):
            if row["method"] == method:
                video = scores.setdefault((row["database"], int(row["split"]), row["video"]), {})
                video.setdefault("frame", []).append(int(row["frame"]))
                for metric in OCTAVE_NAMES:
                    video.setdefault(metric, []).append(float(row[metric]) if row[metric] else math.nan)
    return scores


# --- The recorded pipeline --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(goldens: Path) -> Path:
    return goldens / "metrics" / "tree"


@pytest.fixture(scope="module")
def recorded(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our evaluation of the recorded tree."""
    output = tmp_path_factory.mktemp("recorded") / "evaluation"
    runs = sorted((tree / "experiments").iterdir())
    assert len(runs) == 1
    evaluate("--data", tree / "data", "--predictions", runs[0], "--output", output, "--quiet", "--jobs", 1)
    return output


def test_frames_score_as_in_octave(recorded: Path, goldens: Path) -> None:
    ours = frame_scores(recorded)
    octave = load(goldens / "metrics" / "pipeline_octave.json")
    folders = {result_folder(database): database for database, *_ in ours}
    for video in octave["videos"]:
        folder, _, split = video["results_dir"].partition("_results_all_split")
        scores = ours[folders[folder], int(split), video["video"]]
        assert scores["frame"] == video["prediction_frames"][: video["n_evaluated"]]
        for metric, name in OCTAVE_NAMES.items():
            recorded_scores = video[name]
            if metric in ("cc", "sim", "nss"):
                expected = np.array(recorded_scores["frames"], dtype=float)
                np.testing.assert_allclose(
                    scores[metric], expected, rtol=0, atol=1e-9, err_msg=str(video["video"])
                )
                continue
            expected = np.array(recorded_scores["frames_mean"], dtype=float)
            deviation = np.array(recorded_scores["frames_std"], dtype=float)
            tolerance = 5 * deviation / math.sqrt(octave["n_seeds"]) + 1e-6
            difference = np.abs(np.array(scores[metric]) - expected)
            assert (np.isnan(difference) == np.isnan(expected)).all()
            assert (np.nan_to_num(difference) <= np.nan_to_num(tolerance)).all(), (video["video"], metric)


def test_databases_average_as_in_octave(recorded: Path, goldens: Path) -> None:
    ours = load(recorded / "scores.json")["databases"]
    octave = load(goldens / "metrics" / "final_octave.json")
    assert ours.keys() == octave.keys()
    for database, of_metrics in octave.items():
        for metric, name in OCTAVE_NAMES.items():
            expected = of_metrics.get(name) or of_metrics[name.removesuffix("1")]
            difference = abs(ours[database][metric] - expected["mean"])
            assert difference <= 5 * expected["std"] / math.sqrt(len(expected["runs"])) + 1e-9, (
                database,
                metric,
            )


def test_final_results_files(recorded: Path, goldens: Path) -> None:
    """The text files are of one seed, so where MATLAB draws random numbers they are a draw from `final_octave.json`."""
    ours = load(recorded / "scores.json")["databases"]
    octave = load(goldens / "metrics" / "final_octave.json")
    for path in sorted((goldens / "metrics" / "final_results_txt").glob("*.txt")):
        database = path.stem.removeprefix("final_results_")
        lines = dict(line.lower().split(": ") for line in path.read_text().splitlines() if ": " in line)
        for metric, name in OCTAVE_NAMES.items():
            name = name.removesuffix("1")
            recorded_metric = octave[database].get(name) or octave[database][f"{name}1"]
            noise = 0.0 if metric != "auc_shuffled" else 5 * recorded_metric["std"]
            assert abs(ours[database][metric] - float(lines[name.lower()])) <= 1e-3 + noise, (
                database,
                metric,
            )


def test_undefined_frames_are_counted(recorded: Path) -> None:
    scores = frame_scores(recorded)
    for database, of_database in load(recorded / "scores.json")["databases"].items():
        for metric in OCTAVE_NAMES:
            of_videos = [np.isnan(s[metric]).sum() for (d, *_), s in scores.items() if d == database]
            assert of_database["num_undefined"][metric] == sum(of_videos)
        assert of_database["num_frames"] == sum(
            len(s["cc"]) for (d, *_), s in scores.items() if d == database
        )
        assert sum(of_database["num_undefined"].values()) > 0
