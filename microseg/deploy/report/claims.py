"""From a report's records to what it states: the labelled fields behind it, and the reported fractions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from microseg.core.errors import InputError
from microseg.core.images.pixel_size import ASSUMPTIONS
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import Preparation
from microseg.core.schemas.validation import read_validation_beside
from microseg.deploy.measurement.evidence import MeasuredField, Sources
from microseg.deploy.report.records import FieldRecord


def sources_of(engine: Path, manifest: Manifest, domain: str) -> Sources:
    """The labelled fields that may stand behind a report: the validation file beside the engine, and what the engine holds.

    A file that cannot be used is no error: the micrographs are measured all the same, and the report says why it claims less.

    Args:
        engine: the engine's file.
        manifest: its manifest.
        domain: the engine's domain that is measured.
    """
    try:
        beside = read_validation_beside(engine)
        return Sources(manifest, domain, (*([] if beside is None else [beside]), *manifest.validations))
    except InputError as error:
        # The page names no folder of the station.
        told = str(error).removeprefix(f"{engine.parent}/")
        return Sources(manifest, domain, tuple(manifest.validations), refused=told)


def measured_field(
    record: FieldRecord, section: str, preparation: Preparation, phases: Sequence[str], trained: Mapping[str, object]
) -> MeasuredField:
    """A measured field, as far as it decides about evidence.

    Args:
        record: its record.
        section: its section.
        preparation: how it was prepared.
        phases: names of the phases, in the engine's order.
        trained: the fields that the engine learned from, by their SHA-256.
    """
    edges = (
        () if record.pixel_size_um is None else (record.pixel_size_um, record.pixel_height_um or record.pixel_size_um)
    )
    fractions = tuple(record.fractions_of(phases))
    return MeasuredField(
        name=record.name,
        section=section,
        fractions=fractions,
        preparation=preparation,
        # Each fold finds artefacts of its own, so that its fractions are of other pixels.
        fold_fractions=() if None in fractions else tuple(map(tuple, record.fold_fractions)),
        edges_um=edges,
        is_scale_assumed=record.pixel_size_source in ASSUMPTIONS,
        is_trained=record.sha256 in trained,
        alarm=record.alarm,
    )
