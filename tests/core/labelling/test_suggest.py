"""The folder of fields to label: a domain whose masks and outlines are the predictions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.checking import check_domain
from microseg.core.domains.domain import Domain, load_domain, read_labels
from microseg.core.errors import FieldError, InputError
from microseg.core.labelling import committee as committees
from microseg.core.labelling import suggest as module
from microseg.core.labelling.suggest import Suggested, suggest_fields
from microseg.core.labelling.suggestions import unchanged_predictions
from microseg.core.schemas.bag import Fingerprint, TrainingField
from microseg.core.schemas.preparation import Crop, DomainEntry, Grid, Preparation
from microseg.core.system.files import sha256_of
from tests.core.labelling.committees import committee, picture, pictures


def suggested(folder: Path, count: int = 2, out: str = "TODO", **changes: Any) -> Suggested:
    labelled = changes.pop("labelled", None)
    return suggest_fields(
        committee(**changes), folder, count, folder.parent / out, init="runs/steel", labelled=labelled
    )


def labels_of(domain: Domain) -> dict[str, NDArray[np.uint8]]:
    return {Path(item.name).stem: read_labels(item, domain) for item in domain.fields}


def both(out: Path) -> dict[str, NDArray[np.uint8]]:
    """The labels by stem, which masks and outlines state alike."""
    by_mask, by_outline = labels_of(load_domain(out)), labels_of(load_domain(out / "qupath.yaml"))
    assert by_mask.keys() == by_outline.keys()
    for stem, labels in by_mask.items():
        np.testing.assert_array_equal(by_outline[stem], labels)
    return by_mask


def test_fields_are_copied_and_their_predictions_are_their_labels(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new", 4)
    found = suggested(folder, 3)
    out = tmp_path / "TODO"
    assert found.out == out and not found.notices[0].startswith("Left out")
    domain = load_domain(out)
    assert [(p.name, p.color, p.values) for p in domain.phases] == [
        ("ferrite", "#0072b2", (0,)), ("bainite", "#e69f00", (1,)),
    ]  # fmt: skip
    checked = check_domain(domain, 3)
    assert checked.problems == () and len(checked.fields) == 3
    for stem, labels in both(out).items():
        assert (out / "images" / f"{stem}.png").read_bytes() == (folder / f"{stem}.png").read_bytes()
        np.testing.assert_array_equal(labels, np.asarray(Image.open(folder / f"{stem}.png")) > 120)
    assert sorted(path.name for path in out.iterdir()) == [
        "domain.yaml", "images", "masks", "qupath", "qupath.yaml", "suggest.html", "suggest.json",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["TODO", "new"]  # nothing temporary
    text = (out / "domain.yaml").read_text(encoding="utf-8")
    assert f"microseg train supervised {out} --init runs/steel" in text


def test_what_is_written_down(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new", 4)
    prints = [Fingerprint(fold=fold, mean=[128.0, 40.0], std=[1.0, 1.0]) for fold in range(2)]
    found = suggested(folder, 2, fingerprints=prints)
    record = json.loads((tmp_path / "TODO" / "suggest.json").read_text(encoding="utf-8"))
    assert record == found.suggestions.model_dump(mode="json")
    assert record["suggest_version"] == 1 and record["candidates"] == 4 and record["model"] == "runs/steel"
    for item in record["fields"]:
        image = np.asarray(Image.open(folder / item["field"]))
        share = np.mean((image > 120) != (image > 130))
        assert item["disagreement"] == pytest.approx(share) and item["distance"] > 0
        assert item["sha256"] == sha256_of(folder / item["field"]) and item["region"] is None
        assert item["mask_sha256"] == sha256_of(tmp_path / "TODO" / item["mask"])
        assert f"The folds disagree on {100 * share:.1f} % of its pixels" in item["reason"]
        assert "the labelled fields" in item["reason"]
    page = (tmp_path / "TODO" / "suggest.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 6 and "http" not in page.replace("http-equiv", "")
    assert all(item["reason"] in page for item in record["fields"])
    again = suggested(folder, 2, "AGAIN", fingerprints=prints)
    assert again.suggestions == found.suggestions


def test_the_fields_that_differ_most_from_labelled_ones_are_suggested(tmp_path: Path) -> None:
    """Five fields of the known kind, and two of little contrast."""
    folder = pictures(tmp_path / "new", 5)
    for number in (5, 6):
        Image.fromarray(picture(seed=number) // 5 + 100).save(folder / f"field{number}.png")
    known = np.array([[picture(seed=seed).mean(), picture(seed=seed).std()] for seed in range(10, 16)])
    prints = [Fingerprint(fold=f, mean=known.mean(0).tolist(), std=known.std(0).tolist()) for f in range(2)]
    first = suggested(folder, 1, fingerprints=prints).suggestions.fields[0]
    assert first.field in ("field5.png", "field6.png")
    assert "far from the labelled fields" in first.reason and "stands for 1 other" in first.reason


def test_labelled_copied_nearly_equal_and_unreadable_fields_are_left_out(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new", 3)
    shutil.copy(folder / "field1.png", folder / "field9.png")
    Image.fromarray(picture(seed=2)).save(folder / "zoom.jpg", quality=70)
    (folder / "broken.tif").write_bytes(b"II*\0")
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(folder / "blank.png")
    trained = TrainingField(name="a.png", sha256=sha256_of(folder / "field0.png"), group="a", fold=0)
    found = suggested(folder, 5, fields=[trained])
    assert sorted(item.field for item in found.suggestions.fields) in (
        ["field1.png", "field2.png"],
        ["field1.png", "zoom.jpg"],
    )
    reasons = {item.field: item.reason for item in found.suggestions.left_out}
    assert reasons["field0.png"] == "labelled already (a.png of the training)"
    assert reasons["field9.png"] == "a copy of field1.png"
    assert any(text.startswith("nearly the same as ") for text in reasons.values())
    assert [item.field for item in found.unreadable] == ["blank.png", "broken.tif"]
    assert "2 of the 5 that were asked for: the folder holds no more new fields." in found.notices
    assert "Left out: 1 labelled already, 1 a copy, 1 nearly the same." in found.notices


def test_pictures_nearly_equal_to_labelled_ones_are_left_out(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new", 2)
    labelled = tmp_path / "labelled"
    (labelled / "images").mkdir(parents=True)
    Image.fromarray(picture(seed=1)).save(labelled / "images" / "a.jpg", quality=80)
    found = suggested(folder, 2, labelled=labelled)
    assert [item.field for item in found.suggestions.fields] == ["field0.png"]
    assert [item.reason for item in found.suggestions.left_out] == ["nearly the same as a.jpg of the training"]


def test_nothing_to_label_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new", 1)
    trained = TrainingField(name="a.png", sha256=sha256_of(folder / "field0.png"), group="a", fold=0)
    with pytest.raises(InputError, match=r"holds no field that could be labelled next \(field0\.png: labelled already"):
        suggested(folder, fields=[trained])
    with pytest.raises(InputError, match="lies inside of"):
        suggested(folder, out="new/TODO")
    (tmp_path / "TODO").mkdir()
    with pytest.raises(InputError, match=r"exists\. Remedy"):
        suggested(folder)
    with pytest.raises(InputError, match="does not exist"):
        suggested(tmp_path / "nowhere", out="OTHER")


def test_what_fails_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise FieldError("new/field0.png: is damaged. Remedy: save it again.")

    folder = pictures(tmp_path / "new", 2)
    monkeypatch.setattr(module, "write_image", fails)
    with pytest.raises(InputError, match="is damaged"):
        suggested(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_of_large_fields_regions_are_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committees, "WHOLE_FIELD_PX", 100 * 100)
    monkeypatch.setattr(committees, "REGION_SIDE_PX", 64)
    folder = tmp_path / "new"
    folder.mkdir()
    image = picture(120, 150, seed=1)
    options: dict[str, Any] = {"imagej": True, "resolution": (1 / 0.05, 1 / 0.05), "metadata": {"unit": "um"}}
    tifffile.imwrite(folder / "large.tif", image.astype(np.uint16) * 16, **options)
    tifffile.imwrite(folder / "small.tif", picture(seed=2), **options)
    found = suggested(folder, 4, grid=Grid(pixel_size_um=0.1))
    items = {item.image: item for item in found.suggestions.fields}
    regions = [item for item in items.values() if item.region is not None]
    assert len(regions) >= 3 and all(item.field == "large.tif" for item in regions)
    prediction = both(tmp_path / "TODO")
    for item in regions:
        assert item.region is not None
        top, left, height, width = item.region.model_dump().values()
        assert Path(item.image).name == f"large-y{top}-x{left}.tif" and (height, width) == (60, 50)
        with tifffile.TiffFile(tmp_path / "TODO" / item.image) as tiff:
            np.testing.assert_array_equal(tiff.asarray(), image[top : top + height, left : left + width])
        assert prediction[Path(item.image).stem].shape == (60, 50)
    domain = load_domain(tmp_path / "TODO")
    checked = check_domain(domain, 2)
    assert {item.group for item in domain.fields} <= {"large.tif", "small.tif"}  # never in two folds
    assert [f"{item.pixel_size_um:.3f}" for item in checked.fields] == ["0.050"] * 4
    assert "pixel_size_um" not in (tmp_path / "TODO" / "domain.yaml").read_text(encoding="utf-8")


def test_the_prediction_of_a_region_is_that_of_the_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the network works on other pixels, and mostly unmeasured regions are none."""
    image = picture(120, 150, seed=3)
    transparent = np.full(image.shape, 255, np.uint8)
    transparent[:60, :40] = 0
    folder = tmp_path / "new"
    folder.mkdir()
    Image.fromarray(np.dstack([image, transparent])).save(folder / "a.png")
    whole = both(suggested(folder, 1, "WHOLE", grid=Grid(scale=0.5)).out)["a"]
    assert (whole[:60, :40] == 255).all() and (whole[60:] != 255).all()
    monkeypatch.setattr(committees, "WHOLE_FIELD_PX", 100 * 100)
    monkeypatch.setattr(committees, "REGION_SIDE_PX", 64)
    out = suggested(folder, 20, "PARTS", grid=Grid(scale=0.5)).out
    parts = both(out)
    assert "a-y0-x0" not in parts and len(parts) == 5
    for stem, labels in parts.items():
        top, left = (int(text[1:]) for text in stem.split("-")[1:])
        np.testing.assert_array_equal(labels, whole[top : top + 60, left : left + 50])


def test_how_fields_are_prepared_is_stated(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new" / "images", 3).parent
    described = {"groups": "field([0-9])", "pixel_size_um": 0.2, "crop": {"bottom_px": 20}, "keep_data_bar": True}
    (folder / "domain.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    entry = DomainEntry(name="lom", role="target", preparation=Preparation(invert=True, pixel_size_um=0.1))
    found = suggested(folder, 2, entry=entry, grid=Grid(pixel_size_um=0.4))
    assert any("features of the labelled fields are unknown" in text for text in found.notices)
    domain = load_domain(tmp_path / "TODO")
    assert domain.preparation == Preparation(
        invert=True, crop=Crop(bottom_px=20), pixel_size_um=0.2, keep_data_bar=True
    )
    assert sorted(item.group for item in domain.fields) == sorted(Path(i.name).stem[-1] for i in domain.fields)
    for stem, labels in both(tmp_path / "TODO").items():
        assert (labels[40:] == 255).all() and (labels[:40] != 255).all()
        assert labels.shape == picture(seed=int(stem[-1])).shape


def test_a_crop_is_not_stated_for_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committees, "WHOLE_FIELD_PX", 100 * 100)
    folder = pictures(tmp_path / "new" / "images", 1, height=120, width=150).parent
    Image.fromarray(picture(seed=7)).save(folder / "images" / "small.png")
    (folder / "domain.yaml").write_text("crop: {top_px: 10}\n", encoding="utf-8")
    found = suggested(folder, 2)
    images = [np.asarray(Image.open(found.out / item.image)).shape for item in found.suggestions.fields]
    assert sorted(images) == [(50, 80), (110, 150)]
    assert load_domain(found.out).preparation.crop == Crop()
    both(found.out)


def test_an_assumed_pixel_size_is_called_so(tmp_path: Path) -> None:
    entry = DomainEntry(name="steel", preparation=Preparation(pixel_size_um=0.1))
    folder = pictures(tmp_path / "new", 2)
    options: dict[str, Any] = {"imagej": True, "resolution": (5, 5), "metadata": {"unit": "um"}}
    tifffile.imwrite(folder / "stated.tif", picture(seed=5), **options)
    found = suggested(folder, 3, entry=entry, grid=Grid(pixel_size_um=0.1))
    text = (found.out / "domain.yaml").read_text(encoding="utf-8")
    assert "it is assumed to be that of the training images" in text
    assert yaml.safe_load(text)["pixel_sizes"] == {"field0": 0.1, "field1": 0.1}
    assert any("Nothing states the pixel size of" in notice for notice in found.notices)
    assert any("pixels of 0.1 to 0.2 um" in notice for notice in found.notices)


def test_turned_pictures_have_turned_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    tifffile.imwrite(folder / "turned.tif", picture(), extratags=[(274, "H", 1, 6, True)])
    labels = both(suggested(folder, 1).out)["turned"]
    np.testing.assert_array_equal(labels, picture() > 120)
    monkeypatch.setattr(committees, "WHOLE_FIELD_PX", 1000)
    out = suggested(folder, 1, "REGION").out
    (name,) = both(out)
    np.testing.assert_array_equal(tifffile.imread(out / "images" / f"{name}.tif"), np.rot90(picture(), -1))
    np.testing.assert_array_equal(both(out)[name], np.rot90(picture(), -1) > 120)


def test_one_stem_in_several_folders_and_texts_beside(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new" / "a", 1).parent
    (folder / "b").mkdir()
    tifffile.imwrite(folder / "b" / "field0.tif", picture(seed=8))
    (folder / "b" / "field0.txt").write_text("[SemImageFile]\nPixelSize=50\nDataSize=80x60\n")
    out = suggested(folder, 2).out
    assert sorted(path.name for path in (out / "images").iterdir()) == ["a-field0.png", "b-field0.tif", "b-field0.txt"]
    domain = load_domain(out)
    assert [item.pixel_size_um for item in check_domain(domain, 2).fields] == [None, 0.05]
    assert len(both(out)) == 2


def test_one_network_has_no_disagreement(tmp_path: Path) -> None:
    found = suggested(pictures(tmp_path / "new", 3), 2, limits=(120,))
    assert [item.disagreement for item in found.suggestions.fields] == [None, None]
    assert any("one network" in text for text in found.notices)
    assert (found.out / "suggest.html").read_text(encoding="utf-8").count("<figure>") == 4


def test_masks_that_are_still_predictions_are_known(tmp_path: Path) -> None:
    out = suggested(pictures(tmp_path / "new", 3), 3).out
    assert sorted(unchanged_predictions(out)) == [f"images/field{n}.png" for n in range(3)]
    mask = Image.open(out / "masks" / "field1.png")
    pixels = np.asarray(mask).copy()
    pixels[:5] = 0
    corrected = Image.fromarray(pixels, mode="P")
    palette = mask.getpalette()
    assert palette is not None
    corrected.putpalette(palette)
    corrected.save(out / "masks" / "field1.png")
    (out / "masks" / "field2.png").unlink()
    assert unchanged_predictions(out) == unchanged_predictions(out / "domain.yaml") == ["images/field0.png"]
    assert len(unchanged_predictions(out / "qupath.yaml")) == 3
    assert unchanged_predictions(tmp_path / "new") == []
    assert replace(load_domain(out / "qupath.yaml")).name == "TODO"
    (out / "suggest.json").write_text("{}")
    with pytest.raises(InputError, match=r"suggest\.json: the record of `microseg suggest` is damaged"):
        unchanged_predictions(out)
