"""Folders that appear whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from stavis.errors import StavisError, some


@contextlib.contextmanager
def atomic_folder(folder: Path, *, may_replace: Iterable[str]) -> Iterator[Path]:
    """Gives a temporary folder, renamed to `folder` when the block ends without an error."""
    try:
        if folder.exists():
            if not folder.is_dir():
                raise StavisError(f"{folder}: a file is there, where a folder of weights is to be written")
            if others := {entry.name for entry in folder.iterdir()} - set(may_replace):
                raise StavisError(
                    f"{folder}: holds other files than weights: {some(others)}; name another folder"
                )
        folder.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise StavisError(f"{folder}: cannot be written: {error}") from None
    new, old = workplace / "new", workplace / "old"
    try:
        new.mkdir()  # unlike the folder around it with everyone's usual rights
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise StavisError(f"{folder}: cannot be written: {error}") from None
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(workplace, ignore_errors=True)
