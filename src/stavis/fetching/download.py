"""A file over HTTP that arrives whole, however often the connection breaks."""

import contextlib
import dataclasses
import email.utils
import http.client
import json
import random
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stavis.errors import StavisError
from stavis.runtime.files import write_text
from stavis.runtime.progress import BYTES, console, track
from stavis.version import __version__

CHUNK_BYTES = 1 << 20
PROGRESS_BYTES = 1 << 20
"""An attempt that brings the file this much further starts the count of failures again."""

MAX_REDIRECTS = 5
MAX_WAIT_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 600.0
"""A server that asks for more patience than this is given up."""

RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
GZIP_MAGIC = b"\x1f\x8b"


class DownloadError(StavisError):
    """A file that could not be had from one URL.

    Attributes:
        unreachable: No connection to the host came about, so other files of it need not be tried.
    """

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on with a server that fails.

    Attributes:
        retries: Attempts after the first that may fail one after the other.
        wait_seconds: Pause before the first of them; it doubles each time, up to a minute, and varies at random by
            half of it.
        timeout_seconds: Silence after which a connection counts as broken.
    """

    retries: int = 5
    wait_seconds: float = 1.0
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.retries < 0 or self.wait_seconds < 0 or not self.timeout_seconds > 0:
            raise StavisError(
                f"retries {self.retries}, wait {self.wait_seconds} s, timeout {self.timeout_seconds} s:"
                " retries and wait must be 0 or more, the timeout above 0"
            )


DEFAULT_PATIENCE = RetryPolicy()


@dataclass(frozen=True)
class Downloaded:
    """A complete file on disk.

    Attributes:
        url: Where it, or the last piece of it, came from; None if it was put there by other means.
        is_doubtful: It was put together from more than one answer, or nobody told its length, or an earlier call
            left it. If it turns out damaged, another download may mend that.
    """

    path: Path
    url: str | None
    is_doubtful: bool


@dataclass(frozen=True)
class _Note:
    """What a server said of the file that the pieces on disk belong to."""

    url: str
    etag: str | None
    last_modified: str | None
    num_bytes: int | None

    def condition(self, url: str) -> str | None:
        """What to send as If-Range: a weak ETag is not allowed there, and another host has ETags of its own."""
        if url != self.url:
            return None
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def agrees_with(self, other: "_Note") -> bool:
        """Whether both can be the same file. A mirror has ETags of its own, but length and date should be the same."""
        pairs = [(self.num_bytes, other.num_bytes), (self.last_modified, other.last_modified)]
        if self.url == other.url:
            pairs.append((self.etag, other.etag))
        return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)


class _Pieces:
    """A download on disk: `<path>.part` grows, `<path>.json` says what it is a part of; in the end it is `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.note_path = path.with_name(path.name + ".json")

    def note(self) -> _Note | None:
        try:
            return _Note(**json.loads(self.note_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def num_bytes(self) -> int:
        """The bytes that are there and of use: none without a note that tells what they are."""
        return self.part.stat().st_size if self.part.exists() and self.note() is not None else 0

    def is_whole(self) -> bool:
        note = self.note()
        return note is not None and self.part.exists() and self.part.stat().st_size == note.num_bytes

    def start(self, note: _Note) -> None:
        # First the bytes go, then the note changes: old bytes never stand under a new note.
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self.part.write_bytes(b"")
        write_text(self.note_path, json.dumps(dataclasses.asdict(note), indent=1) + "\n")

    def go_on(self, note: _Note) -> None:
        write_text(self.note_path, json.dumps(dataclasses.asdict(note), indent=1) + "\n")

    def remove(self) -> None:
        for path in (self.part, self.path, self.note_path):
            path.unlink(missing_ok=True)


class _FailedAttemptError(Exception):
    """One request that did not bring the rest of the file; `is_final`: another would not, either."""

    def __init__(
        self,
        message: str,
        *,
        is_final: bool = False,
        unreachable: bool = False,
        status: int | None = None,
        headers: Message | None = None,
    ) -> None:
        super().__init__(message)
        self.is_final = is_final
        self.unreachable = unreachable
        self.status = status
        self.headers = headers if headers is not None else Message()


def remove_download(path: Path) -> None:
    """Removes what `download` left for `path`: the file, its pieces and the note on them."""
    _Pieces(path).remove()


def pending_bytes(path: Path) -> int:
    """How many bytes of `path` an interrupted download, or a complete one, has left on disk."""
    return path.stat().st_size if path.exists() else _Pieces(path).num_bytes()


def remote_size(url: str, *, timeout_seconds: float = 30.0) -> int | None:
    """Asks a server for the size of a file in bytes, None if it does not say.

    Raises:
        DownloadError: The server cannot be reached, has no such file, or would send a page instead of it.
    """
    try:
        with _open("HEAD", url, {}, timeout_seconds) as response:
            if response.headers.get_content_type() == "text/html":
                raise DownloadError(
                    f"{url}: the server would send a web page, not an archive (a login or error page?)"
                )
            return _content_length(response.headers)
    except _FailedAttemptError as error:
        if error.status in (405, 501):  # The server knows no HEAD; a GET may do.
            return None
        raise DownloadError(f"{url}: {error}", unreachable=error.unreachable) from None


def download(
    url: str,
    path: Path,
    *,
    patience: RetryPolicy = DEFAULT_PATIENCE,
    check_space: Callable[[int, int], None] = lambda num_missing, num_total: None,
    label: str | None = None,
    quiet: bool = False,
) -> Downloaded:
    """Downloads a gzipped file to `path`, going on from what an earlier, interrupted call has left.

    The server's length, ETag and date guard against pieces of two versions of a file. A page in place of a gzipped
    file is refused before anything on disk is touched.

    Args:
        url: http or https.
        path: Where the complete file goes; `<path>.part` and `<path>.json` stand beside it until then.
        patience: Retries, pauses, timeout.
        check_space: Called with the bytes still to come and the file's size when the server has told it, else
            now and then with 0 and the bytes that have come; it raises if there is no room.
        label: What to call the file in the progress display; its name if None.
        quiet: Show neither progress nor retries.

    Raises:
        DownloadError: The file was not had from this URL; what arrived of it is kept for the next call.
        StavisError: `check_space` raised it.
    """
    pieces = _Pieces(path)
    if path.exists():
        note = pieces.note()
        return Downloaded(path, note.url if note else None, is_doubtful=True)
    farthest = pieces.num_bytes()
    num_failures = 0
    is_doubtful = farthest > 0
    while not pieces.is_whole():
        try:
            is_doubtful |= _receive(url, pieces, patience.timeout_seconds, check_space, label, quiet)
        except _FailedAttemptError as error:
            is_doubtful = True
            if pieces.num_bytes() >= farthest + PROGRESS_BYTES:
                num_failures = 0
            farthest = max(farthest, pieces.num_bytes())
            num_failures += 1
            if error.is_final or num_failures > patience.retries:
                raise DownloadError(f"{url}: {error}", unreachable=error.unreachable) from None
            seconds = _pause_seconds(url, error, num_failures, patience)
            if not quiet:
                text = f"{url}: {error}; retry {num_failures} of {patience.retries} in {seconds:.1f} s"
                console.print(text, markup=False, highlight=False, soft_wrap=True)
            time.sleep(seconds)
    pieces.part.replace(path)
    note = pieces.note()
    return Downloaded(path, note.url if note else None, is_doubtful)


def _pause_seconds(url: str, error: _FailedAttemptError, num_failures: int, patience: RetryPolicy) -> float:
    seconds = min(patience.wait_seconds * 2.0 ** (num_failures - 1), MAX_WAIT_SECONDS) * random.uniform(
        0.5, 1.5
    )
    asked = _retry_after_seconds(error.headers)
    if asked > MAX_RETRY_AFTER_SECONDS:
        raise DownloadError(f"{url}: {error}, and asks to come back in {asked:.0f} s")
    return max(seconds, asked)


def _retry_after_seconds(headers: Message) -> float:
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _receive(
    url: str,
    pieces: _Pieces,
    timeout_seconds: float,
    check_space: Callable[[int, int], None],
    label: str | None,
    quiet: bool,
) -> bool:
    """One request for what is missing; raises _FailedAttemptError if it is not all there afterwards.

    Returns:
        Whether this answer leaves a doubt that the file is whole.
    """
    known = pieces.note()
    position = pieces.num_bytes()
    headers = {}
    if known is not None and position:
        headers["Range"] = f"bytes={position}-"
        if condition := known.condition(url):
            headers["If-Range"] = condition
    try:
        response = _open("GET", url, headers, timeout_seconds)
    except _FailedAttemptError as error:
        if error.status == 416 and known is not None:
            _settle_unsatisfied_range(pieces, known, position, error)
            return True
        raise
    with response:
        if response.status == 206 and known is not None and position:
            start, total = _content_range(response.headers)
            found = _read_note(url, response.headers, total)
            if start != position or not known.agrees_with(found):
                pieces.remove()
                raise _FailedAttemptError(
                    "the file is not the one that an earlier attempt began; starting over"
                )
            first = b""
            total = known.num_bytes if total is None else total
            pieces.go_on(dataclasses.replace(found, num_bytes=total))
        elif response.status == 200:
            # Also the answer to a range if the file has changed, or from a server that does not know ranges.
            position, total = 0, _content_length(response.headers)
            found = _read_note(url, response.headers, total)
            first = _first_chunk(response, total)
        else:
            raise _FailedAttemptError(f"the server answered with status {response.status}", is_final=True)
        if total is not None:
            check_space(total - position, total)
        if response.status == 200:
            pieces.start(found)
        _append(response, pieces, first, position, total, check_space, label, quiet)
    if total is None:
        # Where no length was told, the end of the connection is the end of the file; gzip's checksum will tell.
        pieces.go_on(dataclasses.replace(found, num_bytes=pieces.num_bytes()))
    return total is None


def _settle_unsatisfied_range(
    pieces: _Pieces, known: _Note, position: int, error: _FailedAttemptError
) -> None:
    """Status 416: there is nothing after our last byte, as we have all or as the file has changed."""
    match = re.fullmatch(r"bytes \*/([0-9]+)", (error.headers.get("Content-Range") or "").strip())
    if match and int(match[1]) == position:
        pieces.go_on(dataclasses.replace(known, num_bytes=position))
        return
    pieces.remove()
    raise _FailedAttemptError("the file is shorter than what an earlier attempt received; starting over")


def _append(
    response: Any,
    pieces: _Pieces,
    chunk: bytes,
    position: int,
    total: int | None,
    check_space: Callable[[int, int], None],
    label: str | None,
    quiet: bool,
) -> None:
    """Writes `chunk` and the rest of a body behind the `position` bytes that are there."""
    next_check = position
    with (
        pieces.part.open("ab", buffering=0) as file,
        track(label or pieces.path.name, total, unit=BYTES, already_done=position, quiet=quiet) as advance,
    ):
        while True:
            file.write(chunk)
            position += len(chunk)
            advance(len(chunk))
            if position == total:
                return
            if total is None and position >= next_check:
                # It may have no end.
                check_space(0, position)
                next_check = position + 64 * CHUNK_BYTES
            chunk = _read(response, CHUNK_BYTES if total is None else min(CHUNK_BYTES, total - position))
            if not chunk:
                break
    if total is not None:
        raise _FailedAttemptError(f"the connection broke off after {position} of {total} bytes")


def _read(response: Any, num_bytes: int) -> bytes:
    try:
        # read1 gives what has arrived, so that little is lost when the process or the connection dies.
        chunk: bytes = response.read1(num_bytes)
    except (OSError, http.client.HTTPException) as error:
        raise _FailedAttemptError(f"the connection broke off ({_describe(error)})") from None
    return chunk


def _first_chunk(response: Any, total: int | None) -> bytes:
    """The first bytes of a body, which must be those of a gzipped file."""
    first = b""
    while len(first) < len(GZIP_MAGIC) and (chunk := _read(response, len(GZIP_MAGIC) - len(first))):
        first += chunk
    if first.startswith(GZIP_MAGIC):
        return first
    if GZIP_MAGIC.startswith(first) and total:
        raise _FailedAttemptError(f"the connection broke off after {len(first)} of {total} bytes")
    kind = response.headers.get("Content-Type") or "no content type"
    with contextlib.suppress(_FailedAttemptError):
        first += _read(response, 40)
    begin = first.decode("latin-1")
    raise _FailedAttemptError(
        f"not an archive: the server sent {kind} beginning {begin!a} (a login or error page?)", is_final=True
    )


def _read_note(url: str, headers: Message, total: int | None) -> _Note:
    return _Note(url, headers.get("ETag"), headers.get("Last-Modified"), total)


def _content_length(headers: Message) -> int | None:
    text = (headers.get("Content-Length") or "").strip()
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """First byte and total length of a partial answer, None where it does not tell."""
    text = (headers.get("Content-Range") or "").strip()
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", text)
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            return None
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            # urllib turns a HEAD into a GET here.
            request.method = req.get_method()
        return request


def _open(method: str, url: str, headers: dict[str, str], timeout_seconds: float) -> Any:
    """The answer to a request, redirects followed; raises _FailedAttemptError for all but a status of 2xx."""
    # No handlers for files and FTP, which urllib's usual opener would follow a redirect to.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    # A transparently compressed answer would have neither the length nor the ranges of the file.
    everything = {"User-Agent": f"stavis/{__version__}", "Accept-Encoding": "identity", **headers}
    request = urllib.request.Request(url, headers=everything, method=method)
    try:
        return opener.open(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        with error:
            raise _describe_status(error) from None
    except urllib.error.URLError as error:
        is_final = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise _FailedAttemptError(
            f"no connection to the host ({_describe(error.reason)})", is_final=is_final, unreachable=True
        ) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise _FailedAttemptError(f"not a valid URL ({error})", is_final=True) from None
    except (OSError, http.client.HTTPException) as error:
        raise _FailedAttemptError(f"the server did not answer ({_describe(error)})") from None


def _describe_status(error: urllib.error.HTTPError) -> _FailedAttemptError:
    location = error.headers.get("Location") or ""
    if error.code in (301, 302, 303, 307, 308) and urlsplit(location).scheme not in ("", "http", "https"):
        message = f"redirected to {location}, which is neither http nor https"
    elif error.code in (301, 302, 303, 307, 308):
        message = f"redirected more than {MAX_REDIRECTS} times, or in a circle, or to nowhere"
    elif error.code == 404:
        message = "not found on the server (status 404)"
    elif error.code in (401, 403):
        message = f"the server asks for a login or forbids it (status {error.code})"
    else:
        message = f"the server answered with status {error.code} {error.reason or ''}".rstrip()
    is_final = error.code not in RETRIED_STATUSES and error.code != 416
    return _FailedAttemptError(message, is_final=is_final, status=error.code, headers=error.headers)


def _describe(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
