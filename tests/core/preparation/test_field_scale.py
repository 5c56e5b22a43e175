"""Whose statement of the pixel size counts, and fields whose pixels are not square."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from microseg.core.errors import FieldError, InputError
from microseg.core.images.pixel_size import ASSUMED, PixelSize
from microseg.core.preparation.field_scale import ScaleRules, assumed_size, refuse_contradicting_options
from microseg.core.preparation.prepared_field import PreparedField, labels_to_grid, labels_to_native, open_prepared
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange, Preparation
from tests.core.samples import noise


def opened(path: Path, grid: Grid | None = None, argument_um: float | None = None, **preparation: Any) -> PreparedField:
    with open_prepared(
        path, Preparation(**preparation), grid or Grid(), ScaleRules(command_line_um=argument_um)
    ) as field:
        return field


def imagej(path: Path, across_um: float = 0.1, down_um: float = 0.1) -> Path:
    resolution = (1 / across_um, 1 / down_um)
    tifffile.imwrite(path, noise(40, 60), imagej=True, resolution=resolution, metadata={"unit": "um"})
    return path


def stale(path: Path) -> Path:
    text = "[Scan]\r\nPixelWidth=1e-007\r\n[Image]\r\nResolutionX=120\r\n"
    tifffile.imwrite(path, noise(40, 60), metadata=None, extratags=[(34682, 2, 0, text, True)])
    return path


def test_what_the_user_states_counts_and_the_file_is_told(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif")
    assert opened(path).pixel_size == PixelSize.square(0.1, "ImageJ (pixels per µm)")
    assert opened(path).notices == ()
    assert opened(path, pixel_size_um=0.1005).notices == ()
    field = opened(path, pixel_size_um=0.2)
    assert field.pixel_size == PixelSize.square(0.2, "domain.yaml")
    (notice,) = field.notices
    assert notice == (
        "the domain.yaml states a pixel of 0.2 um, the file 0.1 um (ImageJ (pixels per µm)): the domain.yaml counts"
    )
    assert notice.kind == "pixel size"
    field = opened(path, None, 0.3, pixel_size_um=0.1)
    assert field.pixel_size == PixelSize.square(0.3, "command line")
    assert "the command line counts" in field.notices[0]


@pytest.mark.parametrize("grid", [Grid(), Grid(pixel_size_um=0.1)])
def test_a_contradiction_is_refused_until_the_user_states_the_size(tmp_path: Path, grid: Grid) -> None:
    path = stale(tmp_path / "a.tif")
    with pytest.raises(
        FieldError, match=r"a\.tif: its pixel size is contradictory: FEI tag 34682 \(Scan\.PixelWidth\) states 0\.1 um"
    ):
        opened(path, grid)
    field = opened(path, grid, 0.2)
    assert field.pixel_size == PixelSize.square(0.2, "command line")
    assert "120 columns, but the picture has 60 columns" in field.notices[0]


@pytest.mark.parametrize(
    ("grid", "shape"),
    [
        (Grid(), (72, 60)),
        (Grid(scale=0.5), (36, 30)),
        (Grid(pixel_size_um=0.1), (72, 60)),
        (Grid(pixel_size_um=0.2), (36, 30)),
    ],
)
def test_oblong_pixels_become_square(tmp_path: Path, grid: Grid, shape: tuple[int, int]) -> None:
    path = imagej(tmp_path / "a.tif", 0.1, 0.18)
    with open_prepared(path, Preparation(), grid) as field:
        assert field.shape == shape
        assert field.whole().shape == shape
        whole = field.whole()
        striped = np.concatenate([field.rows(row, row + 1) for row in range(shape[0])])
    np.testing.assert_array_equal(whole, striped)
    (notice,) = field.notices
    assert notice == "its pixels are not square (0.1 x 0.18 um): the field is resampled to square ones"
    labels = noise(40, 60) % 3
    assert labels_to_grid(labels, field.shape).shape == shape
    back = labels_to_native(labels_to_grid(labels, (72, 120)), (40, 60))
    np.testing.assert_array_equal(back, labels)


def test_rounding_makes_no_pixel_oblong(tmp_path: Path) -> None:
    field = opened(imagej(tmp_path / "a.tif", 0.1, 0.1005))
    assert (field.shape, field.notices) == ((40, 60), ())


def test_edges_too_far_apart_are_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"states 0\.1 um along a row and 100 um along a column"):
        opened(imagej(tmp_path / "a.tif", 0.1, 100.0))


def test_who_takes_native_pixels_meets_no_contradiction(tmp_path: Path) -> None:
    with open_prepared(
        stale(tmp_path / "a.tif"), Preparation(), Grid(scale=0.5), ScaleRules(takes_native_pixels=True)
    ) as field:
        assert (field.pixel_size, field.notices, field.shape) == (None, (), (20, 30))


ASSUMING = ScaleRules(assumed=PixelSize.square(0.05, ASSUMED))


def bare(path: Path) -> Path:
    tifffile.imwrite(path, noise(40, 60), metadata=None)
    return path


def test_an_assumed_size_is_told_until_it_is_accepted(tmp_path: Path) -> None:
    path = bare(tmp_path / "a.tif")

    def notices(rules: ScaleRules) -> tuple[str, ...]:
        with open_prepared(path, Preparation(), Grid(pixel_size_um=0.1), rules) as field:
            assert field.shape == (20, 30)
            assert field.pixel_size is not None and field.pixel_size.is_assumed
            return field.notices

    (told,) = notices(ASSUMING)
    assert told.startswith("nothing states its pixel size: that of the training images is assumed")
    assert "0.05" not in told and "--assume-engine-scale" in told
    assert notices(replace(ASSUMING, accepts_assumption=True)) == ()
    found = ScaleRules(assumed=assumed_size(FOUND, Grid(pixel_size_um=0.1)))
    assert "that of the images that `train uda` adapted to is assumed" in notices(found)[0]


FOUND = DomainEntry(
    name="lom", preparation=Preparation(pixel_size_um=0.05), pixel_size_source="found by train uda", role="target"
)


def test_nothing_is_assumed_where_the_network_takes_native_pixels() -> None:
    assert assumed_size(FOUND, Grid()) is None
    assert assumed_size(DomainEntry(name="bare"), Grid(pixel_size_um=0.1)) is None
    own = FOUND.model_copy(update={"pixel_size_source": "domain.yaml"})
    assert assumed_size(own, Grid(pixel_size_um=0.1)) == PixelSize.square(0.05, ASSUMED)


def test_a_required_size_that_nothing_states(tmp_path: Path) -> None:
    rules = replace(ASSUMING, requires_statement=True)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(40, 60), imagej=True, resolution=(72, 72), metadata={"unit": "inch"})
    with pytest.raises(
        FieldError, match=r"a\.tif: states no pixel size \(.*72 dpi.*\), and --require-scale asks for one"
    ):
        open_prepared(path, Preparation(), Grid(), rules)
    for stated in (replace(rules, command_line_um=0.1), rules):
        preparation = Preparation(pixel_size_um=None if stated.command_line_um else 0.1)
        with open_prepared(path, preparation, Grid(), stated) as field:
            assert field.pixel_size_um == 0.1
    with pytest.raises(InputError, match="--assume-engine-scale and --require-scale exclude each other"):
        refuse_contradicting_options(True, True)


@pytest.mark.parametrize(
    ("size_um", "factor"),
    [(0.074, None), (0.077, "1.54"), (0.299, "5.98"), (0.014, None), (0.0066, "3.03"), (0.00334, "5.99")],
)
def test_a_size_beyond_the_training_is_told(tmp_path: Path, size_um: float, factor: str | None) -> None:
    path = imagej(tmp_path / "a.tif", size_um, size_um)
    rules = ScaleRules(trained=PixelSizeRange(smallest_um=0.02, largest_um=0.05), refuses_far=True)
    with open_prepared(path, Preparation(), Grid(), rules) as field:
        assert len(field.notices) == (factor is not None)
        if factor is not None:
            told = f"is {factor} times beyond those that the engine was trained on (0.02 to 0.05 um)"
            assert told in field.notices[0]


@pytest.mark.parametrize("size_um", [0.31, 0.0033])
def test_a_size_far_beyond_the_training_is_refused_on_request(tmp_path: Path, size_um: float) -> None:
    path = imagej(tmp_path / "a.tif", size_um, size_um)
    rules = ScaleRules(trained=PixelSizeRange(smallest_um=0.02, largest_um=0.05))
    with open_prepared(path, Preparation(), Grid(), rules) as field:
        assert "times beyond" in field.notices[0]
    wanted = rf"a\.tif: its pixel size of {size_um:g} um \(ImageJ.*0\.02 to 0\.05 um.*--pixel-size-um.*--force-scale"
    with pytest.raises(FieldError, match=wanted):
        open_prepared(path, Preparation(), Grid(), replace(rules, refuses_far=True))
    with open_prepared(path, Preparation(pixel_size_um=0.03), Grid(), replace(rules, refuses_far=True)) as field:
        assert "the domain.yaml counts" in field.notices[0]


def test_what_is_no_scale_is_told_where_nothing_else_states_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(40, 60), imagej=True, resolution=(118.11, 118.11), metadata={"unit": "cm"})
    field = opened(path)
    assert field.pixel_size is None
    assert "300 dpi of a printer" in field.notices[0]
    assert opened(path, None, 0.1).notices == ()
