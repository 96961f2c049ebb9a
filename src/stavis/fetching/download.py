"""Resumable downloads over HTTP."""

import dataclasses
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import requests
import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, NewConnectionError, ProtocolError
from urllib3.util.retry import Retry

from stavis.errors import StavisError
from stavis.fetching.archive import GZIP_MAGIC, is_archive
from stavis.runtime.files import write_text
from stavis.runtime.progress import BYTES, console, track
from stavis.version import __version__

CHUNK_BYTES = 1 << 20
PROGRESS_BYTES = 1 << 20
"""An attempt that gets this much further resets the count of retries."""

MAX_REDIRECTS = 5
MAX_BACKOFF_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 600.0
"""A server that asks to be left alone for longer than this is given up."""

RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
DEFAULT_RETRIES = 5
DEFAULT_TIMEOUT_SECONDS = 30.0


class DownloadError(StavisError):
    """A file that could not be downloaded.

    Attributes:
        unreachable: There is no connection to the host, so its other files need not be tried.
        may_pass: Another attempt may succeed.
        wait_seconds: The pause that the server asks for before it.
    """

    def __init__(
        self, message: str, *, unreachable: bool = False, may_pass: bool = False, wait_seconds: float = 0.0
    ) -> None:
        super().__init__(message)
        self.unreachable = unreachable
        self.may_pass = may_pass
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class _Note:
    """What a server said about the file that the bytes on disk belong to."""

    url: str
    etag: str | None
    last_modified: str | None
    num_bytes: int | None

    @property
    def condition(self) -> str | None:
        """The value of If-Range, where weak ETags are not allowed."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def agrees_with(self, other: "_Note") -> bool:
        """Whether both can be about the same version of a file."""
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return all(a is None or b is None or a == b for a, b in zip(mine, theirs, strict=True))


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
        """The number of usable bytes: 0 without a note that says what they are and how many there will be."""
        note = self.note()
        is_usable = note is not None and note.num_bytes is not None and self.part.exists()
        return self.part.stat().st_size if is_usable else 0

    def is_whole(self) -> bool:
        note = self.note()
        return note is not None and self.part.exists() and self.part.stat().st_size == note.num_bytes

    def start(self, note: _Note) -> None:
        # First the bytes go, then the note changes: old bytes are never described by a new note.
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self.part.write_bytes(b"")
        self.write_note(note)

    def write_note(self, note: _Note) -> None:
        write_text(self.note_path, json.dumps(dataclasses.asdict(note), indent=1) + "\n")

    def remove(self) -> None:
        for path in (self.part, self.path, self.note_path):
            path.unlink(missing_ok=True)


def remove_download(path: Path) -> None:
    """Removes what `download` left for `path`: the file, its pieces and their note."""
    _Pieces(path).remove()


def pending_bytes(path: Path) -> int:
    """The number of bytes of `path` that an interrupted or complete download has left on disk."""
    return path.stat().st_size if path.exists() else _Pieces(path).num_bytes()


def remote_size(url: str, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> int | None:
    """Asks a server for the size of a file in bytes; None if it does not say.

    Raises DownloadError if the server cannot be reached, has no such file, or would send a web page instead of it.
    """
    with _session() as session, _request(session, "HEAD", url, {}, timeout_seconds) as response:
        if response.status_code in (405, 501):  # The server does not support HEAD; a GET may work.
            return None
        _check_status(response)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DownloadError("the server would send a web page, not an archive (a login or error page?)")
        return _content_length(response)


def download(
    url: str,
    path: Path,
    *,
    retries: int = DEFAULT_RETRIES,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    check_space: Callable[[int, int], None] = lambda num_missing, num_total: None,
    label: str | None = None,
    quiet: bool = False,
) -> bool:
    """Downloads an archive to `path`, resuming what an earlier, interrupted call has left.

    The server's length, ETag and date make sure that the pieces are of one version of the file. A web page in place of
    an archive is refused before anything on disk is touched.

    Args:
        url: http or https.
        path: The complete file; until then `<path>.part` and `<path>.json` are beside it.
        retries: Number of further attempts in a row that may fail, with growing pauses between them.
        timeout_seconds: Silence after which a connection counts as broken.
        check_space: Called with the number of missing bytes and the file's size once the server has given it, else from
            time to time with 0 and the bytes received so far; raises if there is not enough room.
        label: The file's name in the progress display; `path`'s name if None.

    Returns:
        Whether the file is doubtful: put together from several responses, of a length that nobody has given, or left by
        an earlier call. If it turns out to be damaged, another download may help.

    Raises:
        DownloadError: The file could not be downloaded; what has arrived of it is kept for the next call.
    """
    pieces = _Pieces(path)
    if path.exists():
        return True
    note = pieces.note()
    if note is not None and note.url != url:
        pieces.remove()
    farthest = pieces.num_bytes()
    is_doubtful = farthest > 0
    left = policy = Retry(retries, backoff_factor=1.0, backoff_max=MAX_BACKOFF_SECONDS, backoff_jitter=0.5)
    with _session() as session:
        transfer = _Transfer(session, url, pieces, timeout_seconds, check_space, label or path.name, quiet)
        while not pieces.is_whole():
            try:
                is_doubtful |= transfer.receive()
            except DownloadError as error:
                is_doubtful = True
                if pieces.num_bytes() >= farthest + PROGRESS_BYTES:
                    left = policy
                farthest = max(farthest, pieces.num_bytes())
                if not error.may_pass:
                    raise
                try:
                    left = left.increment("GET", url, error=ProtocolError(str(error)))
                except MaxRetryError:
                    raise error from None
                seconds = max(left.get_backoff_time(), error.wait_seconds)
                if not quiet:
                    number = f"retry {retries - (left.total or 0)} of {retries} in {seconds:.0f} s"
                    console.print(f"{url}: {error}; {number}", markup=False, highlight=False, soft_wrap=True)
                time.sleep(seconds)
    pieces.part.replace(path)
    return is_doubtful


@dataclass(frozen=True)
class _Transfer:
    session: requests.Session
    url: str
    pieces: _Pieces
    timeout_seconds: float
    check_space: Callable[[int, int], None]
    label: str
    quiet: bool

    def receive(self) -> bool:
        """Makes one request; raises DownloadError if the file is not whole afterwards.

        Returns whether this response leaves a doubt that the file is whole.
        """
        url, pieces = self.url, self.pieces
        known = pieces.note()
        position = pieces.num_bytes()
        headers = {}
        if known is not None and position:
            headers["Range"] = f"bytes={position}-"
            if known.condition:
                headers["If-Range"] = known.condition
        with _request(self.session, "GET", url, headers, self.timeout_seconds) as response:
            if response.status_code == 416 and known is not None:
                pieces.remove()
                raise _broken("the file is shorter than what an earlier attempt received; starting over")
            _check_status(response)
            response.raw.enforce_content_length = False  # `append` counts
            if response.status_code == 206 and known is not None and position:
                start, total = _content_range(response)
                found = _read_note(url, response, total)
                if start != position or not known.agrees_with(found):
                    pieces.remove()
                    raise _broken("the file is not the one that an earlier attempt began; starting over")
                first = b""
                total = known.num_bytes if total is None else total
            else:
                # Also the response to a range if the file has changed, or from a server that does not support ranges.
                position, total = 0, _content_length(response)
                first = _first_block(response, total)
                found = _read_note(url, response, total)
            if total is not None:
                self.check_space(total - position, total)
            if position:
                pieces.write_note(dataclasses.replace(found, num_bytes=total))
            else:
                pieces.start(found)
            self.append(response, first, position, total)
        if total is None:
            # Without a length, the end of the connection is the end of the file; gzip's checksum is the last word.
            pieces.write_note(dataclasses.replace(found, num_bytes=pieces.part.stat().st_size))
        return total is None

    def append(self, response: requests.Response, chunk: bytes, position: int, total: int | None) -> None:
        """Writes `chunk` and the rest of a body behind the `position` bytes that are there."""
        next_check = position
        with (
            self.pieces.part.open("ab", buffering=0) as file,
            track(self.label, total, unit=BYTES, already_done=position, quiet=self.quiet) as advance,
        ):
            while True:
                file.write(chunk)
                position += len(chunk)
                advance(len(chunk))
                if position == total:
                    return
                if total is None and position >= next_check:
                    # It may have no end.
                    self.check_space(0, position)
                    next_check = position + 64 * CHUNK_BYTES
                chunk = _read(response, CHUNK_BYTES if total is None else min(CHUNK_BYTES, total - position))
                if not chunk:
                    break
        if total is not None:
            raise _broken(f"the connection broke off after {position} of {total} bytes")


def _read(response: requests.Response, num_bytes: int) -> bytes:
    try:
        # read1 returns what has arrived, so that little is lost when the process or the connection dies.
        chunk: bytes = response.raw.read1(num_bytes, decode_content=False)
    except (OSError, HTTPError) as error:
        raise _broken(f"the connection broke off ({_describe(error)})") from None
    return chunk


def _first_block(response: requests.Response, total: int | None) -> bytes:
    """The first bytes of a body, which must be those of an archive."""
    first = b""
    while len(first) < 512 and first[:2] != GZIP_MAGIC and (chunk := _read(response, 512 - len(first))):
        first += chunk
    if is_archive(first):
        return first
    if total and len(first) < min(512, total):
        raise _broken(f"the connection broke off after {len(first)} of {total} bytes")
    kind = response.headers.get("Content-Type") or "no content type"
    begin = first[:40].decode("latin-1")
    raise DownloadError(
        f"not an archive: the server sent {kind} beginning with {begin!a} (a login or error page?)"
    )


def _read_note(url: str, response: requests.Response, total: int | None) -> _Note:
    return _Note(url, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)


def _content_length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "").strip()
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total length of a partial response, None where it does not say."""
    text = response.headers.get("Content-Range", "").strip()
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", text)
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _session() -> requests.Session:
    session = requests.Session()
    session.max_redirects = MAX_REDIRECTS
    # A transparently compressed response would have neither the length nor the ranges of the file.
    session.headers.update({"User-Agent": f"stavis/{__version__}", "Accept-Encoding": "identity"})
    return session


def _request(
    session: requests.Session,
    method: Literal["GET", "HEAD"],
    url: str,
    headers: dict[str, str],
    timeout_seconds: float,
) -> requests.Response:
    """The response to a request, redirects followed, whatever its status."""
    try:
        return session.request(
            method, url, headers=headers, timeout=timeout_seconds, stream=True, allow_redirects=True
        )
    except requests.TooManyRedirects:
        raise DownloadError(f"redirected more than {MAX_REDIRECTS} times, or in a circle") from None
    except requests.exceptions.InvalidSchema as error:
        if "SOCKS" not in str(error):
            raise DownloadError("redirected to an address that is neither http nor https") from None
        text = "SOCKS proxies need the package PySocks (`pip install pysocks`)"
        raise DownloadError(f"{text}; {_PROXY_VARIABLES} name one", unreachable=True) from None
    except requests.exceptions.InvalidProxyURL as error:
        raise DownloadError(f"{error}; {_PROXY_VARIABLES} name it", unreachable=True) from None
    except requests.ConnectionError as error:
        reason = _innermost(error)
        proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        if isinstance(reason, ProtocolError | urllib3.exceptions.ReadTimeoutError | ConnectionResetError):
            raise _broken(f"the server did not answer ({_describe(reason)})") from None
        # Waiting does not create a host name, mend a certificate, or change the mind of a proxy.
        stays = isinstance(error, requests.exceptions.SSLError)
        stays |= isinstance(reason, socket.gaierror) and reason.errno == socket.EAI_NONAME
        stays |= proxy is not None and "Tunnel connection failed: 5" not in str(error)
        through = f" through the proxy {proxy} ({_PROXY_VARIABLES} name it)" if proxy else ""
        message = f"no connection to the host{through}: {_describe(reason)}"
        raise DownloadError(message, unreachable=True, may_pass=not stays) from None
    except requests.Timeout:
        raise _broken("the server did not answer (timed out)") from None
    except (requests.RequestException, HTTPError, ValueError) as error:
        raise DownloadError(f"not a valid URL, or redirected to one that is not ({error})") from None


_PROXY_VARIABLES = "the environment variables http_proxy, https_proxy or all_proxy"


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if status == 404:
        raise DownloadError("not found on the server (status 404)")
    if status in (401, 403):
        raise DownloadError(f"the server asks for a login or forbids it (status {status})")
    message = f"the server answered with status {status} {response.reason or ''}".rstrip()
    try:
        wait = Retry().get_retry_after(response.raw) or 0.0
    except InvalidHeader:
        wait = 0.0
    if wait > MAX_RETRY_AFTER_SECONDS:
        raise DownloadError(f"{message} and asks to come back in {wait:.0f} s")
    raise DownloadError(message, may_pass=status in RETRIED_STATUSES, wait_seconds=wait)


def _broken(message: str) -> DownloadError:
    return DownloadError(message, may_pass=True)


def _innermost(error: BaseException) -> BaseException:
    """The cause at the bottom of the errors that requests and urllib3 wrap around each other."""
    while True:
        inner = getattr(error, "reason", None) or getattr(error, "original_error", None) or error.__cause__
        if not isinstance(inner, BaseException):
            inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _describe(error: BaseException) -> str:
    error = _innermost(error)
    if isinstance(error, NewConnectionError):
        return str(error).partition(": ")[2]
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
