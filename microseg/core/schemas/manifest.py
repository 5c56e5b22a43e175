"""The manifest: an engine's description of itself, the schema shared by export, runtime and deploy."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from microseg.core.alarm.schema import Alarm
from microseg.core.schemas.bag import Distillation, Fingerprint, FoldInfo, PhaseInfo, TrainingField
from microseg.core.schemas.fidelity import Fidelity, Float32Layer, FoldParity, Quantisation
from microseg.core.schemas.frozen_model import FrozenModel, PositiveFloat
from microseg.core.schemas.plan import PlanInfo
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange, known_pixel_sizes
from microseg.core.schemas.tolerance import Precision
from microseg.core.schemas.validation import Validation
from microseg.core.schemas.versioned import VersionedModel

MANIFEST_VERSION = 1


class Provenance(FrozenModel):
    """Where the engine comes from."""

    created: str = Field(description="Time of the export, ISO 8601.")
    run: str = Field(description="Name of the run folder.")
    recipe: str = Field(description="Name of the recipe.")
    seed: int = Field(description="Seed of the training.")
    git_commit: str | None = Field(None, description="Commit of the code of the training; null outside a repository.")
    dataset_sha256: str = Field(description="SHA-256 over the training fields and their labels.")
    versions: dict[str, str] = Field(description="Versions of the packages that took part in the export.")


class EngineAdaptation(FrozenModel):
    """What the networks learned from a target domain without its labels."""

    domain: str = Field(description="The target: a domain of the engine.")
    fields: list[TrainingField] = Field(description="The unlabelled fields that the networks were adapted to.")
    disagreement: float | None = Field(
        None, description="Largest difference of the estimates of the target's fractions, over the phases, 0-1."
    )
    limit: float | None = Field(
        None, description="Disagreement, 0-1, from which on it is larger than on held-out fields of the source."
    )


class Manifest(VersionedModel):
    """An engine's description of itself (microseg/docs/design.md)."""

    schema_name: ClassVar[str] = "manifest"
    schema_version: ClassVar[tuple[int, int]] = (MANIFEST_VERSION, 3)
    version_key: ClassVar[str] = "manifest_version"

    manifest_version: int = Field(MANIFEST_VERSION, description="Major version of this schema.")
    phases: list[PhaseInfo] = Field(min_length=2, description="The phases, in the order of their indices.")
    domains: list[DomainEntry] = Field(min_length=1, description="The domains that the engine can measure.")
    default_domain: str = Field(description="The domain that is taken without `--as`.")
    grid: Grid = Field(description="The pixel grid that the network sees.")
    tile_core_px: int = Field(gt=0, description="Side of a training tile's core, in pixels of the network's grid.")
    halo_px: int = Field(ge=0, description="Pixels around the core that the network sees and that are not counted.")
    stride: int = Field(gt=0, description="Heights and widths of tiles are multiples of it, in pixels.")
    bytes_per_pixel: PositiveFloat = Field(description="Memory per pixel of a tile, in bytes, as measured.")
    precision: Precision = Field("fp32", description="Number format of the weights and activations.")
    folds: list[FoldInfo] = Field(min_length=1, description="The networks of the bag.")
    parity: list[FoldParity] = Field(description="The engine against torch on real tiles.")
    fidelity: list[Fidelity] = Field(
        default_factory=list, description="The engine against torch on real fields, of FP16 and INT8 engines."
    )
    float32_layers: list[Float32Layer] = Field(
        default_factory=list, description="Layers that stay float32 in FP16 and INT8 engines."
    )
    quantisation: Quantisation | None = Field(None, description="How an INT8 engine is quantised.")
    fingerprints: list[Fingerprint] = Field(description="Features of the training fields, of each fold.")
    training_fields: list[TrainingField] = Field(description="The fields that the run was trained on.")
    adaptation: EngineAdaptation | None = Field(
        None, description="Of an adapted engine; null where the unadapted networks were kept, and in earlier versions."
    )
    trained_pixel_sizes: PixelSizeRange | None = Field(
        None,
        description="Native pixel sizes that the networks saw in training, augmentation included; null where the training "
        "fields have none, and in engines of earlier versions.",
    )
    distillation: Distillation | None = Field(None, description="Of a student: the bag that it reproduces.")
    validations: list[Validation] = Field(
        default_factory=list,
        description="What was found on labelled fields that trained nothing: the cross-validation of the folds, and the "
        "validation of `export --validate`; empty in engines of earlier versions.",
    )
    alarm: Alarm | None = Field(
        None,
        description="What predicts the error of a field without its labels; null where the run's labelled fields are gone, and "
        "in engines of earlier versions.",
    )
    provenance: Provenance = Field(description="Where the engine comes from.")
    model_sha256: str = Field(description="SHA-256 of the ONNX file without its metadata.")
    plan: PlanInfo | None = Field(None, description="Beside a TensorRT plan alone: what the plan is bound to.")

    @model_validator(mode="after")
    def _default_is_listed(self) -> Self:
        self.domain()
        return self

    @property
    def network_sha256(self) -> str:
        """SHA-256 of the exported file: a plan as a whole, an ONNX file without its metadata."""
        return self.plan.plan_sha256 if self.plan else self.model_sha256

    @property
    def known_pixel_sizes(self) -> PixelSizeRange | None:
        """The pixel sizes that the networks saw in training; of an engine of an earlier version, those of its domains."""
        return known_pixel_sizes(self.trained_pixel_sizes, self.grid, self.domains)

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
