"""`report.html`: one offline page that quality control reads, prints and signs. Pictures lie beside it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Template
from markupsafe import Markup

from microseg.core.pages.template import inline_json, page_template, script_source
from microseg.core.preparation.wording import preparation_text, sources_text
from microseg.core.schemas.manifest import Manifest
from microseg.core.statistics.student import t_quantile_975
from microseg.deploy.measurement.evidence import NOT_JUDGED, NOT_VALIDATED
from microseg.deploy.measurement.reported import Claims, Reported, ReportedSection
from microseg.deploy.report.page.figures import area, figure, interval_text, percent, points
from microseg.deploy.report.page.rows import PAPER_ROWS, paper_rows, table_data
from microseg.deploy.report.page.strip import Strip, strip_of
from microseg.deploy.report.summary import Findings, alarm_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOME = Path(__file__).parent
# A report has as many sections as its input has folders. These many are chapters, these many more are rows of a table.
MOST_CHAPTERS = 60
MOST_LISTED = 1000
MOST_FAILED = 500
RUNTIME_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}


def report_html(findings: Findings) -> str:
    """The page.

    Args:
        findings: what the page says.

    Returns:
        One HTML file that loads pictures beside it and nothing from the network. Names are escaped.
    """
    number = len(findings.counted)
    phases = findings.manifest.phases
    script = _script()
    sections = findings.claims.sections
    return load_template().render(
        findings=findings,
        settings=findings.settings,
        manifest=findings.manifest,
        phases=[
            {
                "name": phase.name,
                "color": phase.color,
                "statistics": findings.phases[phase.name],
                "strip": strip,
                "reported": reported,
            }
            for phase, strip, reported in zip(phases, _strips(findings), findings.claims.report, strict=True)
        ],
        standing=_standing(findings.claims.report, sections),
        t_quantile=t_quantile_975(number - 1) if number > 1 else None,
        validation=_validation(findings.manifest),
        sections=sections,
        most_chapters=MOST_CHAPTERS,
        most_listed=MOST_LISTED,
        section_alarms=(
            {}
            if findings.alarms is None
            else {name: alarm_of(found) for name, found in findings.alarms.sections.items()}
        ),
        most_failed=MOST_FAILED,
        grounds=_grounds(findings.claims),
        alarm=None if findings.alarms is None else alarm_of(findings.alarms.report),
        not_validated=NOT_VALIDATED,
        not_judged=NOT_JUDGED,
        runtime=RUNTIME_NAMES.get(findings.settings.runtime, findings.settings.runtime),
        preparation=preparation_text(findings.settings.preparation),
        has_pale=any(
            any(field.not_measured.values()) or "data bar" in field.notice_kinds for field in findings.measured
        ),
        judged=any(field.alarm is not None for field in findings.measured),
        fields=paper_rows(findings),
        most_rows=PAPER_ROWS,
        data=inline_json(table_data(findings)) if findings.measured else None,
        script=Markup(script),  # ours, and the policy of the page names its hash
        script_source=Markup(script_source(script)),
    )


@cache
def load_template() -> Template:
    """The page's template, compiled."""
    return page_template(
        _HOME / "report.html.j2",
        {
            "percent": percent,
            "points": points,
            "area": area,
            "url": quote,
            "figure": figure,
            "interval": interval_text,
            "sources": sources_text,
            "word": evidence_word,
        },
        ("parts.html.j2", "report.css"),
    )


@cache
def _script() -> str:
    return (_HOME / "report.js").read_text(encoding="utf-8")


def evidence_word(evidence: str) -> str:
    """The word of evidence as the page shows it."""
    return "not validated" if evidence == "none" else evidence


def _strips(findings: Findings) -> list[Strip]:
    """The plot of each phase."""
    rows = [(row, field) for row, field in enumerate(findings.measured) if field.name not in findings.not_counted]
    drawn = []
    for index, (phase, reported) in enumerate(zip(findings.manifest.phases, findings.claims.report, strict=True)):
        is_material = phase.name not in findings.artefacts
        drawn.append(strip_of([(row, field.fractions[index]) for row, field in rows] if is_material else [], reported))
    return drawn


def _standing(report: Sequence[Reported], sections: Mapping[str, ReportedSection]) -> dict[str, Any]:
    """Whether the report, or a part of it, is not validated."""
    whole = [each.evidence == "none" for each in report]
    lacking = [name for name, section in sections.items() if any(each.evidence == "none" for each in section.phases)]
    return {"all": all(whole), "some": any(whole) or bool(lacking), "phases": whole, "sections": lacking}


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
