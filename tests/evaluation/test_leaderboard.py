"""The leaderboard: ranks, ties, references, sound columns, the page in a browser."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.test_report import CHROMIUM, browse
from stavis.errors import StavisError
from stavis.evaluation.leaderboard import make_leaderboard
from stavis.evaluation.results import VideoScores, write_scores
from support.commands import run_command

METRICS = ("cc", "nss")
NUM_VIDEOS = 12


def write_evaluation(folder: Path, shift: float, *, seed: int = 0, audio: str | None = None) -> Path:
    """An evaluation of videos whose scores are known: the same for all evaluations, plus a shift and a little noise."""
    rng = np.random.default_rng(seed)
    for number in range(NUM_VIDEOS):
        base = np.random.default_rng(number).normal(0.5, 0.1, 20)
        for method, offset in (("predictions", shift), ("center", -0.4)):
            values = base + offset + rng.normal(0, 0.005)
            scores = VideoScores(
                method,
                "DIEM",
                f"v<{number}>",
                None,
                20,
                25.0,
                np.arange(20),
                dict.fromkeys(METRICS, values),
                (),
                0,
                "",
            )
            write_scores(folder / "videos" / "DIEM" / f"v{number}" / f"{method}.json", scores, {})
    test_run = audio and {"settings": {"audio": audio}, "weights": {"1": {"sha256": "ab"}}}
    record = {
        "stavis": "1",
        "settings": {"protocol": "stavis", "stride": 1},
        "data": "",
        "predictions": "",
        "test_run": test_run,
        "versions": {},
    }
    (folder / "evaluation.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    shifts: dict[str, Any] = {
        "best": (0.1, None),
        "own": (0.0, "normal"),
        "equal": (0.0, None),
        "silent": (-0.05, "silent"),
    }
    return {
        name: write_evaluation(root / name, shift, seed=seed, audio=audio)
        for seed, (name, (shift, audio)) in enumerate(shifts.items())
    }


def test_models_that_tests_do_not_separate_share_a_rank(runs: dict[str, Path]) -> None:
    board = make_leaderboard(list(runs.values()))
    entries = {entry.name: entry for entry in board.databases["DIEM"]}
    assert {name: entry.ranks.get("cc") for name, entry in entries.items()} == {
        "best": 1,
        "own (sound normal)": 2,
        "equal": 2,
        "center prior": None,
        "STAViS, as published": None,
    }
    assert board.metrics == ["cc", "nss"]
    low, high = entries["best"].intervals["cc"]
    assert low < entries["best"].means["cc"] < high
    change, (low, high) = entries["own (sound normal)"].sound["silent"]["nss"]
    assert low < change < high < 0
    assert change == pytest.approx(-0.05, abs=0.01)
    assert not entries["best"].sound


def test_evaluations_under_other_settings_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    other = write_evaluation(tmp_path / "other", 0.0)
    record = json.loads((other / "evaluation.json").read_text())
    record["settings"]["stride"] = 5
    (other / "evaluation.json").write_text(json.dumps(record))
    with pytest.raises(StavisError, match="evaluated with stride 5"):
        make_leaderboard([runs["best"], other])
    with pytest.raises(StavisError, match="no evaluation in it"):
        make_leaderboard([tmp_path])


@pytest.fixture(scope="module")
def page(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "board.html"
    printed = run_command("leaderboard", *runs.values(), "-o", path)
    assert re.search(r"best +1\. 0\.", printed)
    return path


def test_page_is_self_contained_and_escaped(page: Path) -> None:
    text = page.read_text()
    assert "v<1>" not in text
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)


PROBE = """<script>
for (const heading of document.querySelectorAll("th button")) heading.click();
const count = (selector) => document.querySelectorAll(selector).length;
const found = { rows: count("#table tbody tr"), dots: count("#dots circle"), points: count("#scatter circle"),
  sound: count("#sound tbody tr"),
  nan: /NaN|Infinity|undefined/.test(document.querySelector("main").outerHTML) };
document.body.append(Object.assign(document.createElement("pre"), { id: "found", textContent: JSON.stringify(found) }));
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_page_in_a_browser(page: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    result = browse(path, tmp_path, "--dump-dom")
    assert "CONSOLE" not in result.stderr
    match = re.search(r'<pre id="found">(.*?)</pre>', result.stdout)
    assert match is not None
    assert json.loads(match[1]) == {"rows": 5, "dots": 5, "points": 12, "sound": 1, "nan": False}
