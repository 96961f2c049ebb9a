"""HTTP service: uploads, limits, the queue, and what it refuses, over real sockets."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs stavis[app]")

from stavis import media
from stavis.app.archive import stream_zip
from stavis.app.jobs import RECORD, Jobs
from stavis.app.options import parse_form
from stavis.app.settings import AppSettings
from stavis.app.upload import display_name
from stavis.errors import StavisError
from support.commands import run_command
from support.server import Client, serving


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A second of a moving square, 160x120."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with media.VideoWriter(path, width=160, height=120, frame_rate=20) as writer:
        for number in range(20):
            image = np.full((120, 160, 3), 40, np.uint8)
            image[40:70, 5 * number : 5 * number + 30] = (250, 200, 20)
            writer.write(image)
    return path.read_bytes()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = AppSettings(
        folder=tmp_path_factory.mktemp("jobs"), max_upload_megabytes=1, max_seconds=2, max_pixels=100_000
    )
    with serving(settings) as one:
        yield one


# Access ------------------------------------------------------------------------------------------------------------


def test_page_is_self_contained(client: Client) -> None:
    page = client.get("/").body.decode()
    script = client.get("/app.js").body.decode()
    style = client.get("/app.css").body.decode()
    for text in (page, script, style):
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org", "")
    policy = client.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:80"},
        {"host": "192.0.2.7"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_foreign_requests_are_refused(client: Client, headers: dict[str, str]) -> None:
    assert client.get("/v1/jobs", **headers).status == 403


def test_own_requests_pass(client: Client) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        address = f"{host}:{client.port}"
        assert client.get("/v1/jobs", host=address, origin=f"http://{address}").status == 200


def test_token_is_required_and_enough(tmp_path: Path) -> None:
    with serving(AppSettings(folder=tmp_path, token="secret", allowed_hosts=("box.lan",))) as client:
        assert client.get("/").status == client.get("/v1/jobs").status == 401
        assert client.get("/v1/jobs", authorization="Bearer wrong").status == 401
        assert client.get("/v1/jobs", authorization="Bearer secret").status == 200
        assert client.get("/?token=wrong").status == 401
        first = client.get("/?token=secret", host="box.lan")
        assert (first.status, first.headers["location"]) == (303, "/")
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get("/v1/jobs", cookie=cookie.partition(";")[0]).status == 200


def test_other_hosts_need_a_token() -> None:
    with pytest.raises(ValueError, match="token is required"):
        AppSettings(host="0.0.0.0")
    assert not AppSettings(host="0.0.0.0", token="x").is_local


# Uploads -----------------------------------------------------------------------------------------------------------


def test_uploads_beyond_limits_are_refused(client: Client, clip: bytes) -> None:
    assert client.upload(bytes(2_000_000)).status == 413
    assert client.upload(b"").status == 415
    answer = client.upload(b"Plain text is not a video. " * 100)
    assert answer.status == 415
    assert "/" not in answer.json["error"]  # no path of the server
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("video.mp4", bytes(50_000_000))
    assert client.upload(bomb.getvalue(), "bomb.mp4").status == 415
    assert client.upload(clip, stride=0).status == 422
    assert "allowed: outputs" in client.upload(clip, weights="/etc/passwd").json["error"]
    assert client.upload(clip, outputs="maps,poems").status == 422
    assert client.upload(clip, start=5, end=4).status == 422


def test_announced_gigabyte_is_refused_before_it_comes(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n"
            b"content-type: multipart/form-data; boundary=b\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_long_videos_and_large_pictures_are_refused(client: Client, tmp_path: Path) -> None:
    for name, size, num in (("long", (32, 32), 60), ("large", (640, 480), 1)):
        path = tmp_path / f"{name}.mp4"
        with media.VideoWriter(path, width=size[0], height=size[1], frame_rate=20) as writer:
            for _ in range(num):
                writer.write(np.zeros((size[1], size[0], 3), np.uint8))
        answer = client.upload(path.read_bytes())
        assert answer.status == 422
        assert "allowed" in answer.json["error"]


def test_malformed_bodies_are_refused(client: Client) -> None:
    post = lambda body, kind: client.send("POST", "/v1/predict", body, {"content-type": kind})  # noqa: E731
    assert post(b"{}", "application/json").status == 415
    assert post(b"x", "multipart/form-data").status == 422
    assert post(b"nonsense", "multipart/form-data; boundary=b").status == 422
    assert (
        post(
            b'--b\r\ncontent-disposition: form-data; name="stride"\r\n\r\n1\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ).status
        == 422
    )
    cut_off = b'--b\r\ncontent-disposition: form-data; name="video"; filename="a"\r\n\r\nabc'
    assert post(cut_off, "multipart/form-data; boundary=b").status == 422


def test_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with serving(AppSettings(folder=tmp_path)) as client:
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall(
                b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n"
                b"content-type: multipart/form-data; boundary=b\r\n\r\n"
                b'--b\r\ncontent-disposition: form-data; name="video"; filename="a"\r\n\r\nabc'
            )
            wait_for(lambda: any(path.is_dir() for path in tmp_path.iterdir()))
        wait_for(lambda: not any(path.is_dir() for path in tmp_path.iterdir()))
        assert client.get("/v1/jobs").json == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../x.mp4", "x.mp4"),
        ("..\\..\\x.mp4", "x.mp4"),
        ("/etc/passwd", "passwd"),
        ("", "video"),
        ("a\x00\nb.mp4", "ab.mp4"),
        ("é" * 500, "é" * 120),
    ],
)
def test_file_names_are_for_display_only(given: str, shown: str) -> None:
    assert display_name(given) == shown


def test_form_fields_are_named_like_flags() -> None:
    form = parse_form({"map-size": "network", "without-sound": "true", "start": "1.5", "end": ""})
    assert (form.map_size, form.without_sound, form.start, form.end) == ("network", True, 1.5, None)
    with pytest.raises(ValueError, match="stride is 'x'"):
        parse_form({"stride": "x"})


# Queue -------------------------------------------------------------------------------------------------------------


def test_queue_is_bounded_and_jobs_are_cancelled(tmp_path: Path, clip: bytes) -> None:
    settings = AppSettings(folder=tmp_path, max_waiting=2)
    with serving(settings) as client:
        answers = [client.upload(clip, f"../../{number}.mp4") for number in range(4)]
        assert [answer.status for answer in answers] == [202, 202, 202, 429]
        assert answers[3].headers["retry-after"]
        jobs = client.get("/v1/jobs").json
        assert [job["name"] for job in jobs] == ["2.mp4", "1.mp4", "0.mp4"]
        assert [job["status"] for job in jobs] == ["queued", "queued", "running"]
        first, waiting = answers[0].json["id"], answers[1].json["id"]
        for job_id in (first, waiting):
            assert client.send("DELETE", f"/v1/jobs/{job_id}").json["status"] == "cancelled"
        assert client.send("DELETE", f"/v1/jobs/{waiting}").status == 204
        assert client.get(f"/v1/jobs/{waiting}").status == 404
        assert not (tmp_path / waiting).exists()
        assert not (tmp_path / first / "video").exists()
        for name in ("overlay.mp4", "../job.json", "%2e%2e/job.json", "/etc/passwd", "..%2fjob.json"):
            assert client.get(f"/v1/jobs/{first}/results/{name}").status == 404
    # The last one waited or ran when the server stopped.
    record = json.loads((tmp_path / answers[2].json["id"] / RECORD).read_text())
    assert record["status"] == "interrupted"
    assert not (tmp_path / answers[2].json["id"] / "video").exists()
    with serving(settings) as client:
        assert [job["status"] for job in client.get("/v1/jobs").json] == ["interrupted", "cancelled"]


def test_folder_has_one_server(tmp_path: Path) -> None:
    with serving(AppSettings(folder=tmp_path)):
        with pytest.raises(StavisError, match="in use"):
            Jobs(AppSettings(folder=tmp_path))


def test_openapi_document_lists_every_path(client: Client) -> None:
    document = client.get("/openapi.json").json
    assert set(document["paths"]) == {
        "/v1/predict", "/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/results/{name}",
    }  # fmt: skip
    fields = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    assert {"video", "stride", "map-size", "without-sound"} <= set(fields["properties"])
    assert client.get("/v1/nothing").status == 404


def test_everything_comes_as_one_zip(tmp_path: Path) -> None:
    results = tmp_path / "abc" / "results"
    for name in ("maps/map_000000.png", "without-sound/frames.csv", "page/video.mp4", "frames.csv"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(name)
    record = {"id": "abc", "name": "Talk.mp4", "status": "finished", "results": ["all.zip", "maps.zip"]}
    (tmp_path / "abc" / RECORD).write_text(json.dumps(record | {"finished": time.time()}))
    expected = {
        "all.zip": {"Talk/maps/map_000000.png", "Talk/without-sound/frames.csv", "Talk/frames.csv"},
        "maps.zip": {"Talk/maps/map_000000.png"},
    }
    with serving(AppSettings(folder=tmp_path)) as client:
        for name, members in expected.items():
            answer = client.get(f"/v1/jobs/abc/results/{name}")
            assert "Talk.zip" in answer.headers["content-disposition"]
            with zipfile.ZipFile(BytesIO(answer.body)) as archive:
                assert set(archive.namelist()) == members


def test_zip_is_made_while_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(os.urandom(1_000_000))
    (tmp_path / "b.txt").write_text("text")
    parts = list(stream_zip([(tmp_path / "a.bin", "x/a.bin"), (tmp_path / "b.txt", "x/b.txt")]))
    assert len(parts) > 3
    with zipfile.ZipFile(BytesIO(b"".join(parts))) as archive:
        assert archive.testzip() is None
        assert archive.read("x/a.bin") == (tmp_path / "a.bin").read_bytes()


# Whole jobs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_maps_are_those_of_the_command(tmp_path: Path, shared: Path) -> None:
    video = shared / "media" / "bento_11frames.mp4"
    run_command("predict", video, "--output", tmp_path / "command", "--outputs", "npz", "--quiet")
    with serving(AppSettings(folder=tmp_path / "jobs")) as client:
        job = client.upload(video.read_bytes(), video.name, without_sound=True).json
        job = wait_for_job(client, job["id"])
        assert job["status"] == "finished", job
        base = f"/v1/jobs/{job['id']}/results/"
        expected = np.load(tmp_path / "command" / video.stem / "saliency.npz")
        found = np.load(BytesIO(client.get(base + "saliency.npz").body))
        for name in ("saliency", "index", "time_seconds"):
            np.testing.assert_array_equal(found[name], expected[name])
        summary = client.get(base + "summary.json").json
        assert summary["input"] == video.name
        part = client.get(base + "overlay.mp4", range="bytes=4-7")
        assert (part.status, part.body) == (206, b"ftyp")
        page = client.get(base + "page/page.json").json
        maps = client.get(base + "page/maps.u8").body
        assert len(maps) == len(page["times"]) * page["map_size"][0] * page["map_size"][1]
        assert max(maps) == 255
        assert client.get(base + "page/without-sound.u8").body != maps
        with zipfile.ZipFile(BytesIO(client.get(base + "all.zip").body)) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
        assert {"overlay.mp4", "saliency.npz", "frames.csv", "without-sound/saliency.npz"} <= names
        assert not any("page" in name for name in names)


@pytest.mark.slow
def test_crash_is_the_job_s(tmp_path: Path, clip: bytes) -> None:
    with serving(AppSettings(folder=tmp_path, memory_megabytes=200)) as client:
        job = wait_for_job(client, client.upload(clip).json["id"])
        assert job["status"] == "failed"
        assert job["error"]
        assert client.get("/v1/limits").status == 200


@pytest.mark.slow
def test_killed_server_leaves_interrupted_jobs(tmp_path: Path, clip: bytes) -> None:
    command = [sys.executable, "-m", "stavis", "app", "--port", "0", "--folder", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        client = Client(int(process.stderr.readline().rstrip().rstrip("/").rpartition(":")[2]))
        finished = wait_for_job(client, client.upload(clip, "first.mp4").json["id"])
        assert finished["status"] == "finished", finished
        running = client.upload(clip, "second.mp4").json["id"]
        waiting = client.upload(clip, "third.mp4").json["id"]
        wait_for(lambda: client.get(f"/v1/jobs/{running}").json["status"] == "running")
        worker = find_worker(tmp_path / running)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not Path(f"/proc/{worker}").exists())
    with serving(AppSettings(folder=tmp_path)) as client:
        status = {job["id"]: job["status"] for job in client.get("/v1/jobs").json}
        assert status == {finished["id"]: "finished", running: "interrupted", waiting: "interrupted"}
        assert client.get(f"/v1/jobs/{finished['id']}/results/overlay.mp4").status == 200
    assert not list(tmp_path.glob("*/video"))


@pytest.mark.slow
def test_fifty_clients_at_once(tmp_path: Path, clip: bytes) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with serving(AppSettings(folder=tmp_path, max_waiting=10)) as client:
        with ThreadPoolExecutor(50) as pool:
            answers = list(
                pool.map(lambda number: client.upload(clip, f"{number}.mp4", stride=10), range(50))
            )
        accepted = {answer.json["id"] for answer in answers if answer.status == 202}
        refused = [answer for answer in answers if answer.status == 429]
        assert len(accepted) + len(refused) == 50
        assert 10 <= len(accepted) <= 12
        assert {job["id"] for job in client.get("/v1/jobs").json} == accepted
        for job_id in accepted:
            client.send("DELETE", f"/v1/jobs/{job_id}")


def test_client_that_reads_nothing_costs_no_memory(tmp_path: Path) -> None:
    job = tmp_path / "abc"
    (job / "results").mkdir(parents=True)
    (job / "results" / "saliency.npz").write_bytes(bytes(100_000_000))
    record = {
        "id": "abc",
        "name": "x.mp4",
        "status": "finished",
        "results": ["saliency.npz"],
        "finished": time.time(),
    }
    (job / RECORD).write_text(json.dumps(record))
    with serving(AppSettings(folder=tmp_path)) as client:
        before = resident_megabytes()
        connections = []
        for _ in range(20):
            connection = http.client.HTTPConnection("127.0.0.1", client.port)
            connection.request("GET", "/v1/jobs/abc/results/saliency.npz")
            connections.append(connection)
        time.sleep(1)
        assert client.get("/v1/jobs").status == 200
        assert resident_megabytes() - before < 60
        for connection in connections:
            connection.close()


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def find_worker(folder: Path) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in (process / "cmdline").read_text():
                return int(process.name)
        except OSError:
            continue
    raise AssertionError("no worker process")


def wait_for_job(client: Client, job_id: str, seconds: float = 300) -> dict:
    wait_for(lambda: client.get(f"/v1/jobs/{job_id}").json["status"] not in ("queued", "running"), seconds)
    return client.get(f"/v1/jobs/{job_id}").json


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
