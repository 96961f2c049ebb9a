"""Folders that appear whole or not at all, and the record of the settings that each was made with."""

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from stavis.errors import StavisError, some


@contextlib.contextmanager
def atomic_folder(
    folder: Path, *, may_replace: Collection[str] | None = None, merge_before: str | None = None
) -> Iterator[Path]:
    """Yields an empty folder beside `folder` that is renamed to it when the block ends without an error.

    An error inside the block removes the temporary folder and leaves `folder` as it was; so does a killed process,
    whose leftovers the next call removes. Parent folders are created.

    Args:
        folder: The folder to write.
        may_replace: Names of files and folders that `folder` may hold already and that are replaced; `()` accepts an
            empty folder only. None: anything is replaced.
        merge_before: Add to `folder` instead of replacing it: same-named files and folders are replaced, the others
            stay, and this file is moved last.

    Raises:
        StavisError: `folder` cannot be written, is a file, or holds something that may not be replaced.
    """
    new, old = (folder.parent / f".{folder.name}.{state}" for state in ("partial", "old"))
    try:
        if old.exists() and not folder.exists():
            old.rename(folder)  # a process was killed between the two renames below
        if folder.exists() and not folder.is_dir():
            raise StavisError(f"{folder}: a file is there, where a folder is to be written")
        there = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        if may_replace is not None and (others := there - set(may_replace)):
            raise StavisError(f"{folder}: not empty: contains {some(others)}; choose another folder")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        if merge_before is not None and folder.exists():
            _merge(new, folder, merge_before)
            return
        shutil.rmtree(old, ignore_errors=True)
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
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)


def _merge(new: Path, folder: Path, last: str) -> None:
    for item in sorted(new.iterdir(), key=lambda path: path.name == last):
        target = folder / item.name
        if target.is_dir():
            shutil.rmtree(target)
        item.replace(target)


def read_record(path: Path, what: str) -> dict[str, Any] | None:
    """Reads the JSON object that records what a folder was made with; None if there is none.

    Raises StavisError if the file is not a JSON object; `what` says what it should be.
    """
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
