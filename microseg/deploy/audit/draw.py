"""`microseg audit draw REPORT`: few fields that estimate the mean well, to be labelled or counted."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.labels import read_mask
from microseg.core.errors import FieldError, InputError
from microseg.core.images.orientation import as_stored, shown
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.prepared_field import PreparedField, open_prepared
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import Grid
from microseg.core.statistics.audit_draw import audit_order, shares, systematic_positions
from microseg.core.system.files import sha256_of, writing
from microseg.core.system.targets import resolved
from microseg.deploy.audit.audited import Lot
from microseg.deploy.audit.files import Draw, DrawnField, write_draw
from microseg.deploy.audit.grid_page import Counted, grid_points, page_field, write_page
from microseg.deploy.audit.label_folder import IMAGES, label_stems, write_label_field, write_label_files
from microseg.deploy.audit.stored_report import StoredReport, engine_of, stored_report
from microseg.deploy.audit.writable import require_writable_report
from microseg.deploy.pipeline.inputs import SegmentInput, resolve_input
from microseg.deploy.report.records import FieldRecord

# Fewer fields of a section show no spread.
LEAST_OF_A_SECTION = 2


@dataclass(frozen=True)
class DrawOptions:
    """What the user of `audit draw` asks for.

    Attributes:
        report: the report's folder.
        number: fields to draw, over all sections.
        seed: seed of the random start and of the grids; None for a new one.
        out: the folder to write; None: `<report>-audit` beside the report.
        points: points of a field's grid.
        images: where the measured files are now; None: where the report says.
        engine: where the engine is now; None: where the report says.
    """

    report: Path
    number: int = 8
    seed: int | None = None
    out: Path | None = None
    points: int = 100
    images: Path | None = None
    engine: Path | None = None


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        out: the folder.
        draw: the drawn fields.
        left_out: fields that the engine learned from, which are never drawn.
    """

    out: Path
    draw: Draw
    left_out: int


def draw_audit(options: DrawOptions, progress: Callable[[str], None] = lambda name: None) -> Drawn:
    """Draw fields of a report and write the folder in which they are labelled or counted.

    Args:
        options: report and numbers.
        progress: gets the name of each field.

    Raises:
        InputError: no finished report, files that are missing or others than were measured, too few fields, or a folder that
            exists or cannot be written. Nothing is changed.
    """
    out = options.out or options.report.with_name(f"{resolved(options.report).name}-audit")
    report = stored_report(options.report)
    if not report.counted:
        raise InputError(f"{options.report}: no field was measured. Remedy: a report with measured fields.")
    _refuse_artefacts(report)
    engine = engine_of(report, options.engine)
    manifest = engine.manifest
    lot = report.lot(manifest)
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    rng = np.random.default_rng(seed)
    chosen = _chosen(options, lot, rng)
    report.require_pictures([record.name for record in chosen])
    given = measured_input(report, manifest, options.images)
    _refuse_folder(out, options.report, given)
    files = [(record, file_of(record, given)) for record in chosen]
    require_writable_report(options.report)
    draw = Draw(
        audit=secrets.token_hex(8),
        seed=seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        state_sha256=lot.state_sha256,
        sections={section: len(records) for section, records in lot.by_section.items()},
        fields=[
            DrawnField(name=record.name, sha256=record.sha256, section=lot.sections[record.name], points=options.points)
            for record in chosen
        ],
    )
    part = out.with_name(f"{out.name}.{secrets.token_hex(4)}.part")
    try:
        with writing(out):
            part.mkdir(parents=True)
            draw = _write(part, draw, files, report, manifest.phases, rng, progress)
            part.rename(out)
        try:
            with writing(options.report):
                write_draw(options.report, draw)
        except InputError:
            out.rename(part)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Drawn(out, draw, sum(record.sha256 in lot.trained for record in lot.records))


def measured_input(report: StoredReport, manifest: Manifest, moved: Path | None) -> SegmentInput:
    """The measured files.

    Args:
        report: the report.
        manifest: its engine's manifest.
        moved: where they are now (`--images`); None: where the report says.

    Raises:
        InputError: they are not there.
    """
    stated = moved or (Path(report.settings.input_path) if report.settings.input_path else None)
    if stated is None or not stated.exists():
        where = f"{stated}: does not exist" if stated else f"{report.path}: does not say where its input is"
        raise InputError(f"{where}. Remedy: --images with the {report.settings.input} that was measured.")
    given = resolve_input(stated, manifest, report.settings.domain, {})
    return replace(given, preparation=report.settings.preparation, nearby=report.settings.nearby)


def file_of(record: FieldRecord, given: SegmentInput) -> Path:
    """The file of a measured field. Raises InputError where it is missing or another one."""
    path = next((field.path for field in given.fields if field.name == record.name), None)
    if path is None:
        raise InputError(
            f"{record.name}: is not in {given.title} any more. Remedy: put it back, or --images with the folder that has it."
        )
    if sha256_of(path) != record.sha256:
        raise InputError(
            f"{path}: is not the file that was measured (its SHA-256 differs). Remedy: --images with the measured files."
        )
    return path


def _chosen(options: DrawOptions, lot: Lot, rng: np.random.Generator) -> list[FieldRecord]:
    by_section = lot.by_section
    if not by_section:
        raise InputError(
            f"{options.report}: all its fields trained this engine, and such fields are no audit. Remedy: a report of new "
            "fields."
        )
    sizes = [len(records) for records in by_section.values()]
    try:
        numbers = shares(sizes, options.number, LEAST_OF_A_SECTION)
    except ValueError as error:
        least = sum(min(LEAST_OF_A_SECTION, size) for size in sizes)
        raise InputError(
            f"--n {options.number}: the report has {len(sizes)} sections, and each takes {LEAST_OF_A_SECTION} fields at least. "
            f"Remedy: --n {least} or more; eight a section give a useful interval."
        ) from error
    chosen = []
    for records, number in zip(by_section.values(), numbers, strict=True):
        order = audit_order(np.array([record.fractions for record in records], np.float64))
        positions = systematic_positions(len(records), number, float(rng.random()))
        chosen += [records[index] for index in order[positions]]
    # Whoever counts sees nothing of the order.
    return [chosen[index] for index in rng.permutation(len(chosen))]


def _write(
    part: Path,
    draw: Draw,
    files: Sequence[tuple[FieldRecord, Path]],
    report: StoredReport,
    phases: Sequence[PhaseInfo],
    rng: np.random.Generator,
    progress: Callable[[str], None],
) -> Draw:
    """Write the folder; returns the draw with the points that each grid has. Raises InputError or OSError."""
    pages, fields = [], []
    chosen = [record for record, _ in files]
    stems = label_stems([record.name for record in chosen])
    for drawn, (record, path) in zip(draw.fields, files, strict=True):
        progress(record.name)
        try:
            with _opened(path, record, report) as prepared:
                labels = _stored_labels(report.path / record.mask, prepared)
                mask, stem = report.path / record.mask, stems[record.name]
                write_label_field(part, record, path, mask, stem, labels=labels, prepared=prepared, phases=phases)
                grey, measured = _shown(prepared, labels)
        except FieldError as error:
            raise InputError(str(error)) from error
        grid = grid_points(measured, drawn.points, rng)
        drawn = drawn.model_copy(update={"points": len(grid)})
        fields.append(drawn)
        pages.append(Counted(drawn, *page_field(grey, grid)))
    draw = draw.model_copy(update={"fields": fields})
    write_label_files(part, chosen, report, phases)
    write_page(part / "audit.html", draw, pages, phases, report.settings.input)
    return draw


def _opened(path: Path, record: FieldRecord, report: StoredReport) -> PreparedField:
    # The network's grid plays no part: labels and counts are of native pixels.
    return open_prepared(path, report.preparation_of(record), Grid(), ScaleRules())


def _stored_labels(mask: Path, prepared: PreparedField) -> NDArray[np.uint8]:
    """The labels that a report found, on the grid of the file. Raises FieldError."""
    labels = np.asarray(as_stored(read_mask(mask).pixels, prepared.orientation))
    if labels.shape != prepared.full_shape:
        raise FieldError(f"{mask}: is of another size than {prepared.path}. Remedy: repeat `microseg segment`.")
    return labels.astype(np.uint8, copy=False)


def _shown(prepared: PreparedField, labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The measured part of a field as viewers show it, and where it is measured."""
    crop, (height, width) = prepared.crop, prepared.native_shape
    grey = prepared.native_rows(0, height)
    own = labels[crop.top_px : crop.top_px + height, crop.left_px : crop.left_px + width]
    turned = np.ascontiguousarray(shown(grey, prepared.orientation))
    return turned, np.ascontiguousarray(shown(own != 255, prepared.orientation))


def _refuse_artefacts(report: StoredReport) -> None:
    given = (report.settings.preparation, *report.settings.nearby.values())
    if any(preparation.artefacts for preparation in given):
        raise InputError(
            f"{report.path}: artefacts leave the denominator of its fractions, which an audit does not cover. Remedy: a report "
            "without `artefacts`."
        )


def _refuse_folder(out: Path, report: Path, given: SegmentInput) -> None:
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: exists. Remedy: another --out, or remove it if its labels are not needed.")
    if resolved(out).is_relative_to(resolved(report)):
        raise InputError(f"{out}: lies inside the report. Remedy: another --out.")
    folders = {resolved(field.path).parent for field in given.fields}
    inside = next((folder for folder in folders if resolved(out).is_relative_to(folder)), None)
    if inside is not None:
        raise InputError(f"{out}: lies in {inside}, where the next run would measure {IMAGES}/. Remedy: another --out.")
