"""What a recipe trains on: a labelled domain, read onto the network's grid, and its folds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from microseg.core.domains.checking import nothing_labelled
from microseg.core.domains.domain import Domain, load_domain, resolve_intensity
from microseg.core.domains.folds import assign_folds
from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import InputError
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.core.schemas.run import RunRecord
from microseg.train.common.datasets import LabelledField, load_fields
from microseg.train.common.recipe import Recipe


@dataclass(frozen=True)
class TrainingData:
    """A labelled domain as it is trained on.

    fields: The fields on `grid`.
    folds: The fold that holds each field out.
    phases: Names and colours.
    grid: The network's grid.
    entry: The domain as a run records it.
    """

    fields: list[LabelledField]
    folds: list[int]
    phases: list[PhaseInfo]
    grid: Grid
    entry: DomainEntry

    @property
    def sha256(self) -> str:
        """SHA-256 of the fields' files and labels, 64 hex digits."""
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
    """Read a labelled domain.

    Args:
        source: A folder, or a YAML file that describes one.
        scale: Network pixels per native pixel.
        folds: Folds to split the fields into, by group.
        grid: Grid of networks that exist already. It takes precedence over `scale`.
        phases: Phases that the indices in the masks mean, where the domain names none.
        base: Preparation of the fields, where the domain's own file states none.

    Raises:
        InputError: The domain cannot be trained on.
    """
    domain = load_domain(source)
    if phases and domain.phases and domain.phases_inferred:
        domain = domain.with_phases(phases)
    if base is not None:
        domain = replace(domain, preparation=domain.preparation_over(base))
    if not domain.phases:
        raise InputError(f"{source}: has no labels to learn from. Remedy: a folder with masks/.")
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


def reload_training_data(run: Path, record: RunRecord, recipe: Recipe, missing: str, changed: str) -> TrainingData:
    """Read the labelled domain again that a run was trained on.

    Args:
        run: The run folder, for messages.
        record: Its record.
        recipe: Its recipe.
        missing: The remedy where the domain is not at its place.
        changed: The remedy where the domain holds other fields or labels.

    Raises:
        InputError: The domain is missing or has changed.
    """
    where = Path(record.domain_source)
    if not where.exists():
        raise InputError(f"{run}: its labelled fields are not in {where}. Remedy: {missing}.")
    data = load_training_data(
        where, recipe.scale, recipe.folds, record.grid, phases=record.phases, base=recorded_preparation(record)
    )
    if data.sha256 != record.dataset_sha256:
        raise InputError(
            f"{where}: holds other fields or labels than those that {run} was trained on. Remedy: {changed}."
        )
    return data


def recorded_preparation(record: RunRecord) -> Preparation | None:
    """The preparation of a run's fields where it may come from an adapted run; None where their own files state it."""
    return record.domain.preparation if record.continued_from else None


def refuse_unknown_phases(domain: Domain, phases: Sequence[PhaseInfo]) -> None:
    """Raise InputError where a domain names a phase that a run does not know."""
    names = [phase.name for phase in phases]
    other = [phase.name for phase in domain.phases if phase.name not in names]
    if other:
        raise InputError(
            f"{domain.source}: names the phase {other[0]!r}, but the run knows {', '.join(names)}. "
            "Remedy: the run's names under `phases`, or none."
        )


def common_pixel_size(domain: Domain) -> float | None:
    """The pixel size of a domain in um: the one it states, else the one that all its files state.

    Returns:
        None where no file states one.

    Raises:
        InputError: The files differ by more than 1 %, or some state a pixel size and others do not.
        FieldError: A file cannot be read.
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
    """Raise InputError for a field without a labelled pixel, as `check` does."""
    for item in fields:
        if (item.labels == UNLABELLED).all():
            raise InputError(nothing_labelled(item.field))


def _refuse_missing_phases(domain: Domain, fields: list[LabelledField]) -> None:
    present = set(np.unique(np.concatenate([np.unique(field.labels) for field in fields])).tolist())
    for index, phase in enumerate(domain.phases):
        if index not in present:
            raise InputError(
                f"{domain.source}: phase {phase.name!r} (mask value {', '.join(map(str, phase.values))}) occurs in no "
                "mask. Remedy: correct its value in domain.yaml, or remove it."
            )
