"""A picture that viewers turn: segment, evaluate, check and training agree on the grid that its file stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from microseg.core.domains.checking import check_domain
from microseg.core.domains.domain import load_domain, prepared_and_labels
from microseg.core.images.orientation import shown
from microseg.core.schemas.preparation import Grid
from microseg.deploy.evaluate import evaluate_engine
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.deploy.conftest import micrograph

GREY = micrograph(90, 120, 5)


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one field whose files state the orientations 1 to 8."""
    folder = tmp_path_factory.mktemp("turned") / "images"
    folder.mkdir()
    for orientation in range(1, 9):
        path = folder / f"o{orientation}.tif"
        tifffile.imwrite(path, GREY, extratags=[(274, "H", 1, orientation, True)])
    return folder


def test_masks_keep_the_stored_grid_and_are_labels_again(turned: Path, tmp_path: Path, tiny_engine: Path) -> None:
    report = segment(SegmentOptions(turned, tiny_engine, out=tmp_path / "report")).report
    plain = np.asarray(Image.open(report / "masks" / "o1.tif.png"))
    for orientation in range(1, 9):
        with Image.open(report / "masks" / f"o{orientation}.tif.png") as mask:
            np.testing.assert_array_equal(np.asarray(mask), plain)
            np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(mask)), shown(plain, orientation))
        with Image.open(report / "overlays" / f"o{orientation}.tif.jpg") as overlay:
            assert overlay.size == (120, 90)
    domain = tmp_path / "domain"
    shutil.copytree(turned, domain / "images")
    shutil.copytree(report / "masks", domain / "masks")
    for field in load_domain(domain).fields:
        _, labels = prepared_and_labels(field, load_domain(domain), Grid())
        np.testing.assert_array_equal(labels, plain)


def test_labels_drawn_in_a_viewer_score_as_those_of_the_plain_picture(
    turned: Path, tmp_path: Path, tiny_engine: Path
) -> None:
    truth = (np.median(GREY) < GREY).astype(np.uint8)
    (tmp_path / "masks").mkdir()
    shutil.copytree(turned, tmp_path / "images")
    for orientation in range(1, 9):
        Image.fromarray(shown(truth, orientation)).save(tmp_path / "masks" / f"o{orientation}.png")
    found = check_domain(load_domain(tmp_path), 2)
    assert found.problems == ()
    assert {item.pixels for item in found.fields} == {(int((truth == 0).sum()), int((truth == 1).sum()), 0)}
    scores = evaluate_engine(tiny_engine, tmp_path)
    assert len({repr(field["miou"]) for field in scores["fields"]}) == 1
