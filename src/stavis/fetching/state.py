"""State of a data folder: which parts are there, where they came from, and where missing ones come from."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from stavis.errors import StavisError
from stavis.fetching.download import DownloadError, pending_bytes, remote_size
from stavis.fetching.site import Part
from stavis.runtime.files import write_text

WORK_FOLDER = ".stavis-fetch"
Status = Literal["fetched", "finished", "unpacked", "foreign", "missing"]


@dataclass(frozen=True)
class FetchedPart:
    """A part of the data as a call of `fetch` leaves it, or with `dry_run` finds it.

    Attributes:
        part: The part; its `name` is the folder below the data folder.
        folder: Its folder.
        status: "fetched": by this call. "finished": by an earlier one. "foreign": the folder was put there by other
            means and is left as it is. With `dry_run` also "missing", or "unpacked": by an earlier call that was
            interrupted before it could move the files into place.
        source: The URL or archive file that it comes from; empty for a foreign folder.
        sha256: Of the archive, in hexadecimal; empty if it is not known.
        num_items: Number of videos, fold lists, checkpoints or pictures in the archive; None if it is not known.
        num_files: Number of files in the archive; None if it is not known.
        num_bytes: Sum of the sizes of those files; None if it is not known.
        num_archive_bytes: Size of the archive; None if it is not known.
        num_pending_bytes: Number of bytes of a missing archive that are on disk already.
        problem: Why a missing archive is not available now; empty if it is, or if nobody asked.
    """

    part: Part
    folder: Path
    status: Status
    source: str = ""
    sha256: str = ""
    num_items: int | None = None
    num_files: int | None = None
    num_bytes: int | None = None
    num_archive_bytes: int | None = None
    num_pending_bytes: int = 0
    problem: str = ""


class PartError(StavisError):
    """An error that stops one part but not the others."""


@dataclass(frozen=True)
class Record:
    """What is remembered of a part: its archive, and how far it has come ("unpacked", then "finished").

    `root` is the folder in the unpacked archive that becomes the part's folder.
    """

    status: str
    source: str
    sha256: str
    num_archive_bytes: int
    date: str
    root: str
    num_items: int
    num_files: int
    num_bytes: int
    is_archive_kept: bool
    content_sha256: str = ""  # records of version 0.1 lack it


class State:
    """The records of all parts, in one file that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self.records = {name: Record(**record) for name, record in content["parts"].items()}
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StavisError(
                f"{path}: not a record of earlier fetches; remove it to forget them (checksums, too)"
            ) from None

    def set(self, part: Part, record: Record) -> None:
        self.records[part.name] = record
        content = {name: dataclasses.asdict(record) for name, record in sorted(self.records.items())}
        write_text(self.path, json.dumps({"format": 1, "parts": content}, indent=1) + "\n")


@dataclass(frozen=True)
class Place:
    """Where a part and its archive are in a data folder, and where they come from."""

    part: Part
    data: Path
    base_url: str | None
    archives: Path | None

    @property
    def folder(self) -> Path:
        return self.data / self.part.name

    @property
    def staging(self) -> Path:
        """Beside the part's own folder, so that moving it there only changes its name."""
        return self.folder.with_name(f".{self.folder.name}.unpacking")

    @property
    def url(self) -> str:
        return self.part.url(self.base_url)

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def download(self) -> Path:
        return self.data / WORK_FOLDER / "archives" / self.part.archive

    def local_archive(self) -> Path:
        assert self.archives is not None
        for path in (self.archives / self.part.archive, self.archives / "data" / self.part.archive):
            for place in (path, path.with_suffix("")):
                if place.is_file():
                    return place
        raise PartError(f"{self.archives}: no {self.part.archive} in it, nor in its folder 'data'")

    def status(self, record: Record | None) -> Status:
        # Lists and weights of one's own may be beside the published ones; a database's folder is whole or foreign, or
        # was fetched and has lost some of its items since.
        num_there = self.num_there()
        is_whole = 0 < num_there >= (record.num_items if record else 1)
        if record is not None and record.status == "finished" and num_there:
            return "finished" if is_whole else "missing"
        if record is not None and record.status == "unpacked":
            # Moved into place or not: the record was written before, so one of both folders has the part.
            return "unpacked" if is_whole or (self.staging / record.root).is_dir() else "missing"
        is_foreign = self.part.database is not None and self.folder.is_dir() and any(self.folder.iterdir())
        return "foreign" if is_foreign else "missing"

    def num_there(self) -> int:
        """Number of videos, fold lists, checkpoints or pictures that are in the part's folder."""
        return self.part.count(self.folder) if self.folder.is_dir() else 0

    def describe(self, status: Status, record: Record | None) -> FetchedPart:
        if record is None or status == "foreign":
            return FetchedPart(self.part, self.folder, status)
        names = ("source", "sha256", "num_items", "num_files", "num_bytes", "num_archive_bytes")
        return FetchedPart(self.part, self.folder, status, **{name: getattr(record, name) for name in names})

    def look_up(self, timeout_seconds: float, unreachable: dict[str, str]) -> FetchedPart:
        """Looks for the archive of a missing part and for its size. Adds hosts that fail to `unreachable`, with why."""
        missing = FetchedPart(self.part, self.folder, "missing", self.url)
        if self.archives is not None:
            try:
                path = self.local_archive()
            except PartError as error:
                return dataclasses.replace(missing, problem=str(error))
            return dataclasses.replace(missing, source=str(path), num_archive_bytes=path.stat().st_size)
        missing = dataclasses.replace(missing, num_pending_bytes=pending_bytes(self.download))
        if self.host in unreachable:
            return dataclasses.replace(missing, problem=unreachable[self.host])
        try:
            size = remote_size(self.url, timeout_seconds=timeout_seconds)
        except DownloadError as error:
            problem = f"{self.url}: {error}"
            if error.unreachable:
                unreachable[self.host] = problem
            return dataclasses.replace(missing, problem=problem)
        return dataclasses.replace(missing, num_archive_bytes=size)
