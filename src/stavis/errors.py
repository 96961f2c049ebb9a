"""The errors that a user can cause, as opposed to those that are our own bugs."""

import re
from collections.abc import Iterable


class StavisError(Exception):
    """Bad input, a bad setting or a missing resource, told in one line.

    The message names the file, what was found in it and what is allowed. The command line prints it
    without a traceback and exits with status 1.
    """


def one_line(error: BaseException) -> str:
    """An exception in one line: ours as they are, others with the file or the kind of error they are about."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, StavisError | OSError) and str(error):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return " ".join(text.split())


def describe_unexpected(error: Exception) -> str:
    """An error that is our own bug, in one line; commands show its traceback on demand."""
    return f"unexpected error, please report it (`verbose=True` shows where it arose): {one_line(error)}"


def printable(text: str) -> str:
    """A text that any output takes, on one line: bytes that are not UTF-8 and control characters are replaced."""
    decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    shown = (
        " " if one.isspace() else one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in decoded
    )
    return "".join(shown)


def legend_text(name: str) -> str:
    """A name as Matplotlib's legends show it unchanged: $ begins no formula there, and _ does not hide the entry."""
    text = printable(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def some(names: Iterable[str], limit: int = 5) -> str:
    """The first names in natural order, and how many more there are."""
    listed = sorted(names, key=_natural)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def counted(number: int, noun: str) -> str:
    """A number with its noun, which is given in the plural: "1 frame", "2 frames"."""
    return f"{number} {noun.removesuffix('s') if number == 1 else noun}"


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
