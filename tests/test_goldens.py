"""The recorded numbers that travel with the project are a part of all recorded ones, and small."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from support.places import TRAVELING_GOLDENS


def load(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe_to_compare", folder / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_small_numbers() -> None:
    files = [
        path for path in TRAVELING_GOLDENS.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sum(path.stat().st_size for path in files) <= 1_500_000
    inputs = (
        TRAVELING_GOLDENS / "challenge"
    )  # generated videos and maps, which score differently once re-encoded
    others = [path for path in files if not path.is_relative_to(inputs)]
    assert {path.suffix for path in others} == {".json", ".npz", ".md", ".py"}


def test_the_recipe_gives_the_same_weights_and_inputs(goldens: Path) -> None:
    own, full = load(TRAVELING_GOLDENS), load(goldens)
    names = json.loads((TRAVELING_GOLDENS / "model" / "state_dict_resnet50.json").read_text())
    special = ("conv1.weight", "soundnet8.0.weight", "fuse.weight", "fusion3.w_a_rgb.weight")
    for name, shape in names.items():
        if name in special or "upscale" in name or name.startswith(("bn1", "layer1.0", "score_dsn")):
            assert np.array_equal(own.tensor(name, shape, 3), full.tensor(name, shape, 3)), name
    assert np.array_equal(own.clip(2, 1, 4, 32), full.clip(2, 1, 4, 32))
    assert np.array_equal(own.audio(2, 1), full.audio(2, 1))
    for a, b in zip(own.maps(2, 1), full.maps(2, 1), strict=True):
        assert np.array_equal(a, b)


def assert_part(part: Any, whole: Any, where: str) -> None:
    """`part` is `whole` with some entries of its lists and tables left out, and numbers of entries changed."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name != "batch":
                assert_part(value, whole[name], f"{where}.{name}")
    elif isinstance(part, list) and part and isinstance(part[0], dict):
        assert all(entry in whole for entry in part), where
    elif isinstance(part, list):
        assert part == whole[: len(part)], where
    else:
        assert part == whole, where


def test_they_are_a_part_of_all_recorded_numbers(goldens: Path) -> None:
    for path in TRAVELING_GOLDENS.rglob("*.json"):
        name = path.relative_to(TRAVELING_GOLDENS)
        assert_part(json.loads(path.read_text()), json.loads((goldens / name).read_text()), str(name))
    for path in TRAVELING_GOLDENS.rglob("*.npz"):
        name = path.relative_to(TRAVELING_GOLDENS)
        with np.load(path) as part, np.load(goldens / name) as whole:
            for array in part.files:
                assert np.array_equal(part[array], whole[array][: len(part[array])], equal_nan=True), (
                    name,
                    array,
                )
