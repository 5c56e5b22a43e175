"""The bag of networks as a run and an engine describe it: phases, folds, training fields, distillation."""

from __future__ import annotations

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel


class PhaseInfo(FrozenModel):
    """A phase as the engine knows it. Its index is its place in the list."""

    name: str = Field(description="Name of the phase.")
    color: str = Field(pattern=r"^#[0-9a-f]{6}$", description="Colour in overlays, `#rrggbb`.")


class TrainingField(FrozenModel):
    """A field that the run was trained on."""

    name: str = Field(description="Path of the file below the domain folder.")
    sha256: str = Field(description="SHA-256 of the file, 64 hex digits.")
    group: str = Field(description="Specimen or spot; fields of one group are in one fold.")
    fold: int = Field(description="The fold that held the field out, so that it did not learn from it; -1: none did.")


class FoldInfo(FrozenModel):
    """One network of the bag."""

    index: int = Field(description="Number of the fold, from 0.")
    miou: float = Field(description="Mean IoU over the phases on the fields that the fold held out, pooled, 0-1.")
    iou: dict[str, float | None] = Field(
        description="IoU of each phase on these fields, 0-1; null where neither truth nor prediction holds the phase."
    )
    weights_sha256: str = Field(description="SHA-256 of the fold's weights, 64 hex digits.")


class Fingerprint(FrozenModel):
    """Mean and standard deviation over training fields of one fold's pooled features."""

    fold: int = Field(description="Number of the fold, from 0.")
    mean: list[float] = Field(description="Mean of each feature.")
    std: list[float] = Field(description="Standard deviation of each feature.")


class Distillation(FrozenModel):
    """A student: one network whose heads reproduce the folds of a bag. The scores of its folds are the bag's.

    A student holds no field out: it learns from all folds, which together have seen every labelled field.
    """

    run: str = Field(description="Run of the bag.")
    weights_sha256: list[str] = Field(description="SHA-256 of the weights of each fold of the bag.")
    learned: int = Field(description="Number of fields whose soft labels the student learned.")
    compared: list[str] = Field(
        description="Fields on which student and bag are compared; the student did not learn from them. Empty where there "
        "is a single field, which it learned from."
    )
    agreement: float = Field(description="Mean IoU of the student's labels with the bag's, pooled, 0-1.")
    heads: list[float] = Field(description="Mean IoU of each head's labels with its fold's, pooled, 0-1.")
    points: dict[str, float] = Field(
        description="Largest difference of each phase's area fraction on a field, in percentage points."
    )
    spread_points: dict[str, float] = Field(
        description="Standard deviation of each phase's fraction over the heads, mean over the fields, in percentage points."
    )
    bag_spread_points: dict[str, float] = Field(description="The same over the folds of the bag.")
