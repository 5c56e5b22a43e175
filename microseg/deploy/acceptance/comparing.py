"""Two ways to label the same micrographs, and by how much they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.folders import readable
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.tolerance import Difference, difference
from microseg.deploy.pipeline.inputs import resolve_input

Labeller = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Labels uint8 (h, w) of a prepared field uint8 (h, w)."""


@dataclass(frozen=True)
class FieldDifferences:
    """What was found on the network's grid.

    each: name and difference of every field. means: mean fraction of every phase, 0-1, by the second labeller.
    failed: name and reason of fields that could not be labelled.
    """

    each: list[tuple[str, Difference]]
    means: list[float]
    failed: list[tuple[str, str]]


def compare_fields(
    source: Path,
    manifest: Manifest,
    domain: str | None,
    ours: Labeller,
    theirs: Labeller,
    progress: Callable[[str], None] = lambda name: None,
) -> FieldDifferences:
    """Label every micrograph of `source` (as `segment` takes it) both ways, prepared once as the manifest says.

    Raises InputError: no micrographs, unknown domain.
    """
    given = resolve_input(source, manifest, domain, None)
    phases = len(manifest.phases)
    each, failed, fractions = [], [], []
    for field in given.fields:
        progress(field.name)
        try:
            with open_prepared(
                field.path,
                given.preparation,
                manifest.grid,
                fallback_pixel_size_um=given.fallback_pixel_size_um,
            ) as prepared:
                image = prepared.whole()
            wanted = theirs(image)
            each.append((field.name, difference([ours(image)], [wanted], phases)))
        except FieldError as error:
            failed.append((field.name, readable(str(error))))
            continue
        fractions.append(np.bincount(wanted.ravel(), minlength=phases)[:phases] / wanted.size)
    means = np.mean(fractions, axis=0).tolist() if fractions else [0.0] * phases
    return FieldDifferences(each, means, failed)
