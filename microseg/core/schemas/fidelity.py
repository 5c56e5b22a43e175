"""How close an engine is to the torch bag that it was exported from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.tolerance import limit_over


class FoldParity(FrozenModel):
    """torch against the exported engine on real tiles, for one fold or for the bag."""

    fold: int = Field(description="Number of the fold; -1: the bag.")
    max_probability_difference: float = Field(description="Largest difference of a probability, 0-1.")
    label_disagreement: float = Field(description="Share of the labels that differ, 0-1.")
    fraction_difference_points: dict[str, float] = Field(
        description="Difference of each phase's area fraction, in percentage points."
    )


class FieldFidelity(FrozenModel):
    """The engine against torch on one real field."""

    field: str = Field(description="Name of the field.")
    pixels: int | None = Field(
        None, ge=1, description="Pixels of the field on the network's grid; null in engines that do not state it."
    )
    label_disagreement: float = Field(description="Share of the bag's labels that differ, 0-1.")
    torch_percent: dict[str, float] = Field(description="Area of each phase by torch, percent.")
    engine_percent: dict[str, float] = Field(description="Area of each phase by the engine, percent.")


class Fidelity(FrozenModel):
    """The engine against the float32 torch bag on real fields."""

    fields_from: str = Field(description="Name of the calibration domain, or the run's held-out tiles.")
    arithmetic: Literal["onnxruntime", "openvino", "rounded to fp16"] = Field(
        "onnxruntime",
        description="What computed: the engine in ONNX Runtime or OpenVINO, or its float32 twin that rounds as FP16 hardware "
        "does, because a CPU computes FP16 graphs in float32.",
    )
    label_limit: float = Field(description="Share of labels that may differ, 0-1.")
    limits_points: dict[str, float] = Field(
        description="Difference that each phase's area may have on a field, in percentage points."
    )
    fields: list[FieldFidelity] = Field(description="The comparison of each field.")
    fold_disagreement: list[float] = Field(
        description="Share of each fold's labels that differ from torch's, all fields pooled, 0-1."
    )
    not_a_number: int = Field(description="Values of `probability` and `features` that are not a number.")
    saturated: int = Field(
        description="Activations beyond the range of the number format (FP16) or of the calibration (INT8)."
    )

    @property
    def largest(self) -> dict[str, tuple[float, float]]:
        """The largest difference of each phase on a field and its limit there, in percentage points."""
        found = {}
        for phase, least in self.limits_points.items():
            apart = {abs(field.engine_percent[phase] - field.torch_percent[phase]): field for field in self.fields}
            points = max(apart)
            found[phase] = (points, limit_over(least, apart[points].pixels))
        return found


class Float32Layer(FrozenModel):
    """A layer that stays float32 in an engine of lower precision."""

    layer: str = Field(description="Name of the layer.")
    nodes: int = Field(description="Nodes of the graph that belong to it, over all folds.")
    reason: str = Field(description="Why it stays float32.")


class Quantisation(FrozenModel):
    """How an INT8 engine is quantised."""

    activations: Literal["asymmetric", "symmetric"] = Field(
        description="asymmetric: uint8, for CPUs. symmetric: int8 with zero point 0, for TensorRT."
    )
    weight_bits: Literal[7, 8] = Field(
        description="Bits of the weights; 7 where the processor of the export has no VNNI."
    )
    instruction_sets: list[str] = Field(
        description="Instruction sets of that processor that decide how 8-bit products are added."
    )
    calibrated_on: str = Field(description="Name of the calibration domain, or the run's held-out tiles.")
    calibration_tiles: int = Field(description="Number of tiles that the ranges of the activations come from.")
