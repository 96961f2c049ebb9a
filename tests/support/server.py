"""The web application on a real socket, in the test's own process, and a client for it."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stavis.app.server import make_app, make_server, open_socket
from stavis.app.settings import AppSettings

BOUNDARY = "----boundary"


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Sends requests to a server on this machine."""

    port: int

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.send(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    def upload(self, content: bytes, name: str = "clip.mp4", **fields: object) -> Answer:
        body = multipart(content, name, {key.replace("_", "-"): value for key, value in fields.items()})
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return self.send("POST", "/v1/predict", body, {"content-type": kind})


def multipart(content: bytes, name: str, fields: dict[str, object]) -> bytes:
    """A multipart body with a file named "video" and other fields."""
    parts = [
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="video"; filename="{name}"\r\n\r\n'
    return b"".join([*parts, head.encode(), content, f"\r\n--{BOUNDARY}--\r\n".encode()])


@contextmanager
def serving(settings: AppSettings) -> Iterator[Client]:
    """Serves while the block runs."""
    with open_socket("127.0.0.1", 0) as listener:
        server = make_server(make_app(settings))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        try:
            yield Client(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
