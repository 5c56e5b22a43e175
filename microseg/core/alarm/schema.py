"""The alarm of an engine as its manifest holds it, and what it says of a field. No NumPy: a manifest is read early."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel, PositiveFloat

Level = Literal["known", "doubtful", "foreign"]
Group = Literal["borders", "folds", "grey", "structure", "phases", "features"]
GROUPS: tuple[Group, ...] = ("borders", "folds", "grey", "structure", "phases", "features")
# The others say what `borders` and `phases` say, with more chance in it. They are told as causes.
PREDICTORS: tuple[Group, ...] = ("borders", "grey", "phases", "features")


class AlarmInput(FrozenModel):
    """A measure of a field, and how it is on the labelled fields: mean + slopes * (found fractions - their mean)."""

    name: str = Field(description="Name of the measure.")
    group: Group = Field(description="The measures that it is judged with.")
    mean: float = Field(description="Mean over the labelled fields.")
    slopes: list[float] = Field(description="Change with the found fraction of each phase but the first.")
    std: PositiveFloat = Field(description="Standard deviation around the line.")


class AlarmFeatures(FrozenModel):
    """The pooled features of one fold, as `AlarmInput`."""

    mean: list[float] = Field(description="Mean of each feature.")
    slopes: list[list[float]] = Field(description="Change of each feature, for each phase but the first.")
    std: list[PositiveFloat] = Field(description="Standard deviation of each feature around the line.")


class AlarmGroup(FrozenModel):
    """What the measures of a group add to the predicted error."""

    group: Group = Field(description="The group.")
    mean: float = Field(description="Mean distance of labelled fields from the others.")
    std: PositiveFloat = Field(description="Standard deviation of the same.")
    weight: float = Field(
        ge=0, description="Weight in the predicted error. None is negative: what is odd is no comfort."
    )
    largest: float = Field(
        ge=0, description="Largest score in the calibration. A field beyond it is foreign, and its score is cut there."
    )


class Alarm(FrozenModel):
    """What predicts the error of a field's fractions without its labels.

    It is calibrated on labelled fields of the run, by the fold that held each out, and on graded corruptions of them.
    """

    domain: str = Field(
        description="Domain of the calibration. Fields that are measured as another one are not judged."
    )
    fields: int = Field(ge=2, description="Labelled fields of the calibration.")
    held_out: int | None = Field(
        None,
        description="How many of them a fold held out. The errors of the others are those of networks that learned from them. "
        "Null in earlier versions.",
    )
    parts: int = Field(ge=2, description="Parts of these fields, uncorrupted.")
    pixels: int = Field(ge=1, description="Pixels of a part, on the network's grid.")
    fractions: list[float] = Field(description="Mean found fraction of each phase but the first, 0-1.")
    leverage: list[list[float]] = Field(
        description="Inverse of the fractions' sum of squares, for the line's uncertainty."
    )
    inputs: list[AlarmInput] = Field(description="Measures of grey values, structure, phases and votes.")
    features: list[AlarmFeatures] = Field(description="Features of each fold; empty where the engine gives none.")
    groups: list[AlarmGroup] = Field(description="The groups of measures.")
    intercept: float = Field(description="Root of the mean error at home, to which weights times scores are added.")
    bias: list[float] = Field(description="Mean of found - true fraction of each phase on held-out fields, -1 to 1.")
    error_limit: PositiveFloat = Field(
        description="An error beyond it raises an alarm: 0.02, or the 95 % quantile over held-out parts, if that is more."
    )
    doubtful: PositiveFloat = Field(description="Predicted error beyond which a field is doubtful, 0-1.")
    foreign: PositiveFloat = Field(description="Predicted error beyond which a field is foreign, 0-1.")

    @property
    def sha256(self) -> str:
        """SHA-256 of the calibration, 64 hex digits: measures of fields compare only by one calibration."""
        # Keys that later versions add are null here.
        return hashlib.sha256(self.model_dump_json(exclude_none=True).encode()).hexdigest()


class FieldAlarm(FrozenModel):
    """What an alarm says of a field."""

    level: Level = Field(description="known, doubtful or foreign.")
    predicted_error: float = Field(
        ge=0, description="Predicted absolute error of a phase's fraction after correction, 0-1."
    )
    scores: dict[Group, float] = Field(
        description="Distance of each group of measures from the labelled fields, in standard deviations."
    )
    deviations: dict[str, float] = Field(
        default_factory=dict,
        description="Difference of each measure from labelled fields of the same fractions, in standard deviations; empty in "
        "records of earlier versions.",
    )
    causes: list[str] = Field(description="What differs, in words, the most telling first.")
    cure: str = Field("", description="What helps; empty for a known field.")
