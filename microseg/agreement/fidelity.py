"""An engine against the float32 torch networks on whole fields: the area fraction of every phase, by precision.

The INT8 and FP16 gates of `export` use these checks. Mean IoU hides what happens to a rare phase, so each phase has a limit
of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.agreement.check_table import Check, CheckTable
from microseg.agreement.labels import mean_fractions
from microseg.core.evaluation.fractions import phase_counts
from microseg.core.schemas.fidelity import Fidelity, FieldFidelity
from microseg.core.schemas.tolerance import LIMITS, Precision, limit_over, point_limits


def area_percent(labels: NDArray[np.uint8], phases: Sequence[str]) -> dict[str, float]:
    """Area of each phase in percent, by name, of a label image uint8 (h, w)."""
    return {
        name: 100 * count / labels.size
        for name, count in zip(phases, phase_counts(labels, len(phases)).tolist(), strict=True)
    }


def field_fidelity(
    name: str, ours: NDArray[np.uint8], theirs: NDArray[np.uint8], phases: Sequence[str]
) -> FieldFidelity:
    """Compare the labels of one field.

    Args:
        name: of the field.
        ours: the engine's labels, uint8 (h, w).
        theirs: torch's labels, uint8 (h, w).
        phases: names of the phases, by index.

    Returns:
        The entry of the manifest.
    """
    return FieldFidelity(
        field=name,
        pixels=theirs.size,
        label_disagreement=float((ours != theirs).mean()),
        torch_percent=area_percent(theirs, phases),
        engine_percent=area_percent(ours, phases),
    )


def phase_limits(precision: Precision, labels: Sequence[NDArray[np.uint8]], phases: Sequence[str]) -> dict[str, float]:
    """Largest difference allowed for the area fraction of each phase.

    Args:
        precision: of the engine.
        labels: torch's labels of the fields, each uint8 (h, w). The mean fraction over the fields sets the limit of a rare
            phase.
        phases: names of the phases, by index.

    Returns:
        Percentage points by phase. On a single field the limit is never less than one pixel (`limit_over`).
    """
    return dict(zip(phases, point_limits(LIMITS[precision], mean_fractions(labels, len(phases))), strict=True))


def fidelity_table(found: Sequence[Fidelity], precision: Precision) -> CheckTable:
    """The checks of an engine against float32 torch.

    Args:
        found: figures of one or more sets of fields.
        precision: of the engine.

    Returns:
        A table with a row for each field's labels, for each phase on each field and for each fold; and one where a value is
        not a number.
    """
    table = CheckTable(list(found[0].limits_points), LIMITS[precision])
    for each in found:
        computed = "" if each.arithmetic == "onnxruntime" else f", {each.arithmetic}"
        origin = f"{each.fields_from}{computed}"
        label_limit = f"{100 * each.label_limit:.3g} %"
        if each.not_a_number:
            text = f"{each.not_a_number} values are not numbers, {each.saturated} activations overflow"
            table.add(origin, text, "none", False)
        for field in each.fields:
            where, share = f"{field.field} ({origin})", field.label_disagreement
            table.measure(f"{where}, labels that differ", share, each.label_limit, f"{100 * share:.3g} %", label_limit)
            for phase, least in each.limits_points.items():
                limit = limit_over(least, field.pixels)
                ours, theirs = field.engine_percent[phase], field.torch_percent[phase]
                points = abs(ours - theirs)
                text = f"{points:.3g} points ({ours:.4g} % by the engine, {theirs:.4g} % by torch)"
                table.measure(f"{where}, area of {phase}", points, limit, text, f"{limit:.3g} points", phase)
        for fold, share in enumerate(each.fold_disagreement):
            name = f"{origin}, labels of fold {fold} that differ"
            table.measure(name, share, each.label_limit, f"{100 * share:.3g} %", label_limit)
    return table


def nearest_limit(found: Sequence[Fidelity], precision: Precision) -> Check:
    """The check that comes closest to its limit, or exceeds it most, over all sets, fields, phases and folds."""
    return fidelity_table(found, precision).nearest
