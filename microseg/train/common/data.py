"""What a recipe trains on: a labelled domain read onto the network's grid, and its folds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from microseg.core.domains.domain import Domain, load_domain, resolve_intensity
from microseg.core.domains.folds import assign_folds
from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import InputError
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.train.common.datasets import LabelledField, load_fields


@dataclass(frozen=True)
class TrainingData:
    """Training fields on `grid`, the fold that holds each of them out, phases, and the domain as a run records it."""

    fields: list[LabelledField]
    folds: list[int]
    phases: list[PhaseInfo]
    grid: Grid
    entry: DomainEntry

    @property
    def sha256(self) -> str:
        """Of the fields' files and labels."""
        digest = hashlib.sha256()
        for field in self.fields:
            digest.update(field.sha256.encode())
            digest.update(field.labels.tobytes())
        return digest.hexdigest()


def load_training_data(
    source: Path,
    scale: float,
    folds: int,
    grid: Grid | None = None,
    *,
    phases: Sequence[PhaseInfo] = (),
    base: Preparation | None = None,
) -> TrainingData:
    """Read a domain at `scale` network pixels per native one, or on the `grid` of networks that exist already.

    phases: what bare indices of masks mean. base: how such fields are prepared, less what the domain's own file states.
    Raises InputError where it cannot be trained on.
    """
    domain = load_domain(source)
    if phases and domain.phases and domain.phases_inferred:
        domain = domain.with_phases(phases)
    if base is not None:
        domain = replace(domain, preparation=domain.preparation_over(base))
    if not domain.phases:
        raise InputError(f"{source}: has no labels, so nothing can be learned from it. Remedy: a folder with masks/.")
    preparation = domain.preparation.model_copy(update={"intensity": resolve_intensity(domain)})
    domain = replace(domain, preparation=preparation)
    pixel_um = common_pixel_size(domain)
    grid = grid or Grid(pixel_size_um=pixel_um / scale if pixel_um else None, scale=scale)
    held = assign_folds([field.group for field in domain.training_fields], folds)
    fields = load_fields(domain, grid)
    _refuse_unlabelled(fields)
    _refuse_missing_phases(domain, fields)
    return TrainingData(
        fields=fields,
        folds=held,
        phases=[PhaseInfo(name=phase.name, color=phase.color) for phase in domain.phases],
        grid=grid,
        entry=DomainEntry(name=domain.name, preparation=preparation.model_copy(update={"pixel_size_um": pixel_um})),
    )


def common_pixel_size(domain: Domain) -> float | None:
    """The domain's pixel size in um, or the one that all its files state, or None where none does.

    Raises InputError where files differ, or some state one and others do not; FieldError for one that cannot be read.
    """
    if domain.preparation.pixel_size_um:
        return domain.preparation.pixel_size_um
    sizes = {}
    for field in domain.training_fields:
        with open_prepared(field.image, domain.preparation, Grid()) as prepared:
            sizes[field.name] = prepared.pixel_size_um
    values = [value for value in sizes.values() if value is not None]
    if not values:
        return None
    middle = float(np.median(values))
    odd = [name for name, value in sizes.items() if value is None or abs(value / middle - 1) > 0.01]
    if odd:
        stated = "states none" if sizes[odd[0]] is None else f"{sizes[odd[0]]:g} um"
        raise InputError(
            f"{domain.source}: fields differ in pixel size ({odd[0]}: {stated}, median {middle:g} um). "
            "Remedy: one domain per magnification, or `pixel_size_um` in domain.yaml."
        )
    return middle


def _refuse_unlabelled(fields: list[LabelledField]) -> None:
    """A field without one labelled pixel can neither be learned from nor be scored as held out."""
    for item in fields:
        if (item.labels == UNLABELLED).all():
            raise InputError(
                f"{item.field.mask}: every pixel is unlabelled. Remedy: label some, or list the field under `test` in "
                "domain.yaml."
            )


def _refuse_missing_phases(domain: Domain, fields: list[LabelledField]) -> None:
    present = set(np.unique(np.concatenate([np.unique(field.labels) for field in fields])).tolist())
    for index, phase in enumerate(domain.phases):
        if index not in present:
            raise InputError(
                f"{domain.source}: phase {phase.name!r} (mask value {', '.join(map(str, phase.values))}) occurs in no "
                "mask. Remedy: correct its value in domain.yaml, or remove it."
            )
