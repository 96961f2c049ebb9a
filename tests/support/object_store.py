"""An S3 server in a process of its own, which counts what it sends and can be told to fail."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class ObjectStore:
    """A running server.

    Attributes:
        endpoint: Its address.
        pid: Its process.
    """

    endpoint: str
    pid: int

    def fail(self, **every: int) -> None:
        """Answers every n-th request for a file with 503 (`busy=n`), or cuts its connection in the middle (`cut=n`)."""
        self._control("fail", every)

    def counts(self, prefix: str = "") -> dict[str, list[int]]:
        """(Requests, bytes sent) of GET by path, since the last call of `reset`."""
        answer: dict[str, list[int]] = self._control("counts", {})
        return {path: numbers for path, numbers in answer.items() if path.startswith(prefix)}

    def reset(self) -> None:
        self._control("reset", {})

    def _control(self, name: str, body: dict[str, int]) -> Any:
        request = urllib.request.Request(
            f"{self.endpoint}/-/{name}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Starts a server, and sets the variables by which s3fs and its child processes find it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "stavis",
        "AWS_SECRET_ACCESS_KEY": "do-not-print-me",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    process = subprocess.Popen([sys.executable, str(Path(__file__)), str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the server did not start"
            time.sleep(0.1)
        yield ObjectStore(variables["AWS_ENDPOINT_URL"], process.pid)
    finally:
        process.kill()
        process.wait()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Server:
    """moto's server, with counters and faults in front of it."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self._store = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._counts: dict[str, list[int]] = {}
        self._every: dict[str, int] = {}
        self._num_files = 0

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path.startswith("/-/"):
            body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            answer = json.dumps(self._control(path[3:], body)).encode()
            start("200 OK", [("Content-Length", str(len(answer)))])
            return [answer]
        fault = None
        if "/" in path.strip("/"):
            with self._lock:
                self._num_files += 1
                fault = next((kind for kind, n in self._every.items() if self._num_files % n == 0), None)
        if fault == "busy":
            answer = (
                b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
            )
            start(
                "503 Slow Down", [("Content-Length", str(len(answer))), ("Content-Type", "application/xml")]
            )
            return [b"" if method == "HEAD" else answer]
        data = b"".join(self._store(environ, start))
        if method == "GET":
            with self._lock:
                numbers = self._counts.setdefault(path, [0, 0])
                numbers[0] += 1
                numbers[1] += len(data)
        # Fewer bytes than announced: the connection is closed before the answer is complete.
        return [data[: len(data) // 2]] if fault == "cut" and method == "GET" else [data]

    def _control(self, name: str, body: dict[str, int]) -> Any:
        with self._lock:
            if name == "fail":
                self._every = body
            elif name == "reset":
                self._counts = {}
            return self._counts


if __name__ == "__main__":
    from werkzeug.serving import WSGIRequestHandler, run_simple

    WSGIRequestHandler.log = lambda *_: None  # type: ignore[method-assign]
    run_simple("127.0.0.1", int(sys.argv[1]), _Server(), threaded=True)
