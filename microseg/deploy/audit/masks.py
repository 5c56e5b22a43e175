"""Labels of drawn fields: masks of phase indices, or any labelled domain."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from microseg.core.domains.domain import Domain, DomainField, load_domain, read_labels
from microseg.core.domains.domain_file import domain_file_in
from microseg.core.domains.labels import on_stored_grid, read_mask
from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import FieldError, InputError
from microseg.core.evaluation.metrics import confusion_matrix
from microseg.core.evaluation.scoring import phase_table
from microseg.core.images.folders import find_masks
from microseg.core.images.image_file import stored_grid
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.validation import ValidationField
from microseg.core.system.csv_table import by_name_or_stem
from microseg.core.system.files import sha256_of
from microseg.deploy.audit.found import Found, Wanted, listed
from microseg.deploy.audit.label_folder import IMAGES, MASKS
from microseg.deploy.audit.stored_report import StoredReport
from microseg.deploy.report.records import FieldRecord

_MOST_OPEN = 0.1


def by_masks(
    folder: Path,
    wanted: Wanted,
    report: StoredReport,
    phases: list[PhaseInfo],
    image_of: Callable[[FieldRecord], Path],
    progress: Callable[[str], None] = lambda name: None,
) -> Found:
    """The audited fields by labels.

    Args:
        folder: the folder that `audit draw` wrote, its folder of masks, or any labelled domain of the drawn images.
        wanted: the drawn fields.
        report: the report, whose masks hold what was found.
        phases: the engine's phases.
        image_of: the measured file of a record, where the folder holds no images.
        progress: gets the name of each field.

    Raises:
        InputError: labels that cannot be read, other phases, a mask of another size, a field without labels, one that was not
            drawn or trained the engine, or drawn fields that are missing.
    """
    option = f"--masks {folder}"
    if not folder.exists():
        raise InputError(f"{option}: does not exist. Remedy: the folder of masks.")
    with _labelled(folder, wanted, image_of, phases) as (domain, is_plain):
        by_hash = _matched(option, domain, wanted)
        wanted.require_all(option, [name for name, record in wanted.records.items() if record.sha256 in by_hash])
        if domain.phases_inferred:
            domain = domain.with_phases(phases)
        table = phase_table(domain, phases)
        page = domain.preparation.page or report.settings.preparation.page
        domain = replace(domain, preparation=domain.preparation.model_copy(update={"page": page}))
        fields: list[ValidationField] = []
        notices: list[str] = []
        seen: set[int] = set()
        for name, record in wanted.records.items():
            progress(name)
            field = by_hash[record.sha256]
            labels = read_labels(field, domain)
            seen |= set(np.unique(labels).tolist())
            found = table[labels]
            fields.append(_field(wanted, record, report, field, found, page, notices))
        if is_plain and seen == {0, UNLABELLED}:
            raise InputError(
                f"{option}: its masks hold 0 and 255 alone: black and white, or one phase and unlabelled pixels? Remedy: phase "
                f"indices 0 to {len(phases) - 1}, or a domain.yaml that names the values."
            )
        unchanged = [
            name for name, record in wanted.records.items() if _is_prediction(by_hash[record.sha256], report, record)
        ]
    if len(unchanged) == len(fields):
        raise InputError(
            f"{option}: all its masks are still the predictions, so that nobody looked at them. Remedy: correct them first."
        )
    if unchanged:
        notices.append(f"{listed(unchanged)}: the mask is the prediction, unchanged")
    return Found("masks", tuple(fields), notices=tuple(notices))


def _is_prediction(field: DomainField, report: StoredReport, record: FieldRecord) -> bool:
    """Whether a mask is, byte for byte, the one that the draw laid there."""
    return field.mask is not None and sha256_of(field.mask) == sha256_of(report.path / record.mask)


def _matched(option: str, domain: Domain, wanted: Wanted) -> dict[str, DomainField]:
    """The labelled fields by the SHA-256 of their images. Raises InputError for one that was not drawn, or is there twice."""
    drawn = {record.sha256 for record in wanted.records.values()}
    found: dict[str, DomainField] = {}
    for field in domain.fields:
        sha256 = sha256_of(field.image)
        if sha256 not in drawn:
            wanted.refuse_other(option, field.name, sha256)
        if sha256 in found:
            raise InputError(
                f"{option}: {found[sha256].name} and {field.name} are one field. Remedy: keep one of them."
            )
        found[sha256] = field
    return found


def _field(
    wanted: Wanted,
    record: FieldRecord,
    report: StoredReport,
    field: DomainField,
    labels: NDArray[np.uint8],
    page: int | None,
    notices: list[str],
) -> ValidationField:
    """The confusion of one field: labelled pixels that were measured, by true and found phase."""
    try:
        grid = stored_grid(field.image, page)
        found = on_stored_grid(read_mask(report.path / record.mask), grid, field.image).pixels
    except FieldError as error:
        raise InputError(str(error)) from error
    measured = found != UNLABELLED
    labelled = np.where(measured, labels, np.uint8(UNLABELLED))
    confusion = confusion_matrix(labelled, found.astype(np.uint8), len(wanted.lot.phases))
    share = float(confusion.sum()) / max(1, int(measured.sum()))
    if not share:
        raise InputError(f"--masks: {record.name}: no measured pixel is labelled. Remedy: label the field.")
    if share < 1 - _MOST_OPEN:
        notices.append(
            f"{record.name}: {100 * share:.0f} % of the measured pixels are labelled; they stand for the field"
        )
    return wanted.audited(record.name, confusion=confusion.tolist())


def _refuse_undrawn(folder: Path, masks: Sequence[Path], wanted: Wanted) -> None:
    """Raise InputError for a mask of a field of the report that was not drawn."""
    for mask in masks:
        table = {mask.relative_to(folder).with_suffix("").as_posix(): 0}
        if any(by_name_or_stem(table, name) for name in wanted.records):
            continue
        meant = next((each.name for each in wanted.lot.records if by_name_or_stem(table, each.name)), None)
        if meant is not None:
            wanted.refuse_other(f"--masks {folder}", meant)


@contextmanager
def _labelled(
    folder: Path, wanted: Wanted, image_of: Callable[[FieldRecord], Path], phases: list[PhaseInfo]
) -> Iterator[tuple[Domain, bool]]:
    """The labels as a domain, and whether they are plain masks of phase indices without a description."""
    described = folder.is_file() or domain_file_in(folder) is not None
    if described:
        yield load_domain(folder), False
        return
    if (folder / IMAGES).is_dir():
        # As any stranger's folder, whose phases are found out.
        yield load_domain(folder), False
        return
    with tempfile.TemporaryDirectory(prefix="microseg-audit-") as made:
        root = Path(made)
        for name, record in wanted.records.items():
            target = root / IMAGES / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image_of(record), target)
        masks = find_masks(folder)
        _refuse_undrawn(folder, masks, wanted)
        is_plain = bool(masks)
        entries = [
            {"name": phase.name, "color": phase.color} | ({"value": index} if is_plain else {})
            for index, phase in enumerate(phases)
        ]
        content: dict[str, Any] = {"images": str(root / IMAGES), MASKS: str(folder.absolute()), "phases": entries}
        content |= {"labels": "masks", "unlabelled": UNLABELLED} if is_plain else {}
        (root / "domain.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        try:
            yield load_domain(root / "domain.yaml"), is_plain
        except InputError as error:
            # The reader knows his own folder.
            raise InputError(str(error).replace(str(root / "domain.yaml"), str(folder))) from error
