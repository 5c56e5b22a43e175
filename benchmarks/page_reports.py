"""Report pages of any number of fields, without measuring: what the page says is drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.schema import FieldAlarm, Level
from microseg.core.pictures.overlay import Overlay, jpeg, thumbnail
from microseg.core.schemas.bag import FoldInfo, PhaseInfo
from microseg.core.schemas.manifest import Manifest, Provenance
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.core.statistics.student import t_quantile_975
from microseg.deploy.measurement.evidence import Evidence
from microseg.deploy.measurement.reported import Claims, Reported, ReportedSection, Term
from microseg.deploy.report.page.html import report_html
from microseg.deploy.report.records import FieldRecord, mask_path, overlay_path, plain_path, preview_path
from microseg.deploy.report.settings_file import ReportSettings
from microseg.deploy.report.summary import Findings

PIXELS = 1_000_000
SIDE_PX = (1000, 1000)
_NO_HASH = "0" * 64
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00")
_LEVELS: tuple[Level, ...] = ("known", "doubtful", "foreign")


@dataclass(frozen=True)
class Wanted:
    """What a page shows.

    Attributes:
        fields: number of fields.
        evidence: what stands behind every fraction.
        sections: number of sections, of equally many fields.
        phases: names of the phases.
        title: name of the input.
        names: names of the fields; None: SECTION/field-00000.tif.
        notices: what is said of every seventh field.
    """

    fields: int
    evidence: Evidence = "none"
    sections: int = 1
    phases: tuple[str, ...] = ("ferrite", "lath-bainite")
    title: str = "lot 12"
    names: Sequence[str] | None = None
    notices: tuple[str, ...] = ("the data bar of 59 rows at the bottom is cut off",)


def findings_of(wanted: Wanted, seed: int) -> Findings:
    """What a report of drawn fractions says.

    Args:
        wanted: what the page shows.
        seed: draws fractions and alarms.
    """
    rng = np.random.default_rng(seed)
    sections = [f"section {number * wanted.sections // wanted.fields + 1:03d}" for number in range(wanted.fields)]
    names = wanted.names or [f"{section}/field-{number:05d}.tif" for number, section in enumerate(sections)]
    records = _records(names, wanted, rng)
    by_section: dict[str, list[FieldRecord]] = {}
    for section, record in zip(sections, records, strict=True):
        by_section.setdefault(section, []).append(record)
    claimed = {
        section: ReportedSection(len(each), _reported(each, wanted.evidence)) for section, each in by_section.items()
    }
    return Findings(
        settings=_settings(wanted.title),
        manifest=_manifest(wanted.phases),
        outcomes=tuple(records),
        left_over=0,
        claims=Claims(_reported(records, wanted.evidence), claimed, None),
        sections=dict(zip(names, sections, strict=True)),
        not_counted={names[-1]: f"shows the same place as {names[0]}"} if wanted.fields > 3 else {},
    )


def write_page(
    folder: Path,
    findings: Findings,
    picture: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    with_pictures: int | None = None,
) -> Path:
    """Write a page and its pictures.

    Args:
        folder: the report's folder.
        findings: what it says.
        picture: grey values and labels that stand for those of every field, uint8 (h, w).
        with_pictures: number of fields whose pictures are written; None for all. Small overlays are written for all.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(report_html(findings), encoding="utf-8")
    _write_pictures(folder, findings.measured, picture, with_pictures)
    return page


def _records(names: Sequence[str], wanted: Wanted, rng: np.random.Generator) -> list[FieldRecord]:
    number, phases = len(names), len(wanted.phases)
    shares = rng.dirichlet(np.full(phases, 30.0), number)
    folds = np.clip(shares[:, None] + rng.normal(0, 0.004, (number, 2, phases)), 0, 1)
    counts = _whole(shares).tolist()
    fold_counts = _whole(folds / folds.sum(2, keepdims=True)).tolist()
    levels, errors = rng.choice(3, number, p=(0.95, 0.04, 0.01)), rng.uniform(0.005, 0.03, number)
    records = []
    for row, name in enumerate(names):
        level = _LEVELS[int(levels[row])]
        alarm = FieldAlarm(
            level=level,
            predicted_error=float(errors[row]) * (1 + 2 * int(levels[row])),
            scores={},
            causes=[] if level == "known" else ["brighter"],
            cure="" if level == "known" else "label fields of it",
        )
        notices = wanted.notices if row % 7 == 0 else ()
        # File systems take no such names.
        place = f"{row:05d}" if any(each in name for each in "<>&\"'\u2028") else name
        record = FieldRecord(
            name=name, sha256=f"{row:064x}", width_px=SIDE_PX[0], height_px=SIDE_PX[1], measured_width_px=SIDE_PX[0],
            measured_height_px=SIDE_PX[1], pixel_size_um=0.0277, pixel_size_source="domain.yaml", counts=counts[row],
            fold_counts=fold_counts[row], notices=list(notices), notice_kinds=["data bar"] * len(notices),
            mask=mask_path(place), overlay=overlay_path(place), plain=plain_path(place), preview=preview_path(place),
            alarm=alarm,
        )  # fmt: skip
        records.append(record)
    return records


def _whole(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers of pixels for the shares of phases along the last axis; the last phase takes what is left."""
    counts = np.floor(PIXELS * shares).astype(np.int64)
    counts[..., -1] = PIXELS - counts[..., :-1].sum(-1)
    return counts


def _reported(records: Sequence[FieldRecord], evidence: Evidence) -> tuple[Reported, ...]:
    values = np.array([record.fractions for record in records])
    found = []
    for raw, scatter in zip(values.mean(0), values.std(0), strict=True):
        raw = float(raw)
        if evidence == "none":
            reason = "no labelled fields of this domain. Remedy: microseg validate, or microseg audit draw"
            found.append(Reported(raw, None, "none", raw, (reason,)))
            continue
        sampling, correction = float(scatter) / np.sqrt(len(records)), 0.008
        half = t_quantile_975(9) * float(np.hypot(sampling, correction))
        total = sampling**2 + correction**2
        budget = (
            Term(
                "sampling of fields", float(sampling), "A", float(max(1, len(records) - 1)), float(sampling**2 / total)
            ),
            Term("correction by labelled fields", correction, "A", 9.0, float(correction**2 / total)),
        )
        interval = (max(0.0, raw - half), min(1.0, raw + half))
        found.append(Reported(raw, interval, evidence, raw, ("12 labelled fields of this domain",), budget))
    return tuple(found)


def _settings(title: str) -> ReportSettings:
    return ReportSettings(
        microseg="0.1.0", input=title, engine="bagged.onnx", engine_sha256=_NO_HASH, domain="s", preparation=Preparation(),
        pixel_size_um=None, fallback_pixel_size_um=None, max_tile_pixels=1, runtime="onnxruntime", device="cpu",
        runtime_version="1.20", created="2026-01-01",
    )  # fmt: skip


def _manifest(phases: Sequence[str]) -> Manifest:
    return Manifest(
        phases=[PhaseInfo(name=name, color=color) for name, color in zip(phases, _COLORS, strict=False)],
        domains=[DomainEntry(name="s")],
        default_domain="s",
        grid=Grid(),
        tile_core_px=512,
        halo_px=62,
        stride=32,
        bytes_per_pixel=100.0,
        folds=[
            FoldInfo(index=fold, miou=0.9, iou=dict.fromkeys(phases, 0.9), weights_sha256=_NO_HASH) for fold in (0, 1)
        ],
        parity=[],
        fingerprints=[],
        training_fields=[],
        provenance=Provenance(
            created="2026-01-01T00:00:00Z", run="drawn", recipe="none", seed=0, dataset_sha256=_NO_HASH, versions={}
        ),
        model_sha256=_NO_HASH,
    )


def _write_pictures(
    folder: Path,
    records: Iterable[FieldRecord],
    picture: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    number: int | None,
) -> None:
    image, labels = picture
    height, width = image.shape
    overlay = Overlay(height, width, _COLORS[:2])
    overlay.add(image, labels)
    drawn = overlay.finish()
    content = {"overlay": jpeg(drawn), "plain": jpeg(image), "preview": thumbnail(drawn)}
    first: dict[str, Path] = {}
    for row, record in enumerate(records):
        for kind, data in content.items():
            if kind != "preview" and number is not None and row >= number:
                continue
            path = folder / getattr(record, kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind not in first:
                path.write_bytes(data)
                first[kind] = path
            elif not path.exists():
                _copy(first[kind], path)


def _copy(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system has none."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
