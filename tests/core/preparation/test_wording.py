"""A preparation in words."""

from __future__ import annotations

import pytest

from microseg.core.preparation.wording import preparation_text
from microseg.core.schemas.preparation import Crop, Intensity, Preparation


@pytest.mark.parametrize(
    ("preparation", "text"),
    [
        (Preparation(), "nothing cut off; not inverted; significant bits to 8 bit"),
        (
            Preparation(invert=True, crop=Crop(bottom_px=60, left_px=2), intensity=Intensity(bits=12)),
            "cut off: 60 px at the bottom, 2 px at the left; inverted; 12 significant bits to 8 bit",
        ),
        (
            Preparation(intensity=Intensity(rule="percentiles", low=0.5, high=99)),
            "nothing cut off; not inverted; percentiles 0.5 to 99 of each field to 8 bit",
        ),
        (Preparation(intensity=Intensity(rule="full")), "nothing cut off; not inverted; full range to 8 bit"),
    ],
)
def test_what_is_said(preparation: Preparation, text: str) -> None:
    assert preparation_text(preparation) == text
