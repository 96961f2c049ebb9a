"""Options that commands share, and the names of flags and parameters."""

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from stavis import clips, engine, model
from stavis.cli import app, options
from stavis.cli.options import ALIASES, name_flags, split_names, use_current_names
from stavis.prediction import options as prediction_options


def test_choices_are_those_of_the_library() -> None:
    """cli/options.py repeats them, as their modules import torch."""
    for repeated, original in (
        (options.Modality, model.Modality),
        (options.Engine, engine.EngineName),
        (options.Precision, engine.Precision),
        (options.Edges, clips.Edges),
        (options.Quirks, prediction_options.Quirks),
    ):
        assert set(get_args(repeated)) == set(get_args(original))


def test_old_spellings_of_flags_are_accepted() -> None:
    assert use_current_names(["predict", "a.mp4", "--no-colour-bar"]) == [
        "predict",
        "a.mp4",
        "--no-color-bar",
    ]
    assert use_current_names(["--colour-bar=1", "x"]) == ["--color-bar=1", "x"]
    assert use_current_names(["predict", "--", "--colour-bar"]) == ["predict", "--", "--colour-bar"]


@given(st.lists(st.text()))
def test_other_arguments_are_left_alone(arguments: list[str]) -> None:
    if not any(argument.partition("=")[0] in ALIASES for argument in arguments):
        assert use_current_names(arguments) == arguments


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("replace it (`overwrite=True`)", "replace it (--overwrite)"),
        ("`stride=0`: must be 1 or more", "--stride 0: must be 1 or more"),
        (
            "`end_seconds=1`: must be greater than `start_seconds=2`",
            "--end 1: must be greater than --start 2",
        ),
        ("`audio_path` and `silent=True` exclude each other", "--audio and --silent exclude each other"),
        ("`bit_rate=500`: must be at least 1000", "--bitrate 500: must be at least 1000"),
        ("an array `saliency`, a column `name`", "an array `saliency`, a column `name`"),
        ("a=b.mp4: `stavis data check` lists all", "a=b.mp4: `stavis data check` lists all"),
    ],
)
def test_messages_name_flags(message: str, shown: str) -> None:
    assert name_flags(message) == shown


def test_parameters_in_messages_are_flags() -> None:
    """Of all texts of the library, whichever command they reach; a parameter may stand for several flags."""
    flags: set[str] = set()

    def collect(command: Any) -> None:
        flags.update(flag for parameter in command.params for flag in parameter.opts)
        for inner in getattr(command, "commands", {}).values():
            collect(inner)

    collect(typer.main.get_command(app))
    unknown = set()
    for path in Path(options.__file__).parents[1].rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                for name in re.findall(r"`([a-z][a-z0-9_]*)(?:=|`)", node.value):
                    shown = name_flags(f"`{name}`")
                    if shown.startswith("--") and shown not in flags:
                        unknown.add(name)
    # No command lets these be wrong.
    assert unknown <= {"floor", "step", "model", "rng", "num_splits"}


def test_names_come_with_commas_or_one_by_one() -> None:
    assert split_names(["DIEM, AVAD", "Coutrot_db1"]) == ["DIEM", "AVAD", "Coutrot_db1"]
    assert split_names(None) is None
