"""An archive of few fields with names that need care, and its list."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from microseg.deploy.archive.lists.listing import list_fields
from tests.deploy.conftest import micrograph

NAMES = ("a/one two.png", "a/#1?.png", "b/100%.png", "b/ä.png", "b/<b>.png", "top.png")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder of six micrographs."""
    folder = tmp_path / "lot"
    for index, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(micrograph(60, 70, index)).save(folder / name)
    return folder


@pytest.fixture
def listed(archive: Path, tmp_path: Path) -> Path:
    """Its field list."""
    return Path(list_fields(archive, tmp_path / "fields.parquet").place)
