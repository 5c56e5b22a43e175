"""`train supervised --init RUN`: training continues a run on new fields. The run's own fields stay in the mix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from microseg.core.domains.folds import Split
from microseg.core.errors import InputError
from microseg.core.evaluation.metrics import mean_iou
from microseg.core.schemas.bag import PhaseInfo, TrainingField
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.run import Block, RunRecord, read_run, refuse_student
from microseg.train.common.data import TrainingData, load_training_data, reload_training_data
from microseg.train.common.datasets import LabelledField
from microseg.train.common.recipe import Recipe
from microseg.train.common.run_folder import load_network, recorded_field
from microseg.train.common.score import score_network


@dataclass(frozen=True)
class EarlierRun:
    """A finished run that training continues.

    run: The run folder.
    record, recipe: What it records.
    data: The labelled fields that it was trained on.
    """

    run: Path
    record: RunRecord
    recipe: Recipe
    data: TrainingData

    def read(self, source: Path, recipe: Recipe, split: Split | Literal["auto"] = "groups") -> TrainingData:
        """Read new fields for these networks, prepared as the target where the run is adapted. Raises InputError.

        Folds stay as many as they are, also for fewer new groups, and hold out groups of new fields unless the recipe asks for
        another split than the run's.
        """
        record = self.record
        base = record.adaptation.target.preparation if record.adaptation else None
        return load_training_data(
            source, recipe.scale, recipe.folds, record.grid,
            phases=record.phases, base=base,
            split="kept" if split in ("groups", "auto", self.recipe.split) else split,
        )  # fmt: skip

    def unseen(self, fields: Sequence[LabelledField], fold: int) -> Sequence[LabelledField]:
        """What a new fold is scored on: the new fields that it holds out; without one, earlier fields that it has not seen."""
        return fields or self.data.unseen(self.place(fold))

    def require_held_out(self, source: Path, data: TrainingData) -> None:
        """Raise InputError where a fold has nothing to be scored on: it holds out no new field, and held out no earlier one."""
        for fold in range(data.fold_count):
            if not self.unseen(data.unseen(fold), fold):
                before = self.record.continued_from
                raise InputError(
                    f"{source}: fold {fold} of {data.fold_count} holds out none of its fields, nor did it in {self.run}. "
                    f"Remedy: fields of {data.fold_count} groups{f', or --init {before}' if before else ''}."
                )

    def domains_beside(self, name: str) -> list[DomainEntry]:
        """The domains that the networks measure already. A target with the new domain's name is left out."""
        first, *others = self.record.domains
        return [first, *(entry for entry in others if entry.name != name)]

    def place(self, fold: int) -> int:
        """The fold of the earlier run that a fold of the new run continues."""
        return fold % self.record.folds

    def weights(self, fold: int) -> Path:
        """The weights that a fold of the new run begins with."""
        return self.run / f"fold{self.place(fold)}" / "model.safetensors"

    def mixed(self, fields: Sequence[LabelledField], fold: int) -> list[LabelledField]:
        """The fields that a fold learns from: new ones, repeated to about half of the area, and earlier ones it has seen."""
        known = self.data.seen(self.place(fold))
        areas = [sum(item.area_px for item in items) for items in (known, fields)]
        return [*list(fields) * max(1, math.ceil(areas[0] / areas[1])), *known]

    def held_out(self, folds: int) -> list[TrainingField]:
        """The earlier fields as the new run records them, with the one new fold that has not seen them, or -1.

        With fewer new folds than earlier ones, every new fold has seen some of the fields. The fields of folds that an
        adaptation left out have been seen by all others.
        """
        entries = []
        for item, k in zip(self.data.fields, self.data.folds, strict=True):
            fold = k if k < min(folds, self.record.folds) else -1
            entries.append(recorded_field(item, fold))
        return entries

    def held_out_blocks(self, folds: int) -> list[Block]:
        """The blocks of the earlier fields that one new fold each has not learned from; none where some are learned by all."""
        blocks = list(self.data.blocks)
        return blocks if all(block.fold < min(folds, self.record.folds) for block in blocks) else []

    def score(self, folders: Sequence[Path]) -> float:
        """Mean over the new folds (in `folders`) of their mIoU, 0-1, on the earlier fields that each has not seen."""
        scores = []
        for fold, folder in enumerate(folders):
            network = load_network(self.recipe, len(self.record.phases), folder / "model.safetensors")
            if unseen := self.data.unseen(self.place(fold)):
                scores.append(mean_iou(score_network(network, unseen, self.recipe.halo_px).confusion))
        return float(np.mean(scores))


def read_earlier(run: Path, recipe: Recipe) -> EarlierRun:
    """Read the run that `--init` names. Raises InputError: not finished, of another network, or its fields are gone."""
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
    back = "put them back, for they stay in the mix"
    data = reload_training_data(run, record, before, missing=back, changed=back)
    return EarlierRun(run, record, before, data)


def refuse_other_phases(earlier: EarlierRun, source: Path, phases: Sequence[PhaseInfo]) -> None:
    """Raise InputError where a domain names other phases than the run that it continues."""
    names, known = ([phase.name for phase in items] for items in (phases, earlier.record.phases))
    if names != known:
        raise InputError(
            f"{source}: its phases are {', '.join(names)}, those of --init {', '.join(known)}. "
            "Remedy: the same names in the same order in domain.yaml."
        )
