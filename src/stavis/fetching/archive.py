"""Unpacking of tar archives that come from the network and may be damaged or hostile."""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from stavis.errors import StavisError

MAX_MEMBERS = 2_000_000
"""Archives with more entries are refused; the largest database has some hundred thousand files."""

ALWAYS_ALLOWED_BYTES = 64 << 20
"""An archive that unpacks to no more than this is harmless however well it was compressed."""

MAX_HEADER_BYTES = 1 << 20
"""tarfile reads a member's extended header into memory at once; a longer one is refused."""

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
CHUNK_BYTES = 1 << 18
BLOCK_BYTES = 4096
"""The unit in which file systems commonly allocate space: a file of one byte takes this much."""

GZIP_MAGIC = b"\x1f\x8b"
MAX_GZIP_LAYERS = 3

_data_filter = getattr(tarfile, "data_filter", None)
"""tarfile's own check, missing before Python 3.11.4. It cannot replace ours: it accepts absolute paths (without the
slash), '..' inside an archive, and the same name twice."""


class ArchiveError(StavisError):
    """An archive that is damaged, or that contains what no archive of data should."""


@dataclass(frozen=True)
class Unpacked:
    sha256: str  # of the archive file, in hexadecimal
    # Of the names and contents of the files in it. It does not depend on compression, on the order of the files or on
    # their times.
    content_sha256: str
    num_files: int  # number of files and links written
    num_bytes: int  # sum of the files' sizes
    # Number of entries that desktop systems add and that were not written (`._*`, `.DS_Store`, `__MACOSX`).
    num_left_out: int
    links: tuple[PurePosixPath, ...]  # the symbolic links among the files, relative to the destination


def is_archive(first: bytes) -> bool:
    """Whether a file with these first 512 bytes may be a tar file, gzipped or not."""
    if first.startswith(GZIP_MAGIC):
        return True
    try:
        tarfile.TarInfo.frombuf(first[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def unpack(
    archive: Path,
    destination: Path,
    *,
    max_ratio: float,
    free_bytes: float = float("inf"),
    max_members: int = MAX_MEMBERS,
    advance: Callable[[int], object] = lambda num: None,
) -> Unpacked:
    """Unpacks a tar file into a new folder. When it raises, what it has written stays there.

    The tar file may be plain, gzipped, or gzipped again by a server on the way. Files get this user's usual permissions
    and the archive's modification times; owners, modes and extended attributes in the archive are ignored.

    Args:
        archive: The `.tar.gz` or `.tar` file.
        destination: A folder that does not exist yet; its parent does.
        max_ratio: Unpacked size divided by the archive's, above which it counts as a decompression bomb.
        free_bytes: How much space the unpacked files may take on the disk.
        max_members: Maximum number of entries.
        advance: Called with the number of archive bytes just read, for a progress bar.

    Raises:
        ArchiveError: The file is not a tar file, is damaged or cut short; or contains an absolute path, one with `..`,
            the same one twice, one too long, a link to outside of it, a device or another special file; or is a bomb.
        StavisError: It needs more than `free_bytes`.
    """
    num_archive_bytes = archive.stat().st_size
    max_bytes = max(ALWAYS_ALLOWED_BYTES, int(max_ratio * num_archive_bytes))
    destination.mkdir()
    writer = _Writer(archive, destination, free_bytes)
    with archive.open("rb") as file:
        hashing = _HashingReader(file, advance)
        try:
            source = _TarStream(_decompress(hashing), archive, max_bytes)
            _unpack_members(source, writer, archive, max_members)
            source.expect_only_zeros()
        except EOFError:
            raise ArchiveError(
                f"{archive}: cut short: its compressed data continue after {num_archive_bytes} bytes"
            ) from None
        except (
            tarfile.TarError,
            zlib.error,
            gzip.BadGzipFile,
            ValueError,
            RecursionError,
            OverflowError,
        ) as error:
            raise ArchiveError(f"{archive}: damaged, or not a tar file ({error})") from None
    writer.write_links()
    links = tuple(path for path, _ in writer.links)
    refuse_links_out(archive, destination, links, destination)
    content = hashlib.sha256("".join(sorted(writer.content)).encode("utf-8", "surrogateescape")).hexdigest()
    return Unpacked(
        hashing.digest.hexdigest(),
        content,
        num_files=len(writer.content),
        num_bytes=writer.num_bytes,
        num_left_out=writer.num_left_out,
        links=links,
    )


def refuse_links_out(archive: Path, destination: Path, links: Iterable[PurePosixPath], inside: Path) -> None:
    """Raises ArchiveError if one of `links` below `destination` is broken or points out of the folder `inside`."""
    real_inside = inside.resolve()
    for link in links:
        try:
            real = (destination / link).resolve(strict=True)
        except (OSError, RuntimeError):
            raise _refusal(archive, link, "is a link to nothing in the archive") from None
        if not real.is_relative_to(real_inside):
            raise _refusal(archive, link, "is a link out of the archive's own files")


def _refusal(archive: Path, name: str | PurePosixPath, reason: str) -> ArchiveError:
    shown = ascii(str(name))
    if len(shown) > 100:
        shown = f"{shown[:60]}...{shown[-20:]}"
    return ArchiveError(f"{archive}: refused: its entry {shown} {reason}")


class _HashingReader:
    """Passes a file through and computes its SHA-256 on the way."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], object]) -> None:
        self.file = file
        self.advance = advance
        self.digest = hashlib.sha256()
        self.is_gzipped = file.read(2) == GZIP_MAGIC
        file.seek(0)

    def read(self, size: int) -> bytes:
        chunk = self.file.read(size)
        self.digest.update(chunk)
        self.advance(len(chunk))
        return chunk


def _decompress(reader: _HashingReader) -> IO[bytes]:
    """Undoes gzip as many times as it was applied: some servers compress a .tar.gz once more."""
    if not reader.is_gzipped:
        return reader  # type: ignore[return-value]  # has the `read` that is needed
    # The declared type also wants a `seek`, which gzip needs only to go back.
    stream = gzip.GzipFile(fileobj=reader, mode="rb")  # type: ignore[call-overload]
    for _ in range(MAX_GZIP_LAYERS - 1):
        if stream.peek(2)[:2] != GZIP_MAGIC:
            break
        stream = gzip.GzipFile(fileobj=stream, mode="rb")
    return stream  # type: ignore[no-any-return]


class _TarStream:
    """Decompressed bytes for tarfile, read forwards once and up to a limit.

    tarfile trusts the lengths in headers: one of gigabytes would fill the memory, a negative one make it loop forever.
    """

    def __init__(self, stream: IO[bytes], archive: Path, max_bytes: int) -> None:
        self.stream = stream
        self.archive = archive
        self.max_bytes = max_bytes
        self.position = 0
        self.last_block = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ArchiveError(f"{self.archive}: damaged (a header of {size} bytes)")
        self.last_block = self.stream.read(size)
        self.position += len(self.last_block)
        self.check_limit(0)
        return self.last_block

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> int:
        if position < self.position:
            raise ArchiveError(f"{self.archive}: damaged (a member of negative size)")
        self.check_limit(position - self.position)
        while self.position < position and self.read(min(CHUNK_BYTES, position - self.position)):
            pass
        return self.position

    def check_limit(self, num_bytes: int) -> None:
        if self.position + num_bytes > self.max_bytes:
            raise ArchiveError(
                f"{self.archive}: refused as a decompression bomb: it unpacks to more than {self.max_bytes} bytes"
            )

    def expect_only_zeros(self) -> None:
        """Reads to the end, so that gzip's checksum is verified, too.

        tarfile takes a broken header in the middle for the end of the archive; what follows reveals it.
        """
        block = self.last_block
        while not block.strip(b"\0"):
            block = self.read(CHUNK_BYTES)
            if not block:
                return
        raise ArchiveError(f"{self.archive}: damaged (no valid entry at byte {self.position - len(block)})")


def _unpack_members(source: _TarStream, writer: "_Writer", archive: Path, max_members: int) -> None:
    num_members = 0
    with tarfile.open(fileobj=source, mode="r:") as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            # tarfile keeps every member for look-ups by name, which are not needed here.
            tar.members.clear()
            num_members += 1
            if num_members > max_members:
                raise ArchiveError(f"{archive}: refused as a decompression bomb: over {max_members} entries")
            if member.size < 0:
                raise ArchiveError(f"{archive}: damaged (a member of negative size)")
            source.check_limit(member.size if member.isreg() else 0)
            writer.write(source, member)


class _Writer:
    """Writes members below a new folder.

    Nothing is ever written through a link: every folder on the way to a file was made here, and links are made after
    all files.
    """

    def __init__(self, archive: Path, root: Path, free_bytes: float) -> None:
        self.archive = archive
        self.root = root
        self.free_bytes = free_bytes
        self.num_disk_bytes = self.num_bytes = self.num_left_out = 0
        self.content: list[str] = []  # a line per file or link: its name and the SHA-256 of what it holds
        self.folders = {PurePosixPath()}
        self.links: list[tuple[PurePosixPath, str]] = []

    def refuse(self, name: str | PurePosixPath, reason: str) -> ArchiveError:
        return _refusal(self.archive, name, reason)

    def write(self, source: _TarStream, member: tarfile.TarInfo) -> None:
        path = self.check_path(member.name)
        if any(part.startswith("._") or part in (".DS_Store", "__MACOSX") for part in path.parts):
            self.num_left_out += 1
            return
        self.check_kind(member, path)
        self.make_folders(path if member.isdir() else path.parent)
        if member.islnk():
            self.write_hard_link(member, path)
        elif member.issym():
            self.links.append((path, member.linkname))
        elif member.isreg():
            self.write_file(source, member, path)

    def check_path(self, name: str) -> PurePosixPath:
        if name.startswith("/"):
            raise self.refuse(name, "has an absolute path")
        if "\0" in name:
            raise self.refuse(name, "has a zero byte in its name")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.refuse(name, "has '..' in its path")
        lengths = [len(os.fsencode(part)) for part in parts]
        if max(lengths, default=0) > MAX_NAME_BYTES or sum(lengths) + len(parts) > MAX_PATH_BYTES:
            limits = f"{MAX_NAME_BYTES} or a path above {MAX_PATH_BYTES} bytes"
            raise self.refuse(name, f"has a name above {limits}")
        return PurePosixPath(*parts)

    def check_kind(self, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        is_link = member.islnk() or member.issym()
        if not (member.isdir() or member.isreg() or is_link):
            raise self.refuse(path, "is a device or another special file")
        if path == PurePosixPath() and not member.isdir():
            raise self.refuse(member.name, "has no name")
        if member.issparse():
            raise self.refuse(path, "is a sparse file")
        target_bytes = os.fsencode(member.linkname)
        if is_link and (not 0 < len(target_bytes) <= MAX_PATH_BYTES or b"\0" in target_bytes):
            raise self.refuse(path, f"is a link to what is not a path of 1 to {MAX_PATH_BYTES} bytes")
        if is_link and member.linkname.startswith("/"):
            raise self.refuse(path, f"is a link to the absolute path {member.linkname!a}")
        if _data_filter is not None:
            try:
                _data_filter(member, str(self.root))
            except tarfile.TarError as error:
                raise self.refuse(path, f"is not plain data: {error}") from None

    def make_folders(self, path: PurePosixPath) -> None:
        if path in self.folders:
            return
        self.make_folders(path.parent)
        self.reserve(1)
        try:
            (self.root / path).mkdir()
        except FileExistsError:
            raise self.refuse(path, "is both a file and a folder") from None
        self.folders.add(path)

    def write_file(self, source: _TarStream, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        self.reserve(member.size)
        source.seek(member.offset_data)
        digest = hashlib.sha256()
        try:
            file = (self.root / path).open("xb")
        except FileExistsError:
            raise self.refuse(path, "occurs twice") from None
        with file:
            remaining = member.size
            while remaining:
                chunk = source.read(min(CHUNK_BYTES, remaining))
                if not chunk:
                    raise tarfile.ReadError("unexpected end of data")
                digest.update(chunk)
                file.write(chunk)
                remaining -= len(chunk)
        if 0 <= member.mtime < 1 << 40:
            os.utime(self.root / path, (member.mtime, member.mtime))
        self.content.append(f"{path}\0{digest.hexdigest()}\n")
        self.num_bytes += member.size

    def write_hard_link(self, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        target = self.check_path(member.linkname)
        if target.parent not in self.folders or not (self.root / target).is_file():
            found = f"{member.linkname!a}, which is not a file before it in the archive"
            raise self.refuse(path, f"is a link to {found}")
        try:
            os.link(self.root / target, self.root / path)
        except FileExistsError:
            raise self.refuse(path, "occurs twice") from None
        self.content.append(f"{path}\0link to {target}\n")

    def write_links(self) -> None:
        for path, target in self.links:
            try:
                (self.root / path).symlink_to(target)
            except FileExistsError:
                raise self.refuse(path, "occurs twice") from None
            self.content.append(f"{path}\0link to {target}\n")

    def reserve(self, num_bytes: int) -> None:
        self.num_disk_bytes += -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES
        if self.num_disk_bytes > self.free_bytes:
            raise StavisError(
                f"{self.archive}: needs more room unpacked than the {int(self.free_bytes)} bytes free"
                f" where {self.root.parent} is"
            )
