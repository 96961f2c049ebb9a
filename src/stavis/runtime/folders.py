"""Folders that appear whole or not at all, and the record of the settings that each was made with."""

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from stavis.errors import StavisError, some


@contextlib.contextmanager
def atomic_folder(
    folder: Path, *, may_replace: Collection[str] = (), last: str | None = None
) -> Iterator[Path]:
    """Yields an empty folder beside `folder` that is renamed to it when the block ends without an error.

    An error inside the block removes the temporary folder and leaves `folder` as it was; so does a killed process,
    whose leftovers the next call removes. Parent folders are created.

    Args:
        folder: The folder to write.
        may_replace: Names, or patterns of names, of the files and folders that `folder` may hold already and that are
            replaced. What else it holds is never removed.
        last: Name of a file that shows that the folder is complete. With it, what is written is moved into a `folder`
            that exists, this file last; what it replaces goes before that, this file first, and all else stays.
            None: `folder` may hold nothing else.

    Raises:
        StavisError: `folder` cannot be written, is a file, or holds something that may not be replaced.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    new, old = _beside(folder)
    try:
        restore_folder(folder, last)
        if folder.exists() and not folder.is_dir():
            raise StavisError(f"{folder}: a file is there, where a folder is to be written")
        there = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        own = {name for name in there if any(fnmatchcase(name, one) for one in may_replace)}
        if last is None and there != own:
            raise StavisError(f"{folder}: not empty: contains {some(there - own)}; choose another folder")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        if last is not None and folder.exists():
            _merge(new, folder, old, own, last)
            return
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        about = None if error.filename is None else str(error.filename)
        ours = (str(folder), str(new), str(old))
        if about and not about.startswith(ours) and not str(folder).startswith(about):
            raise  # an input file
        raise StavisError(f"{folder}: cannot be written: {error}") from error
    finally:
        restore_folder(folder, last)
        shutil.rmtree(new, ignore_errors=True)


def _merge(new: Path, folder: Path, old: Path, own: Collection[str], last: str) -> None:
    """Moves what `folder` holds of `own` and of the names in `new` to `old`, then what is in `new` to `folder`."""
    written = sorted((path.name for path in new.iterdir()), key=lambda name: name == last)
    old.mkdir()
    for name in sorted({*own, *written}, key=lambda name: name != last):
        if os.path.lexists(folder / name):
            (folder / name).rename(old / name)
    moved = []
    try:
        for name in written:
            (new / name).rename(folder / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            (folder / name).rename(new / name)
        raise


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.parent / f".{folder.name}.partial", folder.parent / f".{folder.name}.old"


def restore_folder(folder: Path, last: str | None) -> None:
    """Puts back what a process that was killed in `atomic_folder` had moved away, unless all was replaced already."""
    folder = folder.resolve() if folder.is_symlink() else folder
    _, old = _beside(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    elif old.exists() and last is not None and not (folder / last).exists():
        for item in sorted(old.iterdir(), key=lambda path: path.name == last):
            place = folder / item.name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
            item.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Raises StavisError if a file is in the place of `folder`, or of one that it is to lie in."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if there.exists() and not there.is_dir():
        raise StavisError(f"{there}: is a file, not a folder")


def read_record(path: Path, what: str) -> dict[str, Any] | None:
    """Reads the JSON object that records what a folder was made with; None if there is none.

    Raises StavisError if the file is not a JSON object; `what` says what it should be.
    """
    check_folder(path.parent)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict):
        raise StavisError(
            f"{path}: not {what}; choose another output folder, or replace this one (`overwrite=True`)"
        )
    return record


def check_record(folder: Path, before: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Compares the record of a folder with the entries `wanted` now; `what` is what the folder holds, in the plural.

    Raises StavisError if an entry differs; the message names it with both values.
    """
    for name, value in json.loads(json.dumps(wanted)).items():  # through JSON, which turns tuples into lists
        if before.get(name) != value:
            raise StavisError(
                f"{folder}: holds {what} of another {name.replace('_', ' ')} "
                f"({_difference(before.get(name), value)}); choose another output folder, or replace "
                "what is there (`overwrite=True`)"
            )


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        changed = [name for name in now if before.get(name) != now[name]]
        return ", ".join(f"{name} was {before.get(name)}, now {now[name]}" for name in changed)
    return f"was {before}, now {now}"
