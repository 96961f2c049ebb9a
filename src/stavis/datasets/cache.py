"""Frame cache: frames, maps and audio, decoded once at the input size of the network, and memory-mapped.

Decoding and resizing sixteen 1280x720 JPEGs is nearly all the cost of a training sample. The cache has three files per
video:

    <cache>/<database>/<video>/frames-<num>-<settings>-<sources>.npy   (num, height, width, 3) uint8, RGB
    <cache>/<database>/<video>/maps-<num>-<settings>-<sources>.npy     (num, 2, height, width) uint8: density, fixations
    <cache>/<database>/<video>/wave-<num>-<settings>-<sources>.npy     (1 + S,) float32: the rate in Hz, the samples

`<settings>` is a hash of everything that determines the decoded values (sizes, filters, versions of the decoders) and
`<sources>` one of the names, sizes and modification times of the source files. So a file with the right name has the
right contents, and nothing else needs to be recorded; a changed source leads to another name. A file appears complete,
by renaming, and is made under a lock, so that processes can share a cache and the work of making it.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import numpy.typing as npt
import PIL
from PIL import features
from rich.filesize import decimal

from stavis.clips.preprocess import Preprocessing
from stavis.datasets.check import Problem, count_more, find_missing
from stavis.datasets.fold_lists import choose_databases, choose_lists, read_fold_list
from stavis.datasets.layout import FoldEntry, Layout, find_files
from stavis.datasets.quirks import LoaderQuirks
from stavis.datasets.sources import load_frame, load_maps, load_waveform
from stavis.errors import StavisError
from stavis.runtime.files import ARCHIVE_ERRORS, atomic_path, read_json, write_text
from stavis.runtime.progress import console
from stavis.runtime.workers import run_parallel

FORMAT_VERSION = 1  # of the cache's files: a change makes all existing ones unfit
NPY_HEADER_BYTES = 128
OPEN_FILES = 256  # memory maps that a process keeps open: each holds a file descriptor

Part = Literal["frames", "maps", "wave"]


@dataclass(frozen=True)
class CacheFile:
    """One file of the cache, which may not exist yet."""

    part: Part  # what it contains
    database: str  # database of the video
    entry: FoldEntry  # line of the video in its fold list
    path: Path  # path of the file
    num_bytes: int  # its size; for audio approximately

    @property
    def num_sources(self) -> int:
        """Number of files that have to be decoded to make it."""
        return {"frames": self.entry.num_frames, "maps": 2 * self.entry.num_frames, "wave": 1}[self.part]


@dataclass(frozen=True)
class FrameCache:
    """A cache folder, the data folder that it caches, and the settings of its files."""

    folder: Path  # the cache folder. It is for one data folder
    layout: Layout  # the data folder
    preprocessing: Preprocessing  # sizes, filters and sample rate
    quirks: LoaderQuirks  # `fixation_blobs` and `native_sample_rate` change the contents

    def file(self, part: Part, database: str, entry: FoldEntry) -> CacheFile:
        """The cache file for the current state of the sources. Reads the size and time of every source file."""
        height, width = self.preprocessing.input_size
        if part == "wave":
            num_bytes = 4 * (1 + round(entry.num_frames / entry.frame_rate * self.preprocessing.sample_rate))
        else:
            num_bytes = entry.num_frames * height * width * {"frames": 3, "maps": 2}[part]
        sources = _hash_sources(self._sources(part, database, entry))
        name = f"{self.prefix(part, entry)}{sources}.npy"
        path = self.folder / database / entry.video / name
        return CacheFile(part, database, entry, path, NPY_HEADER_BYTES + num_bytes)

    def build(
        self, files: Iterable[CacheFile], *, jobs: int | None = None, quiet: bool = False
    ) -> list[CacheFile]:
        """Makes the missing ones of `files` in parallel and returns them; finished files stay, whatever happens."""
        missing = self.missing(files)
        if not missing:
            return []
        self._check_space(missing)
        self._describe(missing)
        if not quiet:
            console.print(f"{self.folder}: {summarize(missing)} to cache", highlight=False, soft_wrap=True)
        # The largest first, so that no process is left with a long one at the end.
        missing.sort(key=lambda file: file.num_bytes, reverse=True)
        # Files that another process is making are left for last, and waited for.
        remaining = missing
        for wait in (False, True):
            made = run_parallel(
                functools.partial(_build_file, self, wait),
                remaining,
                jobs=jobs,
                description="caching",
                total=sum(file.num_sources for file in remaining),
                unit="files",
                quiet=quiet,
            )
            remaining = [file for file, done in zip(remaining, made, strict=True) if not done]
            if not remaining:
                break
        return missing

    def missing(self, files: Iterable[CacheFile]) -> list[CacheFile]:
        """The ones of `files` that are not in the cache, without repetitions."""
        return [file for path, file in {file.path: file for file in files}.items() if not path.exists()]

    def prefix(self, part: Part, entry: FoldEntry) -> str:
        """Start of the name of a part's file, independent of its sources."""
        settings = hashlib.sha256(json.dumps(self._settings(part), sort_keys=True).encode()).hexdigest()[:12]
        return f"{part}-{entry.num_frames}-{settings}-"

    def _settings(self, part: Part) -> dict[str, Any]:
        """Everything that determines the decoded values of the same source files."""
        p = self.preprocessing
        settings: dict[str, Any] = {"part": part, "format": FORMAT_VERSION}
        if part == "wave":
            settings |= {"sample_rate": None if self.quirks.native_sample_rate else p.sample_rate}
            return settings | {"av": importlib.metadata.version("av")}
        settings |= {"intermediate_size": p.intermediate_size, "input_size": p.input_size}
        settings |= {"resize_filter": p.resize_filter, "final_resize_filter": p.final_resize_filter}
        settings |= {"pillow": PIL.__version__, "jpeg": features.version("jpg")}
        if part == "maps":
            settings |= {"fixation_blobs": self.quirks.fixation_blobs}
        return settings

    def _sources(self, part: Part, database: str, entry: FoldEntry) -> list[tuple[Path, str]]:
        """The source folders of a part, and how the names of the source files end."""
        video = entry.video
        if part == "frames":
            return [(self.layout.frames_folder(database, video), ".jpg")]
        if part == "wave":
            wave = self.layout.wave(database, video)
            return [(wave.parent, wave.name)]
        density_maps = self.layout.density_map(database, video, 0).parent
        return [(density_maps, ".jpg"), (self.layout.annotations_folder(database, video), ".mat")]

    def _check_space(self, missing: Sequence[CacheFile]) -> None:
        needed = sum(file.num_bytes for file in missing)
        existing = next(p for p in (self.folder, *self.folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free
        if needed > free:
            raise StavisError(
                f"{self.folder}: {summarize(missing)} to cache, but {decimal(free)} are free on that disk; "
                "choose another cache folder or fewer databases"
            )

    def _describe(self, missing: Sequence[CacheFile]) -> None:
        """Writes down the settings behind the hashes in the file names."""
        path = self.folder / "settings.json"
        known = read_json(path) or {}
        wanted = {self.prefix(f.part, f.entry).split("-")[2]: self._settings(f.part) for f in missing}
        if not wanted.keys() <= known.keys():
            write_text(path, json.dumps(known | wanted, indent=1) + "\n")


def default_cache_folder(data_folder: Path) -> Path:
    return data_folder / "frame_cache"


def plan_cache(
    cache: FrameCache,
    *,
    databases: str | Sequence[str] | None = None,
    split: int | None = None,
    maps: bool = True,
    audio: bool = True,
) -> tuple[list[CacheFile], list[Problem]]:
    """Lists the cache files of all videos in the train and test lists, with what is missing of their sources.

    Arguments as of `cache_data`.

    Raises StavisError if a fold list is missing or unreadable.
    """
    wanted: dict[Part, bool] = {"frames": True, "maps": maps, "wave": audio}
    files: list[CacheFile] = []
    problems: list[Problem] = []
    for database in choose_databases(cache.layout, databases):
        lists = [read_fold_list(path) for _, _, path in choose_lists(cache.layout, database, split)]
        entries = dict.fromkeys(entry for entries in lists for entry in entries)
        found = {entry: find_files(cache.layout, database, entry) for entry in entries}
        problems += find_missing(cache.layout, database, found, annotations=maps, audio=audio)
        for entry, there in found.items():
            exists = {
                "frames": there.frames.any(),
                "maps": (there.density_maps & there.fixation_maps).any(),
                "wave": there.wave,
            }
            files += [cache.file(part, database, entry) for part in wanted if wanted[part] and exists[part]]
    return files, problems


@dataclass(frozen=True)
class CacheResult:
    folder: Path  # the cache folder
    files: list[CacheFile]  # all files of the cache that the fold lists ask for
    missing: list[CacheFile]  # those of them that were not there
    problems: list[Problem]  # what is missing of the sources


def cache_data(
    data: Path | str,
    *,
    databases: str | Sequence[str] | None = None,
    split: int | None = None,
    cache: Path | str | None = None,
    annotations: bool = True,
    audio: bool = True,
    quirks: LoaderQuirks | Literal["fixed", "reference"] = "fixed",
    allow_missing: bool = False,
    dry_run: bool = False,
    jobs: int | None = None,
    quiet: bool = False,
) -> CacheResult:
    """Caches all videos in the train and test lists, at the input size of the published network.

    `databases` and `split` are as for `check_data`. The folder `cache` is `<data>/frame_cache` by default.
    `annotations` and `audio` say whether density and fixation maps and audio are cached, `quirks` which quirks of the
    published loader the samples will have. With `allow_missing`, what is there is cached if something is missing.

    Raises StavisError if a fold list or a source file is missing or unreadable, or the disk is too small.
    """
    layout = Layout(Path(data))
    folder = default_cache_folder(layout.root) if cache is None else Path(cache)
    frame_cache = FrameCache(folder, layout, Preprocessing(), LoaderQuirks.named(quirks))
    files, problems = plan_cache(frame_cache, databases=databases, split=split, maps=annotations, audio=audio)
    if problems and not allow_missing:
        raise StavisError(
            f"{problems[0].message}{count_more(len(problems))} (`stavis data check {data}` lists all; "
            "`allow_missing=True` continues without)"
        )
    missing = frame_cache.missing(files)
    if not dry_run:
        frame_cache.build(missing, jobs=jobs, quiet=quiet)
    return CacheResult(folder, files, missing, problems)


def summarize(files: Sequence[CacheFile]) -> str:
    """Number of videos and their size: "3 videos, 12.3 GB"."""
    num_videos = len({(file.database, file.entry.video) for file in files})
    size = decimal(sum(file.num_bytes for file in files))
    return f"{num_videos} video{'s' * (num_videos != 1)}, {size}"


def _hash_sources(sources: Sequence[tuple[Path, str]]) -> str:
    """Hash of the names, sizes and modification times of files in folders whose names have a given ending."""
    digest = hashlib.sha256()
    for folder, ending in sources:
        states = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(ending) and not entry.name.startswith("."):
                        state = entry.stat()
                        states.append(f"{entry.name} {state.st_size} {state.st_mtime_ns}\n")
        except (FileNotFoundError, NotADirectoryError):
            pass  # the dataset reports absent files
        digest.update("".join([*sorted(states), "\n"]).encode())
    return digest.hexdigest()[:16]


def _build_file(cache: FrameCache, wait: bool, file: CacheFile, advance: Callable[[int], None]) -> bool:
    """Makes a file of the cache under a lock of its own.

    Returns whether it is there now; False if another process has the lock and we should not wait.
    """
    folder = file.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f".{file.part}.lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=1.0 if wait else 0.0)
        except filelock.Timeout:
            if not wait:
                return False
            advance(0)  # ends the wait if work is to stop
    try:
        if file.path.exists():  # another process has made it meanwhile
            advance(file.num_sources)
            return True
        # The process that made these is dead, or we would not have the lock.
        for leftover in folder.glob(f".{file.part}-*.npy"):
            leftover.unlink()
        _write_part(cache, file, advance)
        for outdated in folder.glob(f"{cache.prefix(file.part, file.entry)}*.npy"):
            if outdated != file.path:
                outdated.unlink()
    finally:
        lock.release()
    return True


def _write_part(cache: FrameCache, file: CacheFile, advance: Callable[[int], None]) -> None:
    layout, preprocessing, quirks = cache.layout, cache.preprocessing, cache.quirks
    database, video, num_frames = file.database, file.entry.video, file.entry.num_frames
    height, width = preprocessing.input_size
    if file.part == "wave":
        wanted_rate = None if quirks.native_sample_rate else preprocessing.sample_rate
        samples, rate = load_waveform(layout.wave(database, video), wanted_rate)
        _write_rows(file.path, (1 + len(samples),), np.float32, [np.array([rate], np.float32), samples])
        advance(1)
        return

    files = find_files(layout, database, file.entry)
    if file.part == "frames":
        blank, num_sources, present = np.zeros((height, width, 3), np.uint8), 1, files.frames
    else:
        blank, num_sources = np.zeros((2, height, width), np.uint8), 2
        present = files.density_maps & files.fixation_maps

    def rows() -> Iterator[npt.NDArray[np.uint8]]:
        for frame in range(num_frames):
            if not present[frame]:
                yield blank
            elif file.part == "frames":
                yield load_frame(layout.frame(database, video, frame), preprocessing)
            else:
                yield load_maps(layout, database, video, frame, preprocessing, quirks)
            advance(num_sources)

    _write_rows(file.path, (num_frames, *blank.shape), np.uint8, rows())


def _write_rows(path: Path, shape: tuple[int, ...], dtype: Any, rows: Iterable[npt.NDArray[Any]]) -> None:
    """Writes an .npy file piece by piece.

    A memory map would not do: on a full disk, the process would be killed instead of getting an error.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            file.write(np.ascontiguousarray(row, dtype=dtype).data)
        file.flush()
        # A power cut after the renaming must not leave an empty file of the right name.
        os.fsync(file.fileno())


class CachedReader:
    """Reads from the cache what `DirectReader` reads from the sources: the same values, bit for bit."""

    def __init__(self, files: Iterable[CacheFile]) -> None:
        self._paths = {(file.part, file.database, file.entry): file.path for file in files}

    def frames(self, database: str, entry: FoldEntry, frames: Sequence[int]) -> npt.NDArray[np.uint8]:
        array = _open_array(self._paths["frames", database, entry])
        first, stop = frames[0], frames[-1] + 1
        if list(frames) == list(range(first, stop)):
            return array[first:stop]
        return array[list(frames)]

    def maps(self, database: str, entry: FoldEntry, frame: int) -> npt.NDArray[np.uint8]:
        maps: npt.NDArray[np.uint8] = _open_array(self._paths["maps", database, entry])[frame]
        return maps

    def waveform(self, database: str, entry: FoldEntry) -> tuple[npt.NDArray[np.float32], int]:
        array = _open_array(self._paths["wave", database, entry])
        return array[1:], int(array[0])


@functools.lru_cache(maxsize=OPEN_FILES)
def _open_array(path: Path) -> npt.NDArray[Any]:
    """A read-only view of a cache file. Each process opens its own: nothing is passed to workers."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise StavisError(
            f"{path}: gone from the frame cache; its source files have changed while they were in use, start again"
        ) from None
    except ARCHIVE_ERRORS as error:
        raise StavisError(f"{path}: not readable ({error}); remove it, and it will be made again") from None
    # A plain array: indexing a memmap object makes another one each time.
    return array.view(np.ndarray)
