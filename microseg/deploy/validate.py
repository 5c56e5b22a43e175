"""`microseg validate ENGINE LABELLED`: what an engine finds on labelled fields that trained nothing. Without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from microseg.agreement.validating import ValidatingEngine, measured_as, refuse_trained, validated_by_masks
from microseg.core.alarm.schema import FieldAlarm
from microseg.core.domains.domain import Domain, DomainField, load_domain, preparation_as
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.evaluation.validating import new_validation, own_edge_um
from microseg.core.images.exclusion import NOT_MEASURED
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.preparation.prepared_field import labels_to_native
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.validation import (
    PointCounts,
    SpreadTerm,
    Validation,
    ValidationField,
    validation_beside,
    write_validation,
)
from microseg.core.statistics.pairs import std_of_pairs
from microseg.core.system.csv_table import by_name_or_stem, read_table
from microseg.core.system.files import require_writable, sha256_of, writing
from microseg.deploy.pipeline.tile_memory import max_tile_pixels
from microseg.runtime import Engine, EngineFile, open_engine

Progress = Callable[[str], None]
COUNT_COLUMNS = ("field", "phase", "points_on_phase", "points")


@dataclass(frozen=True)
class ValidateOptions:
    """What the user of `validate` asks for.

    Attributes:
        engine: the engine's file.
        labelled: the labelled fields: a domain's folder or YAML file; with `counts`, a folder of images.
        counts: a CSV file of manual point counts; None for masks.
        out: the validation file to write; None for the one beside the engine.
        domain: name of the engine's domain to measure as; None for the one of the labelled domain's name, else its default.
        again: a folder with the same fields, captured a second time; None without.
        second: a labelled domain with the same fields, labelled by a second person; None without.
    """

    engine: Path
    labelled: Path
    counts: Path | None = None
    out: Path | None = None
    domain: str | None = None
    again: Path | None = None
    second: Path | None = None


def validate(options: ValidateOptions, progress: Progress = lambda name: None) -> tuple[Path, Validation]:
    """Measure labelled fields and write the validation file of the engine.

    Args:
        options: engine, fields and file.
        progress: gets the name of each field.

    Returns:
        The file and its content.

    Raises:
        InputError: wrong options, fields that trained the engine, that are not labelled or cannot be read, or counts that do
            not add up. Nothing is written.
        MissingExtraError: the runtime is not installed.
    """
    if options.second is not None and options.counts is not None:
        raise InputError("--second: is of labels, not of --counts. Remedy: masks, or leave it out.")
    out = options.out or validation_beside(options.engine)
    require_writable(out, (options.engine, options.labelled, options.counts, options.again, options.second))
    with EngineFile(options.engine).unchanged() as file:
        engine = open_engine(file.require_intact())
    with engine:
        found = _measured(engine, options, max_tile_pixels(engine.manifest, file.size_bytes, None), progress)
    with writing(out):
        write_validation(out, found)
    return out, found


def _measured(engine: Engine, options: ValidateOptions, largest: int, progress: Progress) -> Validation:
    labelled = load_domain(options.labelled, masks=options.counts is None)
    entry = measured_as(engine.manifest, labelled, options.domain)
    fields = _Fields(engine, entry, ValidatingEngine(engine, entry, largest), progress)
    if options.counts is not None:
        found = fields.counted(options.labelled, options.counts)
    else:
        found = validated_by_masks(engine, options.labelled, entry, largest, progress)
    if options.again is not None:
        found = found.model_copy(update={"repeatability": fields.repeatability(options.labelled, options.again)})
    if options.second is not None:
        other = validated_by_masks(engine, options.second, entry, largest, progress)
        found = found.model_copy(update={"annotators": _annotators(found, other, options.second)})
    return found


@dataclass(frozen=True)
class _Found:
    """A field as the engine finds it: area fractions of the phases, 0-1, edge of its native pixel, and the alarm's word."""

    fractions: list[float]
    edge_um: float | None
    alarm: FieldAlarm | None


@dataclass(frozen=True)
class _Fields:
    """An engine on fields whose masks are not read."""

    engine: Engine
    entry: DomainEntry
    validating: ValidatingEngine
    progress: Progress

    def counted(self, source: Path, counts: Path) -> Validation:
        """The validation by a table of point counts. Raises InputError."""
        manifest = self.engine.manifest
        table = read_counts(counts, [phase.name for phase in manifest.phases])
        domain = load_domain(source, masks=False)
        by_key = _by_key(table, domain.fields, f"--counts {counts}")
        if missing := [name for name in table if name not in by_key]:
            raise InputError(
                f"--counts {counts}: {missing[0]!r} is no field of {source}. Remedy: the path or the name of an image there."
            )
        chosen = list(by_key.values())
        refuse_trained(manifest.training_fields, source, {field.name: field.image for field in chosen})
        fields = [self._field(domain, field, table[key]) for key, field in by_key.items()]
        if len({field.sha256 for field in fields}) < len(fields):
            raise InputError(f"{source}: two of the counted fields are one file. Remedy: keep one of them.")
        return new_validation(
            "validated",
            fields,
            domain=self.entry.name,
            preparation=preparation_as(domain, self.entry),
            phases=manifest.phases,
            weights_sha256=[fold.weights_sha256 for fold in manifest.folds],
            network_sha256=manifest.network_sha256,
            source=source.name,
            alarm_sha256=self.validating.alarm_sha256,
        )

    def repeatability(self, first: Path, second: Path) -> SpreadTerm:
        """Standard deviation of a specimen's mean in one measurement, from specimens captured twice. Raises InputError."""
        one, other = (load_domain(path, masks=False) for path in (first, second))
        images = {field.name: field for field in other.fields}
        pairs = [(field, images[key]) for key, field in _by_key(images, one.fields, f"--again {second}").items()]
        if not pairs:
            raise InputError(
                f"--again {second}: none of its images has the name of a field of {first}. Remedy: equal names."
            )
        differences: dict[str, list[list[float]]] = {}
        for field, twin in pairs:
            if sha256_of(field.image) == sha256_of(twin.image):
                raise InputError(f"--again {second}: {twin.name} is the same file as before. Remedy: capture it again.")
            found = [self._found(one, field).fractions, self._found(other, twin).fractions]
            differences.setdefault(field.group, []).append([b - a for a, b in zip(*found, strict=True)])
        specimens = [[fmean(values) for values in zip(*each, strict=True)] for each in differences.values()]
        return _spread(specimens)

    def _field(self, domain: Domain, field: DomainField, counts: PointCounts) -> ValidationField:
        found = self._found(domain, field)
        return ValidationField(
            name=field.name,
            sha256=sha256_of(field.image),
            group=field.group,
            pixel_size_um=found.edge_um,
            counts=counts,
            found=found.fractions,
            alarm=found.alarm,
        )

    def _found(self, domain: Domain, field: DomainField) -> _Found:
        """What the engine finds in the measured part of a field. Raises InputError."""
        manifest = self.engine.manifest
        self.progress(field.name)
        rules = ScaleRules(assumed=assumed_size(self.entry, manifest.grid))
        try:
            with open_field(field, preparation_as(domain, self.entry), manifest.grid, rules) as prepared:
                labels, alarm = self.validating.label(prepared.whole())
                native = labels_to_native(labels, prepared.native_shape)
                for outside in prepared.excluded_rows(0, prepared.native_shape[0]):
                    native = np.where(outside, np.uint8(NOT_MEASURED), native)
                edge_um = own_edge_um(prepared.pixel_size)
        except FieldError as error:
            raise InputError(str(error)) from error
        pixels = np.bincount(native.ravel(), minlength=256)[: len(manifest.phases)]
        if not pixels.any():
            raise InputError(f"{field.image}: no pixel is measured. Remedy: leave the field out.")
        return _Found((pixels / pixels.sum()).tolist(), edge_um, alarm)


def _by_key(names: Mapping[str, object], fields: Sequence[DomainField], where: str) -> dict[str, DomainField]:
    """The field that each name means, by its path, its name or its stem. Raises InputError where it may mean two."""
    found: dict[str, DomainField] = {}
    for field in fields:
        key = by_name_or_stem(names, field.name)
        if key is None:
            continue
        if key in found:
            raise InputError(
                f"{where}: {key!r} may be {found[key].name} or {field.name}. Remedy: the path within the folder, in full."
            )
        found[key] = field
    return found


def read_counts(path: Path, phases: Sequence[str]) -> dict[str, PointCounts]:
    """Manual point counts by field.

    Each row is of a field and a phase. Of one phase of a field the row may be missing: it gets the points that are left.

    Args:
        path: a CSV file with the columns field, phase, points_on_phase and points.
        phases: names of the engine's phases, in their order.

    Raises:
        InputError: a table that cannot be read, an unknown phase, no number, or counts that do not add up.
    """
    found: dict[str, dict[str, float]] = {}
    grids: dict[str, float] = {}
    for number, row in read_table(path, COUNT_COLUMNS, "--counts"):
        where, field, phase = f"--counts {path}: line {number}", row["field"], row["phase"]
        if phase not in phases:
            raise InputError(f"{where}: {phase!r} is none of the engine's phases. Remedy: one of {', '.join(phases)}.")
        on_phase, points = (_points(row[key], key, where) for key in ("points_on_phase", "points"))
        if points < 1 or points % 1:
            raise InputError(f"{where}: points = {points:g} is no number of points. Remedy: the points of the grid.")
        if (2 * on_phase) % 1:
            raise InputError(f"{where}: points_on_phase = {on_phase:g} is neither whole nor half. Remedy: count again.")
        if grids.setdefault(field, points) != points:
            raise InputError(
                f"{where}: {field!r} has {points:g} points here and {grids[field]:g} before. Remedy: one number for each field."
            )
        if phase in found.setdefault(field, {}):
            raise InputError(
                f"{where}: {field!r} has two rows for {phase!r}. Remedy: one row, with the sum of the grids."
            )
        found[field][phase] = on_phase
    return {field: _completed(path, field, counts, int(grids[field]), phases) for field, counts in found.items()}


def _points(text: str, key: str, where: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise InputError(f"{where}: {key} = {text!r} is no number of points. Remedy: 0 or more.")
    return value


def _completed(path: Path, field: str, counts: Mapping[str, float], points: int, phases: Sequence[str]) -> PointCounts:
    """The counts of all phases of a field. Raises InputError where they do not add up."""
    missing = [phase for phase in phases if phase not in counts]
    total = sum(counts.values())
    where = f"--counts {path}: {field!r}"
    if len(missing) > 1:
        raise InputError(
            f"{where} has no row for {', '.join(missing)}. Remedy: one row for each phase; one may be left out."
        )
    if total > points or (not missing and total != points):
        raise InputError(
            f"{where}: its phases have {total:g} points together, its grid has {points}. Remedy: count again."
        )
    return PointCounts(points=points, on_phase=[counts.get(phase, points - total) for phase in phases])


def _annotators(one: Validation, other: Validation, source: Path) -> SpreadTerm:
    """Standard deviation of one person's fraction of a field, from fields that two people labelled. Raises InputError."""
    first = {field.sha256: field.true_fractions for field in one.fields}
    pairs = [(first[field.sha256], field.true_fractions) for field in other.fields if field.sha256 in first]
    if not pairs:
        raise InputError(
            f"--second {source}: holds none of the labelled images. Remedy: the same images with other masks."
        )
    return _spread([[b - a for a, b in zip(*pair, strict=True)] for pair in pairs])


def _spread(differences: Sequence[Sequence[float]]) -> SpreadTerm:
    """The standard deviation of one of two results, of each phase, from the differences of pairs."""
    return SpreadTerm(std=std_of_pairs(differences), degrees_of_freedom=len(differences))
