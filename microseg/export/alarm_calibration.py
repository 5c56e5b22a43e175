"""The alarm of an engine, calibrated on the labelled fields of its run and on corruptions of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.calibrate import FEWEST_FIELDS, HOME, CalibrationPart, calibrated
from microseg.core.alarm.corruptions import KINDS, corrupted
from microseg.core.alarm.measures import FieldMeasures, FieldProbe
from microseg.core.alarm.schema import Alarm
from microseg.core.domains.domain import load_domain, preparation_as, prepared_and_labels
from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import InputError, MicrosegError
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.schemas.run import RunRecord
from microseg.core.schemas.validation import Validation
from microseg.core.system.files import sha256_of
from microseg.export.calibration_fields import evenly
from microseg.export.progress import ExportProgress
from microseg.runtime import Engine, open_engine

_PHASE = "calibrating the alarm"
# Parts of a field: its corners where they hardly overlap. Smaller parts vary more, larger ones are fewer.
_PART_PX, _LEAST_PART_PX, _MOST_FIELDS = 256, 64, 12
# A part with fewer labels does not show its fraction.
_LABELLED = 0.9


@dataclass(frozen=True)
class _Labelled:
    """A labelled field on the network's grid, and the fold that held it out; -1: none did."""

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    fold: int


def alarm_of_run(record: RunRecord, model: Path, progress: ExportProgress) -> Alarm | None:
    """Calibrate an alarm.

    Where no fold held a field out, its errors are those of networks that learned from it, and too small. The alarm says how
    many fields were held out.

    Args:
        record: the run. Its labelled fields are read again.
        model: the exported ONNX engine.
        progress: gets the phase, and why there is no alarm.

    Returns:
        The alarm; None where the labelled fields are gone, changed, or too few.
    """
    if len(record.fields) < FEWEST_FIELDS:
        progress.notice(
            f"no alarm: {len(record.fields)} labelled fields do not show what is usual (at least {FEWEST_FIELDS})"
        )
        return None
    try:
        parts = calibration_parts(record, model, progress)
    except (MicrosegError, OSError) as error:
        progress.notice(f"no alarm: the run's labelled fields cannot be read again ({error})")
        return None
    found = calibrated(parts, record.domain.name)
    if found is None:
        progress.notice(f"no alarm: fewer than {FEWEST_FIELDS} fields have labels throughout")
        return None
    held_out = {field.name for field in record.fields if field.fold >= 0} & {part.field for part in parts}
    return found.model_copy(update={"held_out": len(held_out)})


def with_held_out(record: RunRecord, folds: Validation | None) -> RunRecord:
    """A student's record with the folds of its bag: each head learned from one of them.

    A student learned from all labelled fields through its bag, but a head did so through a fold alone. The head of the fold
    that held a field out is nearest to what finds a new one.

    Args:
        record: a run's record.
        folds: the cross-validation that the run keeps; of a student, its bag's. None without.
    """
    if record.distillation is None or folds is None:
        return record
    held = {field.sha256: field.fold for field in folds.fields if field.fold is not None}
    fields = [field.model_copy(update={"fold": held.get(field.sha256, field.fold)}) for field in record.fields]
    return record.model_copy(update={"fields": fields})


def calibration_parts(record: RunRecord, model: Path, progress: ExportProgress) -> list[CalibrationPart]:
    """Parts of a run's labelled fields, as they are and corrupted, and the errors that the engine makes on them.

    Args:
        record: the run.
        model: the exported ONNX engine.
        progress: gets the phase.

    Raises:
        MicrosegError: the fields are gone or changed, or the engine fails.
        OSError: as MicrosegError.
    """
    fields = _fields(record)
    with open_engine(model, runtime="onnxruntime", device="cpu") as engine:
        progress.begin(_PHASE, len(fields))
        parts: list[CalibrationPart] = []
        for index, field in enumerate(fields):
            parts += _parts_of(engine, field, index)
            progress.step(_PHASE)
    progress.end(_PHASE)
    return parts


def _fields(record: RunRecord) -> list[_Labelled]:
    """Some labelled fields of a run. Raises MicrosegError or OSError where they are gone or changed."""
    domain = load_domain(Path(record.domain_source))
    if domain.phases_inferred:
        domain = domain.with_phases(record.phases)
    if [phase.name for phase in domain.phases] != [phase.name for phase in record.phases]:
        raise InputError(f"{record.domain_source}: its phases are no longer those of the run")
    domain = replace(domain, preparation=preparation_as(domain, record.domain))
    rules = ScaleRules(assumed=assumed_size(record.domain, record.grid))
    # Fields that a student learned from without labels may have the name of a labelled one.
    folds: dict[str, dict[str, int]] = defaultdict(dict)
    for each in record.fields:
        folds[each.name][each.sha256] = each.fold
    found = []
    for field in evenly([field for field in domain.fields if field.name in folds], _MOST_FIELDS):
        fold = folds[field.name].get(sha256_of(field.image))
        if fold is None:
            raise InputError(f"{field.image}: is no longer the file that was trained on")
        image, labels = prepared_and_labels(field, domain, record.grid, rules)
        found.append(_Labelled(field.name, image, labels, fold))
    if len(found) < FEWEST_FIELDS:
        raise InputError(f"{record.domain_source}: holds {len(found)} of {len(record.fields)} fields")
    return found


def _parts_of(engine: Engine, field: _Labelled, index: int) -> Iterator[CalibrationPart]:
    """Parts of a field as they are, and one of them with half of the levels of each corruption."""
    stride, phases = engine.manifest.stride, len(engine.manifest.phases)
    corners = list(_corners(field, stride))
    for number, (image, labels) in enumerate(corners):
        measures, bag, held = _looked_at(engine, image, field.fold)
        if measures is None:
            continue
        true = _fractions(labels, phases)
        error = held - true
        yield CalibrationPart(field.name, HOME, measures, error)
        if number != index % len(corners):
            continue
        for kind, levels in KINDS.items():
            for level in levels[index % 2 :: 2]:
                other = corrupted(image, labels, kind, level, index)
                measures, now, _ = _looked_at(engine, other.image, field.fold)
                if measures is not None:
                    # What a corruption changes, it changes in the whole bag; the rest is the error of the fold.
                    change = (now - _fractions(other.labels, phases)) - (bag - true)
                    yield CalibrationPart(field.name, kind, measures, error + change)


def _corners(field: _Labelled, stride: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Parts of a field at its corners whose pixels nearly all have a label."""
    side = min(_PART_PX, *field.image.shape) // stride * stride
    if side < _LEAST_PART_PX:
        return
    height, width = field.image.shape
    # A field that is hardly larger than a part gives one.
    tops, lefts = ({0, length - side} if length >= 1.5 * side else {0} for length in (height, width))
    for top in sorted(tops):
        for left in sorted(lefts):
            cut = slice(top, top + side), slice(left, left + side)
            if np.mean(field.labels[cut] != UNLABELLED) >= _LABELLED:
                yield np.ascontiguousarray(field.image[cut]), np.ascontiguousarray(field.labels[cut])


def _looked_at(
    engine: Engine, image: NDArray[np.uint8], fold: int
) -> tuple[FieldMeasures | None, NDArray[np.float64], NDArray[np.float64]]:
    """Measures of a part, and its fractions by the bag and by a fold (-1: by the bag too)."""
    found = engine.run(image[None, None], features=True)
    phases = len(engine.manifest.phases)
    probe = FieldProbe(phases, len(engine.manifest.folds))
    assert found.features is not None
    probe.add(image, found.labels[0], found.votes[0], found.features[0])
    bag = _fractions(found.labels[0], phases)
    return probe.measures(), bag, bag if fold < 0 else _fractions(found.votes[0, fold], phases)


def _fractions(labels: NDArray[np.uint8], phases: int) -> NDArray[np.float64]:
    counts = np.bincount(labels.ravel(), minlength=UNLABELLED + 1)[:phases]
    return np.asarray(counts / counts.sum())
