"""`report.html`: one self-contained page that quality control can print and sign."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from microseg.core.plain_text import plain, plain_name
from microseg.core.preparation.wording import preparation_text, sources_text
from microseg.core.schemas.manifest import Manifest
from microseg.core.statistics.student import t_quantile_975
from microseg.deploy.measurement.evidence import NOT_VALIDATED
from microseg.deploy.measurement.reported import Claims
from microseg.deploy.report.records import FieldRecord, read_thumbnail
from microseg.deploy.report.summary import Findings, alarm_of

# Thumbnails beyond this total are left out and their overlays only linked: browsers do not open pages of hundreds of megabytes.
_THUMBNAIL_BYTES = 8 << 20
_NOTHING = "\N{EN DASH}"
_TEMPLATE = "report.html.j2"
RUNTIME_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}


def report_html(report: Path, findings: Findings) -> str:
    """The page.

    Args:
        report: the report's folder, which holds the thumbnails.
        findings: what the page says.

    Returns:
        One HTML file without links to the network. Names are escaped.
    """
    number = len(findings.counted)
    return load_template().render(
        findings=findings,
        settings=findings.settings,
        manifest=findings.manifest,
        phases=[
            {
                "name": phase.name,
                "color": phase.color,
                "statistics": findings.phases[phase.name],
                "points": points,
                "reported": reported,
            }
            for phase, points, reported in zip(
                findings.manifest.phases, _columns(findings), findings.claims.report, strict=True
            )
        ],
        t_quantile=t_quantile_975(number - 1) if number > 1 else None,
        validation=_validation(findings.manifest),
        sections=findings.claims.sections,
        grounds=_grounds(findings.claims),
        alarm=None if findings.alarms is None else alarm_of(findings.alarms.report),
        not_validated=NOT_VALIDATED,
        runtime=RUNTIME_NAMES.get(findings.settings.runtime, findings.settings.runtime),
        preparation=preparation_text(findings.settings.preparation),
        has_pale=any(
            any(field.not_measured.values()) or "data bar" in field.notice_kinds for field in findings.measured
        ),
        fields=_fields(report, findings.measured, [phase.name for phase in findings.manifest.phases]),
    )


@cache
def load_template() -> Template:
    """The page's template, compiled."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    environment.filters |= {"percent": _percent, "points": _points, "area": _area, "url": quote, "figure": _figure}
    environment.filters["name"] = plain_name
    environment.filters["interval"] = interval_text
    environment.filters["sources"] = sources_text
    return environment.from_string(Path(__file__).with_name(_TEMPLATE).read_text(encoding="utf-8"))


def _columns(findings: Findings) -> list[list[float]]:
    """Fractions of the fields, one list for each phase."""
    return [[record.fractions[index] for record in findings.counted] for index in range(len(findings.manifest.phases))]


def _grounds(claims: Claims) -> list[tuple[str, list[str]]]:
    """The reasons behind the figures of the whole report: kinds of evidence with the reasons of the phases that have it."""
    found: dict[str, dict[str, None]] = {}
    for reported in claims.report:
        found.setdefault(reported.evidence, {}).update(dict.fromkeys(reported.reasons))
    return [(evidence, list(reasons)) for evidence, reasons in found.items()]


def _validation(manifest: Manifest) -> list[dict[str, Any]]:
    """Mean over the folds of each phase's IoU on held-out fields; None for a phase that no held-out field has."""
    found = []
    for phase in manifest.phases:
        scores = [score for fold in manifest.folds if (score := fold.iou.get(phase.name)) is not None]
        found.append({"name": phase.name, "iou": sum(scores) / len(scores) if scores else None})
    return found


def _fields(report: Path, records: list[FieldRecord], phases: list[str]) -> list[dict[str, Any]]:
    fields = []
    used = 0
    for record in records:
        thumbnail = read_thumbnail(report, record) if used < _THUMBNAIL_BYTES else None
        used += len(thumbnail or "")
        fields.append(
            {
                "record": record,
                "fractions": record.fractions_of(phases),
                "fold_std": record.fold_std,
                "thumbnail": thumbnail and Markup(thumbnail),
            }
        )
    return fields


def _finalize(value: object) -> object:
    """Every text of the page: control characters and marks of direction become visible. Thumbnails are long and need none."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage without the sign; a dash for None."""
    return _NOTHING if fraction is None else f"{100 * fraction:.{digits}f}"


def interval_text(interval: Sequence[float] | None, digits: int = 2) -> str:
    """An interval of fractions as percentages without the sign: "12.30 to 14.10"; a dash for None."""
    if interval is None:
        return _NOTHING
    low, high = interval
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"


def _points(fraction: float | None) -> str:
    """A difference of fractions in percentage points, with a plus-minus sign; a dash for None."""
    return _NOTHING if fraction is None else f"± {100 * fraction:.2f}"


def _figure(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.1f}"


def _area(area_um2: float | None) -> str:
    """An area with the unit that suits it."""
    if area_um2 is None:
        return "–"
    return f"{area_um2 / 1e6:.3g} mm²" if area_um2 >= 5e3 else f"{area_um2:.4g} µm²"
