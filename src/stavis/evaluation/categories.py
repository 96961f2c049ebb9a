"""Categories of videos: the file `categories.csv` of a data folder."""

import csv
import io
import unicodedata
from pathlib import Path

from stavis.errors import StavisError
from stavis.gaze.text import read_text

CATEGORIES_FILE = "categories.csv"


def read_categories(data: Path) -> dict[str, list[tuple[str | None, str]]]:
    """Reads the categories of a data folder's videos.

    The file is a table with the columns `video` and `category`, and `database` if names occur in several. A video may
    have several rows. Videos that are not evaluated may be in it.

    Returns video, in NFC -> its pairs of database, None for any, and category; empty without a file. Raises StavisError
    if a column is missing, or a row is incomplete.
    """
    path = data / CATEGORIES_FILE
    if not path.exists():
        return {}
    rows = csv.DictReader(io.StringIO(read_text(path)))
    if not {"video", "category"} <= set(rows.fieldnames or ()):
        raise StavisError(
            f"{path}: has the columns {', '.join(rows.fieldnames or ())}; video and category are needed"
        )
    found: dict[str, list[tuple[str | None, str]]] = {}
    for row in rows:
        video, category = (row["video"] or "").strip(), (row["category"] or "").strip()
        if not video or not category:
            raise StavisError(f"{path}, line {rows.line_num}: video or category is empty")
        pair = ((row.get("database") or "").strip() or None, category)
        found.setdefault(unicodedata.normalize("NFC", video), []).append(pair)
    return found
