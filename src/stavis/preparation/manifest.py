"""Resolves videos, gaze files and manifests to the sources to prepare: which gaze belongs to which video."""

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stavis.errors import StavisError, counted
from stavis.gaze import FORMATS, holds_several_videos
from stavis.gaze.read import GAZE_SUFFIXES, is_note
from stavis.gaze.tables import read_text_table
from stavis.gaze.text import unicode_form
from stavis.media.inputs import find_videos
from stavis.preparation.options import PrepareOptions, Source, video_stem
from stavis.runtime.files import find_entry

COLUMNS = ("video", "name", "gaze", "gaze_format", "clip")
"""Columns of a manifest: the video's path, its name in the data folder, its gaze (separated by `;`), how to read it."""


@dataclass(frozen=True)
class _Wanted:
    """A video as the user named it; `gaze` is None if it still has to be found by name."""

    video: Path
    name: str
    gaze: tuple[Path, ...] | None
    options: PrepareOptions


def find_sources(inputs: Sequence[str], gaze: Sequence[str], options: PrepareOptions) -> list[Source]:
    """Lists the videos to prepare with their gaze.

    `inputs` are video files, image folders, folders of videos, patterns, or manifests (`.csv`), whose columns replace
    `gaze.format` and `gaze.clip` of the options. `gaze` are files, folders and patterns for the videos that no manifest
    names. All belong to a single video; of several, each belongs to the video whose name its own name contains, and
    tables that name videos to all.

    Raises StavisError if something does not exist, two videos have the same name, or gaze cannot be assigned.
    """
    manifests = [Path(text) for text in inputs if Path(text).suffix.lower() == ".csv"]
    plain = [str(_in_any_form(Path(text))) for text in inputs if Path(text) not in manifests]
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
        raise StavisError("`gaze` is for videos that no manifest names; name the gaze in the manifest")
    paths = [path for text in gaze for path in expand_path(text) if path.is_dir() or _is_meant(path, text)]
    if gaze and not paths:
        raise StavisError(f"{gaze[0]}: matches no gaze file")
    matched = match_gaze([video_stem(row.video) for row in open_videos], paths, options) if paths else {}
    found = [matched.get(video_stem(row.video), ()) if row.gaze is None else row.gaze for row in wanted]
    return [Source(row.name, row.video, own, row.options) for row, own in zip(wanted, found, strict=True)]


def folder_name(name: str) -> str:
    """A video's name as a folder name: blanks, at which fold lists are split, become underscores, accents one form."""
    return re.sub(r"\s+", "_", unicode_form(name).strip()) or "video"


def expand_path(text: str, base: Path = Path()) -> list[Path]:
    """The paths that `text` names: itself, or what it matches as a pattern. Raises StavisError if there is nothing."""
    path = _in_any_form(base / text)
    if path.exists():
        return [path]
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(text) else []
    if not matches:
        raise StavisError(
            f"{path}: {'matches nothing' if glob.has_magic(text) else 'no such file or folder'}"
        )
    return [Path(match) for match in matches]


def _in_any_form(path: Path) -> Path:
    return find_entry(path.parent, path.name)


def _is_meant(path: Path, text: str) -> bool:
    """Whether a gaze file was named by itself, or is gaze and not a note among what a pattern matches."""
    if path == _in_any_form(Path(text)):
        return True
    return path.suffix.lower() in GAZE_SUFFIXES and not is_note(path)


def _read_manifest(path: Path, options: PrepareOptions) -> list[_Wanted]:
    try:
        table = read_text_table(path)
    except FileNotFoundError:
        raise StavisError(f"{path}: manifest not found") from None
    unknown = [column for column in table.names if column not in COLUMNS]
    if "video" not in table.names or unknown:
        raise StavisError(
            f"{path}: a manifest has a column video and perhaps {', '.join(COLUMNS[1:])}; found: "
            f"{', '.join(table.names)}"
        )
    columns = {name: table.words(name) for name in COLUMNS if table.find(name)}
    return [
        _read_row(
            f"{path}, row {row + 1}",
            {name: columns[name][row] if name in columns else "" for name in COLUMNS},
            path.parent,
            options,
        )
        for row in range(len(table))
    ]


def _read_row(place: str, cells: Mapping[str, str], base: Path, options: PrepareOptions) -> _Wanted:
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
        (video,) = find_videos([str(_in_any_form(base / cells["video"]))])
    except ValueError:
        raise StavisError(f"{place}: {cells['video']} matches several videos; a row names one") from None
    parts = [part.strip() for part in cells["gaze"].split(";") if part.strip()]
    gaze = [path for part in parts for path in expand_path(part, base)]
    name = folder_name(cells["name"] or video_stem(video))
    return _Wanted(video, name, tuple(gaze), replace(options, gaze=gaze_options))


def _check_names(wanted: Iterable[_Wanted]) -> None:
    seen: dict[str, Path] = {}
    for row in wanted:
        if not row.name.isprintable() or "/" in row.name or "\\" in row.name or row.name.startswith("."):
            raise StavisError(
                f"{row.video}: {row.name!r} cannot be a video's name; rename it, or name it in a manifest"
            )
        # Some file systems do not distinguish upper and lower case.
        if (other := seen.get(row.name.casefold())) is not None:
            raise StavisError(
                f"{other} and {row.video} would both be called {row.name!r}; rename one, or name them in a manifest"
            )
        seen[row.name.casefold()] = row.video


def match_gaze(
    videos: Sequence[str], paths: Sequence[Path], options: PrepareOptions
) -> dict[str, tuple[Path, ...]]:
    """Assigns gaze files and folders to videos by name: video name -> its gaze.

    Raises StavisError if a path belongs to no video, or a video has no gaze.
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
                and (entry.is_dir() or entry.suffix.lower() in GAZE_SUFFIXES)
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
            f"no gaze is named after {missing[0]!r} ({len(missing)} of {counted(len(videos), 'videos')}); say in a "
            "manifest which gaze is on which video, none where its cell is empty"
        )
    return {video: tuple(gaze) for video, gaze in found.items()}


def _owners(path: Path, videos: Sequence[str], options: PrepareOptions) -> list[str]:
    name = path.name if path.is_dir() else re.sub(r"\.tsv$", "", path.stem)
    matching = [video for video in videos if _contains_name(name, video)]
    if matching:
        # "talk" is in the name of the gaze on "talk_2", too.
        longest = max(len(video) for video in matching)
        return [video for video in matching if len(video) == longest]
    if path.is_file() and holds_several_videos(path, options.gaze):
        return list(videos)
    return []


def _contains_name(text: str, name: str) -> bool:
    """Whether `text` contains `name` as a word: no letter continues a letter at its edges, no digit a digit."""
    text, name = unicode_form(text), unicode_form(name)
    for match in re.finditer(re.escape(name), text):
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        edges = ((before, name[0]), (name[-1], after))
        if not any((a.isalpha() and b.isalpha()) or (a.isdigit() and b.isdigit()) for a, b in edges):
            return True
    return False
