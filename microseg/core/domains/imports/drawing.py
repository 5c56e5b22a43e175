"""Labels of a label file on the pixels of their image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.imports.shapes import ImageLabels, painted
from microseg.core.domains.labels import Mask, on_stored_grid, require_size
from microseg.core.domains.phases import OTHER, UNLABELLED, PhaseSpec
from microseg.core.errors import InputError
from microseg.core.images.orientation import StoredGrid

# Neither a phase nor UNLABELLED: in no shape, where nothing says what that means.
_NOWHERE = 254


def drawn(
    labels: ImageLabels,
    path: Path,
    grid: StoredGrid,
    image: Path,
    *,
    phases: Sequence[PhaseSpec],
    unlabelled: int | str | None,
) -> NDArray[np.uint8]:
    """Phase indices of the shapes of an image.

    A value of a phase is the name of a label. "other" is what lies in no shape, and every label that no phase names.

    Args:
        labels: the shapes, drawn on the image as viewers show it.
        path: their file, for messages.
        grid: the image's grid.
        image: its file, for messages.
        phases: the phases with their values.
        unlabelled: the value of pixels without label, or None.

    Returns:
        uint8 (height, width) of the grid; UNLABELLED (255) where nothing is labelled.

    Raises:
        InputError: another size than the image's, a label that no phase names, or pixels in no shape without a meaning.
    """
    values = [(str(value), index) for index, phase in enumerate(phases) for value in phase.values]
    if unlabelled is not None:
        values.append((str(unlabelled), UNLABELLED))
    known, folded = dict(values), {value.casefold(): index for value, index in values}
    index_of = dict(known)
    for label in {item.label for item in labels.shapes} - known.keys():
        index = folded.get(label.casefold(), known.get(OTHER))
        if index is not None:
            index_of[label] = index
    size = labels.size or grid.shown_shape
    require_size(size, grid, path, image, is_turned=False)
    pixels = painted(labels, size, index_of, known.get(OTHER, _NOWHERE), path)
    nowhere = np.count_nonzero(pixels == _NOWHERE)
    if nowhere:
        raise InputError(
            f"{path}: {nowhere} pixels of {image.name} lie in no shape. Remedy: in domain.yaml, a phase with `value: other`, "
            "or `unlabelled: other`."
        )
    return on_stored_grid(Mask(path, pixels), grid, image).pixels


def areas(labels: ImageLabels, path: Path, grid: StoredGrid, image: Path) -> dict[str, int]:
    """Pixels of each label of an image; those in no shape under an empty name.

    Args:
        labels: the shapes.
        path: their file, for messages.
        grid: the image's grid.
        image: its file, for messages.

    Raises:
        InputError: another size than the image's, or more than 250 labels.
    """
    names = sorted({item.label for item in labels.shapes})
    if len(names) > _NOWHERE - 4:
        raise InputError(f"{path}: has {len(names)} different labels. Remedy: give each phase one label.")
    size = labels.size or grid.shown_shape
    require_size(size, grid, path, image, is_turned=False)
    pixels = painted(labels, size, {name: index for index, name in enumerate(names, 1)}, 0, path)
    counts = np.bincount(pixels.ravel(), minlength=len(names) + 1).tolist()
    return dict(zip(["", *names], counts, strict=True))
