"""Recipe files in TOML."""

import copy
import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic

from stavis.datasets.quirks import LoaderQuirks
from stavis.errors import StavisError
from stavis.training.recipe import CHANGEABLE, Recipe


def read_recipe(path: Path, overrides: str | Iterable[str] = ()) -> Recipe:
    """Reads a recipe from a TOML file; `a.b=value` settings override it.

    Raises StavisError if the file is missing or not TOML, a key is unknown, or a value is not allowed.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StavisError(f"{path}: recipe not found") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StavisError(f"{path}: not a TOML file: {error}") from None
    return parse_recipe(table, str(path), overrides)


def change_recipe(recipe: Recipe, overrides: str | Iterable[str]) -> Recipe:
    """Returns the recipe with `a.b=value` settings changed. Raises StavisError as `read_recipe`."""
    return parse_recipe(dataclasses.asdict(recipe), "recipe", overrides)


def parse_recipe(table: Mapping[str, Any], source: str, overrides: str | Iterable[str] = ()) -> Recipe:
    """Parses a recipe from a table as read from TOML; `a.b=value` settings override it, `source` names it in errors.

    Raises StavisError if a key is unknown, or a value is not allowed.
    """
    merged = copy.deepcopy(dict(table))
    overrides = [overrides] if isinstance(overrides, str) else list(overrides)
    for override in overrides:
        _set(merged, override)
    _expand(merged)
    try:
        # As JSON, since pydantic then takes lists for tuples and is strict in all else. TOML's dates become strings,
        # which no setting takes.
        return pydantic.TypeAdapter(Recipe).validate_json(json.dumps(merged, default=str), strict=True)
    except pydantic.ValidationError as error:
        where = f"{source} with --set {' '.join(overrides)}" if overrides else source
        raise StavisError(f"{where}: {_explain(error.errors(include_url=False)[0])}") from None


def format_recipe(recipe: Recipe) -> str:
    """Formats the complete recipe as TOML; `read_recipe` returns an equal recipe."""
    return _format_table(dataclasses.asdict(recipe), ())


def differences(here: Recipe, there: Recipe) -> list[str]:
    """Lists the settings that differ between two recipes and change the results, one line each."""
    ours, theirs = _flatten(dataclasses.asdict(here)), _flatten(dataclasses.asdict(there))
    return [
        f"{key} is {_format_value(ours[key])}, was {_format_value(theirs[key])}"
        for key in ours
        if ours[key] != theirs[key] and key not in CHANGEABLE
    ]


def _set(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise StavisError(f"--set {override}: expected key=value, such as data.split=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare string, which TOML requires in quotes
    *path, last = key.strip().split(".")
    for part in path:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise StavisError(f"--set {override}: {part!r} is a single value, not a table")
        table = inner
    table[last] = value


def _expand(table: dict[str, Any]) -> None:
    """Expands short forms: a single value for a list, the name of a set of quirks."""
    for outer, key in (
        ("", "initial_weights"),
        ("data", "databases"),
        ("optimizer", "frozen"),
        ("data", "quirks"),
    ):
        inner = table.get(outer) if outer else table
        if isinstance(inner, dict) and isinstance(value := inner.get(key), str):
            inner[key] = dataclasses.asdict(LoaderQuirks.named(value)) if key == "quirks" else [value]


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "unexpected_keyword_argument":
            return f"unknown key {key!r}; the nearest that there is: {_nearest_key(key)!r}"
        case "dataclass_type":
            return f"{key!r} is a table of settings, not {error['input']!r}"
        case "value_error":
            return f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    return f"{key} {error['msg'].removeprefix('Input ')}, found {error['input']!r}"


def _nearest_key(key: str) -> str:
    tables = dataclasses.asdict(Recipe())
    known = [*_flatten(tables), *(name for name, value in tables.items() if isinstance(value, dict))]
    # A key of the right name in a wrong table is nearer than any misspelt one.
    same_name = [one for one in known if one.rpartition(".")[2] == key.rpartition(".")[2]]
    return (same_name or difflib.get_close_matches(key, known, n=1, cutoff=0.0))[0]


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _format_table(table: Mapping[str, Any], path: tuple[str, ...]) -> str:
    values = [(key, value) for key, value in table.items() if not isinstance(value, dict)]
    text = f"[{'.'.join(path)}]\n" if path else ""
    text += "".join(f"{key} = {_format_value(value)}\n" for key, value in values)
    for key, value in table.items():
        if isinstance(value, dict):
            text += "\n" + _format_table(value, (*path, key))
    return text


def _format_value(value: Any) -> str:
    # JSON's strings, numbers, booleans and lists are TOML's too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
