"""`train supervised --init RUN`: training goes on from a run's weights, and what it knew stays in the mix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microseg.core.errors import InputError
from microseg.core.evaluation.metrics import mean_iou
from microseg.core.schemas.bag import PhaseInfo, TrainingField
from microseg.core.schemas.preparation import DomainEntry, Preparation
from microseg.core.schemas.run import RunRecord, read_run, refuse_student
from microseg.models.build import build_network
from microseg.train.common import checkpoint
from microseg.train.common.data import TrainingData, load_training_data
from microseg.train.common.datasets import LabelledField
from microseg.train.common.recipe import Recipe
from microseg.train.supervised.loop import score


@dataclass(frozen=True)
class Earlier:
    """A finished run that training continues: its record, and the labelled fields it was trained on, by held-out fold."""

    run: Path
    record: RunRecord
    recipe: Recipe
    fields: Sequence[LabelledField]
    folds: Sequence[int]

    def read(self, source: Path, recipe: Recipe) -> TrainingData:
        """New fields for these networks: those of an adapted run see them as its target was prepared. Raises InputError."""
        record = self.record
        base = record.adaptation.target.preparation if record.adaptation else None
        return load_training_data(source, recipe.scale, recipe.folds, record.grid, phases=record.phases, base=base)

    def domains_beside(self, name: str) -> list[DomainEntry]:
        """What the networks can measure already, less an adapted target that the new domain is of the name of."""
        first, *others = self.record.domains
        return [first, *(entry for entry in others if entry.name != name)]

    def place(self, fold: int) -> int:
        """The fold of the earlier run that a fold of the new one continues."""
        return fold % self.record.folds

    def weights(self, fold: int) -> Path:
        """Where a new fold starts."""
        return self.run / f"fold{self.place(fold)}" / "model.safetensors"

    def mixed(self, fields: Sequence[LabelledField], fold: int) -> list[LabelledField]:
        """New fields, repeated until they hold about half of the area, with the earlier ones that the fold has seen."""
        known = [item for item, k in zip(self.fields, self.folds, strict=True) if k != self.place(fold)]
        areas = [sum(item.image.size for item in items) for items in (known, fields)]
        return [*list(fields) * max(1, math.ceil(areas[0] / areas[1])), *known]

    def held_out(self, folds: int) -> list[TrainingField]:
        """The earlier fields as the new run records them: by the one new fold that continues a fold without them, or -1.

        With fewer new folds than before, some fields have been seen by all; with more, several folds have not. Folds that
        an adapted run left out have seen nothing, but their fields have been seen by the others.
        """
        entries = []
        for item, k in zip(self.fields, self.folds, strict=True):
            fold = k if k < min(folds, self.record.folds) else -1
            entries.append(TrainingField(name=item.field.name, sha256=item.sha256, group=item.field.group, fold=fold))
        return entries

    def score(self, folders: Sequence[Path]) -> float:
        """Mean over the new folds of their mIoU on the earlier fields that each has not seen."""
        scores = []
        for fold, folder in enumerate(folders):
            encoder = self.recipe.encoder.model_dump() | {"weights": "none"}
            network = build_network(encoder, self.recipe.network.model_dump(), len(self.record.phases))
            checkpoint.load_model(folder / "model.safetensors", network)
            unseen = [item for item, k in zip(self.fields, self.folds, strict=True) if k == self.place(fold)]
            if unseen:
                scores.append(mean_iou(score(network, unseen, self.recipe, len(self.record.phases)).confusion))
        return float(np.mean(scores))


def read_earlier(run: Path, recipe: Recipe) -> Earlier:
    """The run behind `--init`. Raises InputError: not finished, another network, or its labelled data are gone."""
    record, _ = read_run(run)
    refuse_student(run, record)
    before = Recipe.model_validate(record.recipe)
    for key, old, new in (
        ("encoder.name", before.encoder.name, recipe.encoder.name),
        ("network", before.network, recipe.network),
    ):
        if old != new:
            raise InputError(
                f"--init {run}: its {key} is {old}, the recipe's {new}. Remedy: a recipe of that network, or leave "
                "--recipe out."
            )
    where = Path(record.domain_source)
    if not where.exists():
        raise InputError(
            f"--init {run}: its labelled data are not at {where} any more, and they stay in the mix. Remedy: put them back."
        )
    data = load_training_data(
        where, before.scale, before.folds, record.grid, phases=record.phases, base=continued_preparation(record)
    )
    if data.sha256 != record.dataset_sha256:
        raise InputError(f"--init {run}: {where} does not hold what it was trained on any more. Remedy: put it back.")
    return Earlier(run, record, before, data.fields, data.folds)


def continued_preparation(record: RunRecord) -> Preparation | None:
    """How the fields of a run are prepared that may have it from an adapted run; None: as their own files say."""
    return record.domain.preparation if record.continued_from else None


def refuse_other_phases(earlier: Earlier, source: Path, phases: Sequence[PhaseInfo]) -> None:
    """Raise InputError where a domain names other phases than the run that it continues."""
    names, known = ([phase.name for phase in items] for items in (phases, earlier.record.phases))
    if names != known:
        raise InputError(
            f"{source}: its phases are {', '.join(names)}, those of --init {', '.join(known)}. "
            "Remedy: the same names in the same order in domain.yaml."
        )
