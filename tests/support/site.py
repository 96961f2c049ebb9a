"""A web server on loopback that has the published archives and misbehaves on request."""

import hashlib
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stavis.fetching import fetch as fetch_module
from stavis.fetching.fetch import fetch
from support.archives import FRAMES, frames_of, tree


@dataclass
class Answer:
    """How to answer one GET. Without anything set: as a good server does."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    announced: int | None = None
    cut_after: int | None = None
    knows_ranges: bool = True
    minds_if_range: bool = True
    tells_length: bool = True
    chunked: bool = False
    silent_seconds: float = 0.0
    seconds_per_kb: float = 0.0


@dataclass
class Site:
    """Files by path, faults by path (used up one a GET; the last one stays if `forever`), and what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, deque[Answer]] = field(default_factory=dict)
    forever: dict[str, Answer] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    last_modified: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    has_head: bool = True
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stavis"

    def put(self, part: str, archive: bytes, *faults: Answer) -> str:
        path = f"/stavis/data/{part}.tar.gz"
        self.files[path] = archive
        self.etags[path] = f'"{hashlib.md5(archive).hexdigest()}"'
        self.faults[path] = deque(faults)
        return path

    def gets(self) -> list[dict[str, str]]:
        """The headers of each GET, in lower case."""
        return [headers for method, _, headers in self.requests if method == "GET"]


def make_handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            site.requests.append(("HEAD", self.path, {k.lower(): v for k, v in self.headers.items()}))
            if not site.has_head:
                self.answer(Answer(status=501))
            else:
                self.answer(site.forever.get(self.path, Answer()))

        def do_CONNECT(self) -> None:  # as a proxy that wants a password
            self.send_error(407)

        def do_GET(self) -> None:
            site.requests.append(("GET", self.path, {k.lower(): v for k, v in self.headers.items()}))
            assert len(site.requests) < 500
            waiting = site.faults.get(self.path)
            self.answer(waiting.popleft() if waiting else site.forever.get(self.path, Answer()))

        def answer(self, how: Answer) -> None:
            time.sleep(how.silent_seconds)
            content = site.files.get(self.path) if how.body is None else how.body
            status = how.status or (404 if content is None else 200)
            headers = dict(how.headers)
            body = b"" if content is None else content
            if status in (200, 206) and how.body is None:
                if self.path in site.etags:
                    headers.setdefault("ETag", site.etags[self.path])
                if self.path in site.last_modified:
                    headers.setdefault("Last-Modified", site.last_modified[self.path])
                status, body = self.cut_range(how, status, body, headers)
            elif how.body is None:
                body = b""
            if how.chunked:
                headers["Transfer-Encoding"] = "chunked"
            elif how.tells_length:
                headers["Content-Length"] = str(len(body) if how.announced is None else how.announced)
            headers["Connection"] = "close"
            self.close_connection = True
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.send(body[: how.cut_after], how)

        def cut_range(
            self, how: Answer, status: int, body: bytes, headers: dict[str, str]
        ) -> tuple[int, bytes]:
            wanted = self.headers.get("Range")
            condition = self.headers.get("If-Range")
            validators = (headers.get("ETag"), headers.get("Last-Modified"))
            if wanted is None or not how.knows_ranges:
                return status, body
            if condition is not None and condition not in validators and how.minds_if_range:
                return status, body
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                headers["Content-Range"] = f"bytes */{len(body)}"
                return 416, b""
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return 206, body[start:]

        def send(self, body: bytes, how: Answer) -> None:
            try:
                if how.chunked:
                    for i in range(0, len(body), 1000):
                        piece = body[i : i + 1000]
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    if how.cut_after is None:
                        self.wfile.write(b"0\r\n\r\n")
                elif how.seconds_per_kb:
                    for i in range(0, len(body), 1024):
                        self.wfile.write(body[i : i + 1024])
                        time.sleep(how.seconds_per_kb)
                else:
                    self.wfile.write(body)
            except OSError:
                pass  # The other side was killed, or has given up.

    return Handler


def serve(site: Site) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(site))
    server.daemon_threads = True
    site.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def fetch_frames(site: Site | str, data: Path, **options: object) -> list[fetch_module.FetchedPart]:
    """The frames of AVAD, the part that most tests fetch."""
    url = site if isinstance(site, str) else site.url
    return fetch(
        ["datasets"],
        databases=["AVAD"],
        data=data,
        base_url=url,
        **{"retries": 3, "timeout_seconds": 5.0, "quiet": True, **options},
    )  # type: ignore[arg-type]


def expect_frames(data: Path, content: dict[str, bytes] | None = None) -> None:
    expected = {f"{FRAMES}/{name}": value for name, value in (content or frames_of()).items()}
    assert tree(data) == expected
    assert list((data / ".stavis-fetch" / "archives").rglob("*.*")) == []


def expect_frames_absent(data: Path) -> None:
    assert tree(data) == {}
    assert not (data / FRAMES).exists()
    assert not list(data.glob("video_frames/.*"))
    assert [
        path.name for path in (data / ".stavis-fetch").rglob("*") if path.is_file() and path.name != "lock"
    ] == []


def run_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stavis", "fetch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


Stavis = Callable[..., tuple[int, str, str]]
