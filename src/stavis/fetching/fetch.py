"""The published data and weights, from their site or a mirror of it into the published layout.

What `fetch` needs to remember stands in `<data folder>/.stavis-fetch`: what each part's archive was (`state.json`), and
archives on their way (`archives/`). Every step can be interrupted; the next call goes on from there.
"""

import contextlib
import dataclasses
import datetime
import errno
import filecmp
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import filelock
from rich.filesize import decimal

from stavis.errors import StavisError
from stavis.fetching.archive import ArchiveError, hash_file, refuse_links_out, unpack
from stavis.fetching.download import (
    DEFAULT_PATIENCE,
    DownloadError,
    RetryPolicy,
    download,
    pending_bytes,
    remote_size,
    remove_download,
)
from stavis.fetching.site import SITE, Part, count_items, find_root, select_parts
from stavis.model import Modality
from stavis.runtime.files import write_text
from stavis.runtime.progress import BYTES, console, track
from stavis.weights.names import data_folder, published_path

WORK_FOLDER = ".stavis-fetch"
SPARE_BYTES = 64 << 20
"""Left free on a disk whatever is fetched."""


@dataclass(frozen=True)
class PlannedPart:
    """What a call of `fetch` would do about a part.

    Attributes:
        part: The part.
        status: "finished": an earlier call has put it there. "unpacked": so has one that was interrupted at the very
            end. "foreign": the folder is there, put there by other means, and is left alone. "missing": to be fetched.
        source: The URL or archive file that it would come from; the first that answers, of several.
        num_bytes: The archive's size, None when it is not known.
        num_pending_bytes: What of the archive is on disk already.
        problem: Why the source cannot be had now, None if it can or nobody asked.
    """

    part: Part
    status: Literal["finished", "unpacked", "foreign", "missing"]
    source: str
    num_bytes: int | None = None
    num_pending_bytes: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class FetchedPart:
    """A part that is in place after a call of `fetch`.

    Attributes:
        part: The part.
        folder: Where it is.
        is_new: This call put it there.
        num_items: Videos, fold lists or checkpoints in the archive; None for a folder that came by other means.
        num_files: Files in the archive.
        num_bytes: Sum of the sizes of those files.
        sha256: Of the archive, in hexadecimal.
    """

    part: Part
    folder: Path
    is_new: bool
    num_items: int | None = None
    num_files: int | None = None
    num_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Record:
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


class _State:
    """The records of all parts, in one file that is replaced whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, _Record] = {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self.records = {name: _Record(**record) for name, record in content["parts"].items()}
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StavisError(
                f"{path}: not a record of earlier fetches; remove it to forget them (checksums, too)"
            ) from None

    def set(self, part: Part, record: _Record) -> None:
        self.records[part.name] = record
        content = {name: dataclasses.asdict(record) for name, record in sorted(self.records.items())}
        write_text(self.path, json.dumps({"format": 1, "parts": content}, indent=1) + "\n")


def plan(
    parts: Sequence[str] = (),
    databases: Sequence[str] = (),
    data_folder: Path | str = "data",
    *,
    base_url: str = SITE,
    mirrors: Sequence[str] = (),
    archives_folder: Path | str | None = None,
    timeout_seconds: float = 30.0,
) -> list[PlannedPart]:
    """Says what `fetch` with the same arguments would do. It asks the servers for sizes and writes nothing.

    Raises:
        StavisError: An argument is not allowed, or the record of earlier fetches cannot be read.
    """
    wanted = select_parts(parts, databases)
    data = Path(data_folder)
    state = _State(data / WORK_FOLDER / "state.json")
    sources = _Sources(base_url, mirrors, archives_folder)
    planned = []
    for part in wanted:
        status = _status(part, data, state)
        if status == "missing":
            planned.append(sources.look_for(part, data, timeout_seconds))
        else:
            record = state.records.get(part.name)
            planned.append(PlannedPart(part, status, record.source if record else ""))
    return planned


def fetch(
    parts: Sequence[str] = (),
    databases: Sequence[str] = (),
    data_folder: Path | str = "data",
    *,
    base_url: str = SITE,
    mirrors: Sequence[str] = (),
    archives_folder: Path | str | None = None,
    keep_archives: bool = False,
    accept_changed: bool = False,
    patience: RetryPolicy = DEFAULT_PATIENCE,
    quiet: bool = False,
) -> list[FetchedPart]:
    """Downloads and unpacks parts of the published data into the published layout.

    A part that is there already is not fetched again; neither is one whose folder came there by other means. Folders
    of a database appear whole or not at all. A part that fails does not keep the others from being fetched. The
    SHA-256 of each archive is recorded when it first arrives; the site has none to compare with.

    Args:
        parts: Of `PART_NAMES`; none means all.
        databases: Of `DATABASES`; none means all.
        data_folder: Where the published layout stands or shall stand.
        base_url: The site; archives are below `<base_url>/data`.
        mirrors: Sites of the same layout, tried in turn for what the first one does not give.
        archives_folder: Take archives that are here, in the site's layout with or without `data/`, and use no network.
            They are not removed.
        keep_archives: Keep downloaded archives in `<data_folder>/.stavis-fetch/archives`.
        accept_changed: Take an archive whose SHA-256 is not the one recorded when the part was fetched before.
        patience: Retries, pauses and timeout of downloads.
        quiet: Show neither progress nor messages.

    Returns:
        The parts that are in place now, in the order of fetching.

    Raises:
        StavisError: Some part could not be fetched or is not what was recorded of it, the disk has too little room,
            another process is fetching into the same folder, or an argument is not allowed.
    """
    wanted = select_parts(parts, databases)
    data = Path(data_folder)
    sources = _Sources(base_url, mirrors, archives_folder)
    work = data / WORK_FOLDER
    with _lock(work):
        _remove_litter(work)
        state = _State(work / "state.json")
        run = _Run(data, state, sources, keep_archives, accept_changed, patience, quiet)
        missing = [part for part in wanted if _status(part, data, state) == "missing"]
        run.check_space_for_all(missing)
        fetched = []
        failures = []
        for part in wanted:
            try:
                fetched.append(run.fetch(part))
            except (DownloadError, ArchiveError, _PartError) as error:
                if len(wanted) > 1:
                    run.say(f"{part.name}: {error}")
                failures.append(f"{part.name}: {error}")
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise StavisError(
                    f"{data}: no room left on the disk for {part.name}; run again with more"
                ) from None
    if len(failures) == 1 and len(wanted) == 1:
        raise StavisError(failures[0])
    if failures:
        shown = "; ".join(failures[:3]) + (f"; and {len(failures) - 3} more" if len(failures) > 3 else "")
        raise StavisError(f"{len(failures)} of {len(wanted)} parts not fetched: {shown}")
    return fetched


class _PartError(StavisError):
    """What stops one part but not the others."""


class _Sources:
    """Where archives come from: a folder of them, or sites in turn."""

    def __init__(self, base_url: str, mirrors: Sequence[str], archives_folder: Path | str | None) -> None:
        self.sites = [_checked_site(url) for url in (base_url, *mirrors)]
        self.unreachable: set[str] = set()
        self.folder = Path(archives_folder) if archives_folder is not None else None
        if self.folder is not None and not self.folder.is_dir():
            raise StavisError(f"{self.folder}: no such folder of archives")

    def urls(self, part: Part) -> list[tuple[str, str]]:
        """(site, URL) of the archive at all sites that have not turned out to be unreachable."""
        return [(site, f"{site}/data/{part.archive}") for site in self.sites if site not in self.unreachable]

    def local_archive(self, part: Part) -> Path:
        assert self.folder is not None
        for path in (self.folder / part.archive, self.folder / "data" / part.archive):
            if path.is_file():
                return path
        raise _PartError(f"{self.folder}: no {part.archive} in it, nor in its folder 'data'")

    def look_for(self, part: Part, data: Path, timeout_seconds: float) -> PlannedPart:
        if self.folder is not None:
            try:
                path = self.local_archive(part)
            except _PartError as error:
                return PlannedPart(part, "missing", str(self.folder / part.archive), problem=str(error))
            return PlannedPart(part, "missing", str(path), path.stat().st_size)
        num_pending = pending_bytes(_archive_path(data, part))
        problem = "no site can be reached"
        for site, url in self.urls(part):
            try:
                size = remote_size(url, timeout_seconds=timeout_seconds)
            except DownloadError as error:
                problem = str(error)
                if error.unreachable:
                    self.unreachable.add(site)
            else:
                return PlannedPart(part, "missing", url, size, num_pending)
        url = f"{self.sites[0]}/data/{part.archive}"
        return PlannedPart(part, "missing", url, None, num_pending, problem)


class _Run:
    """One call of `fetch`."""

    def __init__(
        self,
        data: Path,
        state: _State,
        sources: _Sources,
        keep_archives: bool,
        accept_changed: bool,
        patience: RetryPolicy,
        quiet: bool,
    ) -> None:
        self.data = data
        self.state = state
        self.sources = sources
        self.keep_archives = keep_archives
        self.accept_changed = accept_changed
        self.patience = patience
        self.quiet = quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    def check_space_for_all(self, parts: Sequence[Part]) -> None:
        """Raises before anything is fetched if all together cannot fit, as far as sizes are told."""
        # Hosts that do not answer this question get another chance, with retries, when it comes to downloading.
        if parts and self.sources.folder is None:
            self.say(f"asking {self.sources.sites[0]} for the sizes of {len(parts)} archives")
        asking = _Sources(self.sources.sites[0], self.sources.sites[1:], self.sources.folder)
        planned = [asking.look_for(part, self.data, self.patience.timeout_seconds) for part in parts]
        needs: dict[Path, float] = {}
        archives = [0]
        for one in planned:
            if one.num_bytes is not None:
                folder = self.data / one.part.name
                needs[folder] = one.num_bytes * one.part.kind.unpacked_ratio
                if self.sources.folder is None:
                    archives.append(one.num_bytes - one.num_pending_bytes)
        needs[self.data / WORK_FOLDER] = max(0, sum(archives) if self.keep_archives else max(archives))
        total = decimal(sum(one.num_bytes or 0 for one in planned))
        _check_space(needs, f"{len(parts)} parts with archives of {total}")

    def fetch(self, part: Part) -> FetchedPart:
        folder = self.data / part.name
        status = _status(part, self.data, self.state)
        if status == "foreign":
            self.say(
                f"{part.name}: {folder} is there, put there by other means: left as it is (remove it to fetch it)"
            )
            return FetchedPart(part, folder, is_new=False)
        is_new = status != "finished"
        if status == "missing":
            self.unpack_archive_of(part)
        if status != "finished":
            _install(part, self.data, self.state.records[part.name])
        record = dataclasses.replace(self.state.records[part.name], status="finished")
        if is_new:
            self.state.set(part, record)
        if not record.is_archive_kept or (is_new and self.sources.folder is not None):
            remove_download(_archive_path(self.data, part))
        counts = (
            f"{record.num_items} {part.kind.counted}, {record.num_files} files, {decimal(record.num_bytes)}"
        )
        self.say(f"{part.name}: {counts} in {folder}{'' if is_new else ', there already'}")
        return FetchedPart(
            part, folder, is_new, record.num_items, record.num_files, record.num_bytes, record.sha256
        )

    def unpack_archive_of(self, part: Part) -> None:
        """Brings a part's archive here and unpacks it, from one source after the other until one is good."""
        if self.sources.folder is not None:
            archive = self.sources.local_archive(part)
            self.unpack(part, archive, str(archive), is_kept=True)
            return
        archive = _archive_path(self.data, part)
        failures = []
        for site, url in self.sources.urls(part):
            try:
                self.unpack_from(part, url, archive)
                return
            except DownloadError as error:
                if error.unreachable:
                    self.sources.unreachable.add(site)
                failures.append(str(error))
            except ArchiveError as error:
                remove_download(archive)
                failures.append(f"{url}: {str(error).removeprefix(f'{archive}: ')}")
        raise DownloadError("; ".join(failures) or "no site can be reached")

    def unpack_from(self, part: Part, url: str, archive: Path) -> None:
        for is_last in (False, True):
            arrived = download(
                url,
                archive,
                patience=self.patience,
                check_space=lambda missing, total: self.check_space(part, archive, missing, total),
                label=part.archive,
                quiet=self.quiet,
            )
            try:
                self.unpack(part, archive, arrived.url or str(archive), is_kept=self.keep_archives)
                return
            except ArchiveError as error:
                if is_last or not arrived.is_doubtful:
                    raise
                self.say(f"{part.name}: {error}; downloading it again, as a whole")
                remove_download(archive)

    def check_space(self, part: Part, archive: Path, num_missing: int, num_total: int) -> None:
        needs = {
            archive.parent: float(num_missing),
            self.data / part.name: num_total * part.kind.unpacked_ratio,
        }
        _check_space(needs, f"{part.name}, an archive of {decimal(num_total)}")

    def unpack(self, part: Part, archive: Path, source: str, *, is_kept: bool) -> None:
        """Unpacks an archive beside its place and records it as ready to be moved there."""
        known = self.state.records.get(part.name)
        num_archive_bytes = archive.stat().st_size
        if known is not None and not self.accept_changed:
            with track(f"checking {part.name}", num_archive_bytes, unit=BYTES, quiet=self.quiet) as advance:
                sha256 = hash_file(archive, advance)
            if sha256 != known.sha256:
                raise _PartError(
                    f"{archive} from {source} is not the archive of {known.date} from {known.source}: its SHA-256 is"
                    f" {sha256}, that one's was {known.sha256}; --accept-changed takes it"
                    + ("" if archive == Path(source) else ", removing the file has it downloaded again")
                )
        staging = _staging_folder(self.data, part)
        if staging.exists():
            shutil.rmtree(staging)
        staging.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(staging.parent).free - SPARE_BYTES
        try:
            with track(f"unpacking {part.name}", num_archive_bytes, unit=BYTES, quiet=self.quiet) as advance:
                unpacked = unpack(
                    archive, staging, max_ratio=part.kind.max_ratio, free_bytes=free, advance=advance
                )
            root, outside = find_root(part, archive, staging)
            refuse_links_out(archive, staging, unpacked.links, root)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        num_left_out = len(outside) + unpacked.num_left_out
        if num_left_out:
            self.say(
                f"{part.name}: {num_left_out} files of the archive left out, as they are none of the {part.kind.name}"
            )
        record = _Record(
            status="unpacked",
            source=source,
            sha256=unpacked.sha256,
            num_archive_bytes=num_archive_bytes,
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            root=root.relative_to(staging).as_posix(),
            num_items=count_items(part, root),
            num_files=unpacked.num_files - len(outside),
            num_bytes=unpacked.num_bytes - sum(path.lstat().st_size for path in outside),
            is_archive_kept=is_kept,
        )
        self.state.set(part, record)


def _status(part: Part, data: Path, state: _State) -> Literal["finished", "unpacked", "foreign", "missing"]:
    record = state.records.get(part.name)
    folder = data / part.name
    # Lists and weights of one's own may stand beside the published ones; a database's folder is whole or foreign.
    is_there = folder.is_dir() and count_items(part, folder) > 0
    if record is not None and record.status == "finished" and is_there:
        return "finished"
    if record is not None and record.status == "unpacked":
        # Moved into place or not: the record was written before, so one of both folders has the part.
        is_staged = (_staging_folder(data, part) / record.root).is_dir()
        return "unpacked" if is_there or is_staged else "missing"
    return "foreign" if part.database is not None and folder.is_dir() and any(folder.iterdir()) else "missing"


def _archive_path(data: Path, part: Part) -> Path:
    return data / WORK_FOLDER / "archives" / part.archive


def _staging_folder(data: Path, part: Part) -> Path:
    """Beside the part's own place, so that moving it there is a mere change of name."""
    folder = data / part.name
    return folder.with_name(f".{folder.name}.unpacking")


def _install(part: Part, data: Path, record: _Record) -> None:
    """Moves an unpacked part into its place, or what an interrupted call has left of that to do."""
    folder = data / part.name
    staging = _staging_folder(data, part)
    root = staging / record.root
    if root.is_dir():
        if part.kind.is_per_database or not folder.exists():
            try:
                root.rename(folder)
            except OSError as error:
                raise _PartError(f"{folder}: cannot be put there ({error.strerror})") from None
        else:
            _merge(root, folder)
    if staging.exists():
        shutil.rmtree(staging)


def _merge(root: Path, folder: Path) -> None:
    """Moves files below `root` to the same places below `folder`, where other files may stand but no different ones."""
    files = sorted(path for path in root.rglob("*") if not path.is_dir())
    for path in files:
        place = folder / path.relative_to(root)
        if place.exists() and not (place.is_file() and filecmp.cmp(path, place, shallow=False)):
            raise _PartError(
                f"{place}: differs from the published file of that name; move it away and run again"
            )
    for path in files:
        place = folder / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


@contextlib.contextmanager
def _lock(work: Path) -> Iterator[None]:
    """Keeps other processes from fetching into the same folder. The lock ends with the process, however it ends."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(work / "lock").acquire(timeout=0):
            yield
    except filelock.Timeout:
        raise StavisError(
            f"{work.parent}: another stavis fetch is at work there; wait for it to end"
        ) from None


def _remove_litter(work: Path) -> None:
    """Removes temporary files of a process that was killed while it wrote a small file."""
    for path in [*work.glob(".*"), *work.glob("archives/.*"), *work.glob("archives/*/.*")]:
        if path.is_file():
            path.unlink()


def _check_space(needs: dict[Path, float], purpose: str) -> None:
    """Raises if what is to be written below some folders is more than their disks have free."""
    per_disk: dict[int, tuple[Path, float]] = {}
    for path, num_bytes in needs.items():
        folder = path
        while not folder.exists():
            folder = folder.parent
        device = folder.stat().st_dev
        _, others = per_disk.get(device, (folder, 0.0))
        per_disk[device] = (folder, others + num_bytes)
    for folder, num_bytes in per_disk.values():
        free = shutil.disk_usage(folder).free
        if num_bytes + SPARE_BYTES > free:
            raise StavisError(
                f"{folder}: not enough room for {purpose}: about {decimal(int(num_bytes + SPARE_BYTES))} needed,"
                f" archives and unpacked files, {decimal(free)} free; fetch fewer parts, or to another --data"
            )


def _checked_site(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_good = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        )
        _ = parts.port
    except ValueError:
        is_good = False
    if not is_good or any(character.isspace() for character in url):
        raise StavisError(f"{url!r} is no base URL; one is like {SITE}, http or https, without ? and #")
    return url.rstrip("/")


def fetch_published(weights: str, modality: Modality | None, *, quiet: bool) -> None:
    """Fetches the published weights into the data folder if `weights` is a name of theirs and they are not there.

    Raises:
        StavisError: They cannot be had, or `weights` is no such name.
    """

    path = published_path(weights, modality, data_folder())
    if path is None:
        raise StavisError(
            f"--fetch is for weights published-1, published-2 and published-3, not for {weights}"
        )
    if not path.is_file():
        fetch(["weights"], [], data_folder(), base_url=SITE, quiet=quiet)
