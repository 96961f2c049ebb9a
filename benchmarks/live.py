"""Live prediction measured: maps per second, delay from capture to map, and memory; and what a short look-ahead costs.

    python benchmarks/live.py VIDEO [--seconds 600] [--weights WEIGHTS] [--look-ahead 3] [--browser]
    python benchmarks/live.py VIDEO --accuracy --gaze FILE.mat [--weights WEIGHTS]

The first form starts `stavis app`, plays the clip in a loop as a browser records it (VP8 and Opus in chunks of 0.1 s,
in real time), and times each map from the capture of its picture to its arrival. With --browser
a headless Chromium with fake camera and microphone plays it: encoding and drawing are part of the delay then. Memory is
that of the server and the session's worker process, without the first minute, in which caches fill.

The second form predicts every fourth frame with each look-ahead from 0 to 7 and prints the mean NSS on the recorded
gaze: a MATLAB file with one cell per observer, each (frames, 2) of x, y in pixels from 1.
"""

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.io import loadmat
from websockets.sync.client import connect

from stavis import media
from stavis.app.predictor import MAX_LOOK_AHEAD, LivePredictor
from stavis.media.live import LivePicture, LiveSound
from stavis.metrics import nss
from stavis.weights.names import load_network

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

CHUNK_SECONDS = 0.1
SIZE = (640, 360)
RATE = 25
WARM_UP_SECONDS = 60
STEP = 4  # frames between maps whose accuracy is measured


class Recording:
    """A clip encoded once, given out again and again as one endless stream."""

    def __init__(self, clip: Path, folder: Path) -> None:
        self.path = folder / "clip.mkv"
        picture_time, num = Fraction(1, RATE), 0
        with av.open(str(clip)) as source, av.open(str(self.path), "w") as target:
            options = {
                "deadline": "realtime",
                "cpu-used": "8",
                "b": "1200000",
                "g": "100",
                "lag-in-frames": "0",
            }
            video = target.add_stream("libvpx", rate=RATE, options=options)
            video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
            audio = target.add_stream("libopus", rate=48000)
            resampler = av.AudioResampler("s16", "stereo", 48000)
            for frame in source.decode(source.streams.video[0], source.streams.audio[0]):
                if isinstance(frame, av.AudioFrame):
                    for part in resampler.resample(frame):
                        target.mux(audio.encode(part))
                    continue
                while num * picture_time <= (frame.time or 0):  # at RATE, whatever the clip's own
                    picture = frame.reformat(*SIZE, "yuv420p")
                    picture.pts, picture.time_base = num, picture_time
                    target.mux(video.encode(picture))
                    num += 1
            target.mux(video.encode(None))
            target.mux(audio.encode(None))
        self.seconds = num / RATE

    def packets(self) -> Iterator[tuple[float, bytes]]:
        """The stream's bytes with the time in seconds at which each piece is captured, without end."""
        sink = _Sink()
        with av.open(
            sink, "w", format="matroska", options={"live": "1", "cluster_time_limit": "50"}
        ) as target:
            source = av.open(str(self.path))
            streams = {one.index: target.add_stream_from_template(one) for one in source.streams}
            loops = 0
            while True:
                for packet in source.demux():
                    if packet.pts is None:
                        continue
                    shift = loops * self.seconds
                    seconds = float(packet.pts * packet.time_base)
                    if seconds < 0 or seconds >= self.seconds:
                        continue
                    packet.pts += round(shift / packet.time_base)
                    packet.dts = packet.pts
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
                    yield seconds + shift, sink.take()
                loops += 1
                source.close()
                source = av.open(str(self.path))


class _Sink(io.RawIOBase):
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        parts, self.parts = self.parts, []
        return b"".join(parts)


def play(recording: Recording, port: int, seconds: float, look_ahead: int) -> list[tuple[float, float]]:
    """Plays a recording to a server; returns each map's (arrival since the start, delay), in seconds."""
    found: list[tuple[float, float]] = []
    with connect(f"ws://127.0.0.1:{port}/v1/live", max_size=None) as socket:
        socket.send(json.dumps({"container": "video/x-matroska", "look_ahead": look_ahead}))
        socket.recv(timeout=300)  # ready
        began = time.monotonic()

        def send() -> None:
            waiting, due = b"", CHUNK_SECONDS
            for captured, data in recording.packets():
                if captured > seconds:
                    return
                if captured > due:
                    time.sleep(max(0.0, began + due - time.monotonic()))
                    socket.send(waiting)
                    waiting, due = b"", due + CHUNK_SECONDS
                waiting += data

        threading.Thread(target=send, daemon=True).start()
        while (now := time.monotonic() - began) < seconds:
            try:
                message = socket.recv(timeout=5)
            except TimeoutError:
                continue
            now = time.monotonic() - began
            if isinstance(message, str):
                raise SystemExit(f"the session ended: {message}")
            (size,) = struct.unpack_from("<I", message)
            found.append((now, now - json.loads(message[4 : 4 + size])["time"]))
    return found


def play_in_browser(clip: Path, port: int, seconds: float, look_ahead: int) -> list[tuple[float, float]]:
    """As `play`, by a headless Chromium."""
    from support.chromium import Chromium, make_fake_devices

    with tempfile.TemporaryDirectory() as folder:
        with Chromium(*make_fake_devices(clip, Path(folder), size=SIZE)) as browser:
            browser.go(f"http://localhost:{port}/#live")
            browser.wait_for("document.getElementById('about').textContent !== ''")
            browser.run(f"document.getElementById('look-ahead').value = '{look_ahead}'")
            browser.click("#start")
            browser.wait_for("stavisLive.maps > 0 || stavisLive.error", 300)
            browser.wait_for(
                f"performance.now() - stavisLive.first > {1000 * seconds} || stavisLive.error", seconds + 60
            )
            error, delays, times = browser.run("[stavisLive.error, stavisLive.delays, stavisLive.times]")
            if error:
                raise SystemExit(f"the session ended: {error}")
            return [((one - times[0]) / 1000, delay) for one, delay in zip(times, delays, strict=True)]


class Memory:
    """Samples what a process and its children hold, every few seconds, in a thread."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.samples: list[tuple[float, float]] = []
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        began = time.monotonic()
        while True:
            self.samples.append((time.monotonic() - began, sum(map(_resident, _family(self.pid)))))
            time.sleep(5)


def _family(pid: int) -> list[int]:
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            found += _family(int(child))
    return found


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def measure_session(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stavis", "app", "--port", "0", "--weights", options.weights]
        server = subprocess.Popen([*command, "--folder", folder], stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            address = server.stderr.readline()
            port = int(address.strip().rstrip("/").rpartition(":")[2])
            recording = None if options.browser else Recording(options.video, Path(folder))
            memory = Memory(server.pid)
            if recording is None:
                maps = play_in_browser(options.video, port, options.seconds, options.look_ahead)
            else:
                maps = play(recording, port, options.seconds, options.look_ahead)
            samples = [size for at, size in memory.samples if at > WARM_UP_SECONDS]
        finally:
            server.terminate()
            server.wait()
    times, delays = (np.array(column) for column in zip(*maps, strict=True))
    settled = times > min(10, options.seconds / 4)  # the first seconds fill the windows
    half = delays[settled][: settled.sum() // 2], delays[settled][settled.sum() // 2 :]
    gaps = np.diff(times[settled])
    print(
        f"{'browser' if options.browser else 'client'}, look-ahead {options.look_ahead}, {options.seconds:.0f} s"
    )
    print(f"maps per second    {settled.sum() / (times[settled][-1] - times[settled][0]):.1f}")
    print(f"delay, median      {np.median(delays[settled]):.2f} s")
    print(f"delay, 95 %        {np.quantile(delays[settled], 0.95):.2f} s")
    print(f"delay, halves      {np.median(half[0]):.2f} s, {np.median(half[1]):.2f} s")
    print(f"longest gap        {gaps.max():.2f} s")
    if samples:
        print(f"memory             {min(samples):.0f} to {max(samples):.0f} MB")


def measure_accuracy(options: argparse.Namespace) -> None:
    model = load_network(options.weights, modality=None, device="cpu").model
    info = media.probe(options.video)
    cells = loadmat(options.gaze)
    observers = next(value for name, value in cells.items() if not name.startswith("__")).ravel()
    gaze = np.stack([np.asarray(one, dtype=np.int64) for one in observers]) - 1  # (observers, frames, 2)
    print("| look-ahead | NSS | delay of the wait |")
    print("|---|---|---|")
    for look_ahead in range(MAX_LOOK_AHEAD + 1):
        predictor = LivePredictor(model, look_ahead=look_ahead, precision="float32")
        scores = []
        with media.AudioReader(options.video) as reader:
            heard = 0
            for frame in media.read_frames(options.video):
                end = round((frame.time_seconds + 0.5 / float(info.frame_rate)) * reader.sample_rate)
                predictor.add(LiveSound(heard, reader.read(heard, end)))
                heard = end
                predictor.add(LivePicture(frame.time_seconds, frame.image))
                target = frame.index - look_ahead
                if target % STEP or not 0 <= target < gaze.shape[1]:
                    continue
                result = predictor.next_map(timeout=1)
                assert result is not None
                scores.append(nss(result.saliency, _fixations(gaze[:, target], info, result.saliency.shape)))
        print(
            f"| {look_ahead} | {np.nanmean(scores):.3f} | {look_ahead / float(info.frame_rate):.2f} s |",
            flush=True,
        )


def _fixations(points: np.ndarray, info: media.VideoInfo, shape: tuple[int, int]) -> np.ndarray:
    fixated = np.zeros(shape, bool)
    inside = ((points >= 0) & (points < (info.width, info.height))).all(axis=1)
    x, y = points[inside].T
    fixated[y * shape[0] // info.height, x * shape[1] // info.width] = True
    return fixated


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--look-ahead", type=int, default=3)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--gaze", type=Path)
    chosen = parser.parse_args()
    if chosen.accuracy and chosen.gaze is None:
        parser.error("--accuracy needs --gaze")
    (measure_accuracy if chosen.accuracy else measure_session)(chosen)
