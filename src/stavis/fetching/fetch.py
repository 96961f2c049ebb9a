"""Fetching of the published data and weights, and of picture sets, into a data folder.

What `fetch` has to remember is in `<data folder>/.stavis-fetch`: the archive of each part (`state.json`), and archives
on their way (`archives/`). Every step can be interrupted; the next call resumes.
"""

import dataclasses
import datetime
import errno
import filecmp
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.filesize import decimal

from stavis.errors import StavisError, counted
from stavis.fetching.archive import ArchiveError, refuse_links_out, unpack
from stavis.fetching.download import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_SECONDS,
    DownloadError,
    download,
    remove_download,
)
from stavis.fetching.site import SITE, find_root, select_parts
from stavis.fetching.state import WORK_FOLDER, FetchedPart, PartError, Place, Record, State
from stavis.runtime.files import sole_worker
from stavis.runtime.progress import BYTES, console, track

if TYPE_CHECKING:
    from stavis.model import Modality

SPARE_BYTES = 64 << 20
"""Left free on a disk whatever is fetched."""


def fetch(
    parts: str | Sequence[str] = (),
    *,
    databases: str | Sequence[str] = (),
    data: Path | str = "data",
    base_url: str | None = None,
    archives: Path | str | None = None,
    keep_archives: bool = False,
    accept_changed: bool = False,
    dry_run: bool = False,
    retries: int = DEFAULT_RETRIES,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    quiet: bool = False,
) -> list[FetchedPart]:
    """Downloads and unpacks parts of the published data into the published layout.

    A part that is there already is not fetched again, not even if its folder came there by other means; videos, lists,
    checkpoints and pictures that were removed from a fetched one are restored. The folder of a database appears as a
    whole or not at all. A part that fails does not keep the others from being fetched. The
    SHA-256 of each archive is recorded when it first arrives; the sites have none to compare with.

    Args:
        parts: Of "datasets", "annotations", "audio", "lists", "weights" and "pictures", or one of them; none means all
            but pictures.
        databases: Of the six databases and, for pictures, of "osie", "eyecrowd" and "scene500"; none means all.
        data: The data folder.
        base_url: Another site with the same paths as the original ones; None for those.
        archives: Folder of archives to unpack instead of using the network: `video_frames/AVAD.tar.gz` and so on, in
            it or in its folder `data`. They are not removed.
        keep_archives: Keep downloaded archives in `<data>/.stavis-fetch/archives`.
        accept_changed: Accept an archive whose content is not what was recorded when the part was fetched before.
        dry_run: Ask for the sizes of the archives, and write nothing.
        retries: Number of further attempts in a row that may fail before a URL is given up.
        timeout_seconds: Silence after which a connection counts as broken.
        quiet: Show neither progress nor messages.

    Returns:
        The parts, in the order of fetching.

    Raises:
        StavisError: Some part could not be fetched or is not what was recorded of it, the disk is too small, another
            process is fetching into the same folder, or an argument is not allowed.
        ValueError: `retries` is below 0 or `timeout_seconds` not above 0.
    """
    if retries < 0 or not timeout_seconds > 0:
        raise ValueError(f"retries={retries}, timeout_seconds={timeout_seconds}; allowed: >= 0, > 0")
    data = Path(data)
    folder = None if archives is None else Path(archives)
    if folder is not None and not folder.is_dir():
        raise StavisError(f"{archives}: no such folder of archives")
    site = None if base_url is None else _checked_site(base_url)
    places = [Place(part, data, site, folder) for part in select_parts(parts, databases)]
    work = data / WORK_FOLDER
    if dry_run:
        return _plan(places, State(work / "state.json"), timeout_seconds)
    busy = f"{work.parent}: another `stavis fetch` is at work there"
    with sole_worker(work / "lock", busy):
        # Temporary files of a process that was killed while it wrote a small file.
        for path in [*work.glob(".*"), *work.glob("archives/.*"), *work.glob("archives/*/.*")]:
            if path.is_file():
                path.unlink()
        state = State(work / "state.json")
        run = _Run(state, keep_archives, accept_changed, retries, timeout_seconds, quiet)
        run.say(f"looking for {counted(len(places), 'parts')}")
        run.check_space_for_all(_plan(places, state, timeout_seconds))
        return run.fetch_all(places)


def _plan(places: Sequence[Place], state: State, timeout_seconds: float) -> list[FetchedPart]:
    """Finds out what is there, and asks for the sizes of the archives that are not."""
    planned = []
    unreachable: dict[str, str] = {}
    for place in places:
        record = state.records.get(place.part.name)
        status = place.status(record)
        if status == "missing":
            planned.append(place.look_up(timeout_seconds, unreachable))
        else:
            planned.append(place.describe(status, record))
    return planned


@dataclass
class _Run:
    state: State
    keep_archives: bool
    accept_changed: bool
    retries: int
    timeout_seconds: float
    quiet: bool
    unreachable: str = ""  # a host, whose other files are not tried

    def say(self, text: str) -> None:
        if not self.quiet:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    def check_space_for_all(self, planned: Sequence[FetchedPart]) -> None:
        """Raises before anything is fetched if everything together cannot fit, as far as sizes are known."""
        known = [(one, one.num_archive_bytes) for one in planned if one.status == "missing"]
        sized = [(one, size) for one, size in known if size is not None]
        needs = {one.folder: size * one.part.kind.unpacked_ratio for one, size in sized}
        downloads = [size - one.num_pending_bytes for one, size in sized if "://" in one.source]
        needs[self.state.path] = float(sum(downloads) if self.keep_archives else max(downloads, default=0))
        total = decimal(sum(size for _, size in sized))
        _check_space(needs, f"{counted(len(known), 'parts')} with archives of {total}")

    def fetch_all(self, places: Sequence[Place]) -> list[FetchedPart]:
        """Fetches the parts one after the other, and raises for those that failed at the end."""
        fetched = []
        failures = []
        for place in places:
            name = place.part.name
            try:
                fetched.append(self.fetch(place))
            except (DownloadError, ArchiveError, PartError) as error:
                failures.append(f"{name}: {error}")
                if len(places) == 1:
                    raise StavisError(failures[0]) from None
                self.say(failures[-1])
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise StavisError(
                    f"{place.data}: no room left on the disk for {name}; run again with more"
                ) from None
        if failures:
            shown = "; ".join(failures[:3]) + (f"; and {len(failures) - 3} more" if len(failures) > 3 else "")
            raise StavisError(f"{len(failures)} of {counted(len(places), 'parts')} not fetched: {shown}")
        return fetched

    def fetch(self, place: Place) -> FetchedPart:
        part, folder = place.part, place.folder
        status = place.status(self.state.records.get(part.name))
        if status == "foreign":
            self.say(
                f"{part.name}: {folder} was put there by other means and is left as it is (remove it to fetch it)"
            )
            return place.describe(status, None)
        is_new = status != "finished"
        if (
            status == "missing"
            and (num_there := place.num_there())
            and (known := self.state.records.get(part.name))
        ):
            self.say(
                f"{part.name}: {num_there} of {known.num_items} {part.kind.counted} are there; the others are fetched"
            )
        if status == "missing" and place.archives is not None:
            archive = place.local_archive()
            self.unpack(place, archive, str(archive), is_kept=True)
        elif status == "missing":
            self.download_and_unpack(place)
        if is_new:
            _install(place, self.state.records[part.name])
        record = dataclasses.replace(self.state.records[part.name], status="finished")
        if is_new:
            self.state.set(part, record)
        if not record.is_archive_kept or (is_new and place.archives is not None):
            remove_download(place.download)
        items, files = counted(record.num_items, part.kind.counted), counted(record.num_files, "files")
        counts = f"{items}, {files}, {decimal(record.num_bytes)}"
        self.say(f"{part.name}: {counts} in {folder}{'' if is_new else ', there already'}")
        return place.describe("fetched" if is_new else "finished", record)

    def download_and_unpack(self, place: Place) -> None:
        if place.host == self.unreachable:
            raise DownloadError(f"{place.url}: no connection to the host")
        for is_last in (False, True):
            try:
                is_doubtful = download(
                    place.url,
                    place.download,
                    retries=self.retries,
                    timeout_seconds=self.timeout_seconds,
                    check_space=lambda missing, total: _check_space(
                        {
                            place.download.parent: float(missing),
                            place.folder: total * place.part.kind.unpacked_ratio,
                        },
                        f"{place.part.name}, an archive of {decimal(total)}",
                    ),
                    label=place.part.archive,
                    quiet=self.quiet,
                )
            except DownloadError as error:
                self.unreachable = place.host if error.unreachable else ""
                raise DownloadError(f"{place.url}: {error}") from None
            try:
                self.unpack(place, place.download, place.url, is_kept=self.keep_archives)
                return
            except ArchiveError as error:
                remove_download(place.download)
                reason = str(error).removeprefix(f"{place.download}: ")
                if is_last or not is_doubtful:
                    raise ArchiveError(f"{place.url}: {reason}") from None
                self.say(f"{place.part.name}: {reason}; downloading it again, as a whole")

    def unpack(self, place: Place, archive: Path, source: str, *, is_kept: bool) -> None:
        """Unpacks an archive beside its place and records it as ready to be moved there."""
        part, staging = place.part, place.staging
        if staging.exists():
            shutil.rmtree(staging)
        staging.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(staging.parent).free - SPARE_BYTES
        num_bytes = archive.stat().st_size
        try:
            with track(f"unpacking {part.name}", num_bytes, unit=BYTES, quiet=self.quiet) as advance:
                unpacked = unpack(
                    archive, staging, max_ratio=part.kind.max_ratio, free_bytes=free, advance=advance
                )
            root, outside = find_root(part, archive, staging)
            refuse_links_out(archive, staging, unpacked.links, root)
            known = self.state.records.get(part.name)
            if known is not None and unpacked.sha256 != known.sha256:
                if unpacked.content_sha256 == known.content_sha256:
                    self.say(
                        f"{part.name}: not the archive of {known.date}, but the files in it are the same as then"
                    )
                elif not self.accept_changed:
                    raise PartError(
                        f"{archive} from {source} is not the archive of {known.date} from {known.source}: its SHA-256"
                        f" is {unpacked.sha256}, that one's was {known.sha256}; `accept_changed=True` accepts it"
                        + ("" if archive == Path(source) else "; remove the file to download it again")
                    )
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        num_left_out = len(outside) + unpacked.num_left_out
        if num_left_out:
            self.say(
                f"{part.name}: {counted(num_left_out, 'files')} of the archive left out: not {part.kind.name}"
            )
        record = Record(
            status="unpacked",
            source=source,
            sha256=unpacked.sha256,
            num_archive_bytes=num_bytes,
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            root=root.relative_to(staging).as_posix(),
            num_items=part.count(root),
            num_files=unpacked.num_files - len(outside),
            num_bytes=unpacked.num_bytes - sum(path.lstat().st_size for path in outside),
            is_archive_kept=is_kept,
            content_sha256=unpacked.content_sha256,
        )
        self.state.set(part, record)


def _install(place: Place, record: Record) -> None:
    """Moves an unpacked part into its place, or finishes what an interrupted call has begun of that."""
    root = place.staging / record.root
    if root.is_dir():
        # A database's folder with files in it was fetched before and has lost some of them.
        if not place.folder.exists() or (place.part.database is not None and not any(place.folder.iterdir())):
            try:
                root.rename(place.folder)
            except OSError as error:
                raise PartError(f"{place.folder}: cannot be put there ({error.strerror})") from None
        else:
            _merge(root, place.folder)
    if place.staging.exists():
        shutil.rmtree(place.staging)


def _merge(root: Path, folder: Path) -> None:
    """Moves files below `root` to the same places below `folder`, where files of other names may be."""
    files = sorted(path for path in root.rglob("*") if not path.is_dir())
    for path in files:
        place = folder / path.relative_to(root)
        if place.exists() and not (place.is_file() and filecmp.cmp(path, place, shallow=False)):
            raise PartError(f"{place}: differs from the published file; move it away and run again")
    for path in files:
        place = folder / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def _check_space(needs: dict[Path, float], purpose: str) -> None:
    """Raises if what is to be written below some folders is more than their disks have free."""
    per_disk: dict[int, tuple[Path, float]] = {}
    for path, num_bytes in needs.items():
        folder = next(p for p in (path, *path.absolute().parents) if p.exists())
        device = folder.stat().st_dev
        _, others = per_disk.get(device, (folder, 0.0))
        per_disk[device] = (folder, others + num_bytes)
    for folder, num_bytes in per_disk.values():
        free = shutil.disk_usage(folder).free
        if num_bytes + SPARE_BYTES > free:
            raise StavisError(
                f"{folder}: not enough room for {purpose}: about {decimal(int(num_bytes + SPARE_BYTES))} needed,"
                f" archives and unpacked files, {decimal(free)} free; fetch fewer parts, or into another data folder"
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
        raise StavisError(f"{url!r} is not a base URL; one is like {SITE}, http or https, without ? and #")
    return url.rstrip("/")


def fetch_published(weights: str, modality: "Modality | None", *, quiet: bool) -> None:
    """Fetches published weights into the data folder if they are not there. Raises StavisError if that fails."""
    from stavis.weights.sources import data_folder, published_path  # imports torch

    path = published_path(weights, modality, data_folder())
    if path is None:
        raise StavisError(f"--fetch is for weights published-1, published-2 and published-3, not {weights}")
    if not path.is_file():
        fetch(["weights"], data=data_folder(), quiet=quiet)
