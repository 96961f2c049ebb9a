"""Parquet tables, by pyarrow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stavis.errors import StavisError
from stavis.runtime.files import atomic_path


def import_pyarrow(what: str = "Parquet") -> Any:
    """The module pyarrow with pyarrow.parquet. Raises StavisError, that `what` needs it, if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise StavisError(f"{what} needs pyarrow: pip install 'stavis[parquet]'") from None
    return pyarrow


def read_parquet(path: Path, *, rows: bool = True) -> Any:
    """A `pyarrow.Table`; without `rows` it is empty. Raises StavisError if the file is damaged or of another kind."""
    pyarrow = import_pyarrow(str(path))
    try:
        with path.open("rb") as file:
            if rows:
                return pyarrow.parquet.read_table(file)
            return pyarrow.parquet.read_schema(file).empty_table()
    except pyarrow.ArrowException as error:
        raise StavisError(f"{path}: not a Parquet file: {error}") from None


def write_parquet(
    path: Path, columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, Any] | None = None
) -> None:
    """Writes a table atomically. `kinds` are the columns' types; without them, pyarrow finds types."""
    pyarrow = import_pyarrow()
    table = pyarrow.table(columns, schema=None if kinds is None else pyarrow.schema(list(kinds.items())))
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)
