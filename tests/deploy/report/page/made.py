"""Findings of a report without pictures, for tests of its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from microseg.core.alarm.schema import FieldAlarm
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.deploy.measurement.evidence import Evidence
from microseg.deploy.measurement.reported import Claims, Reported, ReportedSection, Term
from microseg.deploy.report.records import FieldRecord, mask_path, overlay_path, plain_path, preview_path
from microseg.deploy.report.settings_file import ReportSettings
from microseg.deploy.report.summary import Findings
from tests.engines import threshold_manifest

PHASES = ["ferrite", "bainite"]
BUDGET = (Term("sampling of fields", 0.009, "A", 4.0, 0.7), Term("correction", 0.006, "B", None, 0.3))


def record(name: str, percent: int = 40, **changes: Any) -> FieldRecord:
    """A field of 100 px with so many per cent of bainite."""
    made = FieldRecord(
        name=name, sha256="0" * 64, width_px=10, height_px=10, measured_width_px=10, measured_height_px=10, pixel_size_um=0.5,
        pixel_size_source="domain.yaml", counts=[100 - percent, percent],
        fold_counts=[[100 - percent, percent]] * 2, notices=[],
        mask=mask_path(name), overlay=overlay_path(name), plain=plain_path(name), preview=preview_path(name),
    )  # fmt: skip
    return made.model_copy(update=changes)


def alarm(level: str, error: float) -> FieldAlarm:
    """What an alarm says of a field."""
    return FieldAlarm.model_validate({"level": level, "predicted_error": error, "scores": {}, "causes": [], "cure": ""})


def reported(fraction: float, evidence: Evidence) -> Reported:
    """A fraction, with an interval of 0.05 and a budget where something stands behind it."""
    if evidence == "none":
        return Reported(fraction, None, "none", fraction, ("no labelled fields",))
    span = (fraction - 0.02, fraction + 0.03)
    return Reported(fraction, span, evidence, fraction, ("validated on 6 fields of 6 groups",), BUDGET)


def findings(
    records: Sequence[FieldRecord],
    evidence: Evidence | Sequence[Evidence] = "none",
    sections: dict[str, Evidence] | None = None,
    **changes: Any,
) -> Findings:
    """What a report says of fields; `evidence` of each phase, `sections` by the first part of the fields' names."""
    kinds: Sequence[Evidence] = [evidence] * 2 if isinstance(evidence, str) else evidence
    of_sections = {
        name: ReportedSection(2, (reported(0.6, kind), reported(0.4, kind)))
        for name, kind in (sections or {"lot": kinds[0]}).items()
    }
    settings = ReportSettings(
        microseg="1", input="lot", engine="e.onnx", engine_sha256="0" * 64, domain="s", preparation=Preparation(),
        pixel_size_um=None, fallback_pixel_size_um=None, max_tile_pixels=1, runtime="onnxruntime", device="cpu",
        runtime_version="1", created="2026-11-26",
    )  # fmt: skip
    manifest = threshold_manifest(2, PHASES, [DomainEntry(name="s")], Grid(), 8, 8, 100.0)
    claims = Claims((reported(0.6, kinds[0]), reported(0.4, kinds[1])), of_sections, None)
    return Findings(
        settings,
        manifest,
        tuple(records),
        0,
        claims,
        sections={each.name: each.name.partition("/")[0] if sections else "lot" for each in records},
        **changes,
    )
