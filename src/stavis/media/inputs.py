"""From what a user names on the command line (files, folders, patterns) to the videos that are meant."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from stavis.errors import StavisError
from stavis.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES


def find_videos(inputs: Sequence[str]) -> list[Path]:
    """Lists the videos that `inputs` mean, each once, in the order given.

    A file is itself. A folder of pictures is one video; any other folder stands for the video files directly in it.
    What is neither is taken as a pattern ("clips/*.mp4", "**" for all levels), for shells that do not expand it.

    Raises:
        StavisError: An input is not there, a pattern matches nothing, or a folder has neither videos nor pictures.
    """
    found: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.exists():
            found.extend(_of_path(path))
            continue
        matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) else []
        if not matches:
            what = "matches nothing" if glob.has_magic(text) else "no such file or folder"
            raise StavisError(f"{text}: {what}")
        for match in matches:
            found.extend(_of_path(Path(match)))
    return list(dict.fromkeys(found))


def _of_path(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
    if any(item.suffix.lower() in IMAGE_SUFFIXES for item in files):
        return [path]
    videos = [item for item in files if item.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise StavisError(
            f"{path}: neither videos nor pictures in this folder (folders below it are not searched)"
        )
    return videos


def name_folders(videos: Iterable[Path]) -> dict[Path, str]:
    """A distinct folder name for each video: its stem; with its suffix, then a number, where stems are the same."""
    videos = list(videos)
    names: dict[Path, str] = {}
    for video in videos:
        stem = video.stem if not video.is_dir() else video.name
        shared = sum((other.stem if not other.is_dir() else other.name) == stem for other in videos) > 1
        name = stem or "video"
        if shared:
            name = f"{stem}_{video.suffix[1:]}" if video.suffix else stem
        number, candidate = 2, name
        while candidate in names.values():
            candidate, number = f"{name}_{number}", number + 1
        names[video] = candidate
    return names
