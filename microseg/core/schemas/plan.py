"""A TensorRT plan as its manifest describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from microseg.core.schemas.frozen_model import FrozenModel

Flavour = Literal["tensorrt", "tensorrt_rtx"]
HardwareCompatibility = Literal["none", "same_compute_capability", "ampere_plus"]


class SizeRange(FrozenModel):
    """The sizes that a dimension of a plan may have."""

    min: int = Field(gt=0, description="Smallest size.")
    opt: int = Field(gt=0, description="Size that the plan is fastest at.")
    max: int = Field(gt=0, description="Largest size.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min {self.min}, opt {self.opt} and max {self.max} must not decrease")
        return self


class PlanComparison(FrozenModel):
    """A plan on a card against the labels of its ONNX file on the reference tiles."""

    provider: str = Field(description="What computed the plan.")
    label_disagreement: float = Field(description="Share of the bag's labels that differ, 0-1.")
    vote_disagreement: float = Field(description="Share of the folds' labels that differ, 0-1.")
    fraction_difference_points: dict[str, float] = Field(
        description="Difference of each phase's area fraction, in percentage points."
    )


class PlanInfo(FrozenModel):
    """What binds a TensorRT plan to its file, its library and its card."""

    flavour: Flavour = Field(description="Library of the plan.")
    tensorrt: str = Field(description="Version of the library.")
    profile: str = Field(description="Name of the profile that it is built by.")
    tile_px: SizeRange = Field(description="Sides of the tiles, in pixels of the network's grid.")
    batch: SizeRange = Field(description="Tiles in one call.")
    gpu: str | None = Field(None, description="Card that it was built on; null: none.")
    compute_capability: str | None = Field(None, description="Compute capability of that card, such as 8.6.")
    cuda_driver: str | None = Field(None, description="CUDA version of that card's driver, such as 13.0.")
    target_capabilities: list[str] = Field(
        default_factory=list,
        description="TensorRT for RTX: compute capabilities that the plan is built for; empty: all that this version has.",
    )
    hardware_compatibility: HardwareCompatibility = Field("none", description="Other cards that the plan may run on.")
    version_compatible: bool = Field(False, description="Whether the lean runtime runs it, also of a newer version.")
    refittable: bool = Field(False, description="Whether its weights can be exchanged.")
    outputs: list[str] = Field(description="Outputs of the network that the plan keeps.")
    layer_precisions: dict[str, int] = Field(description="Number of layers of the parsed network by number format.")
    matrix_precisions: dict[str, int] = Field(description="The same of convolutions and matrix products alone.")
    engine_precisions: dict[str, int] | None = Field(
        None, description="Number of layers of the built plan by number format; null where no card could open it."
    )
    onnx_sha256: str = Field(description="SHA-256 of the ONNX file that it is built from.")
    graph_sha256: str | None = Field(
        None,
        description="SHA-256 of the network without the values of its weights, of a refittable plan: a network with the "
        "same hash can replace them.",
    )
    plan_sha256: str = Field(description="SHA-256 of the plan.")
    verified: bool = Field(False, description="Whether the plan was compared with its ONNX file on a card.")
    comparison: PlanComparison | None = Field(None, description="The result of that comparison on the reference tiles.")


def plan_manifest_path(plan: Path) -> Path:
    """The file of a plan's manifest: `bagged.plan.json` beside `bagged.plan`."""
    return plan.with_name(f"{plan.name}.json")
