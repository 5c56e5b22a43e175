"""Run folders: made once, resumed, refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from microseg.core.domains.checking import check_domain
from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.schemas.run import read_record, read_run
from microseg.core.system.files import sha256_of
from microseg.train.analysis.evaluate import evaluate_run, fold_of_each
from microseg.train.common.run_folder import load_networks, read_fold
from tests.chain import tiny_recipe, train
from tests.core.samples import halves, noise, write_domain


def test_a_run_folder_says_everything(trained: Path, source: Path) -> None:
    record, summary = read_run(trained)
    assert record.recipe == tiny_recipe().model_dump(mode="json")
    assert [phase.name for phase in record.phases] == ["ferrite", "lath-bainite"]
    assert record.grid.pixel_size_um == pytest.approx(0.0277)
    assert record.domain.pixel_size_source == "domain.yaml"
    # Tiles are magnified by 0.6 to 1.7.
    sizes = record.trained_pixel_sizes
    assert sizes is not None
    assert (sizes.smallest_um, sizes.largest_um) == pytest.approx((0.0277 / 1.7, 0.0277 / 0.6))
    assert {field.fold for field in record.fields} == {0, 1}
    assert {field.sha256 for field in record.fields} == {sha256_of(p) for p in (source / "images").glob("*.tif")}
    assert {"torch", "microseg"} <= set(record.versions)
    assert [fold.index for fold in summary.folds] == [0, 1]
    assert summary.miou_mean == pytest.approx(np.mean([fold.miou for fold in summary.folds]))
    for fold in summary.folds:
        folder = trained / f"fold{fold.index}"
        assert fold.weights_sha256 == sha256_of(folder / "model.safetensors")
        assert {path.name for path in folder.iterdir()} == {
            "fold.json", "history.csv", "last", "model.safetensors", "parity"
        }  # fmt: skip
        assert list((folder / "parity").glob("*.png"))
    suffixes = {path.suffix for path in trained.rglob("*") if path.is_file()}
    assert suffixes <= {".yaml", ".json", ".csv", ".png", ".safetensors", ""}, "nothing that runs code on load"
    assert (trained / "history.png").stat().st_size > 1000


def test_the_same_command_gives_the_same_weights(trained: Path, source: Path, tmp_path: Path) -> None:
    assert train(source, tmp_path / "again", only_folds=[0]) is None, "fold 1 is missing"
    for name in ("model.safetensors", "history.csv"):
        assert (tmp_path / "again" / "fold0" / name).read_bytes() == (trained / "fold0" / name).read_bytes()
    again, before = read_fold(tmp_path / "again" / "fold0"), read_fold(trained / "fold0")
    assert replace(again, seconds=before.seconds) == before


def test_resume_trains_what_is_missing(trained: Path, source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "summary.json").unlink()
    (run / "fold1" / "fold.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        read_run(run)
    asked: list[int] = []

    def on_fold(fold: int) -> Any:
        asked.append(fold)
        return lambda step, steps, text: None

    summary = train(source, run, resume=True, on_fold=on_fold)
    assert asked == [1]
    assert summary is not None
    assert summary.model_copy(update={"seconds": 0.0}) == read_run(trained)[1].model_copy(update={"seconds": 0.0})


def test_a_run_that_an_earlier_version_began_goes_on(trained: Path, source: Path, tmp_path: Path) -> None:
    """Its record names no source of the pixel size."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "summary.json").unlink()
    content = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    assert content["domain"].pop("pixel_size_source") and content.pop("trained_pixel_sizes")
    (run / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert train(source, run, resume=True, on_fold=lambda fold: pytest.fail("trained")) is not None


def test_a_finished_run_is_left_as_it_is(trained: Path, source: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert train(source, trained, resume=True, on_fold=lambda fold: pytest.fail("trained")) == read_run(trained)[1]
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_an_existing_out_is_never_mixed(trained: Path, source: Path, unseen: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exists\. Remedy: --resume"):
        train(source, trained)
    with pytest.raises(InputError, match="another recipe"):
        train(source, trained, tiny_recipe(steps=7), resume=True)
    with pytest.raises(InputError, match="another "):
        train(unseen, trained, resume=True)
    (tmp_path / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is not a run folder"):
        train(source, tmp_path, resume=True)


def bands(folder: Path, count: int, described: dict[str, Any] | None, values: tuple[int, ...] = (0, 1)) -> Path:
    return write_domain(folder, {f"f{i}": halves(64, 64, values) for i in range(count)}, described)


@pytest.mark.parametrize(
    ("count", "described", "values", "message"),
    [
        (1, None, (0, 1), "1 group of fields .* cannot be split into 2 folds"),
        (3, {"groups": {"one": ["f0", "f1", "f2"]}}, (0, 1), "1 group of fields"),
        (2, {"phases": [{"name": "a"}, {"name": "b"}, {"name": "c", "value": 7}]}, (0, 1), "'c' .mask value 7. occurs"),
        (2, {"phases": [{"name": "a"}, {"name": "b"}], "unlabelled": 9}, (9,), "every pixel is unlabelled"),
    ],
)
def test_domains_that_cannot_be_trained_on(
    tmp_path: Path, count: int, described: dict[str, Any] | None, values: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(bands(tmp_path / "domain", count, described, values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_masks_nothing_can_be_learned(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    Image.fromarray(noise(64, 64)).save(tmp_path / "bare" / "a.png")
    with pytest.raises(InputError, match="has no labels"):
        train(tmp_path / "bare", tmp_path / "run")


def test_fields_set_aside_are_not_trained_on(tmp_path: Path) -> None:
    domain = bands(tmp_path / "domain", 3, {"test": ["f1"]})
    train(domain, tmp_path / "run", only_folds=[])
    assert [field.name for field in read_record(tmp_path / "run").fields] == ["f0.tif", "f2.tif"]


def test_fields_of_different_magnification_are_refused(source: Path, tmp_path: Path) -> None:
    domain = tmp_path / "mixed"
    shutil.copytree(source, domain)
    content = yaml.safe_load((domain / "domain.yaml").read_text(encoding="utf-8"))
    del content["pixel_size_um"]
    (domain / "domain.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    train(domain, tmp_path / "run", only_folds=[])
    assert read_record(tmp_path / "run").grid.pixel_size_um == pytest.approx(0.0277, rel=1e-3)
    from microseg.synthetic.microscope import write_sem_tiff

    first = sorted((domain / "images").glob("*.tif"))[0]
    write_sem_tiff(first, noise(100, 120), 0.055)
    with pytest.raises(InputError, match="differ in pixel size") as refused:
        train(domain, tmp_path / "other", only_folds=[])
    assert str(refused.value) in check_domain(load_domain(domain)).problems, "`check` says what training says"


def test_weights_of_another_network_are_refused(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "fold0" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"model\.safetensors: is missing, or is not the file"):
        load_networks(run, *read_run(run))


@pytest.mark.parametrize(("name", "content"), [("run.yaml", "phases: 3\n"), ("summary.json", "{}")])
def test_damaged_records_are_named(trained: Path, tmp_path: Path, name: str, content: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=name):
        read_run(run)


def test_evaluate_scores_each_training_field_by_the_fold_that_held_it_out(trained: Path, source: Path) -> None:
    record, summary = read_run(trained)
    result = evaluate_run(trained, source)
    held = [sum(field.fold == fold for field in record.fields) for fold in (0, 1)]
    assert [fold["fields"] for fold in result["folds"]["each"]] == held
    assert len(result["fields"]) == len(record.fields)
    assert not any(field["seen_in_training"] for field in result["fields"])
    # The grid of this run is the native one, so these are the scores of training itself.
    for fold, info in zip(result["folds"]["each"], summary.folds, strict=True):
        assert fold["miou"] == pytest.approx(info.miou)
        assert fold["iou"] == pytest.approx(info.iou)


def test_evaluate_scores_new_fields_by_all_folds(trained: Path, unseen: Path) -> None:
    result = evaluate_run(trained, unseen)
    assert [fold["fields"] for fold in result["folds"]["each"]] == [2, 2]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    with pytest.raises(InputError, match=r"--as 'lom': the run knows no such domain. Remedy: one of 'synthetic-s'"):
        evaluate_run(trained, unseen, "lom")


def test_a_file_under_two_names_in_two_folds_is_held_out_by_none(trained: Path) -> None:
    record = read_record(trained)
    first, second = (next(field for field in record.fields if field.fold == fold) for fold in (0, 1))
    same = second.model_copy(update={"sha256": first.sha256})
    fields = [same if field == second else field for field in record.fields]
    known = fold_of_each(record.model_copy(update={"fields": fields}))
    assert known[first.sha256] == -1 and fold_of_each(record)[first.sha256] == 0
