"""The values of options that say what of a micrograph is material."""

from __future__ import annotations

import pytest

from microseg.cli.measure.options import crop_of
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
