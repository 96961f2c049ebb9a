"""The page in headless Chromium: a video from upload to download, and live with fake devices. Slow."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs stavis[app]")

from stavis import media
from stavis.app.settings import AppSettings
from support.chromium import Chromium, find_chromium, make_fake_devices, wait_until
from support.places import SHARED
from support.server import Client, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(AppSettings(folder=tmp_path_factory.mktemp("jobs"))) as one:
        yield one


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people talking; a moving square with noise where the real clips are not."""
    path = SHARED / "media" / "find_012_talk.mp4"
    if path.exists():
        return path
    path = tmp_path_factory.mktemp("clip") / "square.mp4"
    noise = np.random.default_rng(0).normal(0, 0.2, 16 * 22050).astype(np.float32)
    media.write_wave(path.with_suffix(".wav"), noise, 22050)
    with media.VideoWriter(
        path, width=320, height=180, frame_rate=25, audio_from=path.with_suffix(".wav")
    ) as writer:
        for number in range(400):
            image = np.full((180, 320, 3), 40, np.uint8)
            image[60:120, number % 260 : number % 260 + 60] = (250, 200, 20)
            writer.write(image)
    return path


def pixels(canvas: str) -> str:
    """JavaScript: the sum of a canvas's pixels."""
    return (
        f"(() => {{const c = document.getElementById('{canvas}'); if (!c.width) return 0; return Array.from("
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data).reduce((a, b) => a + b, 0)})()"
    )


def test_video_from_upload_to_download(client: Client, clip: Path) -> None:
    with Chromium() as browser:
        browser.resize(1280, 900)
        browser.go(f"http://localhost:{client.port}/")
        browser.wait_for("document.getElementById('about').textContent !== ''")
        browser.run("document.getElementById('option-stride').value = '8'")
        browser.choose_file("#file", clip)
        browser.wait_for(f"document.querySelector('#jobs .job-name')?.textContent === '{clip.name}'", 60)
        browser.wait_for("!document.getElementById('result').hidden", 600)
        browser.wait_for("document.getElementById('player').readyState > 2", 60)
        browser.wait_for(f"{pixels('heat')} > 0", 60)
        before = browser.run(pixels("heat"))

        browser.click("#play")
        browser.wait_for("document.getElementById('player').currentTime > 0.5", 60)
        browser.click("#play")
        browser.wait_for("document.getElementById('player').paused")

        # A click into the middle of the timeline seeks there, and another map is drawn.
        middle = browser.run("document.getElementById('player').duration") / 2
        x, y, width = browser.run(
            "(() => {const t = document.getElementById('timeline'); t.scrollIntoView({block: 'center'});"
            "const b = t.getBoundingClientRect(); return [b.x, b.y + b.height / 2, b.width]})()"
        )
        browser.click_at(x + width / 2, y)
        browser.wait_for(f"Math.abs(document.getElementById('player').currentTime - {middle}) < 0.3", 20)
        browser.wait_for(f"{pixels('heat')} !== {before}", 20)
        at = browser.run("Number(document.getElementById('timeline').getAttribute('aria-valuenow'))")
        assert at == pytest.approx(middle, abs=0.4)

        browser.click("[value=original]")
        browser.wait_for(f"{pixels('heat')} === 0")
        browser.click("[value=map]")
        browser.wait_for(f"{pixels('heat')} > 0")
        browser.click("#mode-silent input")
        browser.wait_for(f"{pixels('heat-silent')} > 0")
        assert browser.run(pixels("heat-silent")) != browser.run(pixels("heat"))
        assert browser.run("document.querySelectorAll('#numbers tbody tr').length") == 7

        # By keyboard alone: the focused timeline moves by a second.
        browser.run("document.getElementById('timeline').focus()")
        browser.press("ArrowRight")
        browser.wait_for(f"document.getElementById('player').currentTime > {middle + 0.8}", 20)

        browser.run(
            "[...document.querySelectorAll('#downloads a')].find(a => a.href.includes('frames.csv')).click()"
        )
        wait_until(lambda: list(browser.downloads.glob("*frames.csv")), 30)
        table = next(browser.downloads.glob("*frames.csv")).read_text()
        assert len(table.splitlines()) == 1 + sum(1 for _ in media.read_frames(clip))

        for size in ((1280, 900), (390, 844)):  # nothing is wider than the window
            browser.resize(*size, phone=size[0] < 500)
            browser.wait_for("document.documentElement.scrollWidth <= innerWidth")

        browser.call("Page.reload")  # results survive it
        browser.wait_for("document.readyState === 'complete'")
        browser.wait_for(f"document.getElementById('result-name').textContent === '{clip.name}'", 60)
        assert browser.problems == []


def test_refused_uploads_are_explained(client: Client, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Not a video.\n" * 100)
    with Chromium() as browser:
        browser.go(f"http://localhost:{client.port}/")
        browser.wait_for("document.getElementById('about').textContent !== ''")
        with (tmp_path / "large.mp4").open("wb") as large:
            large.truncate(1_100_000_000)
        browser.choose_file("#file", tmp_path / "large.mp4", tmp_path / "notes.txt")
        browser.wait_for("document.getElementById('problem').textContent.includes('notes.txt')", 60)
        assert "large.mp4 is too large" in browser.run("document.getElementById('problem').textContent")


def test_live_maps_arrive(client: Client, clip: Path, tmp_path: Path) -> None:
    flags = make_fake_devices(clip, tmp_path)
    with Chromium(*flags) as browser:
        browser.go(f"http://localhost:{client.port}/#live")
        browser.wait_for("document.getElementById('about').textContent !== ''")
        browser.click("#start")
        browser.wait_for("stavisLive.maps >= 5 || stavisLive.error", 180)
        assert browser.run("stavisLive.error") == ""
        delays = browser.run("stavisLive.delays")
        print(f"delays from capture to drawn map, in seconds: {[round(one, 2) for one in delays]}")
        assert all(0 < one < 30 for one in delays)
        assert browser.run(pixels("live-heat")) > 0
        browser.click("#hears")
        maps = browser.run("stavisLive.maps")
        browser.wait_for(f"stavisLive.maps > {maps + 1}", 60)
        browser.click("#stop")
        browser.wait_for("!document.getElementById('live-start').hidden")
        assert browser.problems == []
        time.sleep(1)
