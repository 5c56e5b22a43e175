"""A TensorRT plan as its manifest describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from microseg.core.schemas.frozen_model import FrozenModel

Flavour = Literal["tensorrt", "tensorrt_rtx"]
HardwareCompatibility = Literal["none", "same_compute_capability", "ampere_plus"]


class SizeRange(FrozenModel):
    """What a dimension of a plan may be: the builder optimises for `opt`, between `min` and `max` the plan runs."""

    min: int = Field(gt=0)
    opt: int = Field(gt=0)
    max: int = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min {self.min}, opt {self.opt} and max {self.max} must not decrease")
        return self


class PlanComparison(FrozenModel):
    """A plan on a card against what its ONNX file said about the reference tiles.

    label_disagreement, vote_disagreement: shares of the bag's and the folds' labels that differ, 0-1.
    fraction_difference_points: of each phase, percentage points.
    """

    provider: str
    label_disagreement: float
    vote_disagreement: float
    fraction_difference_points: dict[str, float]


class PlanInfo(FrozenModel):
    """What binds a TensorRT plan to its file, its library and its card.

    gpu, compute_capability ("8.6"), cuda_driver ("13.0"): the card it was built on and the CUDA version of its driver;
    null where it was built without one. target_capabilities: the cards that a plan of TensorRT for RTX was asked to
    serve; empty for all that this version serves. layer_precisions: layers of the parsed network by what they compute
    in; matrix_precisions: those of them that are convolutions or matrix products; engine_precisions: layers of the
    built engine, null where no card could open it. onnx_sha256: the ONNX file it was built from, plan_sha256: the plan.
    graph_sha256: of a refittable plan, its network less the values of the weights, which another one must share to be put in.
    verified: it was compared with that ONNX file on a card; comparison: by how much they differed on the reference tiles.
    """

    flavour: Flavour
    tensorrt: str
    profile: str
    tile_px: SizeRange
    batch: SizeRange
    gpu: str | None = None
    compute_capability: str | None = None
    cuda_driver: str | None = None
    target_capabilities: list[str] = Field(default_factory=list)
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    refittable: bool = False
    outputs: list[str]
    layer_precisions: dict[str, int]
    matrix_precisions: dict[str, int]
    engine_precisions: dict[str, int] | None = None
    onnx_sha256: str
    graph_sha256: str | None = None
    plan_sha256: str
    verified: bool = False
    comparison: PlanComparison | None = None


def plan_manifest_path(plan: Path) -> Path:
    """Where the manifest of a plan is: `bagged.plan.json` beside `bagged.plan`."""
    return plan.with_name(f"{plan.name}.json")
