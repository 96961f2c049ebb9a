"""Manifests: tables of the videos of a large job, its shards, and the index of its results."""

import csv
import hashlib
import json
import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from stavis.datasets.fold_lists import select_share
from stavis.errors import StavisError, some
from stavis.prediction.folder import FolderResult
from stavis.prediction.options import PredictKeywords
from stavis.runtime.parquet import import_pyarrow, read_parquet, write_parquet
from stavis.storage.remote import RemotePath, download, hide_credentials, list_files, resolve, upload

INDEX_FILE = "index.parquet"
JOURNALS = "index"  # folder of the shards' journals, from which the index is built
_SHORTEST_PAUSE_SECONDS = 30.0  # between two uploads of a journal

# Column of a manifest -> option of the prediction and how it is read.
_OPTIONS: dict[str, tuple[str, type[float] | type[int]]] = {
    "start": ("start_seconds", float),
    "end": ("end_seconds", float),
    "frame_rate": ("frame_rate", float),
    "audio_stream": ("audio_stream", int),
    "audio_channel": ("audio_channel", int),
    "size": ("size", int),
    "duration": ("duration", float),
}
SUFFIXES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class ManifestRow:
    uri: str  # path or URL of the video or folder of images, as in the manifest but without credentials
    path: Path  # the same relative to the working directory: relative ones are relative to the manifest
    # Name of its result folder. Default: the stem and a checksum of the row, which does not depend on others.
    name: str
    options: PredictKeywords  # options of the prediction for this video
    size: float = 0  # size of the file in bytes, to balance shards; 0 if it is not given
    duration: float = 0  # of the video in seconds, to split it; 0 if it is not given
    # Start and end in seconds of the segments of the video; empty if it is not split.
    segments: tuple[tuple[float, float | None], ...] = ()
    number: int = 0  # which of them this row stands for, from 0


def read_manifest(path: Path) -> list[ManifestRow]:
    """Reads a CSV, JSON Lines or Parquet table with the column `uri` and optionally `name`, `start`, `end` (seconds),
    `frame_rate`, `audio_stream`, `audio_channel`, `size` (bytes) and `duration` (seconds); other columns are ignored.

    Raises StavisError if the file cannot be read, a row has no `uri`, a wrong value or a name that cannot be that of a
    result folder, or two rows have the same name.
    """
    rows = []
    first_row: dict[str, int] = {}
    for number, raw in enumerate(_read_table(path), 1):
        row = _parse(path, number, raw)
        other = first_row.setdefault(row.name, number)
        if other != number:
            raise StavisError(
                f"{path}: rows {other} and {number} are both called {row.name!r}; give them a `name` of their own"
                if raw.get("name")
                else f"{path}: rows {other} and {number} are equal"
            )
        rows.append(row)
    if not rows:
        raise StavisError(f"{path}: no rows")
    return rows


def _read_table(path: Path) -> Iterator[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise StavisError(f"{path}: not a manifest; allowed suffixes: {', '.join(SUFFIXES)}")
    try:
        if suffix == ".parquet":
            yield from read_parquet(path).to_pylist()
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".csv":
                yield from csv.DictReader(file)
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                    except ValueError as error:
                        raise StavisError(f"{path}: line {number} is not JSON: {error}") from None
                    if not isinstance(row, dict):
                        raise StavisError(f"{path}: line {number} is not a JSON object")
                    yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise StavisError(f"{path}: cannot be read: {error}") from None


def _parse(path: Path, number: int, raw: dict[str, Any]) -> ManifestRow:
    uri = raw.get("uri")
    if not isinstance(uri, str) or not uri:
        raise StavisError(f"{path}: row {number} has no uri; its columns: {some(str(one) for one in raw)}")
    options: dict[str, Any] = {}
    for column, (option, kind) in _OPTIONS.items():
        value = raw.get(column)
        if value in (None, "") or (isinstance(value, float) and math.isnan(value)):
            continue
        try:
            found = float(value)
            if kind is int and not found.is_integer():
                raise ValueError
            options[option] = kind(found)
        except (TypeError, ValueError):
            raise StavisError(
                f"{path}: row {number}: {column} is {value!r}, not a {'whole ' if kind is int else ''}number"
            ) from None
    size, duration = options.pop("size", 0), options.pop("duration", 0)
    video = resolve(path.parent, uri)
    name = raw.get("name") or ""
    if not isinstance(name, str) or Path(name).name != name or name == "..":
        raise StavisError(f"{path}: row {number}: name is {name!r}, which cannot name a folder")
    if name.lower() in (JOURNALS, INDEX_FILE):  # where case does not count, these are the same
        raise StavisError(f"{path}: row {number}: name is {name!r}, as that of the job's own index")
    digest = hashlib.blake2b(json.dumps([uri, options]).encode(), digest_size=4).hexdigest()
    name = name or f"{video.stem}-{digest}"
    return ManifestRow(hide_credentials(uri), video, name, options, size, duration)  # type: ignore[arg-type]


def choose_shard(rows: Sequence[ManifestRow], shard: tuple[int, int]) -> list[ManifestRow]:
    """The rows of one shard, in order; shards are balanced by the sizes of the files.

    Sizes of files at URLs are those of the manifest. Without them all count the same: a request per video and shard
    would take long, and one that failed would leave a video to no shard.
    """
    if shard == (1, 1):
        return list(rows)
    sizes = {_key(row): (row.size or _size(row.path)) / max(1, len(row.segments)) for row in rows}
    chosen = {_key(row) for row in select_share(rows, shard[0] - 1, shard[1], lambda row: sizes[_key(row)])}
    return [row for row in rows if _key(row) in chosen]


def split_rows(rows: Iterable[ManifestRow], seconds: float | None) -> Iterator[ManifestRow]:
    """Yields the rows, those of long videos once per segment.

    Segments are of `seconds`, the last one up to a quarter longer. It has the end of the row, or None: if the video is
    longer than its `duration` says, it contains the rest. Without `seconds` or a duration, rows are left whole.
    """
    for row in rows:
        start, end = row.options.get("start_seconds") or 0.0, row.options.get("end_seconds")
        length = min(one for one in (end, row.duration) if one is not None) - start
        num = 1 if seconds is None or not row.duration else math.ceil(length / seconds - 0.25)
        if seconds is None or num < 2:
            yield row
            continue
        cuts = [start + seconds * number for number in range(num)]
        segments = tuple(zip(cuts, [*cuts[1:], end], strict=True))
        yield from (replace(row, segments=segments, number=number) for number in range(num))


def _key(row: ManifestRow) -> tuple[str, int]:
    return row.name, row.number


def _size(path: Path) -> float:
    if isinstance(path, RemotePath):
        return 1
    try:
        return path.stat().st_size
    except OSError:
        return 1  # fails later, and is named then


@dataclass(frozen=True)
class IndexRow:
    uri: str  # as in the manifest
    name: str  # name of the result folder
    status: str  # "done" or "failed"
    frames: int  # number of frames that have a map
    seconds: float  # time the prediction took
    warnings: tuple[str, ...]  # what was unusual about the video
    error: str  # what failed; empty if nothing did
    path: str  # result folder, relative to the output folder


class Index:
    """The results of a job: one journal per shard, appended to after each video, and one table built from them.

    Object storage cannot append: there, the journal is written anew from time to time. What a killed process had not
    written yet is found by its result folder.
    """

    def __init__(self, output: Path, shard: tuple[int, int]) -> None:
        import_pyarrow("the index of results")  # at the end: better to miss it at once
        self.output = output
        self.folder = output / JOURNALS
        self._remote: RemotePath | None = None
        self._journal_name = f"{shard[0]}-of-{shard[1]}.jsonl"
        if isinstance(self.folder, RemotePath):
            self._remote, self._temporary = self.folder, TemporaryDirectory(prefix="stavis-")
            self.folder = Path(self._temporary.name)
            download(self._remote, self.folder, self._journals(self._remote))
            self._written, self._pause = time.monotonic(), _SHORTEST_PAUSE_SECONDS
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = self.folder / self._journal_name
        self._known = self.rows()

    def rows(self) -> dict[str, IndexRow]:
        """The latest row of each video, by name."""
        entries: list[tuple[float, dict[str, Any]]] = []
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # a line that a killed process did not finish
                entries.append((entry.pop("time"), entry))
        entries.sort(key=lambda one: one[0])
        return {
            entry["name"]: IndexRow(**{**entry, "warnings": tuple(entry["warnings"])}) for _, entry in entries
        }

    def failed(self, names: Collection[str]) -> dict[str, IndexRow]:
        """The rows of those videos of `names` that failed, by name."""
        return {name: row for name, row in self._known.items() if name in names and row.status == "failed"}

    def add(self, row: ManifestRow, result: FolderResult) -> None:
        if result.skipped and row.name in self._known and self._known[row.name].status == "done":
            return
        entry = {
            "uri": row.uri,
            "name": row.name,
            "status": "failed" if result.failures else "done",
            "frames": result.num_frames,
            "seconds": round(result.seconds, 3),
            "warnings": list(result.warnings),
            "error": "; ".join(result.failures),
            "path": row.name,
            "time": time.time(),
        }
        with self._journal.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry) if self._is_torn() else json.dumps(entry))
            file.write("\n")
        if self._remote is not None and time.monotonic() - self._written > self._pause:
            self._upload_journal(self._remote)

    def _upload_journal(self, remote: RemotePath) -> None:
        began = time.monotonic()
        if self._journal.is_file():
            upload(self.folder, remote, names=[Path(self._journal_name)])
        self._written = time.monotonic()
        self._pause = max(_SHORTEST_PAUSE_SECONDS, 20 * (self._written - began))

    def _is_torn(self) -> bool:
        """Whether the last line of the journal was not finished, by a process that was killed."""
        try:
            with self._journal.open("rb") as file:
                file.seek(-1, 2)
                return file.read(1) != b"\n"
        except OSError:
            return False

    def write(self) -> Path:
        """Builds the table from the journals of all shards."""
        if self._remote is not None:
            return self._write_remote(self._remote)
        # Of two shards that end at the same time the later one sees the journals of both.
        with FileLock(self.folder / "lock"):
            self._write_table(self.output / INDEX_FILE)
        return self.output / INDEX_FILE

    def _write_remote(self, remote: RemotePath) -> Path:
        self._upload_journal(remote)
        seen = None
        # There is no lock. A shard that ended while this one wrote has changed its journal: then once more.
        while (journals := self._journals(remote)) != seen:
            download(remote, self.folder, journals.keys() - {self._journal_name})
            self._write_table(self.folder / INDEX_FILE)
            upload(self.folder, remote.parent, names=[Path(INDEX_FILE)])
            seen = journals
        return self.output / INDEX_FILE

    @staticmethod
    def _journals(remote: RemotePath) -> dict[str, str]:
        return {name: stamp for name, stamp in list_files(remote).items() if name.endswith(".jsonl")}

    def _write_table(self, path: Path) -> None:
        pyarrow, rows = import_pyarrow(), self.rows()
        columns = {
            one.name: [getattr(rows[name], one.name) for name in sorted(rows)] for one in fields(IndexRow)
        }
        kinds = {
            "frames": pyarrow.int64(),
            "seconds": pyarrow.float64(),
            "warnings": pyarrow.list_(pyarrow.string()),
        }
        write_parquet(path, columns, {name: kinds.get(name, pyarrow.string()) for name in columns})
