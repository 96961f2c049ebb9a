"""Unpacking of archives that come from the network and may be damaged or hostile."""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from stavis.errors import StavisError

MAX_MEMBERS = 10_000_000
"""More entries than this are refused; the largest database has frames, maps and fixations in the hundred thousands."""

ALWAYS_ALLOWED_BYTES = 64 << 20
"""An archive that unpacks to no more than this is harmless however well it was compressed."""

MAX_HEADER_BYTES = 1 << 20
"""tarfile reads a member's extended header into memory at once; a longer one is refused."""

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
CHUNK_BYTES = 1 << 18
BLOCK_BYTES = 4096
"""The unit in which file systems commonly give out space: a file of one byte takes this much."""

_PYTHONS_FILTER = getattr(tarfile, "data_filter", None)
"""Python's own check of a member, a second opinion behind ours; Python 3.11 has it from 3.11.4 on."""


class ArchiveError(StavisError):
    """An archive that is damaged, or that holds what no archive of data should."""


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Attributes:
        sha256: Of the archive file, in hexadecimal.
        num_files: Files and links written.
        num_bytes: Sum of the files' sizes.
        num_left_out: Entries that desktop systems add and that were not written (`._*`, `.DS_Store`, `__MACOSX`).
        links: The symbolic links among the files, relative to the destination.
    """

    sha256: str
    num_files: int
    num_bytes: int
    num_left_out: int
    links: tuple[PurePosixPath, ...]


def hash_file(path: Path, advance: Callable[[int], object] = lambda num: None) -> str:
    """The SHA-256 of a file in hexadecimal; `advance` is told the bytes read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def unpack(
    archive: Path,
    destination: Path,
    *,
    max_ratio: float,
    free_bytes: float = float("inf"),
    max_members: int = MAX_MEMBERS,
    advance: Callable[[int], object] = lambda num: None,
) -> Unpacked:
    """Unpacks a gzipped tar file into a new folder, or raises and leaves what it had written there.

    Files get this user's usual permissions and the archive's modification times. Owners, modes and extended attributes
    in the archive are ignored.

    Args:
        archive: The `.tar.gz` file.
        destination: A folder that does not exist yet; its parent does.
        max_ratio: Unpacked size over the archive's, from which it counts as a decompression bomb.
        free_bytes: How much the unpacked files may take on the disk.
        max_members: Entries that the archive may have.
        advance: Told the number of bytes of the archive just read, for a progress bar.

    Raises:
        ArchiveError: It is no gzipped tar file, is damaged or cut short; or it has an absolute path, one with `..`,
            one twice, one too long, a link to outside of it, a device or another special file; or it is a bomb.
        StavisError: It needs more than `free_bytes`.
    """
    archive_bytes = archive.stat().st_size
    max_bytes = max(ALWAYS_ALLOWED_BYTES, int(max_ratio * archive_bytes))
    destination.mkdir()
    writer = _Writer(archive, destination, free_bytes)
    with archive.open("rb") as file:
        hashing = _HashingReader(file, advance)
        try:
            # The declared type wants a `seek`, which gzip needs only to go back.
            with gzip.GzipFile(fileobj=hashing, mode="rb") as stream:  # type: ignore[call-overload]
                source = _TarStream(stream, archive, max_bytes)
                _unpack_members(source, writer, archive, max_members)
                source.expect_only_zeros()
        except EOFError:
            raise ArchiveError(
                f"{archive}: cut short: its compressed data go on after {archive_bytes} bytes"
            ) from None
        except (
            tarfile.TarError,
            zlib.error,
            gzip.BadGzipFile,
            UnicodeError,
            RecursionError,
            OverflowError,
        ) as error:
            raise ArchiveError(f"{archive}: damaged, or not a gzipped tar file ({error})") from None
    writer.write_links()
    links = tuple(path for path, _ in writer.links)
    refuse_links_out(archive, destination, links, destination)
    return Unpacked(
        hashing.digest.hexdigest(), writer.num_files, writer.num_bytes, writer.num_left_out, links
    )


def refuse_links_out(
    archive: Path, destination: Path, links: tuple[PurePosixPath, ...], inside: Path
) -> None:
    """Raises ArchiveError if one of `links` below `destination` leads to nothing or out of the folder `inside`."""
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
    """Passes a file through to gzip and computes its SHA-256 on the way."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], object]) -> None:
        self.file = file
        self.advance = advance
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        chunk = self.file.read(size)
        self.digest.update(chunk)
        self.advance(len(chunk))
        return chunk


class _TarStream:
    """The decompressed bytes as tarfile wants them, read forwards once, with an end to what it may ask for.

    tarfile trusts lengths in headers: one of gigabytes would fill the memory, a negative one turn it back for ever.
    """

    def __init__(self, stream: gzip.GzipFile, archive: Path, max_bytes: int) -> None:
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
        self.check_room_for(0)
        return self.last_block

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> int:
        if position < self.position:
            raise ArchiveError(f"{self.archive}: damaged (a member of negative size)")
        self.check_room_for(position - self.position)
        while self.position < position and self.read(min(CHUNK_BYTES, position - self.position)):
            pass
        return self.position

    def check_room_for(self, num_bytes: int) -> None:
        if self.position + num_bytes > self.max_bytes:
            raise ArchiveError(
                f"{self.archive}: refused as a decompression bomb: it unpacks to more than {self.max_bytes} bytes"
            )

    def expect_only_zeros(self) -> None:
        """Reads to the end, so that gzip's checksum is looked at, too.

        tarfile takes a broken header in the middle for the end of the archive; what follows gives it away.
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
            # tarfile remembers every member for look-ups by name; hundreds of thousands are not needed here.
            tar.members.clear()
            num_members += 1
            if num_members > max_members:
                raise ArchiveError(f"{archive}: refused as a decompression bomb: over {max_members} entries")
            if member.size < 0:
                raise ArchiveError(f"{archive}: damaged (a member of negative size)")
            source.check_room_for(member.size if member.isreg() else 0)
            writer.write(source, member)


class _Writer:
    """Writes members below a folder of ours.

    Nothing is ever written through a link: every folder on the way to a file was made here, and links are made after
    all files.
    """

    def __init__(self, archive: Path, root: Path, free_bytes: float) -> None:
        self.archive = archive
        self.root = root
        self.free_bytes = free_bytes
        self.num_disk_bytes = 0
        self.num_files = self.num_bytes = self.num_left_out = 0
        self.folders = {PurePosixPath()}
        self.links: list[tuple[PurePosixPath, str]] = []

    def refuse(self, name: str | PurePosixPath, reason: str) -> ArchiveError:
        return _refusal(self.archive, name, reason)

    def write(self, source: _TarStream, member: tarfile.TarInfo) -> None:
        path = self.check_path(member.name)
        if _is_desktop_litter(path):
            self.num_left_out += 1
            return
        self.check_kind(member, path)
        if member.isdir():
            self.make_folders(path)
            return
        self.make_folders(path.parent)
        if member.islnk():
            self.write_hard_link(member, path)
        elif member.issym():
            self.links.append((path, member.linkname))
        else:
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
            raise self.refuse(path, f"is a link to what is no path of 1 to {MAX_PATH_BYTES} bytes")
        if is_link and member.linkname.startswith("/"):
            raise self.refuse(path, f"is a link to the absolute path {member.linkname!a}")
        if _PYTHONS_FILTER is not None:
            try:
                _PYTHONS_FILTER(member, str(self.root))
            except tarfile.TarError as error:
                raise self.refuse(path, f"is no plain data: {error}") from None

    def make_folders(self, path: PurePosixPath) -> None:
        if path in self.folders:
            return
        self.make_folders(path.parent)
        self.take(1)
        try:
            (self.root / path).mkdir()
        except FileExistsError:
            raise self.refuse(path, "is both a file and a folder") from None
        self.folders.add(path)

    def write_file(self, source: _TarStream, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        self.take(member.size)
        source.seek(member.offset_data)
        try:
            file = (self.root / path).open("xb")
        except FileExistsError:
            raise self.refuse(path, "stands in it twice") from None
        with file:
            remaining = member.size
            while remaining:
                chunk = source.read(min(CHUNK_BYTES, remaining))
                if not chunk:
                    raise tarfile.ReadError("unexpected end of data")
                file.write(chunk)
                remaining -= len(chunk)
        if 0 <= member.mtime < 1 << 40:
            os.utime(self.root / path, (member.mtime, member.mtime))
        self.num_files += 1
        self.num_bytes += member.size

    def write_hard_link(self, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        target = self.check_path(member.linkname)
        if target.parent not in self.folders or not (self.root / target).is_file():
            found = f"{member.linkname!a}, which is no file before it in the archive"
            raise self.refuse(path, f"is a link to {found}")
        try:
            os.link(self.root / target, self.root / path)
        except FileExistsError:
            raise self.refuse(path, "stands in it twice") from None
        self.num_files += 1

    def write_links(self) -> None:
        for path, target in self.links:
            try:
                (self.root / path).symlink_to(target)
            except FileExistsError:
                raise self.refuse(path, "stands in it twice") from None
            self.num_files += 1

    def take(self, num_bytes: int) -> None:
        self.num_disk_bytes += -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES
        if self.num_disk_bytes > self.free_bytes:
            raise StavisError(
                f"{self.archive}: needs more room unpacked than the {int(self.free_bytes)} bytes free"
                f" where {self.root.parent} is"
            )


def _is_desktop_litter(path: PurePosixPath) -> bool:
    return any(part.startswith("._") or part in (".DS_Store", "__MACOSX") for part in path.parts)
