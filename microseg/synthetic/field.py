"""One synthetic micrograph with its exact labels, in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.synthetic.appearance import DOMAINS, Appearance
from microseg.synthetic.geometry import SamplingGrid
from microseg.synthetic.rendering import render
from microseg.synthetic.structure import grow_structure, map_units

# Goetz et al. 2022, table 2.1: mean area fraction of lath bainite in the source.
DEFAULT_FRACTION = 0.53
# 1024 px at the source's 27.7 nm.
DEFAULT_FIELD_UM = 28.36
MIN_FIELD_UM = 4.0
MAX_PIXELS = 25_000_000


@dataclass(frozen=True)
class SyntheticField:
    """A synthetic micrograph.

    Attributes:
        image: grey values, uint8 (height, width).
        labels: 0 ferrite, 1 lath bainite at the image's pixel centres, uint8 (height, width).
        pixel_size_um: edge of a pixel in micrometres.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    pixel_size_um: float


def appearance_of(domain: str) -> Appearance:
    """The appearance of a domain: s, t1, t2 or t3 in any case. Raises InputError for any other name."""
    try:
        return DOMAINS[domain.lower()]
    except KeyError:
        raise InputError(f"domain {domain!r} is unknown. Remedy: one of {', '.join(DOMAINS)}.") from None


def field_extent(
    appearance: Appearance,
    field_um: tuple[float, float] | None,
    size_px: tuple[int, int] | None,
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Physical and native size of a field.

    Args:
        appearance: the domain's appearance.
        field_um: (width, height) in micrometres, or None.
        size_px: (width, height) in native pixels, which wins, or None.

    Returns:
        (width, height) in micrometres, and (width, height) in native pixels.

    Raises:
        InputError: the field is too small for a few laths, or too large for memory.
    """
    pixel = appearance.pixel_size_um
    if size_px is not None:
        field_um = (size_px[0] * pixel, size_px[1] * pixel)
    elif field_um is None:
        field_um = (DEFAULT_FIELD_UM, DEFAULT_FIELD_UM)
    if not all(np.isfinite(side) and side >= MIN_FIELD_UM for side in field_um):
        raise InputError(
            f"a field of {field_um[0]:g} x {field_um[1]:g} um is too small: both sides must be {MIN_FIELD_UM:g} um or "
            f"more ({round(MIN_FIELD_UM / pixel)} px in this domain). Remedy: a larger --field-um or --size."
        )
    width, height = size_px or (round(field_um[0] / pixel), round(field_um[1] / pixel))
    if width * height * appearance.oversampling**2 > MAX_PIXELS:
        raise InputError(
            f"a field of {width} x {height} px is too large (limit {MAX_PIXELS // appearance.oversampling**2} px in "
            "this domain). Remedy: a smaller --field-um or --size, and more fields."
        )
    return field_um, (width, height)


def synthesise_field(
    domain: str,
    seed: int,
    *,
    field_um: tuple[float, float] | None = None,
    size_px: tuple[int, int] | None = None,
    fraction: float = DEFAULT_FRACTION,
) -> SyntheticField:
    """Make one field. The same seed, extent and fraction give the same structure in every domain.

    Args:
        domain: s, t1, t2 or t3.
        seed: seed of the structure.
        field_um: (width, height) in micrometres, or None.
        size_px: (width, height) in native pixels, which wins, or None.
        fraction: area fraction of lath bainite, 0-1.

    Raises:
        InputError: an unknown domain, an impossible size or fraction.
    """
    appearance = appearance_of(domain)
    if not 0.0 <= fraction <= 1.0:
        raise InputError(f"fraction {fraction:g} is not between 0 and 1. Remedy: a number from 0 to 1.")
    extent, (width, height) = field_extent(appearance, field_um, size_px)
    structure = grow_structure(seed, (extent[1], extent[0]), fraction)
    grid = SamplingGrid(height, width, appearance.pixel_size_um)
    units = map_units(structure, grid.divided(appearance.oversampling))
    image = render(structure, units, appearance, grid, seed)
    labels = units.labels if appearance.oversampling == 1 else map_units(structure, grid).labels
    return SyntheticField(image, labels, appearance.pixel_size_um)
