"""Recipes: every wrong key and value is named, with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.train.common.recipe import (
    AugmentationConfig,
    BasicAugmentation,
    CrossEntropy,
    ExtendedAugmentation,
    Focal,
    NoAugmentation,
    RandomisedAugmentation,
    Recipe,
    magnifications,
)
from microseg.train.recipe_files import load_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 10\naugmentation: {kind: randomised, share: 0.5}\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("stepz=5", ["'stepz'", "allowed here", "steps", "validate_every"]),
        ("network.encodr=x", ["'network.encodr'", "decoder_channels, kind"]),
        ("augmentation.shear=3", ["'augmentation.shear'", "rotation_deg", "share"]),
        ("epochs=3", ["either steps or epochs"]),
        ("steps=null", ["either steps or epochs"]),
        ("loss.gamma=2", ["'loss.gamma'", "balance, dice, kind"]),
        ("steps=many", ["steps = 'many'", "integer"]),
        ("steps=0", ["steps = 0", "greater than or equal to 1"]),
        ("tile.core_px=10", ["tile.core_px = 10", "32"]),
        ("augmentation.share=1.5", ["augmentation.share = 1.5", "less than or equal to 1"]),
        ("augmentation.scale=[1.5, 0.5]", ["augmentation.scale", "the smaller first"]),
        ("augmentation.scale=[0, 1]", ["augmentation.scale", "positive"]),
        ("augmentation.kind=wild", ["augmentation", "'wild'", "'none', 'basic', 'extended', 'randomised'"]),
        ("schedule.kind=step", ["schedule.kind = 'step'", "'constant', 'polynomial' or 'cosine'"]),
        ("network.decoder_channels=[8]", ["network.decoder_channels", "at least 3"]),
        ("folds=1", ["folds = 1", "2"]),
        ("ema_decay=1", ["ema_decay = 1", "less than 1"]),
        ("steps.much=1", ["'steps' holds no keys"]),
        ("steps", ["--set steps", "KEY=VALUE"]),
        ("steps=[1", ["--set steps=[1", "not valid YAML"]),
    ],
)
def test_errors_name_key_value_and_what_is_allowed(recipe: str, override: str, named: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(recipe, [override])
    assert all(part in str(caught.value) for part in named), str(caught.value)


def test_several_errors_are_told_at_once(recipe: str) -> None:
    with pytest.raises(InputError, match=r"stepz.*folds = 1|folds = 1.*stepz"):
        load_recipe(recipe, ["stepz=1", "folds=1"])


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("steps=20", "steps", 20),
        ("optimiser.learning_rate=1e-3", "optimiser.learning_rate", 1e-3),
        ("network.decoder_channels=[32, 16, 8]", "network.decoder_channels", (32, 16, 8)),
        ("encoder.weights=none", "encoder.weights", "none"),
        ("augmentation={kind: basic}", "augmentation", BasicAugmentation()),
        ("loss={kind: focal, gamma: 3}", "loss", Focal(gamma=3)),
        ("loss.dice=0.25", "loss", CrossEntropy(dice=0.25)),
        ("augmentation.scale=[0.5,2]", "augmentation.scale", (0.5, 2.0)),
    ],
)
def test_set_takes_numbers_lists_and_mappings(recipe: str, override: str, key: str, value: object) -> None:
    name, found = load_recipe(recipe, [override])
    for part in key.split("."):
        found = getattr(found, part)
    assert (name, found) == ("mine", value)


def test_the_last_of_two_settings_holds(recipe: str) -> None:
    assert load_recipe(recipe, ["steps=20", "steps=30"])[1].steps == 30


def test_a_recipe_is_its_own_record(recipe: str) -> None:
    found = load_recipe(recipe)[1]
    assert Recipe.model_validate(found.model_dump(mode="json")) == found


@pytest.mark.parametrize(
    ("content", "message"),
    [("- 1\n", r"holds a list\. Remedy: a recipe"), ("a: [", "not valid YAML"), (None, "cannot")],
)
def test_files_that_are_no_recipes(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("augmentation", "range_"),
    [
        (NoAugmentation(), (1, 1)),
        (BasicAugmentation(), (1, 1)),
        (ExtendedAugmentation(scale=(0.8, 1.25)), (0.8, 1.25)),
        (RandomisedAugmentation(scale=(1.2, 1.7)), (1.2, 1.7)),
        (RandomisedAugmentation(scale=(1.2, 1.7), share=0.5), (1, 1.7)),
    ],
)
def test_magnifications(augmentation: AugmentationConfig, range_: tuple[float, float]) -> None:
    assert magnifications(augmentation) == range_


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(InputError, match=r"--recipe nickel: no such recipe.*coating, demo.*superalloy"):
        load_recipe("nickel")


def test_a_base_lies_below(tmp_path: Path) -> None:
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text(
        "steps: 10\nfolds: 3\nloss: {kind: cross_entropy, dice: 0.5}\naugmentation: {kind: basic, upright: true}\n"
    )
    above.write_text(f"base: {below}\nfolds: 4\nloss: {{balance: 0.2}}\naugmentation: {{kind: none}}\n")
    name, found = load_recipe(str(above), ["batch=2"])
    assert (name, found.steps, found.folds, found.batch) == ("above", 10, 4, 2)
    assert found.loss == CrossEntropy(dice=0.5, balance=0.2), "keys are merged"
    assert found.augmentation.kind == "none", "another kind replaces"


def test_a_base_that_is_not_there_or_is_its_own_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: nothing\n")
    with pytest.raises(InputError, match=r"mine\.yaml: base nothing: no such recipe"):
        load_recipe(str(path))
    path.write_text(f"base: {path}\n")
    with pytest.raises(InputError, match="refers back to this file"):
        load_recipe(str(path))
