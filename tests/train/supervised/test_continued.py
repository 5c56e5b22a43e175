from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from microseg.core.domains.folds import kept_split
from microseg.core.errors import InputError
from microseg.core.schemas.preparation import DomainEntry, Preparation
from microseg.core.schemas.run import RunRecord, read_run
from microseg.synthetic.folder import write_domain
from microseg.train.api import train_supervised
from microseg.train.common.data import TrainingData, load_training_data
from microseg.train.common.recipe import Recipe
from microseg.train.supervised.continued import EarlierRun
from tests.chain import copied, microseg


@pytest.fixture(scope="module")
def place(source: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("continued")
    copied(source, trained, root / "s", root / "run")
    write_domain(root / "t2", "t2", 2, 5, size_px=(180, 150))
    return root


def test_a_few_labels_continue_from_a_run_and_keep_what_it_knew(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "few"
    done = microseg("train", "supervised", place / "t2", "--init", place / "run", "--set", "steps=2", "--out", out)
    assert done.status == 0, done.err
    assert f"On held-out fields of the domain of {place / 'run'}: mIoU" in done.out
    record, summary = read_run(out)
    assert record.continued_from == str(place / "run")
    assert [entry.name for entry in record.domains] == ["synthetic-s", "synthetic-t2"]
    assert len(record.fields) == 2 + 4
    assert summary.earlier_miou is not None
    scored = microseg("evaluate", out, place / "s", "--as", "synthetic-s", "--json", tmp_path / "s.json")
    assert scored.status == 0, scored.err
    folds = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["folds"]["each"]
    assert [fold["fields"] for fold in folds] == [2, 2]  # each by the fold that has never seen it


def test_few_fields_are_seen_as_the_target_was(place: Path, tmp_path: Path) -> None:
    """Of a bright-field target: a domain.yaml need not say again what adaptation found out, and wins where it does."""
    record = read_run(place / "run")[0]
    target = DomainEntry(name="lom", role="target", preparation=Preparation(invert=True))
    adapted = record.model_copy(update={"adaptation": SimpleNamespace(target=target)})
    recipe = Recipe.model_validate(record.recipe)
    earlier = EarlierRun(place / "run", adapted, recipe, _data_of(place, record, recipe))
    bare = tmp_path / "few"
    write_domain(bare, "t2", 2, 5, size_px=(180, 150))
    (bare / "domain.yaml").unlink()
    plain = load_training_data(bare, recipe.scale, recipe.folds, record.grid, phases=record.phases)
    found = earlier.read(bare, recipe)
    assert found.entry.preparation.invert and [p.name for p in found.phases] == [p.name for p in record.phases]
    assert np.array_equal(found.fields[0].image, 255 - plain.fields[0].image)
    assert found.sha256 == plain.sha256
    phases = [{"name": phase.name, "value": index} for index, phase in enumerate(record.phases)]
    (bare / "domain.yaml").write_text(yaml.safe_dump({"invert": False, "phases": phases}), encoding="utf-8")
    assert not earlier.read(bare, recipe).entry.preparation.invert
    assert [entry.name for entry in earlier.domains_beside("few")] == ["synthetic-s", "lom"]
    assert [entry.name for entry in earlier.domains_beside("lom")] == ["synthetic-s"]


def test_few_fields_keep_the_size_that_their_files_state(place: Path, tmp_path: Path) -> None:
    """The target's is that of files without one; pixels that are not square become so."""
    record = read_run(place / "run")[0]
    target = DomainEntry(name="lom", role="target", preparation=Preparation(pixel_size_um=0.0554))
    adapted = record.model_copy(update={"adaptation": SimpleNamespace(target=target)})
    recipe = Recipe.model_validate(record.recipe)
    earlier = EarlierRun(place / "run", adapted, recipe, _data_of(place, record, recipe))
    few = tmp_path / "few"
    write_domain(few, "t2", 2, 5, size_px=(180, 150))
    (few / "domain.yaml").unlink()
    for edges, shape in ((None, (300, 360)), ((0.0277, 0.0277), (150, 180)), ((0.0277, 0.0554), (300, 180))):
        for path in (few / "images").iterdir():
            options: dict[str, Any] = (
                {"resolution": (1 / edges[0], 1 / edges[1]), "metadata": {"unit": "um"}} if edges else {}
            )
            tifffile.imwrite(path, tifffile.imread(path), imagej=True, **options)
        found = earlier.read(few, recipe)
        assert found.fields[0].image.shape == found.fields[0].labels.shape == shape
        assert found.entry.pixel_size_source == (
            "ImageJ (pixels per µm)" if edges else "assumed from the training images"
        )


def test_a_continued_run_is_a_start_again(place: Path, tmp_path: Path) -> None:
    """On the grid of the run that it continues, whatever pixels its own fields have."""
    coarse = tmp_path / "coarse"
    write_domain(coarse, "t2", 2, 5, size_px=(180, 150))
    content = yaml.safe_load((coarse / "domain.yaml").read_text(encoding="utf-8"))
    pixel = read_run(place / "run")[0].grid.pixel_size_um
    assert pixel is not None
    (coarse / "domain.yaml").write_text(yaml.safe_dump(content | {"pixel_size_um": 0.8 * pixel}), encoding="utf-8")
    for start, domain, out in (("run", coarse, "few"), ("few", place / "s", "more")):
        init = place / start if start == "run" else tmp_path / start
        done = microseg("train", "supervised", domain, "--init", init, "--set", "steps=1", "--out", tmp_path / out)
        assert done.status == 0, done.err


@pytest.mark.parametrize("recipe", [None, "auto"])
def test_a_run_of_auto_is_continued_with_its_own_recipe(
    source: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str | None
) -> None:
    """Also where `auto` is asked for: its rules are not those of a continued run. `runs/DOMAIN-auto` is `train uda`'s."""
    copied(source, trained, tmp_path / "s", tmp_path / "run")
    described = tmp_path / "run" / "run.yaml"
    content = yaml.safe_load(described.read_text(encoding="utf-8"))
    described.write_text(yaml.safe_dump(content | {"recipe_name": "auto"}), encoding="utf-8")
    asked: list[Any] = []

    def stop(*arguments: Any, **_: Any) -> None:
        asked.extend(arguments)
        raise InputError("seen")

    monkeypatch.setattr("microseg.train.supervised.command.run_supervised", stop)
    with pytest.raises(InputError, match="seen"):
        train_supervised(tmp_path / "s", init=tmp_path / "run", recipe=recipe)
    _, name, used, out = asked
    assert name == "auto" and used.model_dump(mode="json") == content["recipe"]
    assert out == Path("runs") / "synthetic-s-supervised"
    with pytest.raises(InputError, match=r"--minutes: a continued run"):
        train_supervised(tmp_path / "s", init=tmp_path / "run", recipe=recipe, minutes=5)


def test_another_network_or_other_phases_are_refused(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "few"
    other = microseg(
        "train", "supervised", place / "t2", "--init", place / "run",
        "--set", "network.decoder_channels=[16,8,8,8]", "--out", out,
    )  # fmt: skip
    assert other.status == 2 and "network" in other.err
    described = place / "t2" / "domain.yaml"
    content = yaml.safe_load(described.read_text(encoding="utf-8"))
    content["phases"][1]["name"] = "martensite"
    described.write_text(yaml.safe_dump(content), encoding="utf-8")
    named = microseg("train", "supervised", place / "t2", "--init", place / "run", "--out", out)
    assert named.status == 2 and "martensite" in named.err
    missing = microseg("train", "supervised", place / "t2", "--init", place / "nothing", "--out", out)
    assert missing.status == 2
    assert not out.exists()


def test_fields_of_folds_that_were_not_adapted_are_held_out_by_none(place: Path) -> None:
    """An adapted run of one fold of two: its network, which both new folds continue, has seen what the other held out."""
    record = read_run(place / "run")[0].model_copy(update={"folds": 1})
    recipe = Recipe.model_validate(record.recipe)
    data = _data_of(place, record, recipe)
    earlier = EarlierRun(place / "run", record, recipe, data)
    assert sorted(data.folds) == [0, 0, 1, 1]
    found = [field.fold for field in earlier.held_out(2)]
    assert found == [-1 if fold == 1 else 0 for fold in data.folds]


def _data_of(place: Path, record: RunRecord, recipe: Recipe) -> TrainingData:
    return load_training_data(place / "s", recipe.scale, recipe.folds, record.grid, phases=record.phases)


def test_suggested_fields_continue_a_run_however_few_they_are(place: Path, tmp_path: Path) -> None:
    """Of one field no fold can hold it out, of two fields each fold does. Unchanged predictions are told."""
    new = tmp_path / "new"
    write_domain(new, "t2", 1, 9, size_px=(180, 150))
    todo = tmp_path / "TODO"
    done = microseg("suggest", place / "run", new / "images", "--out", todo)
    assert done.status == 0, done.err
    # A phase that the one field does not hold is known from the run's own fields.
    (mask,) = (todo / "masks").iterdir()
    suggested = Image.open(mask)
    pixels = np.zeros_like(np.asarray(suggested))
    out = tmp_path / "one"
    arguments = ("train", "supervised", todo, "--init", place / "run", "--set", "steps=1", "--out")
    done = microseg(*arguments, tmp_path / "told")
    assert done.status == 0, done.err
    assert "1 of 1 fields are labelled by unchanged predictions of `microseg suggest`" in done.out
    corrected = Image.fromarray(pixels)
    palette = suggested.getpalette()
    assert palette is not None
    corrected.putpalette(palette)
    corrected.save(mask)
    done = microseg(*arguments, out)
    assert done.status == 0, done.err
    assert "unchanged predictions" not in done.out
    assert "the one new field is learned by every fold" in done.out
    record, summary = read_run(out)
    assert (record.folds, len(summary.folds)) == (2, 2) and record.recipe["steps"] == 1
    assert [field.fold for field in record.fields] == [-1, *(field.fold for field in read_run(place / "run")[0].fields)]
    scored = microseg("evaluate", out, place / "s", "--as", "synthetic-s", "--json", tmp_path / "s.json")
    assert scored.status == 0, scored.err
    # Going on from it, a fold needs a field that it has not seen.
    again = microseg("train", "supervised", todo, "--init", out, "--set", "steps=1", "--out", tmp_path / "again")
    assert again.status == 2 and f"nor did it in {out}" in again.err and f"or --init {place / 'run'}" in again.err
    adapted = microseg("train", "uda", "--target", new, "--source", out, "--out", tmp_path / "adapted")
    assert adapted.status == 2 and "a fold held out none of its labelled fields" in adapted.err


def test_fewer_new_groups_than_folds_leave_the_folds_as_they_are() -> None:
    plan, held = kept_split(["a", "b", "a"], 5)
    assert (plan.split, plan.folds, held) == ("groups", 5, [0, 1, 0])
    assert plan.notices[0].startswith(
        "the new fields are of 2 groups: 2 of 5 folds hold one out, the others are scored on"
    )
    plan, held = kept_split(["a", "a"], 5)
    assert (plan.folds, held) == (5, [-1, -1])
    assert plan.notices[0].startswith("the 2 new fields are of one group and are learned by every fold")
    assert kept_split(list("abcdef"), 3)[0].notices == ()
