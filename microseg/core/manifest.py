"""What an engine and a run say about themselves: the schema shared by train, export, runtime and deploy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from microseg.core.keys import METADATA_KEY as METADATA_KEY

MANIFEST_VERSION = 1

PositiveFloat = Annotated[float, Field(gt=0)]
Precision = Literal["fp32", "fp16", "int8"]


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
    """A field that the run was trained on. `fold` is the fold that held it out (did not see it)."""

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
    """One real field: share of the bag's labels that differ from torch's, and each phase's area, percent, by both."""

    field: str
    label_disagreement: float
    torch_percent: dict[str, float]
    engine_percent: dict[str, float]


class Fidelity(Strict):
    """The float32 torch bag against the engine on real fields.

    fields_from: the calibration domain's name, or the run's held-out tiles. arithmetic: what computed, the engine in ONNX
    Runtime or its float32 twin that rounds as FP16 hardware does (the CPU computes FP16 graphs in float32).
    limits_points: what each phase's area may differ by on a field, percentage points. fold_disagreement: share of each
    fold's labels that differ from torch's, all fields pooled. not_a_number: values of `probability` and `features`
    that are none. saturated: activations beyond what the number format holds (FP16), or what calibration saw (INT8).
    """

    fields_from: str
    arithmetic: Literal["onnxruntime", "rounded to fp16"] = "onnxruntime"
    label_limit: float
    limits_points: dict[str, float]
    fields: list[FieldFidelity]
    fold_disagreement: list[float]
    not_a_number: int
    saturated: int


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


class Provenance(Strict):
    """Where the engine comes from."""

    created: str
    run: str
    recipe: str
    seed: int
    git_commit: str | None = None
    dataset_sha256: str
    versions: dict[str, str]


class Manifest(Strict):
    """The engine's description of itself (DESIGN.md, contract 3). `model_sha256` covers the model without metadata."""

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
    provenance: Provenance
    model_sha256: str

    def domain(self, name: str | None = None) -> DomainEntry:
        """The entry called `name`, or the default one. Raises KeyError with the known names."""
        wanted = name or self.default_domain
        for entry in self.domains:
            if entry.name == wanted:
                return entry
        raise KeyError(f"{wanted!r}; this engine knows {', '.join(repr(entry.name) for entry in self.domains)}")
