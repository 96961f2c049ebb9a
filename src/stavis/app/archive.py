"""Zip archives that are made while they are sent."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

BLOCK = 1 << 18


def stream_zip(files: Iterable[tuple[Path, str]]) -> Iterator[bytes]:
    """The bytes of a zip archive of files under the given names. Nothing is compressed: the files are already."""
    buffer = _Buffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, name in files:
            info = zipfile.ZipInfo.from_file(path, name)
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as entry:
                while block := source.read(BLOCK):
                    entry.write(block)
                    yield buffer.take()
    yield buffer.take()


class _Buffer(io.RawIOBase):
    """What was written and not yet sent; it cannot seek, so that `zipfile` writes in one pass."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
