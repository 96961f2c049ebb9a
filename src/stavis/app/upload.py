"""Multipart uploads, written to disk as they arrive."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILE_FIELD = "video"
MAX_FIELDS = 40
MAX_FIELD_BYTES = 4096
MAX_HEADER_BYTES = 8192  # of a part
MAX_OVERHEAD_BYTES = 100_000  # of everything but the file
STALLED_SECONDS = 30.0


@dataclass
class Upload:
    file_name: str | None = None  # what the client calls the file, for display only
    num_bytes: int = 0  # size of the file
    fields: dict[str, str] = field(default_factory=dict)  # the other form fields


async def receive_upload(request: Request, path: Path, max_bytes: int) -> Upload:
    """Writes the file of a multipart request, its field "video", to `path`. The caller removes it if this fails.

    Raises HTTPException with 408 if the client stalls, 413 if the file is too large, 415 if the body is not multipart,
    422 if it is malformed or lacks the file; ClientDisconnect if the client hung up.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise HTTPException(415, "send the video as multipart/form-data, in a field named 'video'")
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise HTTPException(422, "the multipart boundary is missing")
    too_large = HTTPException(413, f"the file is too large; at most {max_bytes // 10**6} MB are allowed")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes + MAX_OVERHEAD_BYTES:
        raise too_large
    with path.open("wb") as file:
        parts = _Parts(file, max_bytes, too_large)
        num_received = 0
        try:
            parser = MultipartParser(boundary, parts.callbacks())
            stream = request.stream()
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(stream), STALLED_SECONDS)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    raise HTTPException(408, f"no data for {STALLED_SECONDS:.0f} seconds") from None
                num_received += len(chunk)
                if num_received > max_bytes + MAX_OVERHEAD_BYTES:
                    raise too_large
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise HTTPException(422, f"malformed multipart body: {error}") from None
    if parts.upload.file_name is None or not parts.is_finished:
        raise HTTPException(422, "the field 'video' with a file is missing or cut off")
    return parts.upload


class _Parts:
    def __init__(self, file: BinaryIO, max_bytes: int, too_large: HTTPException) -> None:
        self.upload = Upload()
        self.is_finished = False
        self._file = file
        self._max_bytes = max_bytes
        self._too_large = too_large
        self._header = [b"", b""]
        self._num_header_bytes = 0
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_to_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add_to_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._start_data,
            "on_part_data": lambda data, start, end: self._add_data(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._disposition, self._value, self._header = b"", b"", [b"", b""]
        self._num_header_bytes = 0

    def _add_to_header(self, which: int, data: bytes) -> None:
        self._num_header_bytes += len(data)
        if self._num_header_bytes > MAX_HEADER_BYTES:
            raise HTTPException(422, f"the headers of a part are longer than {MAX_HEADER_BYTES} bytes")
        self._header[which] += data

    def _end_header(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = [b"", b""]

    def _start_data(self) -> None:
        _, parameters = parse_options_header(self._disposition)
        self._name = parameters.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == FILE_FIELD
        if self._is_file:
            if self.upload.file_name is not None:
                raise HTTPException(422, "the field 'video' is given twice")
            self.upload.file_name = display_name(parameters.get(b"filename", b"").decode("utf-8", "replace"))
        elif b"filename" in parameters or len(self.upload.fields) >= MAX_FIELDS:
            raise HTTPException(422, f"unexpected field {self._name[:40]!r}")

    def _add_data(self, data: bytes) -> None:
        if self._is_file:
            self.upload.num_bytes += len(data)
            if self.upload.num_bytes > self._max_bytes:
                raise self._too_large
            self._file.write(data)
            return
        self._value += data
        if len(self._value) > MAX_FIELD_BYTES:
            raise HTTPException(422, f"field {self._name[:40]!r} is too long")

    def _end(self) -> None:
        if self._is_file:
            return
        if self._name in self.upload.fields:
            raise HTTPException(422, f"field {self._name[:40]!r} is given twice")
        self.upload.fields[self._name] = self._value.decode("utf-8", "replace").strip()

    def _finish(self) -> None:
        self.is_finished = True


def display_name(name: str) -> str:
    """A client's file name without folders and control characters, for display and downloads; never a path."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(character for character in last if character.isprintable()).strip()
    return printable[:120] or "video"
