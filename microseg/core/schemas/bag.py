"""The bag of networks as a run and an engine describe it: phases, folds, training fields, distillation."""

from __future__ import annotations

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel


class PhaseInfo(FrozenModel):
    """A phase as the engine knows it; its index is its place in the list. `color` is `#rrggbb`."""

    name: str
    color: str = Field(pattern=r"^#[0-9a-f]{6}$")


class TrainingField(FrozenModel):
    """A field that the run was trained on. `fold` is the fold that held it out (did not see it), -1 where none did."""

    name: str
    sha256: str
    group: str
    fold: int


class FoldInfo(FrozenModel):
    """One network of the bag: its score on the fields it held out (pooled), and its weights' hash."""

    index: int
    miou: float
    iou: dict[str, float | None]
    weights_sha256: str


class Fingerprint(FrozenModel):
    """Mean and standard deviation over training fields of one fold's pooled features, each of length D."""

    fold: int
    mean: list[float]
    std: list[float]


class Distillation(FrozenModel):
    """What an engine or run says that is a student: one network whose heads reproduce the folds of a bag.

    The scores of its folds are then the bag's, for a student holds nothing out: it has learned from all folds, and
    they together have seen every labelled field.
    run: the bag's. weights_sha256: of the bag's folds. learned: fields whose soft labels it learned. compared: the names
    of fields that it did not learn from, and on which the rest is measured, on the network's grid; on the learned ones where
    there is a single field. agreement: mIoU of its labels with the bag's, pooled. heads: the same of each head with its fold.
    points: of each phase, the largest difference of its area fraction on a field, percentage points. spread_points,
    bag_spread_points: standard deviation of each phase's fraction over heads and over folds, mean over the fields.
    """

    run: str
    weights_sha256: list[str]
    learned: int
    compared: list[str]
    agreement: float
    heads: list[float]
    points: dict[str, float]
    spread_points: dict[str, float]
    bag_spread_points: dict[str, float]
