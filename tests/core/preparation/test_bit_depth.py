"""The grey rule of new runs: the same picture gives the same grey values in every encoding, and a few pixels decide nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import microseg
from microseg.core.errors import FieldError
from microseg.core.preparation.bit_depth import common_bits, is_outlier
from microseg.core.preparation.intensity import combined_rule
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.preparation import Grid, Intensity, Preparation
from tests.engines import write_threshold_engine

SIDE = 1000


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[microseg.LoadedEngine]:
    with microseg.load_engine(write_threshold_engine(tmp_path_factory.mktemp("e") / "e.onnx")) as opened:
        yield opened


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """1 MP of two phases with soft edges and noise, nothing near black or white."""
    rng = np.random.default_rng(11)
    coarse = rng.random((50, 50)) < 0.45
    grey = np.where(coarse.repeat(20, 0).repeat(20, 1), 150.0, 85.0) + rng.normal(0, 12, (SIDE, SIDE))
    return np.clip(np.rint(grey), 20, 235).astype(np.uint8)


def _wide(picture: NDArray[np.uint8], factor: int = 16) -> NDArray[np.uint16]:
    return picture.astype(np.uint16) * np.uint16(factor)


def _bainite(engine: microseg.LoadedEngine, source: Any) -> float:
    return 100 * engine.predict(source).fractions["bainite"]


SAME: dict[str, Callable[[NDArray[np.uint8]], NDArray[Any]]] = {
    "8 of 16 bits": lambda grey: grey.astype(np.uint16),
    "12 of 16 bits": _wide,
    "12 bits, full range": lambda grey: np.rint(grey * (4095 / 255)).astype(np.uint16),
    "14 of 16 bits": lambda grey: _wide(grey, 64),
    "16 bits": lambda grey: _wide(grey, 257),
    "float 0-1": lambda grey: (grey / 255).astype(np.float32),
    "float 0-255": lambda grey: grey.astype(np.float32),
    "double 0-1": lambda grey: grey / 255,
    "from 32768": lambda grey: _wide(grey) + np.uint16(32768),
    "signed": lambda grey: _wide(grey).astype(np.int16),
}


@pytest.mark.parametrize("encoding", SAME)
def test_one_picture_in_any_encoding(engine: microseg.LoadedEngine, picture: NDArray[np.uint8], encoding: str) -> None:
    assert _bainite(engine, SAME[encoding](picture)) == _bainite(engine, picture)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(0, SIDE - 1),
    column=st.integers(0, SIDE - 1),
    value=st.one_of(st.integers(0, 65535), st.sampled_from([0, 65535, 4096, 32768])),
    encoding=st.sampled_from(["8 of 16 bits", "12 of 16 bits", "16 bits", "from 32768"]),
)
def test_one_pixel_moves_a_fraction_by_less_than_a_twentieth_of_a_point(
    engine: microseg.LoadedEngine, picture: NDArray[np.uint8], row: int, column: int, value: int, encoding: str
) -> None:
    grey = SAME[encoding](picture)
    before = _bainite(engine, grey)
    grey[row, column] = value
    assert _bainite(engine, grey) == pytest.approx(before, abs=0.05)


def test_a_burnt_in_scale_bar_is_not_measured(engine: microseg.LoadedEngine, picture: NDArray[np.uint8]) -> None:
    grey = _wide(picture)
    bar = np.s_[900:908, 700:900]
    grey[bar] = 65535
    found = engine.predict(grey)
    assert (found.labels[bar] == 255).all() and found.measured_px == SIDE**2 - 1600
    assert any(
        "1600 px (0.160%) hold 65535, far above all others: they are not measured" in text for text in found.notices
    )
    assert 100 * found.fractions["bainite"] == pytest.approx(_bainite(engine, _wide(picture)), abs=0.2)


def test_saturated_pixels_of_a_16_bit_detector_are_measured(
    engine: microseg.LoadedEngine, picture: NDArray[np.uint8]
) -> None:
    grey = np.minimum(_wide(picture, 400).astype(np.int64) + 1, 65535).astype(np.uint16)
    grey[100:420, 100:420] = 65535  # at the border, such a rectangle is padding
    found = engine.predict(grey)
    assert found.measured_px == SIDE**2
    assert any("of the pixels are saturated (255)" in text for text in found.notices)


def test_white_as_zero_within_12_bits(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    """A file that stores 4095 minus the value: viewers show the picture as it is."""
    tifffile.imwrite(tmp_path / "a.tif", np.uint16(4095) - _wide(picture), photometric="miniswhite", metadata=None)
    with open_prepared(tmp_path / "a.tif", Preparation(), Grid()) as field:
        assert np.array_equal(field.whole(), picture)
        assert field.intensity.bits == 12


@pytest.mark.parametrize(
    ("grey", "found"),
    [
        (np.uint16(40000) + np.arange(4096, dtype=np.uint16).reshape(64, 64), r"values from 40004 to 44091"),
        (np.linspace(-300, 700, 4096, dtype=np.float32).reshape(64, 64), "float values from -29.* their scale is not"),
        (np.linspace(0, 0.01, 4096, dtype=np.float32).reshape(64, 64), "their scale is not known"),
        (np.linspace(0, 1e6, 4096, dtype=np.float32).reshape(64, 64), "their scale is not known"),
    ],
)
def test_a_scale_that_nothing_states_is_refused(tmp_path: Path, grey: NDArray[Any], found: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", grey, metadata=None)
    with pytest.raises(FieldError, match=f"{found}.*Remedy: .*`intensity: {{rule: percentiles}}`"):
        open_prepared(tmp_path / "a.tif", Preparation(), Grid())


def _resolved(*bits: int | None) -> list[Intensity]:
    return [Intensity(bits=each) for each in bits]


@pytest.mark.parametrize(
    ("fields", "domain"),
    [
        ((None, None), None),
        ((12,), 12),
        ((10, 12), 12),
        ((12, 12, 16), 12),
        ((12, 12, 8, 12), 12),
        ((10, 12, 12, None), 12),
    ],
)
def test_one_outlier_does_not_decide_the_bits_of_a_domain(fields: tuple[int | None, ...], domain: int | None) -> None:
    resolved = _resolved(*fields)
    assert common_bits(resolved) == domain
    rule = combined_rule(Intensity(), resolved)
    assert rule == Intensity(bits=domain)
    outliers = [each.bits for each in resolved if is_outlier(each, rule)]
    assert outliers == [bits for bits in fields if bits in (8, 16)]


def test_a_field_of_other_bits_than_its_domain_keeps_its_own_and_says_so(
    tmp_path: Path, picture: NDArray[np.uint8]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _wide(picture, 257), metadata=None)
    with open_prepared(tmp_path / "a.tif", Preparation(intensity=Intensity(bits=12)), Grid()) as field:
        assert "16 significant bits" in field.notices[0] and "the domain has 12" in field.notices[0]
        assert np.array_equal(field.whole(), picture)
    tifffile.imwrite(tmp_path / "dark.tif", _wide(picture, 4), metadata=None)
    with open_prepared(tmp_path / "dark.tif", Preparation(intensity=Intensity(bits=12)), Grid()) as field:
        assert field.notices == () and field.intensity.bits == 12
