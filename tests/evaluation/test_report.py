"""The report: one file that shows everything, also in a real browser."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stavis.cli import app
from stavis.datasets.layout import FoldEntry, Layout
from support.datasets import write_lists, write_video

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AWKWARD = "a<i>&amp;'@@DATA@@"
"""A video's name that would break a page that does not escape it."""
ENTRIES = [FoldEntry("plain", 60, 25.0), FoldEntry(AWKWARD, 30, 25.0)]
WEIGHTS_HASH = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("report")
    layout = Layout(root / "data")
    rng = np.random.default_rng(0)
    for number, entry in enumerate(ENTRIES):
        write_video(layout, "DIEM", entry, audio=False, seed=number)
        for split in (1, 2, 3):
            folder = root / "run" / f"split{split}_results" / "diem" / entry.video
            folder.mkdir(parents=True)
            for frame in range(8, entry.num_frames):
                if frame != 20:  # a gap
                    noise = rng.integers(0, 255, (28, 28)).astype(np.uint8)
                    Image.fromarray(noise).save(folder / f"pred_sal_{frame + 1:06d}.png")
    write_lists(layout, "DIEM", {("test", None): ENTRIES, ("train", None): ENTRIES})
    layout.frame("DIEM", "plain", 0).unlink()
    test_run = {"settings": {"audio": "normal"}, "weights": {"1": {"name": "mine", "sha256": WEIGHTS_HASH}}}
    (root / "run" / "testrun.json").write_text(json.dumps(test_run))
    arguments = ["--data", root / "data", "--predictions", root / "run", "--output", root / "out"]
    arguments += ["--baseline", "center", "--jobs", 1, "--quiet"]
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.exception
    return (root / "out" / "report.html").read_text()


class Page(HTMLParser):
    """Collects what a page shows and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.data: Any = None
        self._in_data = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        attributes = dict(attrs)
        self.sources += [attributes[name] or "" for name in ("src", "href") if name in attributes]
        self._in_data = attributes.get("id") == "data"

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data = json.loads(data)
            self._in_data = False
        self.texts.append(data)


def test_nothing_is_loaded_from_elsewhere(report: str) -> None:
    page = Page(report)
    assert page.sources
    assert all(source.startswith("data:") for source in page.sources)
    assert "@import" not in report
    assert "url(" not in report
    assert "@@TITLE" not in report


def test_names_are_escaped(report: str) -> None:
    page = Page(report)
    assert "<i>&amp;'" not in report.replace(json.dumps(AWKWARD)[1:-1], "")
    assert any(AWKWARD in text for text in page.texts)
    labels = [video["label"] for video in page.data["videos"]]
    assert f"{AWKWARD} (split 2)" in labels


def test_plots_hold_the_scores(report: str) -> None:
    data = Page(report).data
    assert [method["key"] for method in data["methods"]] == ["predictions", "center", "shuffled"]
    assert len(data["videos"]) == 2 * 3
    for video in data["videos"]:
        series = video["series"]["predictions"]
        values = series["values"]["cc"]
        assert series["first"] + len(values) == video["num_frames"]
        assert values[20 - series["first"]] is None  # the gap
        known = [value for value in values if value is not None]
        mean, low, high = video["means"]["predictions"]["cc"]
        assert mean == pytest.approx(np.mean(known), abs=1e-3)
        assert low < mean < high
        assert None not in video["series"]["center"]["values"]["cc"]


def test_pictures_are_small_and_readable(report: str) -> None:
    embedded = [source for source in Page(report).sources if source.startswith("data:image/jpeg")]
    assert len(embedded) == 3 * (3 + 3)
    for source in embedded:
        picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        picture.load()
        assert picture.size == (256, 144)
    assert len(report) < 1_000_000


def test_says_what_was_run(report: str) -> None:
    text = " ".join(Page(report).texts)
    assert WEIGHTS_HASH in text
    assert "stavis, quirks reference, from frame 9" in text
    assert "6 frames without a map" in text


def browse(path: Path, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    switches = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"]
    switches += ["disable-background-networking", "disable-component-update", "disable-sync"]
    switches += [f"user-data-dir={tmp_path / 'profile'}", "enable-logging=stderr", "virtual-time-budget=5000"]
    command = [CHROMIUM, *(f"--{switch}" for switch in switches), *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


PROBE = """<script>
const found = [];
for (const width of [1100, 360]) {
  document.querySelector("main").style.width = width + "px";
  for (const select of document.querySelectorAll("select")) {
    for (const option of select.options) {
      select.value = option.value;
      select.dispatchEvent(new Event("change"));
      const bars = document.querySelectorAll("#bars rect").length;
      const curves = [...document.querySelectorAll("#time path")].map((p) => p.getAttribute("d").length);
      const drawn = document.getElementById("bars").outerHTML + document.getElementById("time").outerHTML;
      const nan = /NaN|Infinity|undefined/.test(drawn);
      found.push({ id: select.id, bars: bars, curves: curves, nan: nan });
    }
  }
}
document.body.append(Object.assign(document.createElement("pre"), { id: "found", textContent: JSON.stringify(found) }));
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser(report: str, tmp_path: Path) -> None:
    """It opens, every choice draws both plots, and nothing is said on the console."""
    path = tmp_path / "report.html"
    path.write_text(report.replace("</body>", PROBE + "</body>"))
    result = browse(path, tmp_path, "--dump-dom")
    assert "CONSOLE" not in result.stderr
    match = re.search(r'<pre id="found">(.*?)</pre>', result.stdout)
    assert match is not None
    found = json.loads(match[1])
    assert len(found) == 2 * (1 + 5 + 6 + 5)
    for state in found:
        assert state["bars"] == 6
        assert len(state["curves"]) == 3
        assert min(state["curves"]) > 100
        assert not state["nan"]
