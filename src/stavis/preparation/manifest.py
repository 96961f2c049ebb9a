"""From what a user names (videos, gaze, a manifest) to the sources that are prepared: which gaze is on which video."""

import csv
import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stavis.errors import StavisError
from stavis.gaze import FORMATS, holds_several_videos
from stavis.media.inputs import find_videos
from stavis.preparation.options import PrepareOptions, Source, video_stem

COLUMNS = ("video", "name", "gaze", "gaze_format", "clip")
"""Of a manifest: the video's path, its name in the data folder, its gaze (several divided by `;`), how to read it."""


@dataclass(frozen=True)
class _Wanted:
    """A video as the user named it: `gaze` is None where it is still to be found by name."""

    video: Path
    name: str
    gaze: tuple[Path, ...] | None
    options: PrepareOptions


def find_sources(inputs: Sequence[str], gaze: Sequence[str], options: PrepareOptions) -> list[Source]:
    """Lists what is to be prepared.

    Args:
        inputs: Video files, image folders, folders of videos, patterns, or manifests (`.csv`).
        gaze: Gaze files, folders and patterns for the videos that no manifest names. Of one video they all are; of
            several each belongs to the video whose name its own name contains, and tables that name videos to all.
        options: For all of them; a manifest's columns replace `gaze.format` and `gaze.clip`.

    Raises:
        StavisError: Something is not there, two videos have the same name, or gaze cannot be told apart.
    """
    manifests = [Path(text) for text in inputs if Path(text).suffix.lower() == ".csv"]
    plain = [text for text in inputs if Path(text) not in manifests]
    wanted = [row for path in manifests for row in _read_manifest(path, options)]
    named = {row.video for row in wanted}
    wanted += [
        _Wanted(video, folder_name(video_stem(video)), None, options)
        for video in (find_videos(plain) if plain else [])
        if video not in named
    ]
    _check_names(wanted)
    open_videos = [row for row in wanted if row.gaze is None]
    if gaze and not open_videos:
        raise StavisError("--gaze is for videos that no manifest names; name the gaze in the manifest")
    paths = [Path(path) for text in gaze for path in expand_path(text)]
    matched = match_gaze([video_stem(row.video) for row in open_videos], paths, options) if paths else {}
    return [
        Source(
            row.name,
            row.video,
            matched.get(video_stem(row.video), ()) if row.gaze is None else row.gaze,
            row.options,
        )
        for row in wanted
    ]


def folder_name(name: str) -> str:
    """A video's name as a folder's in the layout, whose lists are split at blanks: blanks become underscores."""
    return re.sub(r"\s+", "_", name.strip()) or "video"


def expand_path(text: str, base: Path = Path()) -> list[Path]:
    """The paths that `text` names: itself, or what it matches as a pattern.

    Raises:
        StavisError: There is nothing.
    """
    path = base / text
    if path.exists():
        return [path]
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(text) else []
    if not matches:
        raise StavisError(
            f"{path}: {'matches nothing' if glob.has_magic(text) else 'no such file or folder'}"
        )
    return [Path(match) for match in matches]


def _read_manifest(path: Path, options: PrepareOptions) -> list[_Wanted]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = list(reader)
    except FileNotFoundError:
        raise StavisError(f"{path}: manifest not found") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise StavisError(f"{path}: not a CSV file in UTF-8: {error}") from None
    unknown = [column for column in columns if column not in COLUMNS]
    if "video" not in columns or unknown:
        raise StavisError(
            f"{path}: a manifest has a column video and perhaps {', '.join(COLUMNS[1:])}; found: {', '.join(columns)}"
        )
    return [
        _read_row(f"{path}, row {number}", row, path.parent, options) for number, row in enumerate(rows, 1)
    ]


def _read_row(
    place: str, row: Mapping[str | None, str | None], base: Path, options: PrepareOptions
) -> _Wanted:
    if None in row or None in row.values():
        raise StavisError(f"{place}: not as many cells as columns")
    cells = {column: (row.get(column) or "").strip() for column in COLUMNS}
    if not cells["video"]:
        raise StavisError(f"{place}: no video")
    gaze_options = options.gaze
    if format := cells["gaze_format"]:
        if format not in ("auto", *FORMATS):
            raise StavisError(f"{place}: gaze format {format!r}; allowed: auto, {', '.join(FORMATS)}")
        gaze_options = replace(gaze_options, format=format)  # type: ignore[arg-type]
    if clip := cells["clip"]:
        if not clip.isdecimal():
            raise StavisError(f"{place}: clip {clip!r} is not a number")
        gaze_options = replace(gaze_options, clip=int(clip))
    try:
        (video,) = find_videos([str(base / cells["video"])])
    except ValueError:
        raise StavisError(f"{place}: {cells['video']} stands for several videos; a row names one") from None
    gaze = [
        path for part in cells["gaze"].split(";") if part.strip() for path in expand_path(part.strip(), base)
    ]
    name = folder_name(cells["name"] or video_stem(video))
    return _Wanted(video, name, tuple(gaze), replace(options, gaze=gaze_options))


def _check_names(wanted: Iterable[_Wanted]) -> None:
    seen: dict[str, Path] = {}
    for row in wanted:
        if not row.name.isprintable() or "/" in row.name or "\\" in row.name or row.name.startswith("."):
            raise StavisError(
                f"{row.video}: {row.name!r} cannot be a video's name; rename it, or name it in a manifest"
            )
        # Some file systems do not tell upper from lower case.
        if (other := seen.get(row.name.casefold())) is not None:
            raise StavisError(
                f"{other} and {row.video} would both be called {row.name!r}; rename one, or name them in a manifest"
            )
        seen[row.name.casefold()] = row.video


def match_gaze(
    videos: Sequence[str], paths: Sequence[Path], options: PrepareOptions
) -> dict[str, tuple[Path, ...]]:
    """Finds out which gaze is on which video.

    Args:
        videos: Their names.
        paths: Gaze files and folders.
        options: Its `gaze` tells how the files are read.

    Returns:
        Video name -> its gaze.

    Raises:
        StavisError: A path belongs to no video, or a video has no gaze.
    """
    if len(videos) == 1:
        return {videos[0]: tuple(paths)}
    found: dict[str, list[Path]] = {video: [] for video in videos}
    for path in paths:
        owners = _owners(path, videos, options)
        entries = [(path, owners)]
        if not owners and path.is_dir():
            entries = [
                (entry, _owners(entry, videos, options))
                for entry in sorted(path.iterdir())
                if not entry.name.startswith(".")
            ]
        if not any(entry_owners for _, entry_owners in entries):
            raise StavisError(
                f"{path}: no video's name in its name{' or in those of its files' if path.is_dir() else ''}; "
                "say in a manifest which video it is on"
            )
        for entry, entry_owners in entries:
            for owner in entry_owners:
                found[owner].append(entry)
    if missing := [video for video in videos if not found[video]]:
        raise StavisError(
            f"no gaze is named after {missing[0]!r} ({len(missing)} of {len(videos)} videos); say in a manifest which "
            "gaze is on which video, none where its cell is empty"
        )
    return {video: tuple(gaze) for video, gaze in found.items()}


def _owners(path: Path, videos: Sequence[str], options: PrepareOptions) -> list[str]:
    name = path.name if path.is_dir() else path.stem
    matching = [video for video in videos if _contains_name(name, video)]
    if matching:
        # "talk" is in the name of the gaze on "talk_2", too.
        longest = max(len(video) for video in matching)
        return [video for video in matching if len(video) == longest]
    if path.is_file() and holds_several_videos(path, options.gaze):
        return list(videos)
    return []


def _contains_name(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as a word: no letter goes on into a letter, no digit into a digit."""
    for match in re.finditer(re.escape(name), text):
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        edges = ((before, name[0]), (name[-1], after))
        if not any((a.isalpha() and b.isalpha()) or (a.isdigit() and b.isdigit()) for a, b in edges):
            return True
    return False
