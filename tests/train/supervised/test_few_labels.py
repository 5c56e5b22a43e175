"""One labelled field, scribbles, or fields of one specimen: they train, say that this flatters, and are scored honestly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from microseg.core.errors import InputError
from microseg.core.schemas.run import read_run
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.common.data import load_training_data, reload_training_data
from microseg.train.common.recipe import Recipe
from microseg.train.supervised.command import run_supervised
from tests.chain import tiny_recipe

SHAPE = (150, 180)
RECIPE = tiny_recipe(steps=2, folds=4)
MISSING = "nothing"


def write_fields(folder: Path, count: int, **described: Any) -> Path:
    """Waves whose three grey classes are the phases."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image = np.asarray(127.5 + 62 * np.sin(x / 9 + index) + 62 * np.cos(y / 7)).astype(np.uint8)
        tifffile.imwrite(folder / "images" / f"{index}.tif", image)
        tifffile.imwrite(folder / "masks" / f"{index}.tif", np.digitize(image, (90, 165)).astype(np.uint8))
    phases = [{"name": name, "value": value} for value, name in enumerate(("dark", "grey", "pale"))]
    (folder / "domain.yaml").write_text(yaml.safe_dump({"phases": phases} | described), "utf-8")
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A domain of one field, a run of it, and what the run told."""
    place = tmp_path_factory.mktemp("one")
    told: list[str] = []
    write_fields(place / "s", 1)
    run_supervised(place / "s", "tiny", RECIPE, place / "run", resume=False, few=True, notice=told.append)
    return place / "s", place / "run", told


def test_one_field_trains_in_blocks_and_says_so(one: tuple[Path, Path, list[str]]) -> None:
    source, run, told = one
    assert any("one labelled field" in text and "flatters" in text for text in told)
    record, summary = read_run(run)
    assert (record.folds, record.recipe["folds"], record.recipe["split"]) == (4, 4, "blocks")
    assert [field.fold for field in record.fields] == [-1]
    assert sorted(block.fold for block in record.blocks) == [0, 1, 2, 3]
    assert sum(block.height_px * block.width_px for block in record.blocks) == SHAPE[0] * SHAPE[1]
    assert len(summary.folds) == 4 and summary.miou_mean > 0
    with pytest.raises(InputError, match=r"1 group of fields .* cannot be split into 4 folds"):
        load_training_data(source, 1.0, 4)


def test_each_block_is_scored_by_the_fold_that_did_not_learn_it(one: tuple[Path, Path, list[str]]) -> None:
    source, run, _ = one
    record, _ = read_run(run)
    found = evaluate_run(run, source)
    (field,) = found["fields"]
    assert not field["seen_in_training"] and "flatters" in field["notices"][-1]
    assert [fold["fold"] for fold in found["folds"]["each"]] == [0, 1, 2, 3]
    # The pixels of the folds together are those of the field, each once: mean of the true fractions, weighted by area.
    areas = [block.height_px * block.width_px for block in record.blocks]
    for phase, whole in found["fractions"].items():
        parts = [fold["fractions"][phase]["true"] for fold in found["folds"]["each"]]
        assert np.average(parts, weights=areas) == pytest.approx(whole["true"])


def test_a_field_of_another_shape_is_scored_as_seen(one: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    """The blocks do not fit where a domain.yaml crops the field otherwise."""
    source, run, _ = one
    content = yaml.safe_load((source / "domain.yaml").read_text("utf-8")) | {"crop": {"bottom_px": 20}}
    for name in ("images", "masks"):
        content[name] = str(source / name)
    (tmp_path / "cropped.yaml").write_text(yaml.safe_dump(content), "utf-8")
    assert evaluate_run(run, tmp_path / "cropped.yaml")["fields"][0]["seen_in_training"]


def test_the_run_goes_on_and_can_be_read_and_repeated(one: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    source, run, _ = one
    record, summary = read_run(run)
    assert run_supervised(source, "tiny", RECIPE, run, resume=True, few=True) == summary
    data = reload_training_data(run, record, Recipe.model_validate(record.recipe), MISSING, MISSING)
    assert [block.model_dump() for block in data.blocks] == [block.model_dump() for block in record.blocks]
    # The record's recipe alone repeats the run.
    again = Recipe.model_validate(record.recipe)
    run_supervised(source, "tiny", again, tmp_path / "again", resume=False, only_folds=[1])
    weights = [folder / "fold1" / "model.safetensors" for folder in (run, tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_scribbles_train(tmp_path: Path) -> None:
    source = write_fields(tmp_path / "s", 1, unlabelled=99)
    path = source / "masks" / "0.tif"
    labels = tifffile.imread(path)
    scribbled = np.full_like(labels, 99)
    scribbled[::24, 20:160] = labels[::24, 20:160]
    tifffile.imwrite(path, scribbled)
    data = load_training_data(source, 1.0, 3, split="auto")
    for fold in range(3):
        (learned,), (scored,) = data.seen(fold), data.unseen(fold)
        assert (learned.counts + scored.counts <= data.fields[0].counts)[:3].all()
        assert learned.counts[:3].all() and scored.counts[:3].all(), "every phase on both sides"
    summary = run_supervised(source, "tiny", RECIPE, tmp_path / "run", resume=False, few=True)
    assert summary is not None and 0 < summary.miou_mean < 1


def test_fields_of_one_specimen_are_folds_with_a_notice(tmp_path: Path) -> None:
    source = write_fields(tmp_path / "s", 3, groups={"bar": ["0", "1", "2"]})
    data = load_training_data(source, 1.0, 5, split="auto")
    assert (data.split, data.fold_count, sorted(data.folds)) == ("fields", 3, [0, 1, 2])
    assert any("group 'bar'" in text and "flatters" in text for text in data.notices)
    assert [len(data.seen(fold)) for fold in range(3)] == [2, 2, 2]
