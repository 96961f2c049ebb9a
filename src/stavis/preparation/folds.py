"""Division of a database's videos into training and test folds, at random from a seed or as given."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stavis.datasets.fold_lists import format_fold_list, read_fold_list
from stavis.datasets.layout import SINGLE_SPLIT_DATABASES, SUBSETS, FoldEntry, Layout
from stavis.errors import StavisError, counted
from stavis.gaze.text import read_text, unicode_form
from stavis.runtime.files import write_text

DEFAULT_NUM_FOLDS = 3  # as many as the published databases have


@dataclass(frozen=True)
class Fold:
    """Names of the training and of the test videos, each in alphabetical order."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def k_folds(videos: Iterable[str], num_folds: int, seed: int) -> list[Fold]:
    """Shuffles the videos and divides them: each tests in one fold and trains in the others.

    There are 2 folds or more, at most as many as videos; the order of the names does not matter.
    """
    names = sorted(set(videos))
    if not 2 <= num_folds <= len(names):
        raise ValueError(f"{counted(len(names), 'videos')} cannot be divided into {num_folds} folds")
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    return [_fold(names, shuffled[k::num_folds]) for k in range(num_folds)]


def _fold(names: Sequence[str], test: Iterable[str]) -> Fold:
    tested = set(test)
    return Fold(tuple(n for n in names if n not in tested), tuple(n for n in names if n in tested))


def read_fold_numbers(path: str | os.PathLike[str]) -> dict[str, int]:
    """Reads a file of lines `video fold`, where fold (from 1) is the one in which the video tests.

    Raises StavisError if a line has another form, or a video is named twice.
    """
    numbers: dict[str, int] = {}
    for number, line in enumerate(_read_lines(path), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].isdecimal() or int(fields[1]) < 1:
            raise StavisError(
                f"{path}, line {number}: {line.strip()!r} is not 'video fold' with fold 1 or more"
            )
        if fields[0] in numbers:
            raise StavisError(f"{path}, line {number}: {fields[0]!r} is in fold {numbers[fields[0]]} already")
        numbers[fields[0]] = int(fields[1])
    return numbers


def folds_from_numbers(numbers: Mapping[str, int]) -> list[Fold]:
    """The folds in which each video tests in the one with its number and trains in the others."""
    names = sorted(numbers)
    return [
        _fold(names, [n for n in names if numbers[n] == k])
        for k in range(1, max(numbers.values(), default=0) + 1)
    ]


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads video names, one per line; the rest of a line is ignored, so that fold lists can be given."""
    return tuple(dict.fromkeys(line.split()[0] for line in _read_lines(path) if line.strip()))


def _read_lines(path: str | os.PathLike[str]) -> list[str]:
    try:
        return read_text(Path(path)).split("\n")
    except FileNotFoundError:
        raise StavisError(f"{path}: list not found") from None


@dataclass(frozen=True)
class FoldChoice:
    """How videos are divided; at most one of `num_folds`, `fold_list`, and `train` with `test` is given.

    Attributes:
        num_folds: Number of random folds; 1 puts every video into the test list and none into the train list. None is
            3, or 1 for fewer videos.
        seed: Seed of the random folds.
        fold_list: A file as in `read_fold_numbers`.
        train: A file as in `read_names`: the only train list.
        test: The only test list.
    """

    num_folds: int | None = None
    seed: int = 0
    fold_list: str | os.PathLike[str] | None = None
    train: str | os.PathLike[str] | None = None
    test: str | os.PathLike[str] | None = None


def choose_folds(choice: FoldChoice, videos: Iterable[str]) -> tuple[list[Fold], set[str]]:
    """Divides `videos` into folds.

    Returns the folds; and the videos that given lists do not name, which are in no fold. Raises StavisError if there
    are fewer videos than folds, or a given list is missing, malformed or contradicts another.
    """
    names = sorted(set(videos))
    ours = {unicode_form(name): name for name in names}

    def listed(path: str | os.PathLike[str] | None) -> list[str]:
        """The names in a list, spelled as ours where only their Unicode form differs."""
        return [] if path is None else [ours.get(unicode_form(name), name) for name in read_names(path)]

    ways = (choice.num_folds is not None, choice.fold_list is not None, bool(choice.train or choice.test))
    if sum(ways) > 1:
        raise StavisError(
            "folds are given in several ways; give one of `folds`, `fold_list`, and `train` with `test`"
        )
    if choice.train is not None or choice.test is not None:
        train, test = listed(choice.train), listed(choice.test)
        if both := sorted(set(train) & set(test)):
            raise StavisError(f"{choice.train} and {choice.test} both name {both[0]!r}")
        fold = Fold(tuple(sorted(train)), tuple(sorted(test)))
        return [fold], set(names) - {*train, *test}
    if choice.fold_list is not None:
        numbers = {
            ours.get(unicode_form(name), name): fold
            for name, fold in read_fold_numbers(choice.fold_list).items()
        }
        folds = folds_from_numbers(numbers)
        if empty := [k for k, fold in enumerate(folds, 1) if not fold.test]:
            raise StavisError(f"{choice.fold_list}: no video in fold {empty[0]} of {len(folds)}")
        if not folds:
            raise StavisError(f"{choice.fold_list}: names no video")
        return folds, set(names) - set(numbers)
    num_folds = choice.num_folds or (DEFAULT_NUM_FOLDS if len(names) >= DEFAULT_NUM_FOLDS else 1)
    if num_folds > max(1, len(names)):
        raise StavisError(f"{counted(len(names), 'videos')} cannot be divided into {num_folds} folds")
    if num_folds == 1:
        return [Fold((), tuple(names))], set()
    return k_folds(names, num_folds, choice.seed), set()


def listed_videos(layout: Layout, database: str) -> set[str]:
    """All videos that the fold lists of `database` name."""
    return {entry.video for path in _lists(layout, database) for entry in read_fold_list(path)}


def write_folds(
    layout: Layout, database: str, folds: Sequence[Fold], entries: Mapping[str, FoldEntry]
) -> list[Path]:
    """Writes the fold lists of a database and removes its other ones. Returns their paths.

    One fold is written as a list for all splits, several as one list per split. DIEM has one for all splits: the first.
    `entries` has the lines of the videos that exist, by name; others are left out of the lists.
    """
    if database in SINGLE_SPLIT_DATABASES:
        folds = folds[:1]
    folder = layout.root / "fold_lists"
    written = []
    for number, fold in enumerate(folds, 1):
        split = f"_{number}" if len(folds) > 1 else ""
        for subset, names in (("train", fold.train), ("test", fold.test)):
            path = folder / f"{database}_list_{subset}{split}_fps.txt"
            write_text(path, format_fold_list([entries[name] for name in names if name in entries]))
            written.append(path)
    for path in _lists(layout, database):
        if path not in written:
            path.unlink()
    return written


def _lists(layout: Layout, database: str) -> list[Path]:
    endings = ["", "_1", *(f"_{split}" for split in layout.splits(database))]
    names = {f"{database}_list_{subset}{ending}_fps.txt" for subset in SUBSETS for ending in endings}
    return sorted(path for name in names if (path := layout.root / "fold_lists" / name).exists())
