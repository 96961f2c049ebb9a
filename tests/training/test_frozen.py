"""What features of a frozen network are marked and lose as: the rest is tests/training/test_train.py's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stavis.datasets.dataset import Sample
from stavis.errors import StavisError
from stavis.training.frozen import EncodedSamples, Listening, keep_visual
from stavis.training.recipe_file import parse_recipe

DATABASES = ["talks", "talks", "scenes", "pictures"]


def encoded(keep_databases: tuple[str, ...]) -> EncodedSamples:
    samples = SimpleNamespace(
        is_picture=lambda index: DATABASES[index] == "pictures",
        describe=lambda index: SimpleNamespace(database=DATABASES[index]),
        preprocessing=None,
        videos=[],
    )
    arrays = {
        "clip": np.zeros((4, 6), np.float16),
        "audio": np.ones((4, 3), np.float16),
        "density_map": np.zeros((4, 1, 2, 2), np.float16),
        "fixation_map": np.zeros((4, 1, 2, 2), np.float16),
    }
    arrays["audio"][1] = 0
    listening = Listening(torch.zeros(3), 1.0)
    return EncodedSamples(samples, np.arange(4), [arrays], listening, 0, keep_databases)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keep_databases", "expected"),
    [((), [5.0, 8.0, 5.0, 8.0]), (("talks",), [8.0, 8.0, 5.0, 8.0]), (("talks", "scenes"), [8.0] * 4)],
)
def test_clips_that_are_kept_lose_what_sound_adds(
    keep_databases: tuple[str, ...], expected: list[float]
) -> None:
    samples = encoded(keep_databases)
    batch = Sample(*(torch.stack(column) for column in zip(*(samples[i] for i in range(4)), strict=True)))
    logits = torch.full((4, 1, 2, 2), 2.0)  # the visual network's are 0: a mean square of 4
    assert keep_visual(batch, logits, torch.full((4,), 5.0), 2.0).tolist() == expected


def test_databases_are_kept_only_with_a_weight() -> None:
    with pytest.raises(StavisError, match=r"loss\.keep_databases needs loss\.keep"):
        parse_recipe({}, "recipe", ['loss.keep_databases=["talks"]'])


def test_databases_that_are_kept_are_trained_on() -> None:
    changes = [
        'loss.keep_databases=["tlaks"]',
        "loss.keep=1",
        'data.databases=["talks"]',
        "runtime.encoded_epochs=1",
    ]
    with pytest.raises(
        StavisError, match=r"loss\.keep_databases names tlaks, which data\.databases does not"
    ):
        parse_recipe({}, "recipe", changes)
