"""Text of gaze files: encodings, names and numbers in the forms that programs and countries give them."""

import gzip
import io
import math
import re
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stavis.errors import StavisError
from stavis.gaze.recording import FloatArray

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", ".", "-", "--"})
"""Cells that stand for no value, in lower case."""

_MAX_TEXT = 1 << 30  # bytes: a few kilobytes can be made to inflate to any size
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f]")
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_FIXED_SPACES = dict.fromkeys(map(ord, "\u00a0\u202f\u2009"))


def read_text(path: Path, limit: int | None = None) -> str:
    """Reads a text file in UTF-8, UTF-16, UTF-32 or Windows-1252, gzipped or not, with lines that end in a newline.

    With a `limit`, only about this many bytes are read, to look at the beginning.

    Raises StavisError if it is not text.
    """
    with path.open("rb") as file:
        data = file.read() if limit is None else file.read(limit)
    if data[:2] == b"\x1f\x8b":
        data = _gunzip(path, limit)
    text = _decode(data, cut=limit is not None)
    if text is None or _CONTROLS.search(text):
        raise StavisError(f"{path}: not a text file; allowed: UTF-8, UTF-16, UTF-32, Windows-1252 (Latin-1)")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _gunzip(path: Path, limit: int | None) -> bytes:
    try:
        with gzip.open(path) as file:
            data = file.read(_MAX_TEXT + 1 if limit is None else limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StavisError(f"{path}: damaged gzip file ({error})") from None
    if len(data) > _MAX_TEXT:
        raise StavisError(f"{path}: inflates to over {_MAX_TEXT >> 20} MiB")
    return data


def _decode(data: bytes, *, cut: bool) -> str | None:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data:
        # Without a mark: western text in UTF-16 has its zeros in every other place.
        zeros = [data[side::2].count(0) for side in (0, 1)]
        encoding = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    for candidate in (encoding,) if encoding else ("utf-8", "cp1252"):
        if cut:  # a character may be cut in two at the end
            data = data[: len(data) // 4 * 4]
        try:
            return data.decode(candidate, errors="strict")
        except UnicodeDecodeError as error:
            if cut and error.start >= len(data) - 4:
                return data[: error.start].decode(candidate)
    return None


def first_lines(path: Path, num: int = 200) -> list[str]:
    """The first lines of a file that are not blank; none if it is not text."""
    try:
        lines = io.StringIO(read_text(path, limit=1 << 16))
    except StavisError:
        return []
    return [line.rstrip("\n") for _, line in zip(range(num), lines, strict=False) if line.strip()]


def plain(name: str) -> str:
    """A name regardless of case, kind of blanks, dashes and micro signs, and Unicode form."""
    text = unicodedata.normalize("NFKC", name.translate(_INVISIBLE)).translate(_DASHES)
    return " ".join(text.split()).casefold()


def unicode_form(name: str) -> str:
    """A name with its accents in one Unicode form (NFC), to compare names of different systems."""
    return unicodedata.normalize("NFC", name)


def names_video(cell: str, video: str) -> bool:
    """Whether a cell names a video, with or without a suffix or folders."""
    wanted = plain(video)
    file = re.split(r"[\\/]", cell.strip())[-1]
    return wanted in (plain(cell), plain(file), plain(Path(file).stem))


def parse_number(cell: object) -> float:
    """A cell as a number, with a decimal point or comma; nan for no value. Raises ValueError if it is not a number."""
    if cell is None:
        return math.nan
    if isinstance(cell, int | float | np.number):
        return float(cell)
    text = str(cell)
    if "_" in text:  # Python's float would take it
        raise ValueError
    try:
        return float(text)
    except ValueError:
        pass
    text = unicodedata.normalize("NFKC", text.translate(_FIXED_SPACES)).translate(_DASHES).strip()
    if text.lower() in MISSING:
        return math.nan
    return float(text.replace(",", ".") if "." not in text else text)


def parse_numbers(path: Path, name: str, cells: Sequence[object], rows: Sequence[int]) -> FloatArray:
    """Some rows of a column as numbers, nan for no value. Raises StavisError for anything else, or doubtful commas."""
    values = np.empty(len(rows))
    commas: list[str] = []
    for position, row in enumerate(rows):
        cell = cells[row]
        try:
            values[position] = parse_number(cell)
        except ValueError:
            raise StavisError(
                f"{path}, row {row + 1}: {cell!r} in column {name!r} is {_what(cell)}"
            ) from None
        if isinstance(cell, str) and "," in cell:
            commas.append(cell)
    if commas:
        others = [str(cells[row]) for row in rows if "," not in str(cells[row])]
        thousands = all(re.fullmatch(r"\s*-?\d{1,3},\d{3}\s*", cell) for cell in commas)
        if any("." in cell and cell.strip() != "." for cell in others) or (
            thousands and any(re.fullmatch(r"\s*-?\d{3}\s*", cell) for cell in others)
        ):
            raise StavisError(
                f"{path}: commas in column {name!r}, as in {commas[0]!r}, could separate thousands or decimals; write "
                "numbers without a separator of thousands"
            )
    return values


def _what(cell: object) -> str:
    text = str(cell)
    if re.search(r"\d[-/.]\d+[-/.]\d.*:|\d:\d\d", text) or re.fullmatch(r"\s*\d+[-/.]\d+[-/.]\d+\s*", text):
        return "a date or a time of day; allowed is a number, counted from the start of the video"
    if "," in text and "." in text:
        return "a number with separators of thousands; write it without"
    return "not a number"
