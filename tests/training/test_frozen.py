"""What features of a frozen network are marked and lose as: the rest is tests/training/test_train.py's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stavis.datasets.dataset import Sample
from stavis.errors import StavisError
from stavis.training.frozen import EncodedSamples, Listening, keep_visual
from stavis.training.recipe_file import parse_recipe

DATABASES = ["talks", "talks", "scenes", "pictures"]


def encoded(keep_databases: tuple[str, ...], *, num_variants: int = 1) -> EncodedSamples:
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
    videos = {name: array[:3] + 1 for name, array in arrays.items()}  # without the picture
    listening = Listening(torch.zeros(3), 1.0)
    stored = [arrays, *[videos] * (num_variants - 1)]
    return EncodedSamples(samples, np.arange(4), stored, listening, 0, keep_databases)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("num_workers", [0, 1])
def test_variants_take_turns_also_in_workers_that_live_on(num_workers: int) -> None:
    samples = encoded((), num_variants=2)
    options = {"num_workers": num_workers, "persistent_workers": num_workers > 0, "sampler": range(4)}
    loader = DataLoader(samples, batch_size=None, **options)  # type: ignore[arg-type]
    seen = []
    for epoch in range(4):
        samples.set_epoch(epoch)
        seen.append([float(sample.clip[0]) for sample in loader])
    assert seen == [[0, 0, 0, 0], [1, 1, 1, 0]] * 2


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
