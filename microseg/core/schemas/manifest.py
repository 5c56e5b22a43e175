"""The manifest: an engine's description of itself, the schema shared by export, runtime and deploy."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from microseg.core.schemas.bag import Distillation, Fingerprint, FoldInfo, PhaseInfo, TrainingField
from microseg.core.schemas.fidelity import Fidelity, Float32Layer, FoldParity, Quantisation
from microseg.core.schemas.frozen_model import FrozenModel, PositiveFloat
from microseg.core.schemas.plan import PlanInfo
from microseg.core.schemas.preparation import DomainEntry, Grid
from microseg.core.schemas.tolerance import Precision

MANIFEST_VERSION = 1


class Provenance(FrozenModel):
    """Where the engine comes from."""

    created: str
    run: str
    recipe: str
    seed: int
    git_commit: str | None = None
    dataset_sha256: str
    versions: dict[str, str]


class Manifest(FrozenModel):
    """The engine's description of itself (microseg/docs/design.md). `model_sha256` covers the model without metadata.

    `plan` is there in the manifest beside a TensorRT plan, and in no other.
    """

    manifest_version: int = MANIFEST_VERSION
    phases: list[PhaseInfo] = Field(min_length=2)
    domains: list[DomainEntry] = Field(min_length=1)
    default_domain: str
    grid: Grid
    tile_core_px: int = Field(gt=0)
    halo_px: int = Field(ge=0)
    stride: int = Field(gt=0)
    bytes_per_pixel: PositiveFloat
    precision: Precision = "fp32"
    folds: list[FoldInfo] = Field(min_length=1)
    parity: list[FoldParity]
    fidelity: list[Fidelity] = Field(default_factory=list)
    float32_layers: list[Float32Layer] = Field(default_factory=list)
    quantisation: Quantisation | None = None
    fingerprints: list[Fingerprint]
    training_fields: list[TrainingField]
    distillation: Distillation | None = None
    provenance: Provenance
    model_sha256: str
    plan: PlanInfo | None = None

    @model_validator(mode="after")
    def _default_is_listed(self) -> Self:
        self.domain()
        return self

    @property
    def network_sha256(self) -> str:
        """What the engine's file must hash to: a plan as a whole, an ONNX file without its metadata."""
        return self.plan.plan_sha256 if self.plan else self.model_sha256

    @property
    def gives_probability(self) -> bool:
        """Whether the engine has the output `probability`: an ONNX file does, a plan where its profile kept it."""
        return self.plan is None or "probability" in self.plan.outputs

    @property
    def max_side_px(self) -> int | None:
        """The longest side of a tile that the engine runs; None for any."""
        return self.plan.tile_px.max if self.plan else None

    def domain(self, name: str | None = None) -> DomainEntry:
        """The entry called `name`, or the default one. Raises ValueError with the known names."""
        wanted = name or self.default_domain
        for entry in self.domains:
            if entry.name == wanted:
                return entry
        known = ", ".join(repr(entry.name) for entry in self.domains)
        raise ValueError(f"{wanted!r}: the engine knows no such domain. Remedy: one of {known}")
