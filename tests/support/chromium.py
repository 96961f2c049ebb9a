"""Headless Chromium driven through its DevTools protocol, for tests of the page. Needs no package but websockets."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """The browser's executable; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """A browser with one page, used in a `with` block.

    Args:
        flags: Further command line flags.

    Attributes:
        problems: Everything that the page wrote to the console as a warning or error, and uncaught exceptions.
        downloads: Folder that downloads go to.
    """

    def __init__(self, *flags: str) -> None:
        from websockets.sync.client import connect

        self.problems: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        profile = Path(self._folder.name) / "profile"
        self.downloads = Path(self._folder.name) / "downloads"
        self.downloads.mkdir()
        self._process = subprocess.Popen(
            [find_chromium() or "chromium", *FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = profile / "DevToolsActivePort"
        wait_until(lambda: port_file.exists() and port_file.read_text().count("\n") == 1, 60)
        port, path = port_file.read_text().split("\n")
        self._connection = connect(f"ws://127.0.0.1:{port}{path}", max_size=None)
        self._socket = self._connection.__enter__()
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def call(self, method: str, timeout: float = 60, **parameters: Any) -> dict[str, Any]:
        """Calls the browser and returns its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=timeout))
            self._notice(answer)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _notice(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.problems.append(
                str([one.get("value", one.get("description")) for one in parameters["args"]])
            )
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            text = parameters["entry"]["text"]
            if "willReadFrequently" not in text:  # tests read canvases, the page does not
                self.problems.append(f"{text} {parameters['entry'].get('url', '')}")

    def go(self, url: str) -> None:
        """Loads a page."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30) -> None:
        """Waits until a JavaScript expression is true."""
        wait_until(lambda: self.run(expression), seconds, expression)

    def click(self, selector: str) -> None:
        """Clicks the middle of an element with the mouse."""
        find = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{find}.scrollIntoView({{block: 'center'}})")
        x, y = self.run(
            f"(() => {{const b = {find}.getBoundingClientRect(); return [b.x + b.width/2, b.y + b.height/2]}})()"
        )
        self.click_at(x, y)

    def click_at(self, x: float, y: float) -> None:
        """Clicks a point of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Presses a key, named as in `KeyboardEvent.key`."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def choose_file(self, selector: str, *paths: Path) -> None:
        """Puts files into a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[*map(str, paths)])

    def resize(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Sets the size of the window and the color scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Saves a picture of the page as a PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.__exit__(None, None, None)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


def wait_until(condition: Any, seconds: float, what: str = "") -> None:
    """Waits until a function returns something true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s in vain: {what or condition}")
        time.sleep(0.1)


def make_fake_devices(clip: Path, folder: Path, *, size: tuple[int, int] = (640, 360)) -> tuple[str, ...]:
    """Writes a clip as Chromium's fake camera and microphone play it; returns the flags that choose them."""
    import av

    from stavis.media import AudioReader, write_wave

    picture, sound = folder / "camera.y4m", folder / "microphone.wav"
    with av.open(str(clip)) as container, picture.open("wb") as file:
        rate = container.streams.video[0].average_rate
        file.write(
            f"YUV4MPEG2 W{size[0]} H{size[1]} F{rate.numerator}:{rate.denominator} Ip A1:1 C420jpeg\n".encode()
        )
        for frame in container.decode(video=0):
            file.write(b"FRAME\n" + frame.reformat(*size, "yuv420p").to_ndarray().tobytes())
            duration = frame.time
    with AudioReader(clip, sample_rate=48000) as reader:
        write_wave(sound, reader.read(0, int(duration * 48000)), 48000)
    return (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={picture}",
        f"--use-file-for-fake-audio-capture={sound}",
    )
