"""`automatic.json`: how `--recipe auto` came to its recipe."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.versioned import VersionedModel

AUTOMATIC_VERSION = 1


class Reason(FrozenModel):
    """Why a key of the recipe has its value."""

    key: str = Field(description="The key, or several that one rule decides.")
    value: str = Field(description="The value, as text.")
    why: str = Field(description="One sentence.")


class Trial(FrozenModel):
    """How a candidate of the search did on one fold."""

    name: str = Field(description="What distinguishes it, such as `scale 0.5`.")
    scale: float = Field(gt=0, description="Network pixels per native pixel.")
    scores: list[float | None] = Field(
        description="mIoU, 0-1, on the held-out fields at their native size, after each round that it was in."
    )


class Speed(FrozenModel):
    """How fast the machine trains while all workers are busy."""

    step_s: float = Field(gt=0, description="Seconds of a step.")
    megapixel_s: float = Field(gt=0, description="Seconds to predict and score a million pixels of the network's grid.")
    start_s: float = Field(ge=0, description="Seconds from the start of a fold to the end of its first step.")


class AutomaticRecipe(VersionedModel):
    """`automatic.json`: how `--recipe auto` came to its recipe."""

    schema_name: ClassVar[str] = "automatic"
    schema_version: ClassVar[tuple[int, int]] = (AUTOMATIC_VERSION, 0)
    version_key: ClassVar[str] = "automatic_version"

    automatic_version: int = Field(AUTOMATIC_VERSION, description="Major version of this schema.")
    minutes: float = Field(gt=0, description="The budget.")
    spent_minutes: float = Field(ge=0, description="Part of it that was spent before the training began.")
    expected_minutes: float = Field(ge=0, description="Expected time of the training with its evaluation.")
    workers: int = Field(ge=1, description="Processes that train. The weights depend on it in the last digits.")
    reasons: list[Reason] = Field(description="Why the recipe is as it is.")
    trials: list[Trial] = Field(description="Candidates of the search; empty where there was none.")
    speed: Speed = Field(description="Speed of the machine.")
    warnings: list[str] = Field(description="What the user was told before training.")
