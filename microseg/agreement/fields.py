"""Two ways to label the same micrographs, and labels beside masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.agreement.check_table import CheckTable
from microseg.agreement.labels import LabelDifference, compare_labels
from microseg.core.errors import FieldError
from microseg.core.evaluation.fractions import phase_fractions
from microseg.core.images.folders import readable
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.tolerance import limit_over, point_limits

Labeller = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Labels uint8 (h, w) of a prepared field uint8 (h, w)."""

OpenField = Callable[[], AbstractContextManager[PreparedField]]
"""Opens a micrograph, prepared for the network. Raises FieldError where that is not possible."""


@dataclass(frozen=True)
class FieldDifferences:
    """The differences of two labellers on some fields, on the network's grid.

    Attributes:
        each: name and difference of every field.
        means: mean area fraction of each phase by the second labeller, 0-1.
        failed: name and reason of each field that could not be labelled.
    """

    each: list[tuple[str, LabelDifference]]
    means: list[float]
    failed: list[tuple[str, str]]


def compare_fields(
    fields: Iterable[tuple[str, OpenField]],
    phases: int,
    ours: Labeller,
    theirs: Labeller,
    progress: Callable[[str], None] = lambda name: None,
) -> FieldDifferences:
    """Label every field both ways; each is prepared once.

    Args:
        fields: name of each field, and what opens it.
        phases: number of phases.
        ours: the labeller that is checked.
        theirs: the labeller that it is compared with.
        progress: called with the name of each field before it is labelled.

    Returns:
        The differences. A field that cannot be labelled is listed in `failed`.
    """
    each, failed, fractions = [], [], []
    for name, opened in fields:
        progress(name)
        try:
            with opened() as prepared:
                image = prepared.whole()
            wanted = theirs(image)
            each.append((name, compare_labels([ours(image)], [wanted], phases)))
        except FieldError as error:
            failed.append((name, readable(str(error))))
            continue
        fractions.append(phase_fractions(wanted, phases))
    means = np.mean(fractions, axis=0).tolist() if fractions else [0.0] * phases
    return FieldDifferences(each, means, failed)


def check_fields(table: CheckTable, found: FieldDifferences, reference: str) -> None:
    """Add a row for the labels over all fields, and for each field the phase that comes closest to its limit.

    Args:
        table: the table to extend; its limits apply.
        found: what `compare_fields` returned.
        reference: name of the second labeller.
    """
    for name, reason in found.failed:
        table.add(f"field {name}", reason, "measured", False)
    if not found.each:
        return
    pixels = sum(seen.pixels for _, seen in found.each)
    differing = sum(seen.labels * seen.pixels for _, seen in found.each)
    table.labels(f"fields against {reference}: labels", differing / pixels)
    for name, seen in found.each:
        limits = [limit_over(limit, seen.pixels) for limit in point_limits(table.limit, found.means)]
        worst = int(np.argmax([points / limit for points, limit in zip(seen.points, limits, strict=True)]))
        table.fraction(f"field {name}: {table.phases[worst]}", table.phases[worst], seen.points[worst], limits[worst])


def check_masks(table: CheckTable, miou: float | None, least: float) -> None:
    """Add a row for the mean IoU with the masks of labelled fields.

    Args:
        table: the table to extend.
        miou: mean IoU over the fields, 0-1; None where it is not defined.
        least: the smallest mean IoU that passes.
    """
    found = "undefined" if miou is None else f"{miou:.3f}"
    table.add("fields against their masks: mIoU", found, f"at least {least:.3f}", miou is not None and miou >= least)
