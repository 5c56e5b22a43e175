"""The scale of a field: whose statement of the pixel size counts, and the factors to the network's grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from microseg.core.errors import FieldError
from microseg.core.images.micrograph import Micrograph
from microseg.core.images.pixel_size import PixelSize
from microseg.core.images.scale.statement import TOLERANCE, size_text
from microseg.core.notices import Notice
from microseg.core.schemas.preparation import Grid

COMMAND_LINE, DOMAIN_FILE = "command line", "domain.yaml"
"""Sources of a pixel size that the user states."""

# A factor beyond these is an error of units (nm for um), and upscaling would fill the memory.
_MAX_FACTOR = 32.0
_STATE_IT = "--pixel-size-um, or `pixel_size_um` in domain.yaml"


def field_pixel_size(
    micrograph: Micrograph, given: Sequence[PixelSize], assumed: PixelSize | None
) -> tuple[PixelSize | None, tuple[Notice, ...]]:
    """The pixel size of a field.

    Args:
        micrograph: the field.
        given: what the user states; the first one wins, also over the file.
        assumed: the size where nothing states one.

    Returns:
        The size, or None where nothing states one and none is assumed; and notices.

    Raises:
        FieldError: the file contradicts itself, and the user states nothing.
    """
    scale, notices = micrograph.scale, []
    own = scale.pixel_size
    if given:
        stated = given[0]
        if own is not None and _differ(stated, own):
            notices.append(
                f"the {stated.source} states a pixel of {size_text(stated.width_um)}, the file "
                f"{size_text(own.width_um, own.height_um)} ({own.source}): the {stated.source} counts"
            )
        elif scale.contradiction is not None:
            notices.append(f"the file contradicts itself: {scale.contradiction}; the {stated.source} counts")
        return stated, _of_scale(notices)
    if scale.contradiction is not None:
        raise FieldError(
            f"{micrograph.path}: its pixel size is contradictory: {scale.contradiction}. Remedy: {_STATE_IT}; or give the "
            "picture as the microscope wrote it."
        )
    size = own or assumed
    if own is None:
        notices += scale.remarks
    if size is not None and not _is_square(size):
        notices.append(
            f"its pixels are not square ({size_text(size.width_um, size.height_um)}, {size.source}): the field is "
            "resampled to square ones"
        )
    return size, _of_scale(notices)


def factors(path: Path, size: PixelSize | None, grid: Grid) -> tuple[float, float]:
    """Network pixels per native pixel along a column and along a row.

    A grid without pixel size has a factor of its own, which holds along rows. Pixels that are not square have two factors.

    Args:
        path: the file, for messages.
        size: size of a native pixel, or None where it is unknown.
        grid: the network's pixel grid.

    Raises:
        FieldError: the size is unknown and the grid has one, or they are too far apart.
    """
    oblong = 1.0 if size is None or _is_square(size) else size.height_um / size.width_um
    if grid.pixel_size_um is None:
        return grid.scale * oblong, grid.scale
    if size is None:
        raise FieldError(
            f"{path}: its pixel size is unknown, and the engine works at {grid.pixel_size_um:g} um. Remedy: {_STATE_IT}."
        )
    across = size.width_um / grid.pixel_size_um
    if not all(1 / _MAX_FACTOR <= factor <= _MAX_FACTOR for factor in (across, across * oblong)):
        raise FieldError(
            f"{path}: its pixel size of {size_text(size.width_um, size.height_um)} ({size.source}) is far from the engine's "
            f"{grid.pixel_size_um:g} um. Remedy: check the unit (um), then give --pixel-size-um."
        )
    return across * oblong, across


def _is_square(size: PixelSize) -> bool:
    return abs(size.height_um / size.width_um - 1) <= TOLERANCE


def _differ(one: PixelSize, other: PixelSize) -> bool:
    pairs = ((one.width_um, other.width_um), (one.height_um, other.height_um))
    return any(abs(ours / theirs - 1) > TOLERANCE for ours, theirs in pairs)


def _of_scale(texts: Sequence[str]) -> tuple[Notice, ...]:
    return tuple(Notice("pixel size", text) for text in texts)
