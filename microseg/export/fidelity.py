"""The gate of a reduced engine: on real fields, every phase's fraction must stay what the float32 torch bag says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from microseg.core.errors import GateError
from microseg.core.schemas.fidelity import Fidelity, FieldFidelity
from microseg.core.schemas.tolerance import LIMITS, Precision, limit_over, point_limits
from microseg.export.calibration_fields import FieldSet, stitched
from microseg.export.precision.activations import openvino_session, session

Probabilities = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]
Arithmetic = Literal["onnxruntime", "openvino", "rounded to fp16"]


class Judge:
    """Compares graphs with what the float32 torch bag says about the same fields; that is computed once.

    `torch` gives, for a tile uint8 (1, 1, H, W), each fold's probability, float32 (1, P, H, W).
    """

    def __init__(
        self, sets: Sequence[FieldSet], phases: Sequence[str], stride: int, halo_px: int, torch: Probabilities
    ) -> None:
        self._sets, self._phases = sets, phases
        self._stride, self._halo_px = stride, halo_px

        def decided(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
            folds = [probability[0] for probability in torch(pixels)]
            bag = np.mean(folds, axis=0).argmax(0).astype(np.uint8)
            return [bag, np.stack([fold.argmax(0).astype(np.uint8) for fold in folds])]

        self._wanted = [[stitched(field, stride, halo_px, decided) for field in each.fields] for each in sets]

    def limits_points(self, precision: Precision, place: int) -> dict[str, float]:
        """Limit of each phase on the fields of set `place`, percentage points; on each field never less than a pixel."""
        labels = [found[0] for found in self._wanted[place]]
        means = np.mean([list(_percent(field, self._phases).values()) for field in labels], axis=0) / 100
        return dict(zip(self._phases, point_limits(LIMITS[precision], means.tolist()), strict=True))

    def __call__(
        self, model: onnx.ModelProto, precision: Precision, arithmetic: Arithmetic = "onnxruntime"
    ) -> list[Fidelity]:
        """Figures of a graph with the engine's inputs and outputs, one per set of fields; nothing saturated as yet."""
        running = openvino_session(model) if arithmetic == "openvino" else session(model)
        return self.of(running, precision, arithmetic)

    def of(self, running: Any, precision: Precision, arithmetic: Arithmetic = "onnxruntime") -> list[Fidelity]:
        """The same of whatever runs as a session of ONNX Runtime does."""
        return [self._compare(place, running, precision, arithmetic) for place in range(len(self._sets))]

    def with_saturation(self, found: Sequence[Fidelity], count: Callable[[NDArray[np.uint8]], int]) -> list[Fidelity]:
        """The figures, of all sets by one arithmetic after the other, with what `count` says about their fields' tiles."""
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

    def _compare(self, place: int, running: Any, precision: Precision, arithmetic: Arithmetic) -> Fidelity:
        lost = 0

        def decided(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
            nonlocal lost
            labels, votes, *rest = running.run(["labels", "votes", "features", "probability"], {"tiles": pixels})
            lost += sum(int(np.count_nonzero(~np.isfinite(values))) for values in rest)
            return [labels[0], votes[0]]

        fields, wrong, pixels = [], np.zeros(0), 0
        for field, (labels, votes) in zip(self._sets[place].fields, self._wanted[place], strict=True):
            ours, our_votes = stitched(field, self._stride, self._halo_px, decided)
            fields.append(
                FieldFidelity(
                    field=field.name,
                    pixels=labels.size,
                    label_disagreement=float((ours != labels).mean()),
                    torch_percent=_percent(labels, self._phases),
                    engine_percent=_percent(ours, self._phases),
                )
            )
            differing = (our_votes != votes).sum((1, 2))
            wrong, pixels = differing + (wrong if wrong.size else 0), pixels + labels.size
        return Fidelity(
            fields_from=self._sets[place].name,
            arithmetic=arithmetic,
            label_limit=LIMITS[precision].labels,
            limits_points=self.limits_points(precision, place),
            fields=fields,
            fold_disagreement=(wrong / pixels).tolist(),
            not_a_number=lost,
            saturated=0,
        )


class Excess(NamedTuple):
    """A figure: its ratio to its limit, and both in words. phase: whose fraction on a field, None for any other figure."""

    ratio: float
    words: str
    fields_from: str
    phase: str | None = None


def worst(found: Sequence[Fidelity]) -> Excess:
    """The figure that comes nearest to its limit, or goes farthest beyond it, over all sets, fields, phases and folds.

    A value that is no number is beyond every limit.
    """
    return max((item for each in found for item in _figures(each)), key=lambda item: item.ratio)


def refuse_beyond_limits(found: Sequence[Fidelity], precision: Precision, calibrated_on: str | None = None) -> None:
    """Raise GateError where a figure is beyond its limit. calibrated_on: the domain of `--calibrate`, if there was one."""
    excess = worst(found)
    if excess.ratio <= 1:
        return
    words = excess.words
    if excess.phase is None:
        phases = [item for each in found for item in _figures(each) if item.phase is not None]
        words += f" Of the phases, {max(phases, key=lambda item: item.ratio).words}" if phases else ""
    remedies = {
        "fp32": "check the run's weights for infinities",
        "fp16": "--precision fp32",
        "int8": "--precision fp16, or --calibrate with more fields",
    }
    foreign = (
        f" The engine was calibrated on {calibrated_on}: if that is another material, leave --calibrate out or give "
        "fields of the run's own."
        if calibrated_on
        else ""
    )
    raise GateError(
        f"the {precision} engine disagrees with float32 torch on {words} Nothing was written.{foreign} "
        f"Remedy: {remedies[precision]}."
    )


def _figures(found: Fidelity) -> list[Excess]:
    where = found.fields_from
    computed = "" if found.arithmetic == "onnxruntime" else f", {found.arithmetic}"
    figures = []
    if found.not_a_number:
        words = (
            f"{where}{computed}: {found.not_a_number} values are no numbers, {found.saturated} activations overflow."
        )
        figures.append(Excess(np.inf, words, where))
    for field in found.fields:
        share = field.label_disagreement
        words = (
            f"{field.field} ({where}{computed}): {100 * share:.3g} % of the labels differ, "
            f"limit {100 * found.label_limit:.3g} %."
        )
        figures.append(Excess(_ratio(share, found.label_limit), words, where))
        for phase, least in found.limits_points.items():
            limit = limit_over(least, field.pixels)
            ours, theirs = field.engine_percent[phase], field.torch_percent[phase]
            words = (
                f"{field.field} ({where}{computed}): {phase} covers {ours:.4g} %, in torch {theirs:.4g} %: "
                f"{abs(ours - theirs):.3g} points apart, limit {limit:.3g}."
            )
            figures.append(Excess(_ratio(abs(ours - theirs), limit), words, where, phase))
    for fold, share in enumerate(found.fold_disagreement):
        words = (
            f"{where}{computed}: {100 * share:.3g} % of the labels of fold {fold} differ, "
            f"limit {100 * found.label_limit:.3g} %."
        )
        figures.append(Excess(_ratio(share, found.label_limit), words, where))
    return figures


def _ratio(value: float, limit: float) -> float:
    return value / limit if np.isfinite(value) else np.inf


def _percent(labels: NDArray[np.uint8], phases: Sequence[str]) -> dict[str, float]:
    counts = np.bincount(labels.ravel(), minlength=len(phases))
    return {name: 100 * float(counts[index]) / labels.size for index, name in enumerate(phases)}
