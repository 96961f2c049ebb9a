"""`make benchmark-synthetic` and the model card's table, small and quick."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.places import ROOT

NUMBER = re.compile(r"[+-]?\d\.\d{3}")


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.mark.slow
def test_the_experiment_and_the_model_cards_table(benchmarks: Any, tmp_path: Path) -> None:
    experiment = benchmarks("synthetic_experiment")
    output = tmp_path / "experiment"
    experiment.run_experiment(output, experiment.QUICK, jobs=2, quiet=True)
    found = json.loads((output / "results.json").read_text())
    scores, sound = found["scores"], found["sound"]
    for preset in experiment.QUICK.num_videos:
        nss = {name: of[preset]["nss"]["after"] for name, of in scores.items()}
        nss["visual"] = scores["normal"][preset]["nss"]["before"]
        for title, (after, before) in experiment.SOUND_COLUMNS.items():
            difference = sound[title][preset]["nss"]
            assert difference["difference"] == pytest.approx(nss[after] - nss[before], abs=1e-9)
            assert difference["interval"][0] <= difference["difference"] <= difference["interval"][1]
        assert nss["hears"] >= nss["sees"] > nss["center"]
        assert nss["others"] > nss["sees"]
    assert sound["what sound can tell"]["sound-decides"]["nss"]["difference"] > 0.2
    assert sound["what sound can tell"]["unrelated"]["nss"]["difference"] == 0
    # Every number of the table is one of the file's.
    text = (output / "results.md").read_text()
    numbers = {f"{value:.3f}" for value in _numbers(found)}
    numbers |= {f"{value:+.3f}" for value in _numbers(found)}
    assert set(NUMBER.findall(text)) <= numbers
    for name in ("results.png", "curves.png"):
        assert (output / name).stat().st_size > 10_000
    # Another run has nothing to do.
    weights = {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}
    maps = {path: path.stat().st_mtime_ns for path in output.rglob("pred_sal_*.jpg")}
    experiment.run_experiment(output, experiment.QUICK, jobs=1, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")} == weights
    assert {path: path.stat().st_mtime_ns for path in output.rglob("pred_sal_*.jpg")} == maps
    assert (output / "results.md").read_text() == text

    card = benchmarks("default_weights")
    group = card.Group("generated", output / "data", ["mixed", "unrelated"], 10, ["center"])
    card.score(group, str(output / "runs" / "audiovisual" / "weights"), tmp_path / "card", 1)
    table = card.make_table([group], tmp_path / "card")
    assert table.count("| center prior |") == 2
    own = f"{scores['normal']['mixed']['nss']['after']:.4f}"
    assert own in table, "the same weights on the same frames score the same"


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for one in value.values() for number in _numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in _numbers(one)]
    return [value]
