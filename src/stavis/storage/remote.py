"""URLs as paths: ranged reads with retries, uploads, and names that show no credentials."""

import contextlib
import glob
import hashlib
import io
import itertools
import os
import random
import re
import stat
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.request import url2pathname

from stavis.errors import StavisError, one_line

BLOCK_BYTES = 1 << 21  # per request
# The frames and the audio of a video are read by several decoders at about the same place.
MAX_BLOCKS = 32
MAX_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 20.0

T = TypeVar("T")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:::.*)?://")
# What stands before the last @ of the host; or a password with an unescaped "/", "?" or "#", recognized by a colon that
# no port follows.
_USER = re.compile(r"(://)(?:([^/?#\s]*)@|[^/?#\s@:\[]*:(?!:|\d{1,5}(?:[/?#\s'\"]|$))\S*@)")
# A URL's query, up to the quote if the URL is quoted, or to the next part of a chain.
_QUERY = re.compile(
    r"(['\"])?(\b[a-z][a-z0-9+.-]*://[^\s?]*)\?((?:(?!::[a-z][a-z0-9+.-]*:)(?(1)(?!\1)\S|\S))*)", re.I
)
_BARE_QUERY = re.compile(r"\?[^\s'\"]*=[^\s'\"]*")  # of a URL whose beginning is missing

if TYPE_CHECKING:
    _LocalPath = Path
else:
    _LocalPath = type(Path())  # before Python 3.12 only the class of the platform can be extended


def is_url(text: object) -> bool:
    """Whether a text is a URL, such as `s3://bucket/video.mp4`, or a chain of them as fsspec writes it."""
    return isinstance(text, str) and _URL.match(text) is not None


def hide_credentials(text: str) -> str:
    """Removes passwords, tokens and signed queries from the URLs in a text."""

    def without_password(match: re.Match[str]) -> str:
        user, colon, _ = (match[2] or ":").partition(":")
        # In abfs://container@account, what stands there is no user.
        is_web = text[: match.start()].lower().endswith(("http", "https"))
        return match[1] if is_web or colon else f"{match[1]}{user}@"

    def without_query(match: re.Match[str]) -> str:
        # Elsewhere a question mark without "=" is a wildcard.
        is_web = match[2].rpartition("://")[0].lower().endswith(("http", "https"))
        return (match[1] or "") + match[2] if is_web or "=" in match[3] else match[0]

    return _BARE_QUERY.sub("", _QUERY.sub(without_query, _USER.sub(without_password, text)))


class RemotePath(_LocalPath):
    """A URL in the place of a path: what uses `open`, `stat`, `name`, `parent` and `/` works with it.

    As text it shows no credentials. Blocks that were read stay in memory until `release`, at most
    `BLOCK_BYTES * MAX_BLOCKS`.

    Attributes:
        url: With its credentials.
        cache_dir: Folder to copy the whole file to before it is read. None: it is read by ranges.
    """

    url: str
    cache_dir: Path | None
    _blocks: "_Blocks | None"

    @classmethod
    def of(cls, url: str, cache_dir: Path | None = None) -> "RemotePath":
        first = next((part for part in url.split("::") if "://" in part), url)
        path = cls(hide_credentials(first))  # for name, stem and suffix
        path.url, path.cache_dir, path._blocks = url, cache_dir, None
        return path

    def __str__(self) -> str:
        return hide_credentials(self.url)

    __fspath__ = __str__

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __reduce__(self) -> Any:
        return RemotePath.of, (self.url, self.cache_dir)

    def __truediv__(self, key: str | PathLike[str]) -> "RemotePath":
        before, mark, query = self.url.partition("?")
        return RemotePath.of(f"{before.rstrip('/')}/{os.fspath(key)}{mark}{query}", self.cache_dir)

    @property
    def parent(self) -> "RemotePath":
        before, mark, query = self.url.partition("?")
        return RemotePath.of(before.rstrip("/").rpartition("/")[0] + mark + query, self.cache_dir)

    def open(  # type: ignore[override]
        self, mode: str = "r", *, encoding: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Opens the file for reading, as `Path.open` does."""
        if set(mode) - set("rbt"):
            raise ValueError(f"mode={mode!r}: URLs are only read")
        if self.cache_dir is not None:
            return self._copy(self.cache_dir).open(mode, encoding=encoding, newline=newline)
        raw = io.BufferedReader(_Reader(self._loaded()))
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding, newline=newline)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """The size of the file; all else is 0."""
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, self._loaded().size, 0, 0, 0))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        try:
            return self._loaded().size >= 0
        except FileNotFoundError:
            return False

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self.exists()

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return False

    def is_symlink(self) -> bool:
        return False

    def release(self) -> None:
        """Frees the blocks that are kept in memory."""
        self._blocks = None

    def _loaded(self) -> "_Blocks":
        if self._blocks is None:
            self._blocks = _Blocks(self)
        return self._blocks

    def _copy(self, folder: Path) -> Path:
        size = self._loaded().size
        digest = hashlib.blake2b(f"{self.url} {size}".encode(), digest_size=8).hexdigest()
        target = folder / f"{digest}-{self.name}"
        if not target.is_file() or target.stat().st_size != size:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
                whole = Path(temporary) / target.name
                files, key = _filesystem(self)
                _retry(self, lambda: files.get_file(key, str(whole)))
                whole.replace(target)
        return target


def as_path(path: str | PathLike[str], *, cache_dir: Path | None = None) -> Path:
    """The path that a text means: a `RemotePath` if it is a URL; URLs of local files become local paths."""
    if isinstance(path, RemotePath):
        return path if cache_dir is None else RemotePath.of(path.url, cache_dir)
    if not isinstance(path, str) or not is_url(path):
        return Path(path)
    if path.startswith("file://"):
        return Path(url2pathname(path.removeprefix("file://")))
    return RemotePath.of(path, cache_dir)


def resolve(base: Path, uri: str) -> Path:
    """The file that `uri` means in a table in the folder `base`: a URL, an absolute path, or one relative to `base`."""
    return as_path(uri) if is_url(uri) or uri.startswith("/") else base / uri


def expand(url: str) -> list[RemotePath] | None:
    """The files that a URL with wildcards, or one ending in "/", stands for, sorted; None if it is neither.

    Raises StavisError if they cannot be listed.
    """
    path = RemotePath.of(url)
    is_web = url.startswith(("http://", "https://"))
    if not url.endswith("/") and (is_web or not glob.has_magic(url)):
        return None
    files, key = _filesystem(path)
    list_keys = files.glob if glob.has_magic(key) else lambda one: files.ls(one, detail=False)
    try:
        return sorted(
            RemotePath.of(files.unstrip_protocol(one)) for one in _retry(path, lambda: list_keys(key))
        )
    except FileNotFoundError:
        raise StavisError(f"{path}: no such folder") from None


def list_files(folder: RemotePath) -> dict[str, str]:
    """The files and folders in a folder by name, with what changes with their contents; none if it does not exist."""
    files, key = _filesystem(folder)
    try:
        entries = _retry(folder, lambda: files.ls(key, detail=True))
    except FileNotFoundError:
        return {}
    stamps = ("size", "ETag", "LastModified", "mtime", "created")
    return {
        one["name"].rstrip("/").rpartition("/")[2]: str([one.get(stamp) for stamp in stamps])
        for one in entries
    }


def upload(source: Path, target: RemotePath, *, names: Iterable[Path], last: str | None = None) -> None:
    """Copies files of a folder, `names` relative to it, to a URL. Raises StavisError if they cannot be written.

    `last` is one of them that shows that the others are complete. It is written after them, under a temporary name, and
    renamed.
    """
    files, key = _filesystem(target)
    key = key.rstrip("/")

    def put(pairs: Sequence[tuple[str, str]]) -> None:
        try:
            files.put([one for one, _ in pairs], [other for _, other in pairs])
        except (FileNotFoundError, NotADirectoryError):  # where folders are more than prefixes of names
            for folder in sorted({other.rpartition("/")[0] for _, other in pairs}):
                files.makedirs(folder, exist_ok=True)
            files.put([one for one, _ in pairs], [other for _, other in pairs])

    if others := [(str(source / one), f"{key}/{one.as_posix()}") for one in names if str(one) != last]:
        _retry(target, lambda: put(others))
    if last is not None:
        temporary, final = f"{key}/.{last}.partial", f"{key}/{last}"
        _retry(target, lambda: put([(str(source / last), temporary)]))
        _retry(target, lambda: files.cp_file(temporary, final))
        with contextlib.suppress(FileNotFoundError):  # when a lost answer made it a second try
            _retry(target, lambda: files.rm_file(temporary))


def download(source: RemotePath, target: Path, names: Iterable[str]) -> None:
    """Copies files of a folder at a URL to a local folder. Those that do not exist are left out."""
    files, key = _filesystem(source)
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            data = _retry(source, lambda name=name: files.cat_file(f"{key.rstrip('/')}/{name}"))  # type: ignore[misc]
            (target / name).write_bytes(data)


def remove(path: RemotePath) -> None:
    """Removes a file or a folder with all that is in it, if it exists."""
    files, key = _filesystem(path)
    with contextlib.suppress(FileNotFoundError):
        _retry(path, lambda: files.rm(key, recursive=True))


def _filesystem(path: RemotePath) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise StavisError(f"{path}: URLs need fsspec: pip install 'stavis[remote]'") from None
    try:
        files, key = fsspec.core.url_to_fs(path.url, use_listings_cache=False)
    # s3fs, gcsfs, ... is not installed, or the protocol is unknown.
    except (ImportError, ValueError) as error:
        raise StavisError(f"{path}: {hide_credentials(str(error))}") from None
    return files, key


def _retry(path: RemotePath, action: Callable[[], T]) -> T:
    """The result of `action`, which is tried again with growing pauses if the server or the connection fails.

    Raises FileNotFoundError as `action` does, and StavisError for what fails otherwise, or too often.
    """
    for attempt in itertools.count(1):
        try:
            return action()
        except StavisError:
            raise
        except Exception as raised:
            error = raised
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                cause = error.__cause__
                # fsspec's HTTP turns whatever a server answers into this.
                is_of_http = type(cause).__module__.startswith("aiohttp")
                if not is_of_http or getattr(cause, "status", 0) in (404, 410):
                    raise
                assert isinstance(cause, Exception)
                error = cause
            if attempt == MAX_ATTEMPTS or not _may_pass(error):
                tries = f" after {attempt} attempts" if attempt > 1 else ""
                raise StavisError(f"{path}: {hide_credentials(one_line(error))}{tries}") from None
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt)
        time.sleep(pause * random.uniform(0.5, 1.0))
    raise AssertionError


def _may_pass(error: Exception) -> bool:
    """Whether an error may be gone at the next attempt."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in (408, 429) or status >= 500
    lasting = (PermissionError, IsADirectoryError, FileExistsError, ImportError, ValueError, TypeError)
    return not isinstance(error, (*lasting, NotImplementedError)) and "Credential" not in type(error).__name__


class _Blocks:
    """The blocks of a file, of which the latest used are kept.

    Attributes:
        size: Of the file, in bytes.
    """

    def __init__(self, path: RemotePath) -> None:
        self._path = RemotePath.of(path.url)  # not `path`, which holds these blocks
        self._files, self._key = _filesystem(path)
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        size = _retry(path, lambda: self._files.info(self._key)).get("size")
        if size is None:
            raise self._no_ranges()
        self.size = int(size)

    def read(self, start: int, num: int) -> bytes:
        """Up to `num` bytes from `start` on, all from one block; none at the end of the file."""
        if start >= self.size:
            return b""
        number, offset = divmod(start, BLOCK_BYTES)
        with self._lock:
            block = self._kept.get(number)
            if block is None:
                block = _retry(self._path, lambda: self._fetch(number * BLOCK_BYTES))
                self._kept[number] = block
                if len(self._kept) > MAX_BLOCKS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
        return block[offset : offset + num]

    def _fetch(self, start: int) -> bytes:
        stop = min(start + BLOCK_BYTES, self.size)
        data: bytes = self._files.cat_file(self._key, start=start, end=stop)
        if len(data) > stop - start:
            raise self._no_ranges()
        if len(data) < stop - start:
            raise OSError(f"{self._path}: {len(data)} bytes came instead of {stop - start}")
        return data

    def _no_ranges(self) -> StavisError:
        return StavisError(
            f"{self._path}: the server does not send parts of files; `cache_dir` copies the whole file first"
        )


class _Reader(io.RawIOBase):
    """A remote file, open for reading."""

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._blocks.read(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._blocks.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position


@contextlib.contextmanager
def staged(
    target: RemotePath, last: str, *, own: Collection[str] = (), overwrite: bool = False
) -> Iterator[Path]:
    """Yields a local folder in the place of a remote one, and uploads what the block wrote into it, the file `last`
    last.

    If the remote folder is complete, `last` is in it, and its other files and folders are there without their contents,
    so that what exists can be told from what is missing. Otherwise, or to `overwrite` it, the folder is empty, and the
    files of the block's `own` names are removed from the remote one before the upload; other files are left alone.
    """
    with tempfile.TemporaryDirectory(prefix="stavis-") as temporary:
        local = Path(temporary) / target.name
        there = list_files(target)
        is_complete = last in there and not overwrite
        if is_complete:
            download(target, local, [last])
            for name in set(there) - {last}:
                (local / name).mkdir()
        before = (local / last).read_bytes() if is_complete else None
        yield local
        written = [one.relative_to(local) for one in sorted(local.rglob("*")) if one.is_file()]
        if not written or (is_complete and (local / last).read_bytes() == before):
            return
        for name in () if is_complete else there.keys() & {*own}:
            remove(target / name)
        upload(local, target, names=written, last=last)
