"""The values of options that say what of a micrograph is material."""

from __future__ import annotations

import re

import pytest
import typer

from microseg.cli.measure.options import crop_of, micrometres
from microseg.core.errors import InputError
from microseg.core.schemas.preparation import Crop


def test_a_crop_names_sides() -> None:
    assert crop_of(None) is None
    assert crop_of("bottom=60") == Crop(bottom_px=60)
    assert crop_of("top=1, left = 2,right=3") == Crop(top_px=1, left_px=2, right_px=3)


@pytest.mark.parametrize(
    "text", ["", "60", "bottom", "bottom=", "bottom=-1", "bottom=1.5", "bottom=1,bottom=2", "under=3", "top=²"]
)
def test_another_crop_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--crop .*Remedy: top, bottom, left or right"):
        crop_of(text)


@pytest.mark.parametrize(
    ("text", "um"), [("0.0277", 0.0277), ("0,0277", 0.0277), ("27.7 nm", 0.0277), ("277e-4", 0.0277)]
)
def test_a_pixel_size_is_read_as_people_write_it(text: str, um: float) -> None:
    assert micrometres(text) == pytest.approx(um)


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "1e7", "small", "1.2.3"])
def test_what_is_no_pixel_size_is_named(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=re.escape(repr(text))):
        micrometres(text)
