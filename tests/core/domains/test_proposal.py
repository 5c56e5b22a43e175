"""The domain.yaml that `check --write-yaml` writes: it is read as the folder was, or as was proposed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.domain import load_domain, read_labels
from microseg.core.domains.inference import phases_text
from microseg.core.domains.proposal import write_domain_file
from microseg.core.errors import InputError
from tests.core.domains.imports.test_tools import FLAT, SQUARE, coco, labelme, outline, write_images
from tests.core.samples import halves, noise, write_domain


def proposed(folder: Path) -> Any:
    written = write_domain_file(folder)
    assert written == folder / "domain.yaml"
    return yaml.safe_load(written.read_text(encoding="utf-8"))


def test_inferred_phases_get_names_to_correct(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(values=(1, 2, 255))})
    before = load_domain(folder)
    assert proposed(folder) == {
        "images": "images",
        "masks": "masks",
        "phases": [{"name": "phase0", "value": 1}, {"name": "phase1", "value": 2}],
        "unlabelled": 255,
    }
    after = load_domain(folder)
    assert (after.phases, after.fields, after.unlabelled) == (before.phases, before.fields, before.unlabelled)
    assert not after.phases_inferred


def colours() -> NDArray[np.uint8]:
    pixels = np.dstack([noise(20, 20)] * 3)
    pixels[:5] = (0, 0, 255)
    return pixels


@pytest.mark.parametrize(
    ("mask", "values"),
    [
        (halves(values=(0, 128, 255)), [0, 128, 255]),
        (halves(values=(254, 255)), [254, 255]),
        (halves(values=(0, 14)), [0, 14]),
        (colours(), ["#0000ff", "grey"]),
        (halves(values=tuple(range(0, 200, 20))), list(range(0, 200, 20))),
    ],
)
def test_values_that_are_refused_are_written_with_their_shares(tmp_path: Path, mask: Any, values: list[Any]) -> None:
    folder = write_domain(tmp_path, {"a": mask})
    with pytest.raises(InputError, match="as `microseg check --write-yaml` does"):
        load_domain(folder)
    assert [phase["value"] for phase in proposed(folder)["phases"]] == values
    assert "% of the area" in (folder / "domain.yaml").read_text()
    domain = load_domain(folder)
    assert set(np.unique(read_labels(domain.fields[0], domain)).tolist()) == set(range(len(values)))


def test_folders_and_suffixes_as_they_are_found(tmp_path: Path) -> None:
    for name in ("Images/a.tif", "GT/a_cp_masks.png"):
        (tmp_path / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(halves()).save(tmp_path / "one" / name)
    found = proposed(tmp_path / "one")
    assert (found["images"], found["masks"]) == ("Images", "GT")
    (tmp_path / "two").mkdir()
    for name in ("a.tif", "a_mask.png"):
        Image.fromarray(halves()).save(tmp_path / "two" / name)
    found = proposed(tmp_path / "two")
    assert (found["images"], found["masks"], found["mask_suffix"]) == (".", ".", "_mask")
    assert [item.name for item in load_domain(tmp_path / "two").fields] == ["a.tif"]


def test_label_files(tmp_path: Path) -> None:
    one = write_images(tmp_path / "one", "images/a.tif")
    (one / "images" / "a.json").write_text(labelme(outline("bainite", SQUARE), outline("Perlit: ä", SQUARE[:3])))
    assert proposed(one) == {
        "images": "images",
        "masks": "images",
        "labels": "labelme",
        "phases": [
            {"name": "background", "value": "other"},
            {"name": "Perlit: ä", "value": "Perlit: ä"},
            {"name": "bainite", "value": "bainite"},
        ],
    }
    domain = load_domain(one)
    assert np.unique(read_labels(domain.fields[0], domain)).tolist() == [0, 1, 2]
    two = write_images(tmp_path / "two", "images/a.tif")
    (two / "c.json").write_text(coco({"segmentation": [FLAT]}))
    found = proposed(two)
    assert (found["masks"], found["labels"]) == ("c.json", "coco")
    domain = load_domain(two)
    assert [phase.name for phase in domain.phases] == ["background", "bainite"]


@pytest.mark.parametrize(
    "name", ["no", "Ferrit 2", "a: b", "#0000ff", "12", "null", "Perlit ä", "it's", "x#y", "- a", "{a}", "1e3"]
)
def test_any_name_is_read_as_it_was(name: str) -> None:
    text = phases_text([(name, name, 0.5)])
    assert yaml.safe_load(text) == {"phases": [{"name": name, "value": name}]}


def test_what_may_be_meant_otherwise_is_written_beside(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(values=(0, 0, 1, 2, 0))})
    text = write_domain_file(folder).read_text()
    assert "# mask value 0 covers most of the area" in text
    assert "- {name: phase0, value: 0}" in text


def test_images_without_labels(tmp_path: Path) -> None:
    write_images(tmp_path, "a.tif")
    assert proposed(tmp_path) == {"images": ".", "masks": None}
    assert load_domain(tmp_path).fields[0].mask is None


@pytest.mark.parametrize("name", ["domain.yaml", "domain.yml", "Domain.yaml"])
def test_a_file_that_is_there_stays(tmp_path: Path, name: str) -> None:
    folder = write_domain(tmp_path, {"a": halves()})
    (folder / name).write_text("unlabelled: 9\n")
    with pytest.raises(InputError, match="is there already"):
        write_domain_file(folder)
    assert (folder / name).read_text() == "unlabelled: 9\n"
    with pytest.raises(InputError, match="is no folder"):
        write_domain_file(folder / name)


def test_masks_that_no_domain_yaml_helps_write_none(tmp_path: Path) -> None:
    blurred = halves(values=(0, 255))
    blurred[:, 19] = np.arange(32) * 7 + 5
    folder = write_domain(tmp_path, {"a": blurred})
    with pytest.raises(InputError, match="without anti-aliasing"):
        write_domain_file(folder)
    assert not (folder / "domain.yaml").exists()
