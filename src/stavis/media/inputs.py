"""Resolution of files, folders and glob patterns to videos, and of videos to names of result folders."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stavis.errors import StavisError
from stavis.media.container import logger
from stavis.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from stavis.runtime.files import read_json
from stavis.storage.remote import RemotePath, expand, hide_credentials, is_url

_RESULT_FILE = "summary.json"  # in every result folder of `stavis predict`
# Videos that other commands write, with files of which one lies beside them.
_RESULT_VIDEOS = {
    "reframed.mp4": ("reframe.json",),
    "preview.mp4": ("reframe.json", "reframe.csv", "reframe.cmd"),
    "encoded.mp4": ("encode.json",),
    "encoded.mkv": ("encode.json",),
    "areas.mp4": ("areas_summary.csv",),
    "saliency-x264.mp4": (".",),  # written alone; nobody else calls it that
}
_RECORDS = ("reframe.json", "encode.json")  # that name the video


def find_videos(inputs: Sequence[str]) -> list[Path]:
    """Lists the videos that `inputs` stand for in the order given.

    A file stands for itself. A folder stands for the videos directly in it, whatever images lie beside them; a folder
    of numbered images without videos is one video. Anything else is a pattern (`clips/*.mp4`; `**` for all levels),
    for shells that do not expand it; from a pattern without a suffix, videos are taken and other files passed over.
    A URL stands for itself, or for the videos that it lists if it has wildcards or ends in "/".

    A file reached by several paths is listed once, by the first of them that leads through no link. Hidden files
    are found only if they are named themselves, and results of stavis only if nothing else is named.

    Raises StavisError if an input does not exist, a pattern matches nothing, or a folder has neither videos nor images.
    """
    found: dict[tuple[int, int] | Path, Path] = {}
    for text in inputs:
        if is_url(text):
            found.update((video, video) for video in _of_url(text))
            continue
        path = Path(text)
        if path.exists() or path.is_symlink() or not glob.has_magic(text):
            videos = _of_path(path)
            if len(inputs) > 1 and (_is_result_video(path) or any(map(_is_result, path.parents))):
                logger.warning("%s: a result of stavis, passed over; name it alone to use it", path)
                continue
        else:
            videos = [video for match in _expand(text) for video in _of_match(match, text)]
            if not videos:
                raise StavisError(f"{text}: the pattern matches nothing that is a video")
        for video in videos:
            key = _identity(video)
            if key not in found or (_has_link(found[key]) and not _has_link(video)):
                found[key] = video
    if not found:
        raise StavisError(f"{inputs[0]}: a result of stavis, like all other inputs")
    return list(found.values())


def _of_url(url: str) -> list[RemotePath]:
    listed = expand(url)
    if listed is None:
        return [RemotePath.of(url)]
    videos = [path for path in listed if path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise StavisError(f"{hide_credentials(url)}: no videos there")
    return videos


def _has_link(path: Path) -> bool:
    return os.path.realpath(path) != os.path.abspath(path)


def _identity(path: Path) -> tuple[int, int] | Path:
    """Identifies a file whatever the path to it."""
    try:
        status = path.stat()
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def _of_path(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists() and not path.is_symlink():
            raise StavisError(f"{path}: no such file or folder")
        return [path]
    if _is_result(path):
        raise StavisError(f"{path}: a result of stavis predict, not a folder of videos or images")
    videos, num_images = _list(path)
    if videos and num_images:
        logger.warning("%s: %d images beside videos are passed over", path, num_images)
    if videos or num_images:
        return videos or [path]
    raise StavisError(
        f"{path}: neither videos nor images in this folder (subfolders and results of stavis are passed over)"
    )


def _of_match(path: Path, pattern: str) -> list[Path]:
    """The videos of a path that a pattern matches."""
    if _is_result_video(path) or any(_is_result(parent) for parent in [path, *path.parents]):
        return []
    if not path.is_dir():
        names_suffix = Path(pattern).suffix not in ("", ".*", ".**")
        return [path] if names_suffix or path.suffix.lower() in VIDEO_SUFFIXES else []
    videos, num_images = _list(path)
    return videos or ([path] if num_images > 1 else [])


def _list(folder: Path) -> tuple[list[Path], int]:
    """The videos directly in a folder, results of stavis excepted, and the number of images there."""
    try:
        files = sorted(item for item in folder.iterdir() if not item.name.startswith(".") and item.is_file())
    except OSError as error:
        raise StavisError(f"{folder}: cannot be read ({error.strerror})") from None
    videos = [item for item in files if item.suffix.lower() in VIDEO_SUFFIXES and not _is_result_video(item)]
    return videos, sum(item.suffix.lower() in IMAGE_SUFFIXES for item in files)


def _is_result(folder: Path) -> bool:
    return _predicted_in(folder) is not None


def _is_result_video(path: Path) -> bool:
    return any((path.parent / name).exists() for name in _RESULT_VIDEOS.get(path.name, ()))


def _predicted_in(folder: Path) -> str | None:
    """The video whose prediction `folder` holds; None if it does not hold one."""
    summary = read_json(folder / _RESULT_FILE)
    is_ours = isinstance(summary, dict) and {"stavis", "input"} <= summary.keys()
    return str(summary["input"]) if is_ours else None


def _videos_of(folder: Path) -> Iterator[Path]:
    """The videos that the records in `folder` name as those whose results it holds."""
    if (predicted := _predicted_in(folder)) is not None:
        yield Path(predicted)
    for name in _RECORDS:
        record = read_json(folder / name)
        settings = record.get("settings") if isinstance(record, dict) else None
        if isinstance(settings, dict) and isinstance(settings.get("video"), str):
            yield Path(settings["video"])


def _expand(pattern: str) -> list[Path]:
    """What a pattern matches, sorted. Unlike `glob`, follows every link to a folder once, as links can form loops."""
    before, stars, after = pattern.partition("**")
    if not stars or (before and not before.endswith(os.sep)) or (after and not after.startswith(os.sep)):
        return sorted(Path(match) for match in glob.glob(pattern))
    bases = glob.glob(before) if glob.has_magic(before) else [before]
    rest = after.lstrip(os.sep)
    matches: dict[Path, None] = {}
    for base in bases:
        for folder in walk_folders(Path(base)):
            if rest:
                matches.update(dict.fromkeys(_expand(os.path.join(glob.escape(str(folder)), rest))))
            else:
                matches[folder] = None
                matches.update((path, None) for path in folder.glob("[!.]*") if path.is_file())
    return sorted(matches)


def walk_folders(base: Path) -> Iterator[Path]:
    """`base` and the folders below it that are not hidden, each once."""
    seen = set()
    for name, folders, _ in os.walk(base, followlinks=True):
        folder = Path(name)
        identity = _identity(folder)
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        # Links last, so that a folder is found by its own path.
        visible = [item for item in folders if not item.startswith(".")]
        folders[:] = sorted(visible, key=lambda item: ((folder / item).is_symlink(), item))
        yield folder


def name_folders(videos: Iterable[Path], output: Path | None = None) -> dict[Path, str]:
    """Assigns each video a distinct name for its result folder.

    It is the stem of the video. Where several of `videos` have the same stem it is followed by the suffix and, if that
    is not enough, a number. A video that has results in `output` keeps their name whatever else is given.
    """
    videos = list(videos)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for video in videos:
        name = _earlier_name(video, output) if output else None
        if name and name not in taken:  # a folder may hold results of several commands, of different videos
            names[video] = name
            taken.add(name)
    stems = [_stem(video) for video in videos]
    for video, stem in zip(videos, stems, strict=True):
        if video in names:
            continue
        is_ambiguous = stems.count(stem) > 1 and video.suffix and not video.is_dir()
        name = f"{stem}_{video.suffix[1:]}" if is_ambiguous else stem
        number, candidate = 2, name
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        names[video] = candidate
        taken.add(candidate)
    return {video: names[video] for video in videos}


def _stem(video: Path) -> str:
    return (Path(os.path.abspath(video)).name if video.is_dir() else video.stem) or "video"


def _earlier_name(video: Path, output: Path) -> str | None:
    """The name of the local folder in `output` that holds results of `video`."""
    if isinstance(output, RemotePath):
        return None
    for folder in sorted(output.glob(f"{glob.escape(_stem(video))}*")):
        if any(is_same_file(earlier, video) for earlier in _videos_of(folder)):
            return folder.name
    return None


def is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths are equal or lead to the same file or folder."""
    try:
        return path == other or path.samefile(other)
    except OSError:
        return False
