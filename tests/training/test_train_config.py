"""Recipes: TOML in, dataclasses out, and one clear line for whatever is wrong with them."""

import dataclasses
import itertools
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import stavis
from stavis.cli import app
from stavis.datasets.quirks import LoaderQuirks
from stavis.errors import StavisError
from stavis.model import ModelConfig
from stavis.training.losses import LossWeights
from stavis.training.optim import OptimizerSettings
from stavis.training.recipe import CHANGEABLE, PUBLISHED, DataSettings, Recipe
from stavis.training.recipe_file import change_recipe, differences, format_recipe, parse_recipe, read_recipe

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_recipe_loads_and_survives_printing(path: Path) -> None:
    recipe = read_recipe(path)
    assert parse_recipe(tomllib.loads(format_recipe(recipe)), "printed") == recipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_recipes_are_the_built_in_ones(name: str) -> None:
    assert read_recipe(CONFIGS / f"{name}.toml") == PUBLISHED[name]


def test_published_values() -> None:
    for name, recipe in PUBLISHED.items():
        assert recipe.model == ModelConfig(modality=name, depth=50, shortcut="B")  # type: ignore[arg-type]
        assert (recipe.seed, recipe.epochs, recipe.batch.size) == (1, 60, 128)
        assert recipe.loss == LossWeights(
            bce=0.1, cc=2.0, nss=1.0, kl=0.0, side_outputs=1.0, anneal_side_outputs=True
        )
        optimizer = recipe.optimizer
        assert (optimizer.name, optimizer.base_rate, optimizer.weight_decay) == ("sgd", 0.01, 1e-5)
        assert (optimizer.momentum, optimizer.dampening) == (0.9, 0.9)
        assert (optimizer.clip_gradient_norm, optimizer.ema_decay, optimizer.frozen) == (0, 0, ())
        assert (recipe.schedule.name, recipe.schedule.milestones, recipe.schedule.factor) == (
            "steps",
            (0.5, 0.75),
            0.1,
        )
        assert recipe.augmentation == type(recipe.augmentation)()
        assert (recipe.runtime.precision, recipe.runtime.compile, recipe.runtime.batch_norm) == (
            "float32",
            False,
            "local",
        )


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    base_rate=st.floats(1e-12, 1e3),
    root=st.text(st.characters(blacklist_categories=["Cs"]), min_size=1),
    databases=st.lists(st.text(st.characters(blacklist_categories=["Cs"])), max_size=3),
    audio=st.booleans(),
)
def test_any_recipe_survives_printing(
    seed: int, base_rate: float, root: str, databases: list[str], audio: bool
) -> None:
    recipe = Recipe(
        seed=seed,
        optimizer=OptimizerSettings(base_rate=base_rate),
        data=DataSettings(root=root, databases=tuple(databases)),
        model=ModelConfig(modality="audiovisual" if audio else "visual"),
    )
    assert parse_recipe(tomllib.loads(format_recipe(recipe)), "printed") == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.splt=2", "unknown key 'data.splt'; the nearest that there is: 'data.split'"),
        ("split=2", "unknown key 'split'; the nearest that there is: 'data.split'"),
        ("optimizr.base_rate=1", "unknown key 'optimizr'; the nearest that there is: 'optimizer'"),
        ("model.preprocessing.meen=1", "the nearest that there is: 'model.preprocessing.mean'"),
        ("data=3", "'data' is a table of settings, not 3"),
        ("data.split=0", "data.split should be greater than or equal to 1, found 0"),
        ('epochs="60"', "epochs should be a valid integer, found '60'"),
        ("runtime.compile=1", "runtime.compile should be a valid boolean, found 1"),
        ("optimizer.base_rate=nan", "optimizer.base_rate should be a finite number"),
        ("model.depth=11", "depth is 11; allowed: 10, 18, 34, 50, 101, 152, 200"),
        (
            "model.preprocessing.clip_length=12",
            "model: preprocessing.clip_length is 12; the visual network takes 1 or",
        ),
        (
            "model.preprocessing.input_size=[48, 48]",
            "preprocessing.input_size is (48, 48); the network takes multiples",
        ),
        ("model.preprocessing.mean=[300, 0, 0]", "mean is (300.0, 0.0, 0.0); expected a value in 0..255"),
        ("model.modality=sound", "model.modality should be 'audiovisual' or 'visual', found 'sound'"),
        ("optimizer.frozen=layer9", "no part 'layer9' can be frozen; allowed: stem, layer1"),
        ("optimizer.frozen=soundnet", "optimizer.frozen names soundnet, which a visual network lacks"),
        ("validation.patience=3", "patience needs on = 'holdout'"),
        ("schedule.warm_up_epochs=1.0", "warm_up_epochs needs schedule.name = 'cosine'"),
        ("data.quirks=refrence", "quirks is 'refrence'; allowed: fixed, reference"),
        ("data.split.x=1", "'split' is a single value, not a table"),
        ("epochs", "expected key=value"),
        ("seed=1979-05-27", "seed should be a valid integer"),
    ],
)
def test_mistakes_are_told_in_one_line(change: str, message: str) -> None:
    with pytest.raises(StavisError) as caught:
        change_recipe(PUBLISHED["visual"], [change])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_on_the_command_line_win_and_may_be_written_short(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = 3\n[data]\nsplit = 2\n")
    changes = [
        "data.split=3",
        "data.root=/with blanks/and #",
        "data.databases=DIEM",
        "data.quirks=reference",
        'initial_weights=["a", "b"]',
        "optimizer.base_rate=1",
    ]
    recipe = read_recipe(path, changes)
    assert (recipe.epochs, recipe.data.split, recipe.data.root) == (3, 3, "/with blanks/and #")
    assert recipe.data.databases == ("DIEM",)
    assert recipe.data.quirks == LoaderQuirks.reference()
    assert recipe.initial_weights == ("a", "b")
    assert recipe.optimizer.base_rate == 1.0


def test_one_change_may_be_given_by_itself() -> None:
    assert stavis.load_recipe("visual", "epochs=2") == stavis.load_recipe("visual", ["epochs=2"])
    assert stavis.load_recipe("visual", "epochs=2").epochs == 2


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(StavisError, match="recipe not found"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(StavisError, match=r"bad.toml: not a TOML file: .*line 1"):
        read_recipe(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StavisError, match="not a TOML file"):
        read_recipe(tmp_path / "binary.toml")


def test_differences_name_both_values_and_leave_out_what_changes_no_number() -> None:
    recipe = PUBLISHED["visual"]
    assert differences(recipe, recipe) == []
    other = change_recipe(
        recipe, ["optimizer.momentum=0.8", "data.quirks.silent_last_video=true", "data.workers=9"]
    )
    assert differences(other, recipe) == [
        "data.quirks.silent_last_video is true, was false",
        "optimizer.momentum is 0.8, was 0.9",
    ]
    flat = format_recipe(recipe)
    for key in CHANGEABLE:  # no key is listed that does not exist
        assert f"{key.rpartition('.')[2]} = " in flat


def test_places_are_filled_in() -> None:
    recipe = change_recipe(PUBLISHED["audiovisual"], ["data.root=/d", "data.split=3"])
    stage1, sound = (recipe.resolve(path, Path("some/runs/run")) for path in recipe.initial_weights)
    assert stage1 == "some/runs/visual_split3/weights"
    assert sound == "/d/pretrained_models/soundnet8.pth"
    assert recipe.resolve(recipe.data.cache) == "/d/frame_cache"


def test_print_config_prints_what_would_be_used(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["train", "visual", "--set", "data.split=2", "--on-nan", "skip", "--print-config"]
    )
    assert result.exit_code == 0
    changes = ["data.split=2", "runtime.on_nan=skip"]
    assert parse_recipe(tomllib.loads(result.output), "printed") == change_recipe(
        PUBLISHED["visual"], changes
    )
    assert not list(tmp_path.iterdir())


def test_all_splits_prints_both_stages_and_refuses_what_makes_no_sense() -> None:
    result = CliRunner().invoke(app, ["train", "--all-splits", "--print-config"])
    assert result.output.count("modality =") == 2
    for arguments, message in (
        (["--all-splits", "--set", "data.split=2"], "leave data.split out"),
        (["--all-splits", "a/train.toml", "b/train.toml"], "b/train.toml: recipes of the same name"),
        (["--all-splits", "audiovisual", "visual"], "then one of an audiovisual network"),
        (["--all-splits", "--resume", "run"], "leave --resume out"),
        (["visual", "--resume", "run"], "leave CONFIG and --output out"),
        (["visual", "audiovisual"], "give one CONFIG"),
    ):
        result = CliRunner().invoke(app, ["train", *arguments])
        assert message in str(result.exception), arguments


def test_the_documentation_names_every_setting() -> None:
    text = (CONFIGS.parent / "docs" / "training.md").read_text(encoding="utf-8")
    section = text[text.index("## All settings") : text.index("## Verification")]
    named = set(re.findall(r"`(\.?[a-z_.]+)`", section))
    for key in flatten(dataclasses.asdict(Recipe())):
        assert key in named or f".{key.rpartition('.')[2]}" in named, key


def flatten(table: dict[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in table.items():
        keys += flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys


def test_every_setting_in_the_documentation_is_accepted() -> None:
    text = (CONFIGS.parent / "docs" / "training.md").read_text(encoding="utf-8").replace("\\\n", " ")
    tried = 0
    for line in re.findall(r"^    (.*--set.*)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        changes = [value for word, value in itertools.pairwise(words) if word == "--set"]
        tried += len(changes)
        # Two of them need a third that stands in the line beside.
        extra = ["schedule.name=cosine"] if any("warm_up" in change for change in changes) else []
        change_recipe(PUBLISHED["audiovisual"], [*extra, *changes])
    for change in re.findall(r"`(?:stavis train [a-z]+ )?--set\s+([a-z_.]+=[^`\s]+)`", text):
        tried += 1
        change_recipe(PUBLISHED["audiovisual"], shlex.split(change))
    assert tried > 25
