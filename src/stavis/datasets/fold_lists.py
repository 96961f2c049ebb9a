"""Fold lists: the videos of each training and test split."""

import heapq
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from stavis.datasets.layout import DATABASES, SINGLE_SPLIT_DATABASES, SPLITS, SUBSETS, FoldEntry, Layout
from stavis.errors import StavisError
from stavis.gaze.text import read_text

T = TypeVar("T")


def read_fold_list(path: Path) -> list[FoldEntry]:
    """Reads a fold list: one line per video, `name frames fps`, in UTF-8, UTF-16 or Windows-1252.

    Blank lines are ignored.

    Raises StavisError if the file is missing or not text, or a line does not have that form.
    """
    try:
        lines = read_text(path).split("\n")
    except FileNotFoundError:
        raise StavisError(f"{path}: fold list not found") from None
    return [_parse_entry(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]


def _parse_entry(line: str, path: Path, number: int) -> FoldEntry:
    fields = line.split()
    try:
        if len(fields) != 3:
            raise ValueError
        if fields[0] in (".", "..") or re.search(r"[/\\\0]", fields[0]):
            raise StavisError(f"{path}, line {number}: {fields[0]!r} is not the name of a folder")
        entry = FoldEntry(fields[0], int(fields[1]), float(fields[2]))
        if entry.num_frames < 1 or not 0 < entry.frame_rate < float("inf"):
            raise ValueError
    except ValueError:
        raise StavisError(
            f"{path}, line {number}: {line.strip()!r} is not 'name frames fps' with frames >= 1 and fps > 0"
        ) from None
    return entry


def format_fold_list(entries: list[FoldEntry]) -> str:
    """The text of a fold list for `read_fold_list`."""
    return "".join(f"{e.video} {e.num_frames} {e.frame_rate:.6f}\n" for e in entries)


def choose_databases(layout: Layout, wanted: str | Sequence[str] | None) -> list[str]:
    """The requested databases (or a single one), or all that have fold lists.

    Raises StavisError if a requested one has none.
    """
    there = {unicodedata.normalize("NFC", name): name for name in layout.databases()}
    if wanted is None:
        return list(there.values())
    wanted = [
        unicodedata.normalize("NFC", name) for name in ([wanted] if isinstance(wanted, str) else wanted)
    ]
    for database in wanted:
        if database not in there:
            raise StavisError(
                f"{layout.root}: no fold list of database {database!r} there; allowed: {', '.join(there)}"
            )
    return [there[name] for name in dict.fromkeys(wanted)]


def choose_lists(layout: Layout, database: str, split: int | None) -> list[tuple[int | None, str, Path]]:
    """The fold lists to look at, as (split, subset, path); split None for a list of all splits.

    For the six databases all published lists are expected, for others those of the splits that they have.
    """
    expected = SPLITS if database in DATABASES and database not in SINGLE_SPLIT_DATABASES else ()
    there = layout.splits(database)
    splits: list[int | None] = [*sorted({*expected, *there})] or [None]
    if split is not None:
        splits = [s for s in splits if s in (split, None)] or [split]
    return [(s, subset, layout.fold_list(database, subset, s or 1)) for s in splits for subset in SUBSETS]


def read_test_lists(
    layout: Layout, database: str, split: int | None
) -> Iterator[tuple[int, list[FoldEntry]]]:
    """Yields the test lists of a database as (split, entries); split None stands for every split that has a list.

    Raises StavisError if a list is missing, unreadable or empty.
    """
    there = layout.splits(database)
    for number in (there or SPLITS) if split is None else (split,):
        path = layout.fold_list(database, "test", number)
        if split is None and not path.exists() and there:
            continue
        entries = read_fold_list(path)
        if not entries:
            raise StavisError(f"{path}: no video in it")
        yield number, entries


def select_share(items: Sequence[T], rank: int, num_shares: int, cost: Callable[[T], float]) -> list[T]:
    """Selects one of `num_shares` shares of similar total cost (`rank` counts from 0), the most expensive item first.

    The items are dealt out in descending order of cost, each to the share with the lowest total so far.
    """
    totals = [(0.0, taker) for taker in range(num_shares)]  # a heap
    share = []
    for item in sorted(items, key=cost, reverse=True):
        total, taker = totals[0]
        heapq.heapreplace(totals, (total + cost(item), taker))
        if taker == rank:
            share.append(item)
    return share


def parse_share(text: str) -> tuple[int, int]:
    """Reads a share such as "2/8": (2, 8). Raises ValueError if its number is not from 1 to the number of shares."""
    number, _, total = text.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise ValueError(f"`shard={text}`: i/n is allowed, with i from 1 to n, for example 2/8")
    return int(number), int(total)
