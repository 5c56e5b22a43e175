"""The fields that an export is judged on: prepared as the run's domain, a bounded number, stitched without a seam."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.core.schemas.run import RunRecord, read_record
from microseg.export import calibration_fields as module
from microseg.export.calibration_fields import Field, calibration_domain, calibration_tiles, evenly, held_out, stitched


@pytest.fixture(scope="module")
def record(trained: Path) -> RunRecord:
    return read_record(trained)


def grey(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width), np.uint8)


def folder(path: Path, count: int) -> Path:
    path.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(grey(40 + 2 * index, 64)).save(path / f"f{index:02d}.png")
    return path


def test_a_bare_folder_is_prepared_as_the_runs_last_domain(record: RunRecord, tmp_path: Path) -> None:
    inverted = record.model_copy(
        update={
            "grid": Grid(scale=0.5),
            "domain": DomainEntry(name="dark", preparation=Preparation(invert=True)),
        }
    )
    found = calibration_domain(folder(tmp_path / "wafers", 2), inverted)
    assert found.name == "wafers"
    assert [field.name for field in found.fields] == ["f00.png", "f01.png"]
    assert [field.pixels.shape for field in found.fields] == [(20, 32), (21, 32)]
    assert abs(found.fields[0].pixels.mean() - (255 - grey(40, 64)).mean()) < 1


def test_a_domain_file_wins_and_its_labels_are_not_looked_at(record: RunRecord, tmp_path: Path) -> None:
    folder(tmp_path / "images", 1)
    (tmp_path / "domain.yaml").write_text(
        "name: own\nimages: images\nmasks: nowhere\ninvert: true\ncrop: {bottom_px: 8}\npixel_size_um: 0.0277\n",
        encoding="utf-8",
    )
    (field,) = calibration_domain(tmp_path, record).fields
    assert np.array_equal(field.pixels, 255 - grey(40, 64)[:-8])


def test_many_fields_are_sampled_evenly(record: RunRecord, tmp_path: Path) -> None:
    plain = record.model_copy(update={"grid": Grid()})
    found = calibration_domain(folder(tmp_path / "many", 40), plain)
    names = [field.name for field in found.fields]
    assert len(names) == module.MAX_FIELDS
    assert names[0] == "f00.png" and names == sorted(names) and names[-1] >= "f37"
    assert evenly([1, 2], 3) == [1, 2]


@pytest.mark.parametrize("kind", ["empty", "missing", "blank", "file"])
def test_what_cannot_calibrate_is_named(record: RunRecord, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind != "missing":
        path.mkdir()
    if kind == "blank":
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path / "a.png")
    elif kind == "file":
        path = path / "a.txt"
        path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=kind):
        calibration_domain(path, record)


def test_held_out_tiles_are_those_of_training(trained: Path, tmp_path: Path) -> None:
    found = held_out(trained, ["fold0", "fold1"])
    assert len(found.fields) == len(list(trained.glob("fold*/parity/*.png")))
    with pytest.raises(InputError, match="no tiles to compare"):
        held_out(tmp_path, ["fold0", "fold1"])


def test_calibration_tiles_are_bounded_and_of_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALIBRATION_TILE_PX", 1 << 12)
    many = [Field(str(index), np.full((200, 150), index, np.uint8)) for index in range(6)]
    tiles = calibration_tiles(many, 8)
    assert len(tiles) == module.CALIBRATION_TILES
    assert {int(tile[0, 0, 0, 0]) for tile in tiles} == set(range(6))
    assert all(tile.shape[2] * tile.shape[3] <= 1 << 12 and not tile.shape[2] % 8 for tile in tiles)


def test_stitching_is_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TILE_PX", 5000)
    field = Field("a", grey(117, 203))
    whole, pair = stitched(field, 8, 16, lambda pixels: [pixels[0, 0], np.stack([pixels[0, 0], 255 - pixels[0, 0]])])
    assert np.array_equal(whole, field.pixels)
    assert np.array_equal(pair, np.stack([field.pixels, 255 - field.pixels]))
