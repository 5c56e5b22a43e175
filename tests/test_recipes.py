"""Every YAML of the repository is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from microseg.core.domains.domain import load_domain
from microseg.core.domains.domain_file import read_domain_file
from microseg.train.recipe_files import (
    load_distill_recipe,
    load_pretrain_recipe,
    load_recipe,
    load_uda_recipe,
    recipe_names,
)

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("MICROSEG_DATA", ROOT / ".." / "shared" / "data"))
RECIPES = sorted((ROOT / "train").glob("*.yaml"))
DOMAINS = sorted((ROOT / "benchmarks" / "data").glob("*.yaml"))
TRACKED = ("train", "export", "deploy", "benchmarks")
YAMLS = sorted(path for folder in TRACKED for path in (ROOT / folder).rglob("*.y*ml"))


def name_of(path: Path) -> str:
    return path.name


def test_the_recipes_that_users_are_promised_are_shipped() -> None:
    assert {"coating", "demo", "superalloy", "synthetic"} <= set(recipe_names())
    assert {f"S.{k}{size}" for k in range(1, 11) for size in ("", "-small")} <= set(recipe_names())


@pytest.mark.parametrize(
    ("number", "weights", "augmentation", "epochs"),
    [
        (1, "none", "none", 200), (2, "none", "basic", 200), (3, "none", "extended", 400),
        (4, "imagenet", "none", 200), (5, "imagenet", "basic", 200), (6, "imagenet", "extended", 200),
        (7, "runs/nanosem-vgg16", "none", 200), (8, "runs/nanosem-vgg16", "basic", 200),
        (9, "runs/nanosem-vgg16", "extended", 200), (10, "imagenet", "extended", 550),
    ],
)  # fmt: skip
def test_the_papers_rows_are_as_the_paper_gives_them(number: int, weights: str, augmentation: str, epochs: int) -> None:
    """Goetz et al. 2022, methods and table of the supervised models."""
    recipe = load_recipe(f"S.{number}")[1]
    assert (recipe.encoder.weights, recipe.augmentation.kind, recipe.epochs) == (weights, augmentation, epochs)
    is_deeplab = number == 10
    assert (recipe.encoder.name, recipe.network.kind) == (
        ("resnet101", "deeplabv2") if is_deeplab else ("vgg16", "unet")
    )
    assert (recipe.schedule.kind, recipe.schedule.power) == ("polynomial" if is_deeplab else "constant", 0.9)
    assert recipe.optimiser.encoder_factor == (1.0 if weights == "none" else 0.1)
    assert (recipe.batch, recipe.folds, recipe.scale) == (12, 5, 0.5)
    assert (recipe.tile.core_px, recipe.tile.halo_px, recipe.tile.placement) == (512, 62, "grid")


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipes_load_by_file_and_by_name(path: Path) -> None:
    loads: dict[str, Callable[..., tuple[str, Any]]] = {
        "distill": load_distill_recipe,
        "pretrain": load_pretrain_recipe,
        "uda": load_uda_recipe,
    }
    load: Callable[..., tuple[str, Any]] = loads.get(path.stem.partition("-")[0], load_recipe)
    name, recipe = load(str(path))
    assert load(path.stem) == (name, recipe)
    assert name == path.stem


@pytest.mark.parametrize("path", DOMAINS, ids=name_of)
def test_domains_of_the_benchmarks_parse(path: Path) -> None:
    content = read_domain_file(path)
    assert content.name == path.stem
    assert content.phases is not None
    for folder in [*content.image_folders(path.parent), *content.mask_folders(path.parent)]:
        assert folder.startswith("${MICROSEG_DATA:-../../../shared/data}/")
    if isinstance(content.groups, str):
        assert re.compile(content.groups).groups == 1


@pytest.mark.skipif(not DATA.is_dir(), reason="the real micrographs are not here (MICROSEG_DATA)")
@pytest.mark.parametrize("path", DOMAINS, ids=name_of)
def test_domains_of_the_benchmarks_find_their_files(path: Path) -> None:
    domain = load_domain(path)
    assert domain.fields
    assert all(field.mask is not None for field in domain.fields)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real micrographs are not here (MICROSEG_DATA)")
def test_source_and_target_name_the_same_phases() -> None:
    source, target = (load_domain(ROOT / "benchmarks" / "data" / f"superalloy-{n}.yaml") for n in ("binary", "aged"))
    assert [phase.name for phase in source.phases] == [phase.name for phase in target.phases]


@pytest.mark.parametrize("path", YAMLS, ids=name_of)
def test_every_yaml_parses(path: Path) -> None:
    assert list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
