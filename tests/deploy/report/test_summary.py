"""What a report says of the engine beside its figures, and of fields that it should not be trusted on."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg.core.schemas.bag import Distillation
from microseg.core.schemas.fidelity import Fidelity, FieldFidelity
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.deploy.measurement.evidence import Sources
from microseg.deploy.measurement.reported import claims
from microseg.deploy.report.page.html import report_html
from microseg.deploy.report.records import FieldRecord
from microseg.deploy.report.settings_file import ReportSettings
from microseg.deploy.report.summary import Findings, summary
from microseg.deploy.report.summary_file import SummaryRun
from tests.engines import threshold_manifest

RUN = SummaryRun(
    seconds=0.0, fields_measured=0, fields_resumed=1, runtime=None, provider=None, threads=None, streams=1, profile=None
)
TORCH = {"ferrite": 60.0, "bainite": 40.0}


def _manifest(**changes: object) -> Manifest:
    made = threshold_manifest(2, list(TORCH), [DomainEntry(name="s")], Grid(), 8, 8, 100.0)
    return made.model_copy(update=changes)


def _field(name: str, *folds: int) -> FieldRecord:
    """100 px, of which each fold finds so many of bainite."""
    half = sum(folds) // len(folds)
    return FieldRecord(
        name=name, sha256=name * 8, width_px=10, height_px=10, measured_width_px=10, measured_height_px=10,
        pixel_size_um=None, counts=[100 - half, half], fold_counts=[[100 - each, each] for each in folds], notices=[],
        mask=f"{name}.png", overlay=f"{name}.jpg",
    )  # fmt: skip


def _findings(manifest: Manifest, *fields: FieldRecord, runtime: str = "openvino", device: str = "cpu") -> Findings:
    settings = ReportSettings(
        microseg="1", input="w", engine="e.onnx", engine_sha256="0" * 64, domain="s", preparation=Preparation(),
        pixel_size_um=None, fallback_pixel_size_um=None, max_tile_pixels=1, runtime=runtime, device=device,
        runtime_version="2026.4", created="2026-11-26",
    )  # fmt: skip
    return Findings(settings, manifest, fields, 0, claims([], Sources(manifest, "s", ())))


def _fidelity(arithmetic: str, *engine: float) -> Fidelity:
    return Fidelity(
        fields_from="superalloy", arithmetic=arithmetic, label_limit=0.02, limits_points={"ferrite": 0.3, "bainite": 0.3},
        fields=[
            FieldFidelity(
                field=f"{each}", pixels=1_000_000, label_disagreement=0.0, torch_percent=TORCH,
                engine_percent={"ferrite": 100 - each, "bainite": each},
            )
            for each in engine
        ],
        fold_disagreement=[0.0, 0.0], not_a_number=0, saturated=0,
    )  # fmt: skip


def test_a_reduced_engine_states_its_distance_from_float32_in_the_runtime_that_computed(tmp_path: Path) -> None:
    judged = [_fidelity("onnxruntime", 40.25), _fidelity("openvino", 40.05, 39.9)]
    findings = _findings(_manifest(precision="int8", fidelity=judged), _field("a", 40, 40))
    page = report_html(findings)
    assert "bainite 0.100 (0.3)" in page and "2 fields of\nsuperalloy" in page and "0.250" not in page
    assert "OpenVINO 2026.4 on\nthe CPU" in page
    engine = summary(findings, RUN, 0).content()["engine"]
    assert engine["precision"] == "int8" and engine["from_bag"] is None
    assert round(engine["from_float32"][0]["points"]["bainite"], 6) == 0.1
    assert not _findings(_manifest(fidelity=judged), _field("a", 40, 40)).from_float32  # float32 itself


@pytest.mark.parametrize(("device", "points"), [("cpu", 0.05), ("cuda", 0.2)])
def test_a_device_that_rounds_is_told_from_a_cpu_that_does_not(device: str, points: float) -> None:
    judged = [_fidelity("rounded to fp16", 40.2), _fidelity("onnxruntime", 40.05)]
    manifest = _manifest(precision="fp16", fidelity=judged)
    (found,) = _findings(manifest, _field("a", 40, 40), runtime="onnxruntime", device=device).from_float32
    assert found.points["bainite"] == pytest.approx(points)


def test_a_student_states_its_distance_from_the_bag_and_not_that_networks_differ(tmp_path: Path) -> None:
    student = Distillation(
        run="five", weights_sha256=["0"], learned=8, compared=["b", "c"], agreement=0.9731, heads=[0.97, 0.97],
        points=dict.fromkeys(TORCH, 0.23), spread_points=dict.fromkeys(TORCH, 0.7), bag_spread_points=dict.fromkeys(TORCH, 0.6),
    )  # fmt: skip
    findings = _findings(_manifest(distillation=student), _field("a", 40, 40))
    page = report_html(findings)
    assert "0.973" in page and "bainite 0.23" in page and "2 fields that\nthe engine did not learn from" in page
    assert "reproduces the bag five" in page and "networks of the bag differ" not in page
    assert summary(findings, RUN, 0).content()["engine"]["from_bag"]["run"] == "five"
    assert "networks of the bag differ" in report_html(_findings(_manifest(), _field("a", 40, 40)))


def test_fields_on_which_the_networks_differ_are_named() -> None:
    notices = _findings(_manifest(), _field("same", 40, 42), _field("torn", 20, 60)).notices
    told = [notice for notice in notices if "bag's networks differ" in notice]
    assert len(told) == 1 and "torn" in told[0] and "same" not in told[0]


def _noticed(name: str, *notices: tuple[str, str]) -> FieldRecord:
    kinds, texts = [kind for kind, _ in notices], [text for _, text in notices]
    return _field(name, 40, 40).model_copy(update={"notices": texts, "notice_kinds": kinds})


def test_notices_of_fields_are_grouped_by_kind_and_text(tmp_path: Path) -> None:
    assumed, bar = ("pixel size", "assumed from the training images"), ("data bar", "59 rows at the bottom")
    fields = [_noticed(f"f{index}", assumed) for index in range(7)]
    fields += [_noticed("g", bar, assumed), _noticed("<h>", ("data bar", "60 rows\u202e")), _noticed("plain")]
    findings = _findings(_manifest(), *fields)
    found = summary(findings, RUN, 0).content()["field_notices"]
    assert found == [
        {"kind": "pixel size", "text": assumed[1], "count": 8, "fields": ["f0", "f1", "f2", "f3", "f4"]},
        {"kind": "data bar", "text": bar[1], "count": 1, "fields": ["g"]},
        {"kind": "data bar", "text": "60 rows\u202e", "count": 1, "fields": ["<h>"]},
    ]
    page = report_html(findings)
    assert "Pixel size, 8 fields\n (f0, f1, f2, f3, f4 and others): assumed from the training images" in page
    assert "Data bar, 1 field\n (&lt;h&gt;): 60 rows\\u202e" in page


def test_notices_of_an_earlier_version_have_no_kind() -> None:
    old = _field("a", 40, 40).model_copy(update={"notices": ["16 bit are read with 12 significant bits"]})
    (found,) = _findings(_manifest(), old).field_notices
    assert (found.kind, found.count) == ("field", 1)
