"""Comparison of a data folder with its fold lists: missing and surplus files, and problems of the lists themselves."""

import dataclasses
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stavis.datasets.fold_lists import choose_databases, choose_lists, read_fold_list
from stavis.datasets.layout import FoldEntry, Layout, VideoFiles, find_files, list_numbers
from stavis.datasets.sources import read_picture
from stavis.errors import StavisError, counted
from stavis.maps import read_fixation_map, read_map
from stavis.media import read_wave
from stavis.runtime.workers import run_parallel

LONGEST_WAVE_DIFFERENCE_SECONDS = 1.0

ERRORS = frozenset({"missing_list", "unreadable_list", "missing", "unreadable"})
"""Kinds of problems that make a data set unusable. The others are remarks."""


@dataclass(frozen=True)
class Problem:
    """A problem of a data folder, or a remark."""

    # An error: "missing_list", "unreadable_list", "missing" (of a video), "unreadable" (a file that was opened). A
    # remark: "surplus" (more files than the list names), "train_and_test" (a video is in both lists of a split),
    # "duplicate" (twice in a list), "listed_differently" (other numbers in another list), "unlisted" (a video that is
    # in no list), "sizes" (a video's maps differ in size), "empty" (maps without a fixation), "wave_length" (sound of
    # another length than the pictures).
    kind: str
    database: str  # name of the database
    video: str | None  # name of the video; None for a problem of a list or of all videos
    message: str  # one line that says what and where

    @property
    def is_error(self) -> bool:
        return self.kind in ERRORS


@dataclass(frozen=True)
class ListSummary:
    """Contents of one fold list, and how much of it is there."""

    database: str  # name of the database
    split: int | None  # number of the split; None for a list of all splits
    subset: str  # "train" or "test"
    num_videos: int  # number of lines of the list
    num_waves: int  # number of videos with a WAV file
    num_listed_frames: int  # sum of the numbers of frames in the list
    num_frames: int  # number of these frames whose picture is there
    num_density_maps: int  # number of these frames whose density map is there
    num_fixation_maps: int  # number of these frames whose fixation map is there


@dataclass(frozen=True)
class DataReport:
    """Result of a check: one summary per list, and all problems."""

    data_folder: Path
    lists: list[ListSummary]
    problems: list[Problem]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing or unreadable."""
        return not any(problem.is_error for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        return {
            "data_folder": str(self.data_folder),
            "complete": self.complete,
            "lists": [dataclasses.asdict(summary) for summary in self.lists],
            "problems": [
                {"severity": "error" if problem.is_error else "remark", **dataclasses.asdict(problem)}
                for problem in self.problems
            ],
        }


def find_missing(
    layout: Layout,
    database: str,
    videos: Mapping[FoldEntry, VideoFiles],
    *,
    annotations: bool = True,
    audio: bool = True,
) -> list[Problem]:
    """Finds missing files of a database: one problem per part of a video, or a single one if a whole folder is absent.

    `videos` comes from `find_files`; density and fixation maps are needed for `annotations`, WAV files for `audio`.
    """
    problems = []
    # (what, folder of the whole database, whether it is needed)
    wholes = [
        ("frames", layout.frames_folder(database, "x").parent, True),
        ("annotations", layout.annotations_folder(database, "x").parent, annotations),
        ("waves", layout.wave(database, "x").parent.parent, audio),
    ]
    absent = {name for name, folder, needed in wholes if needed and videos and not folder.is_dir()}
    for name, folder, _ in wholes:
        if name in absent:
            message = (
                f"{folder}: folder not found; the lists of {database} name {counted(len(videos), 'videos')}"
            )
            problems.append(Problem("missing", database, None, message))
    for entry, files in videos.items():
        folder = layout.annotations_folder(database, entry.video)
        parts = []
        if "frames" not in absent:
            parts.append(("frames", layout.frames_folder(database, entry.video), files.frames))
        if annotations and "annotations" not in absent:
            density_maps = layout.density_map(database, entry.video, 0).parent
            parts.append(("density maps", density_maps, files.density_maps))
            parts.append(("fixation maps", folder, files.fixation_maps))
        messages = [_missing_files(name, where, there) for name, where, there in parts if not there.all()]
        if entry.num_frames < 2:
            messages.append(
                f"{database}: the list gives {entry.video} {entry.num_frames} frame; a clip needs 2 or more"
            )
        if audio and "waves" not in absent and not files.wave:
            messages.append(f"{layout.wave(database, entry.video)}: WAV file not found")
        problems += [Problem("missing", database, entry.video, message) for message in messages]
    return problems


def _missing_files(name: str, folder: Path, present: npt.NDArray[np.bool_]) -> str:
    if not present.any():
        return f"{folder}: none of {len(present)} {name} found"
    missing = np.flatnonzero(~present).tolist()
    return f"{folder}: {len(missing)} of {len(present)} {name} missing (number {list_numbers(missing)})"


def find_surplus(layout: Layout, database: str, entry: FoldEntry, files: VideoFiles) -> list[Problem]:
    """Finds numbered files beyond those in the fold list: the list may be wrong, or of another version."""
    folder = layout.annotations_folder(database, entry.video)
    folders = {
        "frames": layout.frames_folder(database, entry.video),
        "density_maps": layout.density_map(database, entry.video, 0).parent,
        "fixation_maps": folder,
    }
    return [
        Problem(
            "surplus",
            database,
            entry.video,
            f"{folders[part]}: the list names {entry.num_frames} {part.replace('_', ' ')}, there are {num} more",
        )
        for part, num in files.surplus.items()
        if num
    ]


def count_more(num: int) -> str:
    """Continues an error message that names the first of `num` missing parts: "; and 2 more missing parts"."""
    return "" if num < 2 else f"; and {num - 1} more missing part{'s' * (num > 2)}"


def check_data(
    data_folder: str | os.PathLike[str],
    *,
    databases: str | Sequence[str] | None = None,
    split: int | None = None,
    annotations: bool = True,
    audio: bool = True,
    deep: bool = False,
    jobs: int | None = None,
    quiet: bool = False,
) -> DataReport:
    """Compares a data folder in the published layout with its fold lists.

    All `databases` that have fold lists are checked by default, and all splits. `annotations` and `audio` say whether
    density and fixation maps and WAV files are needed. With `deep`, every file is opened, in parallel, to find broken
    ones and to compare sizes and lengths.

    Raises StavisError if there is no fold list, or none of a requested database.
    """
    layout = Layout(Path(data_folder))
    summaries: list[ListSummary] = []
    problems: list[Problem] = []
    videos: dict[tuple[str, FoldEntry], VideoFiles] = {}
    for database in choose_databases(layout, databases):
        named: dict[tuple[int | None, str], list[FoldEntry]] = {}
        for list_split, subset, path in choose_lists(layout, database, split):
            try:
                entries = read_fold_list(path)
            except StavisError as error:
                kind = "unreadable_list" if path.exists() else "missing_list"
                problems.append(Problem(kind, database, None, str(error)))
                continue
            named[list_split, subset] = entries
            for entry in dict.fromkeys(entries):
                if (database, entry) not in videos:
                    videos[database, entry] = find_files(layout, database, entry)
            found = [videos[database, entry] for entry in entries]
            summaries.append(_summarize(database, list_split, subset, entries, found))
        problems += _check_lists(layout, database, named)
        problems += _check_unlisted(layout, database)
        of_database = {entry: files for (owner, entry), files in videos.items() if owner == database}
        problems += find_missing(layout, database, of_database, annotations=annotations, audio=audio)
        for entry, files in of_database.items():
            problems += find_surplus(layout, database, entry, files)
    if deep:
        tasks = [(layout, database, entry, files) for (database, entry), files in videos.items()]
        found_deep = run_parallel(
            _open_files,
            tasks,
            jobs=jobs,
            description="checking",
            total=sum(_count_files(files) for files in videos.values()),
            unit="files",
            quiet=quiet,
        )
        problems += [problem for of_video in found_deep for problem in of_video]
    return DataReport(layout.root, summaries, sorted(problems, key=lambda problem: not problem.is_error))


def _summarize(
    database: str, split: int | None, subset: str, entries: Sequence[FoldEntry], found: Sequence[VideoFiles]
) -> ListSummary:
    def count(present: Callable[[VideoFiles], npt.NDArray[np.bool_]]) -> int:
        return sum(int(np.count_nonzero(present(files))) for files in found)

    return ListSummary(
        database=database,
        split=split,
        subset=subset,
        num_videos=len(entries),
        num_waves=sum(files.wave for files in found),
        num_listed_frames=sum(entry.num_frames for entry in entries),
        num_frames=count(lambda files: files.frames),
        num_density_maps=count(lambda files: files.density_maps),
        num_fixation_maps=count(lambda files: files.fixation_maps),
    )


def _check_lists(
    layout: Layout, database: str, named: dict[tuple[int | None, str], list[FoldEntry]]
) -> Iterable[Problem]:
    """Finds videos in both lists of a split, twice in a list, or with other numbers in another list."""
    first_seen: dict[str, tuple[FoldEntry, str]] = {}
    for (split, subset), entries in named.items():
        name = layout.fold_list(database, subset, split or 1).name
        seen: set[str] = set()
        for entry in entries:
            if entry.video in seen:
                yield Problem(
                    "duplicate", database, entry.video, f"{name}: {entry.video} is in it more than once"
                )
            seen.add(entry.video)
            first, where = first_seen.setdefault(entry.video, (entry, name))
            if entry != first:
                yield Problem(
                    "listed_differently",
                    database,
                    entry.video,
                    f"{name}: {entry.video} has {entry.num_frames} frames at {entry.frame_rate:g} per second; in "
                    f"{where} {first.num_frames} at {first.frame_rate:g}",
                )
        if subset == "test":
            in_train = {entry.video for entry in named.get((split, "train"), [])}
            for video in sorted(seen & in_train):
                which = "" if split is None else f" of split {split}"
                message = f"{database}: {video} is in the train and in the test list{which}"
                yield Problem("train_and_test", database, video, message)


def _check_unlisted(layout: Layout, database: str) -> Iterable[Problem]:
    """Finds videos that have frames but are in no list of the database."""
    listed: set[str] = set()
    for _, _, path in choose_lists(layout, database, None):
        try:
            listed.update(unicodedata.normalize("NFC", entry.video) for entry in read_fold_list(path))
        except StavisError:
            continue
    folder = layout.frames_folder(database, "x").parent
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for name in names:
        if unicodedata.normalize("NFC", name) not in listed and not name.startswith("."):
            yield Problem("unlisted", database, name, f"{folder / name}: in no fold list of {database}")


def _count_files(files: VideoFiles) -> int:
    present = (files.frames, files.density_maps, files.fixation_maps)
    return sum(int(np.count_nonzero(part)) for part in present) + files.wave


PathOf = Callable[[str, str, int], Path]
Reader = Callable[[Path], Any]


def _open_files(
    task: tuple[Layout, str, FoldEntry, VideoFiles], advance: Callable[[int], None]
) -> list[Problem]:
    """Opens all files of a video and reports what is wrong with them."""
    layout, database, entry, files = task
    video = entry.video
    problems: list[Problem] = []

    def report(kind: str, message: str) -> None:
        problems.append(Problem(kind, database, video, message))

    def opened(
        frames: npt.NDArray[np.bool_], path_of: PathOf, read: Reader
    ) -> Iterator[tuple[int, Path, Any]]:
        paths = {frame: path_of(database, video, frame) for frame in np.flatnonzero(frames).tolist()}
        return _open_each(paths, read, report, advance)

    for _ in opened(files.frames, layout.frame, read_picture):
        pass
    sizes: dict[tuple[int, ...], Path] = {}
    for _, path, density_map in opened(files.density_maps, layout.density_map, read_map):
        sizes.setdefault(density_map.shape, path)
    without_fixation: list[int] = []
    for frame, path, fixation_map in opened(files.fixation_maps, layout.fixation_map, read_fixation_map):
        sizes.setdefault(fixation_map.shape, path)
        if not (fixation_map > 0).any():
            without_fixation.append(frame)
    if len(sizes) > 1:
        examples = ", ".join(f"{path.name} {shape[1]}x{shape[0]}" for shape, path in sizes.items())
        report("sizes", f"{layout.annotations_folder(database, video)}: maps differ in size ({examples})")
    if without_fixation:
        num = int(np.count_nonzero(files.fixation_maps))
        report(
            "empty",
            f"{layout.annotations_folder(database, video)}: {len(without_fixation)} of {num} fixation maps have no "
            f"fixation (number {list_numbers(without_fixation)})",
        )
    waves = {0: layout.wave(database, video)} if files.wave else {}
    for _, wave, (samples, sample_rate) in _open_each(waves, read_wave, report, advance):
        sound, pictures = len(samples) / sample_rate, entry.num_frames / entry.frame_rate
        if abs(sound - pictures) > LONGEST_WAVE_DIFFERENCE_SECONDS:
            report("wave_length", f"{wave}: {sound:.1f} s of sound, but {pictures:.1f} s of pictures")
    return problems


def _open_each(
    paths: dict[int, Path], read: Reader, report: Callable[[str, str], None], advance: Callable[[int], None]
) -> Iterator[tuple[int, Path, Any]]:
    for number, path in paths.items():
        try:
            content = read(path)
        except (StavisError, OSError) as error:
            report("unreadable", str(error))
        else:
            yield number, path, content
        advance(1)
