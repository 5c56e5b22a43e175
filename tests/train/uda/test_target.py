from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.schemas.preparation import DomainEntry, Grid
from microseg.core.schemas.run import RunRecord, read_record
from microseg.synthetic.folder import write_domain
from microseg.train.common.data import load_training_data
from microseg.train.uda.normalise import histogram_curve, standardising_curve
from microseg.train.uda.target import Target, read_target, skewness_of_details


@pytest.fixture(scope="module")
def origin(source: Path, trained: Path) -> tuple[RunRecord, list[NDArray[np.uint8]]]:
    fields = load_training_data(source, 1.0, 2).fields
    return read_record(trained), [field.image for field in fields]


def _read(path: Path, origin: tuple[RunRecord, list[NDArray[np.uint8]]], **options: Any) -> Target:
    def likes_bright_films(view: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Sure of itself where details are bright, a mess where they are dark."""
        rng = np.random.default_rng(int(view.sum()))
        noisy = rng.random(view.shape) < (0.0 if skewness_of_details([view])[0] > 0 else 0.5)
        first = np.where(noisy, 0.0, 0.9).astype(np.float32)
        return np.stack([first, 1 - first])

    record, images = origin
    given: dict[str, Any] = {"invert": None, "pixel_size_um": None, "apply_findings": False}
    return read_target(path, record, source_images=images, predict=likes_bright_films, **(given | options))


def test_masks_of_a_target_are_never_opened(tmp_path: Path, origin: tuple[RunRecord, list[Any]]) -> None:
    write_domain(tmp_path / "t1", "t1", 2, 5, size_px=(180, 150))
    for mask in (tmp_path / "t1" / "masks").iterdir():
        mask.write_bytes(b"opened")  # reading this raises
    found = _read(tmp_path / "t1", origin)
    assert [set(np.unique(field.labels)) for field in found.fields] == [{255}, {255}]
    (tmp_path / "t1" / "domain.yaml").unlink()
    shutil.rmtree(tmp_path / "t1" / "masks")
    assert len(_read(tmp_path / "t1", origin).fields) == 2


def test_auto_finds_polarity_and_pixel_size_of_a_bare_folder_and_says_the_options(
    tmp_path: Path, origin: tuple[RunRecord, list[Any]]
) -> None:
    write_domain(tmp_path / "t3", "t3", 3, 5, size_px=(180, 150))
    found = _read(tmp_path / "t3" / "images", origin, apply_findings=True)
    assert found.entry.preparation.invert
    assert found.entry.preparation.pixel_size_um == pytest.approx(0.1266)
    assert "--pixel-size-um 0.1266" in found.notices[0] and "--invert" in found.notices[2]
    # The source is trained with magnifications from 0.6 to 1.7.
    assert "2.74 times beyond those that the engine was trained on (0.01629 to 0.04617 um)" in found.notices[1]
    assert found.notices[1].endswith("(and 2 more such notices)")
    assert found.entry.pixel_size_source == "found by train uda"
    # 126.6 nm to 27.7 nm.
    assert found.fields[0].image.shape == (686, 823)
    said = _read(tmp_path / "t3" / "images", origin, invert=True, pixel_size_um=0.1266)
    assert np.array_equal(said.fields[0].image, found.fields[0].image)
    assert [("beyond" in text) for text in said.notices] == [True]
    assert said.entry.pixel_size_source == "command line"


def test_a_network_that_prefers_the_wrong_polarity_is_not_asked_where_details_are_plain(
    tmp_path: Path, origin: tuple[RunRecord, list[Any]]
) -> None:
    write_domain(tmp_path / "t3", "t3", 3, 5, size_px=(180, 150))
    found = read_target(
        tmp_path / "t3" / "images", origin[0], invert=None, pixel_size_um=None, apply_findings=True,
        source_images=origin[1], predict=lambda view: pytest.fail("asked"),
    )  # fmt: skip
    assert found.entry.preparation.invert


def test_other_methods_stop_with_the_option(tmp_path: Path, origin: tuple[RunRecord, list[Any]]) -> None:
    write_domain(tmp_path / "t3", "t3", 2, 5, size_px=(180, 150))
    with pytest.raises(InputError, match=r"--pixel-size-um 0\.1266"):
        _read(tmp_path / "t3" / "images", origin)
    with pytest.raises(InputError, match=r"--invert \(--no-invert if they are not\)"):
        _read(tmp_path / "t3" / "images", origin, pixel_size_um=0.1266)
    assert not _read(tmp_path / "t3" / "images", origin, pixel_size_um=0.1266, invert=False).entry.preparation.invert


def test_the_source_itself_and_other_phases_are_refused(tmp_path: Path, origin: tuple[RunRecord, list[Any]]) -> None:
    with pytest.raises(InputError, match="holds only fields that the source run was trained on"):
        _read(Path(origin[0].domain_source), origin)
    write_domain(tmp_path / "t1", "t1", 1, 5, size_px=(180, 150))
    described = tmp_path / "t1" / "domain.yaml"
    content = yaml.safe_load(described.read_text(encoding="utf-8"))
    content["phases"][1]["name"] = "martensite"
    described.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError, match="martensite"):
        _read(tmp_path / "t1", origin)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        _read(tmp_path / "empty", origin)


def test_one_image_of_16_bit_works_with_a_warning(tmp_path: Path, origin: tuple[RunRecord, list[Any]]) -> None:
    image = np.random.default_rng(0).integers(0, 4000, (150, 180)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "one.tif", image)
    found = _read(tmp_path, origin)
    assert any("one target image" in text for text in found.notices)
    assert any("no pixel size" in text for text in found.notices)
    assert found.entry.pixel_size_source == "assumed from the training images"
    assert found.entry.preparation.intensity.bits == 12
    assert found.fields[0].image.max() > 240


def test_a_much_brighter_target_is_told(tmp_path: Path, origin: tuple[RunRecord, list[Any]]) -> None:
    image = np.random.default_rng(0).integers(235, 256, (150, 180)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "one.tif", image)
    told = [text for text in _read(tmp_path, origin).notices if "mean grey value is 245" in text]
    assert len(told) == 1 and "--method normalise" in told[0]


def test_a_pixel_size_beside_a_source_that_knows_none_rescales_nothing_and_says_so(
    tmp_path: Path, origin: tuple[RunRecord, list[Any]]
) -> None:
    _write_micrograph(tmp_path / "a.tif", None)
    record = origin[0].model_copy(update={"grid": Grid(scale=1.0)})
    found = _read(tmp_path, (record, origin[1]), pixel_size_um=0.5)
    assert found.fields[0].image.shape == (150, 180)
    assert any("--pixel-size-um 0.5 is recorded, but no field is rescaled" in text for text in found.notices)


def test_a_target_of_the_name_of_a_domain_that_the_run_knows_gets_another(
    tmp_path: Path, origin: tuple[RunRecord, list[Any]]
) -> None:
    """Of an earlier one, too: `segment --as` would take the first of two."""
    _write_micrograph(tmp_path / "lom" / "a.tif", 0.05)
    earlier = DomainEntry(name="lom", role="target")
    record = origin[0].model_copy(update={"earlier_domains": [earlier]})
    assert _read(tmp_path / "lom", origin, pixel_size_um=0.05).entry.name == "lom"
    assert _read(tmp_path / "lom", (record, origin[1]), pixel_size_um=0.05).entry.name == "lom-target"


def test_fields_of_several_magnifications_are_refused(tmp_path: Path, origin: tuple[RunRecord, list[Any]]) -> None:
    """As one median for all, each would be rescaled wrongly."""
    for name, pixel_um in (("a", 0.05), ("b", 0.05), ("c", 0.1)):
        _write_micrograph(tmp_path / f"{name}.tif", pixel_um)
    with pytest.raises(InputError, match=r"differ in pixel size \(c\.tif: 0\.1 um, median 0\.05 um\)"):
        _read(tmp_path, origin, apply_findings=True)
    _write_micrograph(tmp_path / "c.tif", None)
    with pytest.raises(InputError, match=r"c\.tif: states none"):
        _read(tmp_path, origin, apply_findings=True)
    assert _read(tmp_path, origin, pixel_size_um=0.05).entry.preparation.pixel_size_um == 0.05


def test_oblong_pixels_of_a_target_become_square(tmp_path: Path, origin: tuple[RunRecord, list[Any]]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (150, 180)).astype(np.uint8)
    edges = (0.0277, 0.045)
    tifffile.imwrite(
        tmp_path / "a.tif", image, imagej=True, metadata={"unit": "um"}, resolution=(1 / edges[0], 1 / edges[1])
    )
    found = _read(tmp_path, origin)
    assert found.fields[0].image.shape == (244, 180)
    assert found.entry.preparation.pixel_size_um == pytest.approx(0.0277)
    assert found.edges_um == pytest.approx(edges)


def test_fields_that_the_source_was_trained_on_are_told(tmp_path: Path, origin: tuple[RunRecord, list[Any]]) -> None:
    known = sorted((Path(origin[0].domain_source) / "images").iterdir())[0]
    shutil.copyfile(known, tmp_path / f"known{known.suffix}")
    write_domain(tmp_path / "new", "s", 1, 9, size_px=(180, 150))
    (new,) = (tmp_path / "new" / "images").iterdir()
    new.rename(tmp_path / f"new{new.suffix}")
    shutil.rmtree(tmp_path / "new")
    assert "1 of 2 target fields are fields that the source run was trained on" in _read(tmp_path, origin).notices


def _write_micrograph(path: Path, pixel_um: float | None) -> None:
    image = np.random.default_rng(0).integers(0, 255, (150, 180)).astype(np.uint8)
    path.parent.mkdir(exist_ok=True)
    stated: dict[str, Any] = {"imagej": True, "metadata": {"unit": "um"}} if pixel_um else {}
    tifffile.imwrite(path, image, resolution=(1 / (pixel_um or 1),) * 2, **stated)


def test_curves_give_the_target_the_source_s_grey_values() -> None:
    rng = np.random.default_rng(0)
    source = [np.clip(rng.normal(90, 12, (200, 200)), 0, 255).astype(np.uint8)]
    target = [np.clip(rng.gamma(4, 12, (200, 200)) + 60, 0, 255).astype(np.uint8)]
    matched = np.array(histogram_curve(source, target), np.uint8)[target[0]]
    standard = np.array(standardising_curve(source, target), np.uint8)[target[0]]
    for changed in (matched, standard):
        assert abs(float(changed.mean()) - 90) < 1.5
        assert abs(float(changed.std()) - 12) < 1.5
    assert abs(float(np.percentile(matched, 95)) - float(np.percentile(source[0], 95))) <= 2
    assert histogram_curve(source, source)[70:110] == list(range(70, 110))


def test_skewness_has_the_sign_of_the_details() -> None:
    field = np.full((100, 100), 100, np.uint8)
    field[::12] = 200
    assert (skewness_of_details([field])[:2] > 0.15).all()
    assert np.allclose(skewness_of_details([255 - field]), -skewness_of_details([field]), atol=1e-3)
