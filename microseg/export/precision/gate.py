"""The gate of an engine in FP32, FP16 or INT8: on real fields it must measure what the float32 torch networks measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from microseg.agreement.check_table import require_agreement
from microseg.agreement.fidelity import fidelity_table, field_fidelity, phase_limits
from microseg.core.schemas.fidelity import Fidelity
from microseg.core.schemas.tolerance import LIMITS, Precision
from microseg.export.calibration_fields import FieldSet, stitched
from microseg.export.precision.sessions import onnxruntime_session, openvino_session

Probabilities = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]
Arithmetic = Literal["onnxruntime", "openvino", "rounded to fp16"]

_REMEDIES: dict[Precision, str] = {
    "fp32": "check the weights of the run for infinities",
    "fp16": "--precision fp32",
    "int8": "--precision fp16, or --calibrate with more fields",
}


class PrecisionGate:
    """Compares graphs with the float32 torch networks on the same fields. The labels of torch are computed once."""

    def __init__(
        self, sets: Sequence[FieldSet], phases: Sequence[str], *, stride: int, halo_px: int, torch: Probabilities
    ) -> None:
        """Compute the labels of torch.

        Args:
            sets: the fields to compare on.
            phases: names of the phases, by index.
            stride: the height and width of a tile are multiples of it, px.
            halo_px: halo of a tile.
            torch: gives, for a tile uint8 (1, 1, H, W), the probability of each fold, float32 (1, P, H, W).
        """
        self._sets, self._phases = sets, phases
        self._stride, self._halo_px = stride, halo_px

        def decided(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
            folds = [probability[0] for probability in torch(pixels)]
            bag = np.mean(folds, axis=0).argmax(0).astype(np.uint8)
            return [bag, np.stack([fold.argmax(0).astype(np.uint8) for fold in folds])]

        self._wanted = [[stitched(field, stride, halo_px, decided) for field in each.fields] for each in sets]

    def limits_points(self, precision: Precision, place: int) -> dict[str, float]:
        """Limit of each phase on the fields of set `place`, percentage points; on each field never less than one pixel."""
        return phase_limits(precision, [labels for labels, _ in self._wanted[place]], self._phases)

    def compare(
        self, model: onnx.ModelProto, precision: Precision, arithmetic: Arithmetic = "onnxruntime"
    ) -> list[Fidelity]:
        """Run a graph on all fields.

        Args:
            model: a graph with the inputs and outputs of an engine.
            precision: of the graph; sets the limits.
            arithmetic: what computes it.

        Returns:
            The figures of each set of fields. `saturated` is 0: `with_saturation` counts it.
        """
        running = openvino_session(model) if arithmetic == "openvino" else onnxruntime_session(model)
        return self.compare_session(running, precision, arithmetic)

    def compare_session(
        self, running: Any, precision: Precision, arithmetic: Arithmetic = "onnxruntime"
    ) -> list[Fidelity]:
        """As `compare`, for an object with the `run(outputs, feeds)` of an ONNX Runtime session."""
        return [self._figures(place, running, precision, arithmetic) for place in range(len(self._sets))]

    def with_saturation(self, found: Sequence[Fidelity], count: Callable[[NDArray[np.uint8]], int]) -> list[Fidelity]:
        """The figures with the number of saturated activations.

        Args:
            found: figures of all sets by one arithmetic, then of all sets by the next.
            count: number of saturated activations on a tile uint8 (1, 1, H, W).

        Returns:
            The figures with `saturated` filled in.
        """
        totals = []
        for each in self._sets:
            counts: list[int] = []

            def counted(pixels: NDArray[np.uint8], counts: list[int] = counts) -> list[NDArray[np.uint8]]:
                counts.append(count(pixels))
                return []

            for field in each.fields:
                stitched(field, self._stride, self._halo_px, counted)
            totals.append(sum(counts))
        return [
            figures.model_copy(update={"saturated": totals[number % len(totals)]})
            for number, figures in enumerate(found)
        ]

    def _figures(self, place: int, running: Any, precision: Precision, arithmetic: Arithmetic) -> Fidelity:
        lost = 0

        def decided(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
            nonlocal lost
            labels, votes, *rest = running.run(["labels", "votes", "features", "probability"], {"tiles": pixels})
            lost += sum(int(np.count_nonzero(~np.isfinite(values))) for values in rest)
            return [labels[0], votes[0]]

        fields, pixels = [], 0
        differing: NDArray[np.int64] = np.zeros(1, np.int64)
        for field, (labels, votes) in zip(self._sets[place].fields, self._wanted[place], strict=True):
            ours, our_votes = stitched(field, self._stride, self._halo_px, decided)
            fields.append(field_fidelity(field.name, ours, labels, self._phases))
            differing, pixels = differing + (our_votes != votes).sum((1, 2)), pixels + labels.size
        return Fidelity(
            fields_from=self._sets[place].name,
            arithmetic=arithmetic,
            label_limit=LIMITS[precision].labels,
            limits_points=self.limits_points(precision, place),
            fields=fields,
            fold_disagreement=(differing / pixels).tolist(),
            not_a_number=lost,
            saturated=0,
        )


def require_fidelity(found: Sequence[Fidelity], precision: Precision, calibrated_on: str | None = None) -> None:
    """Let an engine through, or refuse it.

    Args:
        found: the figures of the engine.
        precision: of the engine.
        calibrated_on: the domain of `--calibrate`, if there was one.

    Raises:
        GateError: a figure exceeds its limit.
    """
    note = (
        f"The engine was calibrated on {calibrated_on}. If that is another material, leave --calibrate out, or give fields of "
        "the material that the run was trained on."
        if calibrated_on
        else ""
    )
    require_agreement(
        fidelity_table(found, precision), f"The {precision} engine", "float32 torch", _REMEDIES[precision], note
    )
