"""Disk space of stavis with its dependencies, and what each extra adds, in the environment that runs this.

python benchmarks/extras.py
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def closure(name: str, extras: frozenset[str] = frozenset()) -> dict[str, set[str]]:
    """Returns the distributions that `name[extras]` needs, itself included, each with the extras asked of it."""
    found: dict[str, set[str]] = {}
    to_do = [(name, extras)]
    while to_do:
        name, extras = to_do.pop()
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name in found and extras <= found[name]:
            continue
        found.setdefault(name, set()).update(extras)
        to_do += [(one.name, frozenset(one.extras)) for one in requirements(name, extras)]
    return found


def requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    if name == "stavis":  # not from an installation, which may be older than this file
        lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
        texts = [text for one in lists for text in one]
    else:
        texts = importlib.metadata.requires(name) or []
    for text in texts:
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield one


def megabytes(names: set[str]) -> float:
    """Returns the size on disk of distributions, without what Python compiles on first use."""
    files = [path for name in names for path in importlib.metadata.files(name) or () if path.suffix != ".pyc"]
    paths = {Path(str(path.locate())) for path in files}
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main() -> None:
    base = set(closure("stavis"))
    files = [path for path in (ROOT / "src/stavis").rglob("*.*") if path.suffix != ".pyc"]
    own = sum(path.stat().st_size for path in files) / 1e6
    print(f"stavis {own:.0f} MB, PyTorch {megabytes({'torch'}):.0f} MB, other dependencies ", end="")
    print(f"{megabytes(base - {'stavis', 'torch'}):.0f} MB")
    for extra in PROJECT["optional-dependencies"]:
        more = set(closure("stavis", frozenset({extra}))) - base
        try:
            print(f"{extra:12} {megabytes(more):5.0f} MB  {len(more)} packages")
        except importlib.metadata.PackageNotFoundError as error:
            print(f"{extra:12} not installed here: {error.name}")


if __name__ == "__main__":
    main()
