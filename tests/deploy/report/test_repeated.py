"""Fields that show one place are named and counted once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from microseg.core.images.scale.stage import stage_position
from microseg.core.schemas.validation import Validation, validation_beside, write_validation
from microseg.deploy.report.records import FieldRecord
from microseg.deploy.report.region_marks import RegionMarks, marks_of
from microseg.deploy.report.repeated import repeated_fields
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.runtime import read_manifest
from tests.deploy.conftest import micrograph

SCENE = micrograph(400, 500, 3)


def marks(image: NDArray[np.uint8], stripe: int = 37) -> str:
    found = RegionMarks()
    for start in range(0, len(image), stripe):
        found.add(image[start : start + stripe])
    return found.text()


def record(name: str, image: NDArray[np.uint8] | None = None, **changes: Any) -> FieldRecord:
    height, width = (200, 200) if image is None else image.shape
    content: dict[str, Any] = {
        "name": name, "sha256": name * 8, "width_px": width, "height_px": height, "measured_width_px": width,
        "measured_height_px": height, "pixel_size_um": 0.5, "counts": [height * width, 0], "fold_counts": [], "notices": [],
        "mask": f"{name}.png", "overlay": f"{name}.jpg", "marks": "" if image is None else marks(image),
    }  # fmt: skip
    return FieldRecord(**content | changes)


def found(*records: FieldRecord, sections: dict[str, str] | None = None) -> dict[str, str]:
    return repeated_fields(records, sections or {each.name: "lot" for each in records})


def test_marks_do_not_depend_on_stripes() -> None:
    assert marks(SCENE, 500) == marks(SCENE, 16) == marks(SCENE, 3)
    assert len(marks_of(marks(SCENE))) > 50
    assert len(marks_of("no base64")) == len(marks_of(marks(np.full((40, 40), 255, np.uint8)))) == 0


@pytest.mark.parametrize(("down", "right", "share"), [(0, 0, 100), (100, 0, 67), (60, 150, 40), (90, 210, 21)])
def test_the_same_pixels_are_found_where_they_are_shifted(down: int, right: int, share: int) -> None:
    one, other = SCENE[:300, :300], SCENE[down : down + 300, right : right + 290]
    told = found(record("a", one), record("b", other))
    assert list(told) == ["b"] and told["b"].startswith("overlaps a by ") and told["b"].endswith("%, the same pixels")
    assert int(told["b"].split()[3]) == pytest.approx(share, abs=3)


def test_other_fields_share_nothing() -> None:
    fields = [record(f"{index}", micrograph(200, 200, index)) for index in range(5)]
    assert found(*fields, record("blank", np.zeros((200, 200), np.uint8))) == {}
    assert found(record("a", SCENE[:200, :200]), record("b", SCENE[200:, 200:])) == {}


def test_one_of_a_chain_of_overlaps_stays_between_others() -> None:
    parts = [SCENE[:, start : start + 200] for start in (0, 100, 200, 300)]
    assert list(found(*(record(f"{index}", part) for index, part in enumerate(parts)))) == ["1", "3"]


def test_positions_of_the_stage_tell_overlaps_within_a_section() -> None:
    # Fields of 100 um.
    one, near, far = (record(name, stage_um=(x, 5.0)) for name, x in (("a", 0.0), ("b", 60.0), ("c", 160.0)))
    assert found(one, near, far) == {"b": "overlaps a by 40 %, positions of the stage"}
    assert found(one, near, sections={"a": "1", "b": "2"}) == {}
    assert found(one, record("d", stage_um=(98.0, 5.0))) == {}
    assert found(one, record("d", stage_um=(98.0, 5.0), pixel_size_um=None)) == {}
    assert list(found(one, record("d", stage_um=(0.0, 5.0)))) == ["d"]


def test_a_section_that_states_one_position_for_all_tells_nothing() -> None:
    assert found(*(record(name, stage_um=(3.0, 5.0)) for name in "abc")) == {}


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (34118, "AP_STAGE_AT_X\r\nStage at X = -1.5 mm\r\nAP_STAGE_AT_Y\r\nStage at Y = 20 mm\r\n"),
        (34682, "[Stage]\r\nStageX=-0.0015\r\nStageY=0.02\r\n"),
        (50431, "[MAIN]\nStageX=-0.0015\nStageY=0.02\n"),
    ],
)
def test_the_positions_of_vendors(tmp_path: Path, tag: int, text: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SCENE[:32, :32], extratags=[(tag, 2 if tag != 50431 else 7, 0, text.encode(), True)])
    assert stage_position(path) == pytest.approx((-1500.0, 20000.0))


def test_the_position_of_ome_and_files_without(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    plane = {"PositionX": [-1.5], "PositionY": [20.0], "PositionXUnit": ["mm"], "PositionYUnit": ["mm"]}
    tifffile.imwrite(path, SCENE[:32, :32], metadata={"axes": "YX", "Plane": plane})
    assert stage_position(path) == pytest.approx((-1500.0, 20000.0))
    for content in (b"", b"II*\0", SCENE[:9, :9].tobytes()):
        (tmp_path / "b.tif").write_bytes(content)
        assert stage_position(tmp_path / "b.tif") is None
    assert stage_position(tmp_path / "b.png") is None
    tifffile.imwrite(tmp_path / "c.tif", SCENE, extratags=[(34682, 2, 0, b"[Stage]\nStageX=0\nStageY=0\n", True)])
    assert stage_position(tmp_path / "c.tif") is None


def test_a_report_counts_the_same_pixels_once_where_there_is_evidence(tiny_engine: Path, tmp_path: Path) -> None:
    engine = tmp_path / "bagged.onnx"
    engine.write_bytes(tiny_engine.read_bytes())
    folder = tmp_path / "lot"
    folder.mkdir()
    for name, part in (("a", SCENE[:200, :250]), ("b", SCENE[100:300, 40:290]), ("c", micrograph(200, 250, 9))):
        tifffile.imwrite(folder / f"{name}.tif", part)
    plain = segment(SegmentOptions(folder, engine, tmp_path / "plain")).summary
    assert plain["phases"]["bainite"]["n"] == 3 and '"marks": ""' in (tmp_path / "plain/records/a.tif.json").read_text()
    content = {
        "kind": "validated", "network_sha256": read_manifest(engine).model_sha256, "weights_sha256": [], "domain": "bright",
        "preparation": {}, "phases": ["ferrite", "bainite"], "created": "2026-11-30", "microseg": "1", "source": "x",
        "fields": [],
    }  # fmt: skip
    write_validation(validation_beside(engine), Validation.model_validate(content))
    result = segment(SegmentOptions(folder, engine, tmp_path / "report"))
    assert (result.summary["phases"]["bainite"]["n"], result.summary["fields"]["measured"]) == (2, 3)
    assert "Counted once: b.tif (overlaps a.tif by 42 %, the same pixels)." in result.summary["notices"]
    assert "no: overlaps a.tif by 42 %" in (result.report / "fields.csv").read_text(encoding="utf-8")
    # Records without marks, as earlier versions leave them, get those of a new measurement; nothing is measured anew.
    again = segment(SegmentOptions(folder, engine, tmp_path / "plain")).summary
    assert (again["phases"]["bainite"]["n"], again["run"]["fields_resumed"]) == (2, 3)
    for name in "abc":
        place = f"records/{name}.tif.json"
        one, other = (json.loads((tmp_path / report / place).read_text()) for report in ("plain", "report"))
        assert one["field"]["marks"] == other["field"]["marks"] != ""
