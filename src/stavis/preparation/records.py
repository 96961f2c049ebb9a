"""Records of prepared videos: which are finished, from which inputs, and which folders are not ours.

A finished video has a record, `annotations/<database>/<video>/prepare.json`, which comes with the last of the moves
that put a video in its places. Until all moves are done, its staging folder exists.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stavis.datasets.layout import FoldEntry, Layout
from stavis.errors import StavisError
from stavis.gaze.observers import OBSERVERS_NAME
from stavis.runtime.files import file_sha256

RECORD_NAME = "prepare.json"
STAGING_FOLDER = ".prepare"


def staging_folder(layout: Layout, database: str, name: str) -> Path:
    return layout.root / STAGING_FOLDER / database / name


def read_record(layout: Layout, database: str, name: str) -> dict[str, Any] | None:
    """The record of a finished video; None if there is none. Raises StavisError if the record is unreadable."""
    path = layout.annotations_folder(database, name) / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        entry_of(record)
        assert isinstance(record["inputs"], dict)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AssertionError):
        raise StavisError(
            f"{path}: not a record of `stavis prepare`; remove it and prepare the video with `overwrite=True`"
        ) from None
    return dict(record)


def entry_of(record: Mapping[str, Any]) -> FoldEntry:
    return FoldEntry(str(record["video"]), int(record["num_frames"]), float(record["frame_rate"]))


def finished_videos(layout: Layout, database: str) -> dict[str, FoldEntry]:
    """Name -> fold-list line of every video of `database` that any run has prepared here."""
    records = layout.annotations_folder(database, "*").parent.glob(f"*/{RECORD_NAME}")
    found = (read_record(layout, database, path.parent.name) for path in sorted(records))
    return {str(record["video"]): entry_of(record) for record in found if record is not None}


def unfinished_videos(layout: Layout, database: str) -> set[str]:
    """Names of the videos of `database` that an interrupted run has started."""
    folder = layout.root / STAGING_FOLDER / database
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def is_complete(layout: Layout, database: str, name: str, record: Mapping[str, Any]) -> bool:
    """Whether the files of a finished video still exist, judged by the first and last ones."""
    num_frames = record["num_frames"]
    ends = [
        layout.frame(database, name, 0),
        layout.frame(database, name, num_frames - 1),
        layout.wave(database, name),
    ]
    if record["gaze"] is not None:
        ends += [
            layout.density_map(database, name, num_frames - 1),
            layout.fixation_map(database, name, num_frames - 1),
            layout.annotations_folder(database, name) / OBSERVERS_NAME,
        ]
    return all(path.exists() for path in ends)


def folders(layout: Layout, database: str, name: str) -> list[Path]:
    """The folders of a video; the one with the record comes last."""
    return [
        layout.frames_folder(database, name),
        layout.wave(database, name).parent,
        layout.annotations_folder(database, name),
    ]


def refuse_foreign_folders(layout: Layout, database: str, name: str) -> None:
    """Raises StavisError if a folder exists of a video that has neither a record nor a staging folder."""
    for folder in folders(layout, database, name):
        if folder.exists():
            raise StavisError(
                f"{folder}: exists already and was not made by `stavis prepare`; choose another `database` or name, "
                "or `overwrite=True` to replace it"
            )


def move_into_place(staged: Layout, layout: Layout, database: str, name: str) -> None:
    """Moves a video from its staging layout to the data folder, replacing what is there.

    The old record goes first and the new one comes last; in between the staging folder marks the video unfinished.
    """
    for folder in reversed(folders(layout, database, name)):
        if folder.exists():
            (folder / RECORD_NAME).unlink(missing_ok=True)
            shutil.rmtree(folder)
    for source, target in zip(folders(staged, database, name), folders(layout, database, name), strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)


def hash_files(path: Path) -> str:
    """SHA-256 of a file; of a folder, of its files' names and contents, those of hidden files excepted."""
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for entry in sorted(path.rglob("*")):
        if entry.is_file() and not entry.name.startswith("."):
            digest.update(f"{entry.relative_to(path).as_posix()}\0{hash_files(entry)}\n".encode())
    return digest.hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describes what differs between the inputs of two records."""

    def flatten(value: object, prefix: str) -> dict[str, object]:
        if not isinstance(value, Mapping) or not value:
            return {prefix: value}
        return {
            key: leaf
            for name, child in value.items()
            for key, leaf in flatten(child, f"{prefix}.{name}" if prefix else str(name)).items()
        }

    old, new = flatten(before, ""), flatten(now, "")
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    plain = {"gaze": "gaze files", "version": "version of this program"}
    plain |= dict.fromkeys(("video.file", "video.sha256"), "video")
    named = dict.fromkeys(
        plain.get(key, f"{key.removeprefix('options.')} ({old.get(key)} before, now {new.get(key)})")
        for key in changed
    )
    return ", ".join(named)
