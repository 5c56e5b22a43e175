"""The adaptation context: everything that is known before a method begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.schemas.run import RunRecord
from microseg.train.common.data import TrainingData
from microseg.train.common.datasets import ImagesOf, LabelledField, with_labels
from microseg.train.common.recipe import Recipe
from microseg.train.uda.criteria import views
from microseg.train.uda.target import Target


@dataclass(frozen=True)
class AdaptationContext:
    """What an adaptation starts from.

    record, source: Record and recipe of the source run.
    data: Its labelled fields.
    target: The target's fields.
    source_run: The source run's folder.
    out: The folder of the adapted run.
    folds: The source's folds that are adapted.
    """

    record: RunRecord
    source: Recipe
    data: TrainingData
    target: Target
    source_run: Path
    out: Path
    folds: tuple[int, ...]

    @property
    def phases(self) -> int:
        """Number of phases."""
        return len(self.record.phases)

    @property
    def is_upright(self) -> bool:
        """Whether fields have an up and a down, such as layers, so that only left and right may be flipped."""
        return bool(getattr(self.source.augmentation, "upright", False))

    @property
    def target_views(self) -> list[NDArray[np.uint8]]:
        """Views of the target, uint8 (h, w), that candidates are scored on."""
        return views(ImagesOf(self.target.fields), self.record.stride)

    def unseen(self, fold: int) -> list[LabelledField]:
        """The source fields that a fold holds out."""
        return self.data.unseen(fold)

    def seen(self, fold: int) -> list[LabelledField]:
        """The source fields that a fold learns from."""
        return with_labels(self.data.seen(fold), self.source.label_share, self.source.seed)

    def weights(self, fold: int) -> Path:
        """The source run's weights of a fold."""
        return self.source_run / f"fold{fold}" / "model.safetensors"

    def method_folder(self, method: str, fold: int) -> Path:
        """The folder of a fold of one method."""
        return self.out / "methods" / method / f"fold{fold}"
