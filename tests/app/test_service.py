"""HTTP service: uploads, limits, the queue, and what it refuses, over real sockets."""

import asyncio
import errno
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs stavis[app]")

from starlette.exceptions import HTTPException

from stavis import media
from stavis.app.archive import stream_zip
from stavis.app.guard import Guard
from stavis.app.jobs import RECORD, Job, Jobs, kill
from stavis.app.options import PredictForm, parse_form
from stavis.app.server import open_socket, page_address, serve_app
from stavis.app.settings import AppSettings
from stavis.app.upload import Upload, display_name
from stavis.app.worker import REQUEST, VIDEO
from stavis.errors import StavisError
from support.commands import run_command
from support.server import Client, serving

JOB = "abcdefghijklmnop"  # an id


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
        {"origin": "http://["},
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


def test_printed_address_carries_any_token(tmp_path: Path) -> None:
    token = "".join(map(chr, range(0x21, 0x7F)))
    settings = AppSettings(folder=tmp_path, token=token)
    with serving(settings) as client:
        base, _, query = page_address(settings, client.port).partition("/?")
        assert base == f"http://127.0.0.1:{client.port}"
        cookie = client.get(f"/?{query}").headers["set-cookie"]
        assert client.get("/v1/jobs", cookie=cookie.rpartition("; HttpOnly")[0]).status == 200
        assert client.get("/v1/jobs", authorization=f"Bearer {token}").status == 200


def test_cookie_of_https_stays_there() -> None:
    scope = {"type": "http", "scheme": "https", "method": "GET", "path": "/", "query_string": b"token=secret"}
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    guard = Guard(None, AppSettings(token="secret"))
    asyncio.run(guard(scope | {"headers": [(b"host", b"localhost")]}, None, send))
    assert b"Secure" in dict(sent[0]["headers"])[b"set-cookie"]


def test_other_hosts_need_a_token() -> None:
    with pytest.raises(ValueError, match="token is required"):
        AppSettings(host="0.0.0.0")
    assert not AppSettings(host="0.0.0.0", token="x").is_local
    with pytest.raises(StavisError, match="token is required"):
        run_command("app", "--host", "0.0.0.0", "--token", "")
    for token in ("grüß", "a b", "a\n"):
        with pytest.raises(StavisError, match="allowed: printable ASCII without spaces"):
            run_command("app", "--token", token)


def test_unusable_addresses_and_certificates_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StavisError, match="cannot listen on aaa"):
        open_socket("a" * 80, 0)
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(StavisError, match=r"junk\.pem and .*junk\.pem: .*expected a certificate"):
        serve_app(AppSettings(folder=tmp_path / "jobs", port=0), certificate=str(junk), key=str(junk))
    assert capsys.readouterr().err == ""


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
    long = b"".join(b"x-%d: %s\r\n" % (number, b"x" * 4000) for number in range(3))
    answer = post(b"--b\r\n" + long + b"\r\nabc\r\n--b--\r\n", "multipart/form-data; boundary=b")
    assert (answer.status, "headers of a part are longer" in answer.json["error"]) == (422, True)
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


def test_folders_of_the_user_stay(tmp_path: Path) -> None:
    record = json.dumps({"id": "mine", "name": "x", "status": "finished"})
    kept = {"project/video/holiday.txt": "", f"{JOB}/request.json": "{}", "mine/job.json": record}
    for name, text in (kept | {"conference-talks/job.json": "[]"}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    async def break_off() -> str:
        """Leaves an upload as a killed server does."""
        async with Jobs(AppSettings(folder=tmp_path / "other")).arriving() as folder:
            (folder / VIDEO).write_text("half")
            shutil.copytree(folder, tmp_path / folder.name)
            return folder.name

    own = asyncio.run(break_off())
    with serving(AppSettings(folder=tmp_path)) as client:
        assert client.get("/v1/jobs").json == []
    assert not (tmp_path / own).exists()
    assert all((tmp_path / name).read_text() == text for name, text in kept.items())


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """A queue whose worker processes answer at once that all is well; ended jobs are tidied away."""

    async def ask(self: Jobs, job: Job, mode: str, seconds: float) -> dict:
        return {"result": {"width": 16, "height": 16, "duration": 1.0}}

    monkeypatch.setattr(Jobs, "_ask", ask)
    monkeypatch.setattr("stavis.app.jobs.TIDY_SECONDS", 0.01)
    return Jobs(AppSettings(folder=tmp_path, max_seconds=2, max_upload_megabytes=1))


async def send(jobs: Jobs, **options: object) -> Job:
    async with jobs.arriving() as folder:
        (folder / VIDEO).write_bytes(b"video")
        return await jobs.add(folder, Upload("clip.mp4"), PredictForm(**options))


async def settle(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def test_job_whose_record_cannot_be_written_fails_alone(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from stavis.runtime.files import write_text

    full: set[str] = set()

    def write(path: Path, text: str) -> None:
        if json.loads(text).get("status") in full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_text(path, text)

    monkeypatch.setattr("stavis.app.jobs.write_text", write)

    async def run() -> None:
        jobs.start()
        for unwritable in ({"running", "failed"}, {"finished"}, set[str]()):
            full.clear()
            full.update(unwritable)
            job = await send(jobs)
            await settle(lambda: not job.is_open)  # noqa: B023
            assert job.status == ("failed" if unwritable else "finished")
            assert (job.error or "").endswith(": No space left on device" if unwritable else "")
            assert not (jobs.folder / job.id / VIDEO).exists()
        assert "job.json: No space left on device" in caplog.text
        await jobs.stop()

    asyncio.run(run())


def test_full_disk_refuses_uploads(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(error: OSError) -> int:
        with pytest.raises(HTTPException) as refused:
            async with jobs.arriving():
                raise error
        return refused.value.status_code

    assert asyncio.run(run(OSError(errno.ENOSPC, "No space left on device"))) == 507
    assert not any(path.is_dir() for path in jobs.folder.iterdir())

    async def run_two() -> int:
        async with jobs.arriving():  # has room, which the second may not have
            return await run(OSError())

    usage = shutil.disk_usage(jobs.folder)._replace(free=2_500_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert asyncio.run(run_two()) == 507


def test_jobs_are_tidied_beside_deletions(tmp_path: Path, jobs: Jobs) -> None:
    jobs.settings = replace(jobs.settings, max_kept=0)

    async def run() -> None:
        pair = [await send(jobs), await send(jobs)]
        jobs.start()
        await settle(lambda: len(jobs.all()) == 1)
        await jobs.remove(jobs.all()[0])  # as the next in line
        pair.append(await send(jobs))
        await settle(lambda: not any((tmp_path / job.id).exists() for job in pair))
        await jobs.stop()

    asyncio.run(run())


def test_videos_end_where_they_may_last_to(jobs: Jobs) -> None:
    for options, end in (({}, 2), ({"end": 1.5}, 1.5), ({"start": 0.5, "end": 60}, 2.5)):
        job = asyncio.run(send(jobs, **options))
        assert json.loads((jobs.folder / job.id / REQUEST).read_text())["end"] == end


def test_cancelled_worker_ends_before_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import pathlib, sys, time; (pathlib.Path(sys.argv[1]) / 'results').mkdir(); time.sleep(60)"
    existed = []

    def watched_kill(process: asyncio.subprocess.Process) -> None:
        existed.append(any(tmp_path.glob("*/results")))
        kill(process)

    async def start(_: str, mode: str, folder: str, **options: object) -> asyncio.subprocess.Process:
        answer = 'print(\'{"result": {"width": 16, "height": 16, "duration": 1}}\')'
        code = answer if mode == "probe" else script
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, folder), stdout=asyncio.subprocess.PIPE, start_new_session=True
        )

    monkeypatch.setattr("stavis.app.jobs.start", start)
    monkeypatch.setattr("stavis.app.jobs.kill", watched_kill)

    async def run() -> None:
        jobs = Jobs(AppSettings(folder=tmp_path))
        jobs.start()
        job = await send(jobs)
        await settle(lambda: (tmp_path / job.id / "results").exists())
        existed.clear()
        await jobs.remove(job)
        assert existed[0]
        assert job.status == "cancelled"
        assert not (tmp_path / job.id / "results").exists()
        await jobs.stop()

    asyncio.run(run())


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
    results = tmp_path / JOB / "results"
    for name in ("maps/map_000000.png", "without-sound/frames.csv", "page/video.mp4", "frames.csv"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(name)
    record = {"id": JOB, "name": "Talk.mp4", "status": "finished", "results": ["all.zip", "maps.zip"]}
    (tmp_path / JOB / RECORD).write_text(json.dumps(record | {"finished": time.time()}))
    expected = {
        "all.zip": {"Talk/maps/map_000000.png", "Talk/without-sound/frames.csv", "Talk/frames.csv"},
        "maps.zip": {"Talk/maps/map_000000.png"},
    }
    with serving(AppSettings(folder=tmp_path)) as client:
        for name, members in expected.items():
            answer = client.get(f"/v1/jobs/{JOB}/results/{name}")
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
    job = tmp_path / JOB
    (job / "results").mkdir(parents=True)
    (job / "results" / "saliency.npz").write_bytes(bytes(100_000_000))
    record = {
        "id": JOB,
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
            connection.request("GET", "/v1/jobs/" + JOB + "/results/saliency.npz")
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
