"""Numbers and units as microscopes and code pages leave them."""

from __future__ import annotations

import pytest

from microseg.core.images.scale.lengths import length, number, um_per


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("27.7", 27.7), ("11,08", 11.08), ("2.77e-008", 2.77e-8), ("2,77E-008", 2.77e-8),
        ("1,024.5", 1024.5), ("1.024,5", 1024.5),
        (" 5 ", 5.0), ("-3,5", -3.5), ("5.", 5.0), (",5", 0.5),
    ],
)  # fmt: skip
def test_numbers(text: str, value: float) -> None:
    found = number(text)
    assert found is not None and found[0] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "nm", "1 2", "1e-", "1e999", "--1", "nan", "inf"])
def test_no_numbers(text: str) -> None:
    assert number(text) is None


def test_half_of_the_last_digit() -> None:
    for text, half in (("11,08", 0.005), ("2.8e-5", 5e-7), ("28", 0.5)):
        found = number(text)
        assert found is not None and found[1] == pytest.approx(half)


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("pm", 1e-6), ("Å", 1e-4), ("nm", 1e-3), ("µm", 1.0), ("μm", 1.0), ("um", 1.0), ("UM", 1.0),
        ("mm", 1e3), ("cm", 1e4), ("m", 1e6), ("inch", 25400.0), ("inches", 25400.0), ("in", 25400.0),
        ("micron", 1.0), ("Microns", 1.0), ("micrometer", 1.0), ("nanometres", 1e-3), ("[nm]", 1e-3),
        ("\\u00B5m", 1.0), ("\\u03bcm", 1.0), ("\\xb5m", 1.0), ("&#181;m", 1.0), ("&micro;m", 1.0),
        # The micro sign in UTF-8, Shift-JIS, GBK, code page 437 and Greek, read in Windows-1252; and replaced.
        ("Âµm", 1.0), ("Î¼m", 1.0), ("ƒÊm", 1.0), ("¦Ìm", 1.0), ("æm", 1.0), ("ìm", 1.0), ("\ufffdm", 1.0), ("?m", 1.0),
    ],
)  # fmt: skip
def test_units(unit: str, um: float) -> None:
    assert um_per(unit) == pytest.approx(um)


@pytest.mark.parametrize("unit", ["", "pixel", "xm", "px", "µ", "qm", "s", "nmm", "deg", "µs"])
def test_no_units_of_length(unit: str) -> None:
    assert um_per(unit) is None


@pytest.mark.parametrize(
    ("text", "um"),
    [
        ("27.7 nm", 0.0277),
        ("11,08 nm", 0.01108),
        ("1um", 1.0),
        ("100nm", 0.1),
        ("28.36 \xb5m", 28.36),
        ("980.5 pm", 9.805e-4),
    ],
)
def test_lengths(text: str, um: float) -> None:
    found = length(text)
    assert found is not None and found.um == pytest.approx(um)


@pytest.mark.parametrize("text", ["", "0 nm", "-5 nm", "5", "nm", "5 px"])
def test_no_lengths(text: str) -> None:
    assert length(text) is None
    assert (length(text, "nm") is not None) == (text == "5")
