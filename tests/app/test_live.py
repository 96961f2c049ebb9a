"""Live prediction: the same maps as for files, never late ones, and the outputs of `stavis live`."""

import contextlib
import errno
import http.client
import io
import json
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs stavis[app]")

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import stavis
from stavis import media
from stavis.app.predictor import LivePredictor, predict_live
from stavis.app.settings import AppSettings
from stavis.app.stream import _previewing, watch
from stavis.clips.preprocess import Preprocessing
from stavis.errors import StavisError
from stavis.media.live import ChunkPipe, LivePicture, LiveSound, read_live
from support.networks import frames, lively_network
from support.server import Client, serving

RATE, SAMPLE_RATE = 25, 22050
NUM = 24


@pytest.fixture(scope="module")
def model() -> stavis.STAViS:
    return lively_network()


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return frames(NUM)


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.2, NUM * SAMPLE_RATE // RATE)
    # As 16-bit files hold it, which is how `predict_frames` passes it on.
    return (np.round(samples.clip(-1, 1) * 32767) / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray, tone: np.ndarray) -> Path:
    """A second of pictures and noise in a Matroska file."""
    folder = tmp_path_factory.mktemp("clip")
    media.write_wave(folder / "tone.wav", tone, SAMPLE_RATE)
    path = folder / "clip.mkv"
    with media.VideoWriter(
        path, width=64, height=64, frame_rate=RATE, audio_from=folder / "tone.wav"
    ) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def live(model: stavis.STAViS, look_ahead: int) -> LivePredictor:
    return LivePredictor(model, look_ahead=look_ahead, engine="torch", precision="float32", keep_images=True)


def feed(predictor: LivePredictor, pictures: np.ndarray, tone: np.ndarray) -> None:
    size = SAMPLE_RATE // RATE
    for number, picture in enumerate(pictures):
        predictor.add(LiveSound(number * size, tone[number * size : (number + 1) * size]))
        predictor.add(LivePicture(number / RATE, picture))


@pytest.mark.parametrize("look_ahead", [0, 3, 7])
def test_maps_are_those_of_a_video_that_ends_there(
    model: stavis.STAViS, pictures: np.ndarray, tone: np.ndarray, look_ahead: int
) -> None:
    predictor = live(model, look_ahead)
    feed(predictor, pictures, tone)
    predictor.close()
    found = predictor.next_map()
    assert found is not None
    target = NUM - 1 - look_ahead
    assert found.time_seconds == pytest.approx(target / RATE)
    expected = list(
        stavis.predict_frames(model, pictures, frame_rate=RATE, audio=(tone, SAMPLE_RATE), engine="torch")
    )[target].saliency
    np.testing.assert_allclose(found.saliency, expected, atol=2e-3)
    np.testing.assert_array_equal(found.image, pictures[target])
    assert predictor.next_map() is None


def test_slow_machine_skips_pictures(model: stavis.STAViS, pictures: np.ndarray, tone: np.ndarray) -> None:
    predictor = live(model, 2)
    feed(predictor, pictures[:6], tone)
    first = predictor.next_map()
    many = np.concatenate([pictures] * 4)
    feed(predictor, many, np.concatenate([tone] * 4))  # arrives while the first map is computed
    second = predictor.next_map()
    assert first is not None
    assert second is not None
    assert first.time_seconds == pytest.approx(3 / RATE)
    assert second.time_seconds == pytest.approx((len(many) - 3) / RATE)  # the newest, whatever was missed
    assert predictor.next_map(timeout=0.01) is None
    assert len(predictor._pictures) < 60


def test_muted_ear_hears_nothing(model: stavis.STAViS, pictures: np.ndarray, tone: np.ndarray) -> None:
    maps = []
    for hears, sound in ((True, tone), (False, tone), (True, 0 * tone)):
        predictor = live(model, 7)
        predictor.hears = hears
        feed(predictor, pictures, sound)
        result = predictor.next_map()
        assert result is not None
        maps.append(result.saliency)
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    np.testing.assert_allclose(maps[1], maps[2], atol=1e-6)


def test_fast_cameras_are_thinned_out(model: stavis.STAViS, pictures: np.ndarray) -> None:
    predictor = live(model, 0)
    for number, picture in enumerate(pictures):
        predictor.add(LivePicture(number / 120, picture))
    assert len(predictor._pictures) == 6


def test_look_ahead_has_limits(model: stavis.STAViS) -> None:
    with pytest.raises(ValueError, match="look_ahead is 8"):
        live(model, 8)


def test_chunks_are_decoded_as_they_come(clip: Path) -> None:
    pipe = ChunkPipe()
    data = clip.read_bytes()
    threading.Thread(
        target=lambda: ([pipe.write(data[i : i + 3000]) for i in range(0, len(data), 3000)], pipe.close())
    ).start()
    events = list(read_live(pipe, container_format="matroska", max_side=32))
    times = [event.time_seconds for event in events if isinstance(event, LivePicture)]
    np.testing.assert_allclose(times, np.arange(NUM) / RATE, atol=2e-3)
    assert all(event.image.shape == (32, 32, 3) for event in events if isinstance(event, LivePicture))
    sounds = [event for event in events if isinstance(event, LiveSound)]
    ends = [event.start + len(event.samples) for event in sounds]
    assert [event.start for event in sounds[1:]] == ends[:-1]
    assert ends[-1] == pytest.approx(NUM * SAMPLE_RATE / RATE, abs=SAMPLE_RATE // 10)


def test_pipe_is_bounded() -> None:
    pipe = ChunkPipe(max_bytes=10)
    assert pipe.write(b"12345678")
    assert not pipe.write(b"123")
    assert pipe.read(5) == b"12345"
    assert pipe.read(100) == b"678"
    pipe.close()
    assert pipe.read(1) == b""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing-there", "neither a camera, a file, nor an address"),
        ("99", "no such camera"),
        ("udp://127.0.0.1:1?timeout=1", "cannot be opened"),
    ],
)
def test_sources_that_cannot_be_opened(source: str, message: str) -> None:
    with pytest.raises(StavisError, match=message):
        next(read_live(source))


def test_text_is_not_a_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Plain text. " * 100)
    with pytest.raises(StavisError):
        list(read_live(str(tmp_path / "a.txt")))


def test_errors_of_the_source_reach_the_consumer(model: stavis.STAViS) -> None:
    def broken() -> Iterator[LivePicture]:
        yield LivePicture(0.0, frames(1)[0])
        raise StavisError("unplugged")

    with pytest.raises(StavisError, match="unplugged"):
        list(predict_live(broken(), live(model, 7)))


def test_watching_prints_and_records(model: stavis.STAViS, clip: Path, tmp_path: Path) -> None:
    lines = io.StringIO()
    num = watch(
        model, str(clip), predictor=live(model, 0), lines=lines, record=tmp_path / "overlay.mp4", quiet=True
    )
    printed = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert len(printed) == num >= 1
    assert printed[0]["time"] == 0
    assert set(printed[0]) == {"time", "peak", "center", "box", "entropy", "level_db", "size"}
    assert all(0 <= one <= 64 for line in printed for one in line["peak"])
    recorded = list(media.read_frames(tmp_path / "overlay.mp4"))
    assert len(recorded) == num
    assert recorded[0].image.shape == (64, 64, 3)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch, pictures: np.ndarray) -> list[Exception]:
    """Replaces the source by pictures in real time; it breaks off with the error that is put into the list."""
    errors: list[Exception] = []

    def read(*_: object, **__: object) -> Iterator[LivePicture]:
        for number in range(10**6):
            yield LivePicture(number / RATE, pictures[number % NUM])
            time.sleep(1 / RATE)
            if errors:
                raise errors[0]

    monkeypatch.setattr("stavis.app.stream.read_live", read)
    return errors


def test_interrupt_amid_a_frame_keeps_the_recording(
    model: stavis.STAViS, endless: list[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, num = media.VideoWriter._encode, 0

    def interrupted(self: media.VideoWriter, frame: object) -> None:
        nonlocal num
        encode(self, frame)
        num += 1
        if num == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(media.VideoWriter, "_encode", interrupted)
    watch(model, "camera", predictor=live(model, 0), record=tmp_path / "overlay.mp4", quiet=True)
    assert len(list(media.read_frames(tmp_path / "overlay.mp4"))) == 2
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [StavisError("unplugged"), BrokenPipeError()], ids=repr)
def test_what_was_recorded_before_an_error_is_kept(
    model: stavis.STAViS, endless: list[Exception], tmp_path: Path, error: Exception
) -> None:
    class Reader(io.StringIO):
        def write(self, text: str) -> int:
            if "\n" in self.getvalue():  # at the second line
                if isinstance(error, BrokenPipeError):
                    raise error
                endless.append(error)
            return super().write(text)

    record = tmp_path / "overlay.mp4"
    with pytest.raises(type(error)):
        watch(model, "camera", predictor=live(model, 0), lines=Reader(), record=record, quiet=True)
    assert len(list(media.read_frames(record))) >= 1


def test_source_that_breaks_off_is_one_line(clip: Path) -> None:
    class Line:
        received = io.BytesIO(clip.read_bytes()[:-20])

        def read(self, size: int, /) -> bytes:
            if data := self.received.read(size):
                return data
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StavisError, match=r"^the stream broke off: Input/output error$"):
        list(read_live(Line(), container_format="matroska"))


def test_recording_never_replaces_its_source(model: stavis.STAViS, clip: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.mkv"
    link.symlink_to(clip)
    for record in (clip, link):
        with pytest.raises(StavisError, match="is the source; give `record` another file"):
            watch(model, str(clip), predictor=live(model, 0), record=record, quiet=True)


def test_audio_comes_at_the_network_s_rate(clip: Path) -> None:
    rate = 11025
    network = lively_network(preprocessing=Preprocessing(input_size=(64, 64), sample_rate=rate))
    predictor, heard = live(network, 0), []
    add = predictor.add
    predictor.add = lambda event: (heard.append(event), add(event))  # type: ignore[method-assign]
    watch(network, str(clip), predictor=predictor, quiet=True)
    ends = [event.start + len(event.samples) for event in heard if isinstance(event, LiveSound)]
    assert ends[-1] == pytest.approx(NUM * rate / RATE, abs=rate // 10)


def test_preview_streams_pictures() -> None:
    with media_preview() as (viewers, port):
        page = Client(port).get("/")
        assert b"stream.mjpg" in page.body
        assert Client(port).get("/", host="evil.example").status == 403
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/stream.mjpg")
        end = time.monotonic() + 20
        while not viewers.is_watched:
            assert time.monotonic() < end
            time.sleep(0.02)
        viewers.show(frames(1)[0])
        response = connection.getresponse()
        assert b"image/jpeg" in response.read(60)
        connection.close()


@contextlib.contextmanager
def media_preview():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _previewing(AppSettings(port=port), quiet=True) as viewers:
        yield viewers, port


# Sessions ----------------------------------------------------------------------------------------------------------


def test_sessions_are_limited_and_checked(tmp_path: Path) -> None:
    with serving(AppSettings(folder=tmp_path / "a", max_live=0)) as client:
        with connect(f"ws://127.0.0.1:{client.port}/v1/live") as session:
            assert "the most that are allowed" in json.loads(session.recv())["error"]
    with serving(AppSettings(folder=tmp_path / "b")) as client:
        address = f"ws://127.0.0.1:{client.port}/v1/live"
        for message in (
            "{}",
            "nonsense",
            '{"container": "../x"}',
            '{"container": "video/webm", "look_ahead": 9}',
        ):
            with connect(address) as session:
                session.send(message)
                assert "not a valid request" in json.loads(session.recv())["error"]
        with pytest.raises(InvalidStatus):
            connect(address, origin="http://evil.example")


@pytest.mark.slow
def test_session_turns_chunks_into_maps(tmp_path: Path, shared: Path) -> None:
    video = shared / "media" / "friday_cc0.mp4"
    path = tmp_path / "chunks.mkv"
    with media.VideoWriter(path, width=320, height=240, frame_rate=30, audio_from=video) as writer:
        for frame in media.read_frames(video):
            writer.write(frame.image[::2, ::2], frame.time_seconds)
    data = path.read_bytes()
    with serving(AppSettings(folder=tmp_path / "jobs")) as client:
        with connect(f"ws://127.0.0.1:{client.port}/v1/live", max_size=None) as session:
            session.send(json.dumps({"container": "video/x-matroska", "look_ahead": 0}))
            ready, _ = split(session.recv(timeout=120))
            assert ready["type"] == "ready"
            threading.Thread(target=send_slowly, args=(session, data, len(data) // 60), daemon=True).start()
            times = []
            for _ in range(3):
                header, values = split(session.recv(timeout=60))
                assert header["type"] == "map"
                assert len(values) == header["width"] * header["height"]
                assert max(values) == 255
                times.append(header["time"])
            assert times == sorted(set(times))
            session.send(json.dumps({"hears": False}))
        with connect(f"ws://127.0.0.1:{client.port}/v1/live") as session:  # what crashes is the session
            session.send(json.dumps({"container": "video/webm"}))
            session.recv(timeout=120)
            session.send(b"This is not a video. " * 5000)
            assert "error" in json.loads(session.recv(timeout=60))
        assert client.get("/v1/limits").status == 200


def send_slowly(session, data: bytes, size: int) -> None:
    with contextlib.suppress(ConnectionClosed):
        for start in range(0, len(data), size):
            session.send(data[start : start + size])
            time.sleep(0.1)


def split(message: bytes | str) -> tuple[dict, bytes]:
    assert isinstance(message, bytes), message
    (size,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + size]), message[4 + size :]
