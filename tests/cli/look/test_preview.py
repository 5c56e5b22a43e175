"""`microseg preview` as typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.chain import microseg, write_recipe


def test_shows_tiles_before_and_after(source: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "tiny.yaml", augmentation={"kind": "none"})
    pictures: list[NDArray[np.uint8]] = []
    for options in ([], ["--set", "augmentation={kind: extended}"], ["--seed", "5"]):
        out = tmp_path / f"{len(pictures)}.png"
        outcome = microseg("preview", source, "--recipe", recipe, "--out", out, "--tiles", "2", *options)
        assert outcome.status == 0, outcome.err
        assert str(out) in outcome.out
        assert "Pixel size of the fields: 0.0277 um (domain.yaml)" in outcome.out
        with Image.open(out) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    bare, extended, elsewhere = pictures
    assert bare.shape == extended.shape
    assert not np.array_equal(bare, extended)
    assert not np.array_equal(bare, elsewhere)
    assert (bare.max(2).astype(int) - bare.min(2)).max() > 40, "labels are tinted"


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--recipe", "nickel"], "no such recipe"), (["--set", "folds=9"], "groups of fields")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_shown_is_named(source: Path, tmp_path: Path, options: list[str], message: str) -> None:
    outcome = microseg("preview", source, "--out", tmp_path / "a.png", *options)
    assert outcome.status == 2
    assert message in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_micrograph_is_not_replaced(source: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "tiny.yaml")
    for path in (source / "images" / "s-1-001.tif", source / "masks" / "s-1-001.png"):
        before = path.read_bytes()
        outcome = microseg("preview", source, "--recipe", recipe, "--out", path)
        assert outcome.status == 2 and "would be replaced, and the command reads it" in outcome.err
        assert path.read_bytes() == before
