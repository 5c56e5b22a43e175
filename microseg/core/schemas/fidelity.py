"""How close an engine is to the torch bag that it was exported from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.tolerance import limit_over


class FoldParity(FrozenModel):
    """torch against the exported engine on real tiles, for one fold or (fold = -1) for the bag."""

    fold: int
    max_probability_difference: float
    label_disagreement: float
    fraction_difference_points: dict[str, float]


class FieldFidelity(FrozenModel):
    """One real field: share of the bag's labels that differ from torch's, and each phase's area, percent, by both.

    pixels: of the field, on the network's grid; one of them may always differ. None in engines made before it was noted.
    """

    field: str
    pixels: int | None = Field(None, ge=1)
    label_disagreement: float
    torch_percent: dict[str, float]
    engine_percent: dict[str, float]


class Fidelity(FrozenModel):
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


class Float32Layer(FrozenModel):
    """What stayed float32 in a reduced engine, and why. nodes: of the graph, over all folds."""

    layer: str
    nodes: int
    reason: str


class Quantisation(FrozenModel):
    """How an INT8 engine came about.

    activations: asymmetric (uint8, for CPUs) or symmetric (int8 with zero point 0, for TensorRT). weight_bits: 7 where the
    exporting processor has no VNNI. instruction_sets: those of that processor that decide it.
    """

    activations: Literal["asymmetric", "symmetric"]
    weight_bits: Literal[7, 8]
    instruction_sets: list[str]
    calibrated_on: str
    calibration_tiles: int
