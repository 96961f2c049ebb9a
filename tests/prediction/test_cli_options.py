"""Options that commands share, and the names of flags and parameters."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stavis import clips, engine, model
from stavis.cli import options
from stavis.cli.options import ALIASES, name_flags, split_names, use_current_names
from stavis.datasets.layout import SPLITS
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
    assert get_args(options.Split) == (*map(str, SPLITS), "all")


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
        ("a=b.mp4: `stavis data check` lists all", "a=b.mp4: `stavis data check` lists all"),
    ],
)
def test_messages_name_flags(message: str, shown: str) -> None:
    assert name_flags(message) == shown


def test_names_come_with_commas_or_one_by_one() -> None:
    assert split_names(["DIEM, AVAD", "Coutrot_db1"]) == ["DIEM", "AVAD", "Coutrot_db1"]
    assert split_names(None) is None
