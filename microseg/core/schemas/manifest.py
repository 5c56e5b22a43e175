"""What an engine and a run say about themselves: the schema shared by train, export, runtime and deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from microseg.core.schemas.keys import METADATA_KEY as METADATA_KEY
from microseg.core.schemas.tolerance import Precision, limit_over

MANIFEST_VERSION = 1

PositiveFloat = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """Frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class PhaseInfo(Strict):
    """A phase as the engine knows it; its index is its place in the list. `color` is `#rrggbb`."""

    name: str
    color: str = Field(pattern=r"^#[0-9a-f]{6}$")


class Crop(Strict):
    """Native pixels cut off each side before anything else (the data bar)."""

    top_px: int = Field(0, ge=0)
    bottom_px: int = Field(0, ge=0)
    left_px: int = Field(0, ge=0)
    right_px: int = Field(0, ge=0)


class Intensity(Strict):
    """How grey values become 8 bit.

    full: the range of the dtype (uint8 unchanged, uint16 / 257, float 0..1).
    significant_bits: 2**bits - 1 becomes 255; `bits` null is resolved once per domain from its brightest pixel.
    percentiles: the `low` and `high` percentile of the whole field become 0 and 255, any dtype.
    """

    rule: Literal["full", "significant_bits", "percentiles"] = "significant_bits"
    bits: int | None = Field(None, ge=8, le=16)
    low: float = Field(0.5, ge=0, lt=100)
    high: float = Field(99.5, gt=0, le=100)


class Preparation(Strict):
    """What turns a file into the network's grey image, less the grid. Belongs to a domain, not to the engine.

    tone: the grey value that each of the 256 becomes, after inversion and rescaling (adaptation by histogram).
    """

    invert: bool = False
    crop: Crop = Crop()
    pixel_size_um: PositiveFloat | None = None
    intensity: Intensity = Intensity()
    tone: Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=256, max_length=256)] | None = (
        None
    )


class DomainEntry(Strict):
    """A domain that the engine can measure, picked with `--as NAME`."""

    name: str
    role: Literal["source", "target"] = "source"
    preparation: Preparation = Preparation()


class Grid(Strict):
    """The pixel grid that the network sees.

    pixel_size_um: the network's pixel size; null where the source had none: then native pixels times `scale`.
    scale: network pixels per native source pixel (the paper: 0.5, with area averaging).
    """

    pixel_size_um: PositiveFloat | None = None
    scale: PositiveFloat = 1.0


class TrainingField(Strict):
    """A field that the run was trained on. `fold` is the fold that held it out (did not see it), -1 where none did."""

    name: str
    sha256: str
    group: str
    fold: int


class FoldInfo(Strict):
    """One network of the bag: its score on the fields it held out (pooled), and its weights' hash."""

    index: int
    miou: float
    iou: dict[str, float | None]
    weights_sha256: str


class FoldParity(Strict):
    """torch against the exported engine on real tiles, for one fold or (fold = -1) for the bag."""

    fold: int
    max_probability_difference: float
    label_disagreement: float
    fraction_difference_points: dict[str, float]


class FieldFidelity(Strict):
    """One real field: share of the bag's labels that differ from torch's, and each phase's area, percent, by both.

    pixels: of the field, on the network's grid; one of them may always differ. None in engines made before it was noted.
    """

    field: str
    pixels: int | None = Field(None, ge=1)
    label_disagreement: float
    torch_percent: dict[str, float]
    engine_percent: dict[str, float]


class Fidelity(Strict):
    """The float32 torch bag against the engine on real fields.

    fields_from: the calibration domain's name, or the run's held-out tiles. arithmetic: what computed, the engine in ONNX
    Runtime or OpenVINO, or its float32 twin that rounds as FP16 hardware does (the CPU computes FP16 graphs in float32).
    limits_points: what each phase's area may differ by on a field, percentage points. fold_disagreement: share of each
    fold's labels that differ from torch's, all fields pooled. not_a_number: values of `probability` and `features`
    that are none. saturated: activations beyond what the number format holds (FP16), or what calibration saw (INT8).
    """

    fields_from: str
    arithmetic: Literal["onnxruntime", "openvino", "rounded to fp16"] = "onnxruntime"
    label_limit: float
    limits_points: dict[str, float]
    fields: list[FieldFidelity]
    fold_disagreement: list[float]
    not_a_number: int
    saturated: int

    @property
    def largest(self) -> dict[str, tuple[float, float]]:
        """Of each phase, the largest difference on a field and what was allowed there, percentage points."""
        found = {}
        for phase, least in self.limits_points.items():
            apart = {abs(field.engine_percent[phase] - field.torch_percent[phase]): field for field in self.fields}
            points = max(apart)
            found[phase] = (points, limit_over(least, apart[points].pixels))
        return found


class Float32Layer(Strict):
    """What stayed float32 in a reduced engine, and why. nodes: of the graph, over all folds."""

    layer: str
    nodes: int
    reason: str


class Quantisation(Strict):
    """How an INT8 engine came about.

    activations: asymmetric (uint8, for CPUs) or symmetric (int8 with zero point 0, for TensorRT). weight_bits: 7 where the
    exporting processor has no VNNI. instruction_sets: those of that processor that decide it.
    """

    activations: Literal["asymmetric", "symmetric"]
    weight_bits: Literal[7, 8]
    instruction_sets: list[str]
    calibrated_on: str
    calibration_tiles: int


class Fingerprint(Strict):
    """Mean and standard deviation over training fields of one fold's pooled features, each of length D."""

    fold: int
    mean: list[float]
    std: list[float]


class Distillation(Strict):
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


class Provenance(Strict):
    """Where the engine comes from."""

    created: str
    run: str
    recipe: str
    seed: int
    git_commit: str | None = None
    dataset_sha256: str
    versions: dict[str, str]


class SizeRange(Strict):
    """What a dimension of a plan may be: the builder optimises for `opt`, between `min` and `max` the plan runs."""

    min: int = Field(gt=0)
    opt: int = Field(gt=0)
    max: int = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min {self.min}, opt {self.opt} and max {self.max} must not decrease")
        return self


Flavour = Literal["tensorrt", "tensorrt_rtx"]
HardwareCompatibility = Literal["none", "same_compute_capability", "ampere_plus"]


class PlanComparison(Strict):
    """A plan on a card against what its ONNX file said about the reference tiles.

    label_disagreement, vote_disagreement: shares of the bag's and the folds' labels that differ, 0-1.
    fraction_difference_points: of each phase, percentage points.
    """

    provider: str
    label_disagreement: float
    vote_disagreement: float
    fraction_difference_points: dict[str, float]


class PlanInfo(Strict):
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


class Manifest(Strict):
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


def plan_manifest_path(plan: Path) -> Path:
    """Where the manifest of a plan is: `bagged.plan.json` beside `bagged.plan`."""
    return plan.with_name(f"{plan.name}.json")
