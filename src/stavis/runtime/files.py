"""Files that appear whole or not at all, and their checksums."""

import contextlib
import csv
import hashlib
import json
import os
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stavis.errors import StavisError

LOCK_TIMEOUT_SECONDS = 5.0  # workers of a killed run end within a fraction of this

ARCHIVE_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown compression
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
)
"""What NumPy raises for a file that is no whole .npz archive, or lacks an array."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, renamed to `path` when the block ends without an error.

    The temporary name keeps the suffix, as encoders choose their format by it, and starts with a dot. An error inside
    the block removes the temporary file and leaves what stood under `path` before. Parent folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; results are as readable as any other file of this user.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def sole_worker(lock: Path, message: str, *, timeout: float = 0.0) -> Iterator[None]:
    """Keeps other processes out of a folder. The lock, a file, ends with the process, however that ends.

    Only on file systems without locks a killed process leaves it behind: the file itself is the lock there.

    Raises StavisError with `message` if another process has it for longer than `timeout` seconds.
    """
    import filelock  # slow to import, and most commands need no lock

    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = filelock.FileLock(lock).acquire(timeout=timeout)
    except filelock.Timeout:
        raise StavisError(f"{message}; if none is, remove {lock}") from None
    with held:
        yield


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path`, whole or not at all; bytes of file names that are not UTF-8 become "?"."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if it is missing, unreadable or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table as CSV to `path`, whole or not at all; nan is an empty cell."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(["" if value != value else value for value in row] for row in rows)


def find_entry(folder: Path, name: str) -> Path:
    """The entry of a folder that has a name, or whose name differs from it only by Unicode form.

    macOS and some archives store accents as characters of their own (NFD), most other systems do not (NFC).

    Returns its path; `folder / name` where there is none.
    """
    path = folder / name
    if name.isascii() or path.exists():
        return path
    wanted = unicodedata.normalize("NFC", name)
    try:
        names = os.listdir(folder)
    except OSError:
        return path
    return next((folder / other for other in names if unicodedata.normalize("NFC", other) == wanted), path)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
