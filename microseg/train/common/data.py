"""What a recipe trains on: a labelled domain, read onto the network's grid, and its folds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.checking import nothing_labelled
from microseg.core.domains.domain import Domain, load_domain, resolved_rule
from microseg.core.domains.folds import Split, SplitPlan, held_out_by, kept_split, planned_split, split_notices
from microseg.core.domains.phases import UNLABELLED
from microseg.core.domains.pixel_sizes import open_field, size_conflict
from microseg.core.errors import InputError
from microseg.core.images.pixel_size import ASSUMED, PixelSize
from microseg.core.preparation.field_scale import DOMAIN_FILE, ScaleRules
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange, Preparation
from microseg.core.schemas.run import Block, RunRecord
from microseg.train.common.datasets import LabelledField, load_fields
from microseg.train.common.fields.splitting import blocks_of, learned_labels, scored_labels
from microseg.train.common.fields.stored import PlaneStore
from microseg.train.common.recipe import AugmentationConfig, Recipe, magnifications


@dataclass(frozen=True)
class TrainingData:
    """A labelled domain as it is trained on.

    fields: The fields on `grid`.
    folds: The fold that holds each field out; -1 where folds hold out blocks.
    fold_count: Number of folds.
    phases: Names and colours.
    grid: The network's grid.
    entry: The domain as a run records it.
    edges_um: Edges of the native pixels of the fields, um; None where they have no pixel size.
    notices: What of the labels may be meant otherwise, and what flatters the scores.
    split: What a fold holds out.
    blocks: The blocks of the fields, where folds hold out blocks.
    """

    fields: list[LabelledField]
    folds: list[int]
    fold_count: int
    phases: list[PhaseInfo]
    grid: Grid
    entry: DomainEntry
    edges_um: tuple[float, ...] | None = None
    notices: tuple[str, ...] = ()
    split: Split = "groups"
    blocks: tuple[Block, ...] = ()

    def seen(self, fold: int) -> list[LabelledField]:
        """The fields that a fold may learn from, each with the labels outside of its own blocks."""
        if not self.blocks:
            return [field for field, k in zip(self.fields, self.folds, strict=True) if k != fold]
        return self._relabelled(fold, learned_labels)

    def unseen(self, fold: int) -> list[LabelledField]:
        """The fields that a fold is scored on, each with the labels of its own block alone."""
        if not self.blocks:
            return [field for field, k in zip(self.fields, self.folds, strict=True) if k == fold]
        return self._relabelled(fold, scored_labels)

    def _relabelled(
        self, fold: int, change: Callable[[NDArray[np.uint8], Block], NDArray[np.uint8]]
    ) -> list[LabelledField]:
        """The fields with changed labels; those that keep none are left out."""
        own = [block for block in self.blocks if block.fold == fold]
        store = PlaneStore()
        changed = (
            field.relabelled(store.keep(change(field.labels, block)))
            for field, block in zip(self.fields, own, strict=True)
        )
        return [field for field in changed if field.counts[UNLABELLED] < field.area_px]

    def pixel_sizes(self, augmentation: AugmentationConfig) -> PixelSizeRange | None:
        """The native pixel sizes that a network sees of the fields in such tiles; None where they have no pixel size."""
        return None if self.edges_um is None else seen_pixel_sizes(self.edges_um, augmentation)

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
    split: Split | Literal["auto", "kept"] = "groups",
) -> TrainingData:
    """Read a labelled domain.

    Args:
        source: A folder, or a YAML file that describes one.
        scale: Network pixels per native pixel.
        folds: Folds to split the fields into.
        grid: Grid of networks that exist already. It takes precedence over `scale`.
        phases: Phases that the indices in the masks mean, where the domain names none.
        base: Preparation of the fields, where the domain's own file states none. Its pixel size is that of fields that state
            none.
        split: What a fold holds out. `auto`: groups; where there are fewer groups than folds, fewer folds, fields of one
            group, or blocks of the only field. `kept`: new fields for a run that is continued: groups, of which there may be
            fewer than folds, and phases may be missing that the run's own fields hold.

    Raises:
        InputError: The domain cannot be trained on.
    """
    domain = load_domain(source)
    scale_rules = ScaleRules()
    if phases and domain.phases and domain.phases_inferred:
        domain = domain.with_phases(phases)
    if base is not None:
        if base.pixel_size_um is not None:
            scale_rules = ScaleRules(assumed=PixelSize.square(base.pixel_size_um, ASSUMED))
        base = base.model_copy(update={"pixel_size_um": None})
        domain = replace(domain, preparation=domain.preparation_over(base))
    if not domain.phases:
        raise InputError(f"{source}: has no labels to learn from. Remedy: a folder with masks/.")
    rule, other_bits = resolved_rule(domain)
    preparation = domain.preparation.model_copy(update={"intensity": rule})
    domain = replace(domain, preparation=preparation)
    common = common_pixel_size(domain, scale_rules)
    pixel_um = None if common is None else common.width_um
    grid = grid or Grid(pixel_size_um=pixel_um / scale if pixel_um else None, scale=scale)
    groups = [field.group for field in domain.training_fields]
    if split == "kept":
        plan, held = kept_split(groups, folds)
    else:
        plan = planned_split(groups, folds) if split == "auto" else SplitPlan(split, folds)
        held = held_out_by(plan.split, groups, plan.folds)
    fields = load_fields(domain, grid, scale_rules)
    _refuse_unlabelled(fields)
    if split != "kept":
        _refuse_missing_phases(domain, fields)
    cut = [blocks_of(field.labels, field.sha256, plan.folds) for field in fields] if plan.split == "blocks" else []
    return TrainingData(
        notices=(*domain.notices, *other_bits, *plan.notices, *split_notices(plan.split, groups)),
        fields=fields,
        folds=held,
        fold_count=plan.folds,
        split=plan.split,
        blocks=tuple(block for blocks in cut for block in blocks),
        phases=[PhaseInfo(name=phase.name, color=phase.color) for phase in domain.phases],
        grid=grid,
        entry=DomainEntry(
            name=domain.name,
            preparation=preparation.model_copy(update={"pixel_size_um": pixel_um}),
            pixel_size_source=None if common is None else common.source,
        ),
        edges_um=None if common is None else common.edges_um,
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
        where, recipe.scale, recipe.folds, record.grid,
        phases=record.phases, base=recorded_preparation(record),
        split="kept" if record.continued_from and recipe.split == "groups" else recipe.split,
    )  # fmt: skip
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


@dataclass(frozen=True)
class CommonPixelSize:
    """The pixel size of a domain, which its fields share within 1 %.

    width_um: Edge of a native pixel along a row, um: the median over the fields.
    source: Where it is stated.
    edges_um: All edges, um, along rows and columns.
    """

    width_um: float
    source: str
    edges_um: tuple[float, ...]


def common_pixel_size(domain: Domain, scale: ScaleRules = ScaleRules()) -> CommonPixelSize | None:
    """The pixel size of a domain: the one it states, else the one that all its files state.

    Args:
        domain: The domain.
        scale: What decides the pixel size beside the domain and its files.

    Returns:
        None where nothing states one.

    Raises:
        InputError: The files differ by more than 1 %, or some state a pixel size and others do not.
        FieldError: A file cannot be read, or contradicts itself.
    """
    stated = domain.preparation.pixel_size_um
    if stated is not None and all(field.pixel_size_um is None for field in domain.training_fields):
        return CommonPixelSize(stated, DOMAIN_FILE, (stated,))
    found: dict[str, PixelSize | None] = {}
    for field in domain.training_fields:
        with open_field(field, domain.preparation, Grid(), scale) as prepared:
            found[field.name] = prepared.pixel_size
    sizes = [size for size in found.values() if size is not None]
    if not sizes:
        return None
    if conflict := size_conflict({name: None if size is None else size.width_um for name, size in found.items()}):
        raise InputError(f"{domain.source}: {conflict}")
    middle = median(size.width_um for size in sizes)
    sources = sorted({size.source for size in sizes})
    source = sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} other places"
    return CommonPixelSize(middle, source, tuple(edge for size in sizes for edge in (size.width_um, size.height_um)))


def seen_pixel_sizes(edges_um: Sequence[float], augmentation: AugmentationConfig) -> PixelSizeRange:
    """The native pixel sizes that a network sees: a tile magnified by m shows pixels of 1 / m the size.

    Args:
        edges_um: Edges of the native pixels of its fields, um.
        augmentation: The pipeline of the tiles.
    """
    low, high = magnifications(augmentation)
    return PixelSizeRange.spanning(min(edges_um) / high, max(edges_um) / low)


def _refuse_unlabelled(fields: list[LabelledField]) -> None:
    """Raise InputError for a field without a labelled pixel, as `check` does."""
    for item in fields:
        if item.counts[UNLABELLED] == item.area_px:
            raise InputError(nothing_labelled(item.field))


def _refuse_missing_phases(domain: Domain, fields: list[LabelledField]) -> None:
    counts = np.sum([field.counts for field in fields], axis=0)
    for index, phase in enumerate(domain.phases):
        if not counts[index]:
            raise InputError(
                f"{domain.source}: phase {phase.name!r} (mask value {', '.join(map(str, phase.values))}) occurs in no "
                "mask. Remedy: correct its value in domain.yaml, or remove it."
            )
