"""`report.html` of an archive: sections, distributions, the fields that somebody should look at, and a sample of the others.

Its size does not depend on the number of fields.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Template
from numpy.typing import NDArray

from microseg.core.pages.template import page_template
from microseg.core.preparation.wording import preparation_text, sources_text
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.merging.chosen import Chosen
from microseg.deploy.archive.merging.findings import TableFindings
from microseg.deploy.archive.rows import opened_part
from microseg.deploy.measurement.evidence import NOT_VALIDATED
from microseg.deploy.report.page.figures import area, interval_text, percent
from microseg.deploy.report.summary import LARGE_SPREAD

MOST_SECTIONS, MOST_FAILED, MOST_NOTICES = 300, 300, 100
_WORST, _SAMPLE = 150, 100
_PICTURE_BYTES = 12 << 20
_BARS = 50


@dataclass(frozen=True)
class ShownField:
    """A field of the page.

    Attributes:
        name: its name.
        section: its section.
        fractions: its fractions, 0-1; None for artefacts.
        why: what stands out; empty for one of the sample.
        picture: small overlay, JPEG in base64; None where none was kept.
        overlay: path of the overlay beside the page; None where none was written.
    """

    name: str
    section: str
    fractions: tuple[float | None, ...]
    why: str
    picture: str | None
    overlay: str | None


def page(storage: Storage, chosen: Chosen, findings: TableFindings) -> str:
    """The page.

    Args:
        storage: where the results lie.
        chosen: which rows of the files are the fields.
        findings: what they say together.

    Returns:
        One HTML file that loads nothing from the network. Names are escaped.
    """
    worst, sample = _selected(findings)
    details = _details(storage, chosen, findings, np.concatenate([worst, sample]))
    budget = _PICTURE_BYTES
    shown = []
    for index in [*worst.tolist(), *sample.tolist()]:
        field = _shown(findings, index, details.get(int(findings.table.numbers("row")[index]), {}), budget)
        budget -= len(field.picture or "")
        shown.append(field)
    evidence = {reported.evidence for reported in findings.claims.report}
    return _template().render(
        findings=findings,
        settings=findings.settings,
        phases=[
            {"name": phase.name, "color": phase.color, "reported": reported, "bars": _bars(findings, index)}
            for index, (phase, reported) in enumerate(
                zip(findings.manifest.phases, findings.claims.report, strict=True)
            )
        ],
        is_unproven="none" in evidence,
        not_validated=NOT_VALIDATED,
        reasons=list(dict.fromkeys(reason for reported in findings.claims.report for reason in reported.reasons)),
        sections=list(findings.claims.sections.items())[:MOST_SECTIONS],
        section_alarms={} if findings.alarms is None else findings.alarms.sections,
        worst=shown[: len(worst)],
        sample=shown[len(worst) :],
        flagged=int(_is_flagged(findings).sum()),
        most_failed=MOST_FAILED,
        most_notices=MOST_NOTICES,
        preparation=preparation_text(findings.settings.preparation),
    )


@cache
def _template() -> Template:
    filters: dict[str, Any] = {
        "percent": percent,
        "area": area,
        "interval": interval_text,
        "url": quote,
        "sources": sources_text,
    }
    return page_template(Path(__file__).with_name("archive.html.j2"), filters)


def _is_flagged(findings: TableFindings) -> NDArray[np.bool_]:
    levels, names = findings.table.coded("alarm")
    is_raised = np.array([name != "known" for name in names] + [False], np.bool_)[levels]
    return np.asarray(is_raised | (findings.spread > LARGE_SPREAD))


def _selected(findings: TableFindings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the fields that stand out most, and of a sample of the others at even distances."""
    if not len(findings.table):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    errors = np.nan_to_num(findings.table.reals("predicted_error"))
    flagged = _is_flagged(findings)
    order = np.lexsort((-findings.spread, -errors, ~flagged))
    worst = order[:_WORST][flagged[order[:_WORST]]]
    rest = np.flatnonzero(~flagged)
    sample = rest[np.unique(np.linspace(0, len(rest) - 1, _SAMPLE).astype(np.int64))] if len(rest) else rest
    return worst.astype(np.int64), sample.astype(np.int64)


def _details(
    storage: Storage, chosen: Chosen, findings: TableFindings, indices: NDArray[np.int64]
) -> dict[int, dict[str, Any]]:
    """Picture, overlay and notices of some fields, by their row of the list."""
    pa, _ = arrow()
    wanted = set(findings.table.numbers("row")[indices].tolist())
    found: dict[int, dict[str, Any]] = {}
    for name, mask in chosen.masks():
        with opened_part(storage, name) as file:
            rows = file.read(["row"]).column("row").to_numpy()
            keep = mask & np.isin(rows, list(wanted))
            if keep.any():
                part = file.read(["row", "overlay", "thumbnail", "notices"]).filter(pa.array(keep))
                found |= {each["row"]: each for each in part.to_pylist()}
    return found


def _shown(findings: TableFindings, index: int, detail: dict[str, Any], budget: int) -> ShownField:
    table = findings.table
    row = table.row(index)
    why = []
    if row.alarm is not None and row.alarm.level != "known":
        why.append(f"alarm: {row.alarm.level} ({', '.join(row.alarm.causes)})")
    if (spread := float(findings.spread[index])) > LARGE_SPREAD:
        why.append(f"fractions of the networks differ by {percent(spread, 1)} points (standard deviation)")
    picture = base64.b64encode(detail.get("thumbnail") or b"").decode("ascii")
    return ShownField(
        name=row.name,
        section=row.section,
        fractions=row.fractions,
        why="; ".join(why),
        picture=picture if picture and len(picture) < budget else None,
        overlay=detail.get("overlay"),
    )


def _bars(findings: TableFindings, phase: int) -> list[dict[str, float]]:
    """The distribution of a phase's fraction over the fields that count: heights of bars, 0-100."""
    values = findings.table.fractions[findings.counts, phase]
    if not len(values) or findings.table.phases[phase] in findings.artefacts:
        return []
    numbers, edges = np.histogram(values, bins=_BARS, range=(0.0, 1.0))
    most = numbers.max()
    return [
        {"left": 100 * float(edge), "height": 100 * float(number) / most, "number": int(number)}
        for number, edge in zip(numbers, edges, strict=False)
        if number
    ]
