"""Unlabelled fields of a labelled domain, prepared as it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from microseg.core.domains.domain import load_domain, preparation_as
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.schemas.bag import PhaseInfo, TrainingField
from microseg.core.schemas.preparation import DomainEntry, Grid
from microseg.core.schemas.run import UnlabelledFields
from microseg.core.system.files import sha256_of
from microseg.train.common.data import refuse_unknown_phases
from microseg.train.common.datasets import LabelledField, unlabelled_field
from microseg.train.common.fields.stored import PlaneStore


@dataclass(frozen=True)
class UnlabelledSet:
    """Unlabelled fields and where they come from.

    source: The folder, or the YAML file that describes one.
    fields: The fields on the network's grid. All their labels are 255.
    """

    source: Path
    fields: list[LabelledField]

    def record(self) -> UnlabelledFields:
        """The fields as a run records them."""
        recorded = [
            TrainingField(name=item.field.name, sha256=item.sha256, group=item.field.group, fold=-1)
            for item in self.fields
        ]
        return UnlabelledFields(source=str(self.source.resolve()), fields=recorded)


def read_unlabelled(
    path: Path, entry: DomainEntry, grid: Grid, phases: Sequence[PhaseInfo], labelled: Collection[str]
) -> list[LabelledField]:
    """Read unlabelled fields. No mask is opened; all labels are 255.

    Args:
        path: A folder, or a YAML file that describes one. What its domain.yaml states wins over `entry`.
        entry: The labelled domain, as which they are prepared.
        grid: The network's pixel grid.
        phases: The phases of the labelled domain.
        labelled: SHA-256 of the labelled files. The same files are left out here.

    Returns:
        The fields.

    Raises:
        InputError: No domain, other phases, no field beside the labelled ones, or a field that cannot be read.
    """
    domain = load_domain(path, masks=False)
    refuse_unknown_phases(domain, phases)
    preparation = preparation_as(domain, entry)
    rules = ScaleRules(assumed=assumed_size(entry, grid))
    fields, store = [], PlaneStore()
    for item in domain.training_fields:
        sha256 = sha256_of(item.image)
        if sha256 in labelled:
            continue
        try:
            with open_field(item, preparation, grid, rules) as prepared:
                fields.append(unlabelled_field(item, sha256, prepared.whole(), store))
        except FieldError as error:
            raise InputError(str(error)) from error
    if not fields:
        raise InputError(
            f"--unlabelled {path}: holds no field beside the labelled ones. Remedy: a folder of other micrographs of the "
            "same material and microscope."
        )
    return fields
