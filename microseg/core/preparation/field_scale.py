"""The scale of a field: whose statement of the pixel size counts, and the factors to the network's grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from microseg.core.errors import FieldError, InputError
from microseg.core.images.micrograph import Micrograph
from microseg.core.images.pixel_size import ASSUMED, FOUND_BY_UDA, PixelSize
from microseg.core.images.scale.statement import TOLERANCE, size_text
from microseg.core.notices import Notice
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange

COMMAND_LINE, DOMAIN_FILE = "command line", "domain.yaml"
"""Sources of a pixel size that the user states."""

NOTICE_FACTOR, REFUSAL_FACTOR = 1.5, 6.0
"""A field whose pixel size is this many times beyond those of the training gets a notice, or is refused."""

# A factor beyond these is an error of units (nm for um), and upscaling would fill the memory.
_MAX_FACTOR = 32.0
_STATE_IT = "--pixel-size-um, or `pixel_size_um` or `pixel_sizes` in domain.yaml"


@dataclass(frozen=True)
class ScaleRules:
    """What decides the scale of fields beside their domain.yaml and their files.

    Attributes:
        command_line_um: edge of a native pixel that the user states for all fields, in micrometres.
        assumed: the size for fields that state none; None: they keep their native pixels, or fail where the grid has a size.
        trained: the pixel sizes that the engine was trained on; None: unknown.
        accepts_assumption: whether an assumed size needs no notice (`--assume-engine-scale`).
        requires_statement: whether a field that states no size fails (`--require-scale`).
        refuses_far: whether a field far beyond the sizes of the training fails (`segment` without `--force-scale`).
        takes_native_pixels: whether no size counts, and a contradiction is none.
    """

    command_line_um: float | None = None
    assumed: PixelSize | None = None
    trained: PixelSizeRange | None = None
    accepts_assumption: bool = False
    requires_statement: bool = False
    refuses_far: bool = False
    takes_native_pixels: bool = False


def assumed_size(entry: DomainEntry, grid: Grid) -> PixelSize | None:
    """The size for fields that state none: that of the domain's training images.

    Args:
        entry: the domain of the run or engine.
        grid: the network's pixel grid. Without a pixel size it takes native pixels, and nothing is assumed.
    """
    edge = entry.preparation.pixel_size_um
    if edge is None or grid.pixel_size_um is None:
        return None
    return PixelSize.square(edge, FOUND_BY_UDA if entry.pixel_size_source == FOUND_BY_UDA else ASSUMED)


def refuse_contradicting_options(assume_engine_scale: bool, require_scale: bool) -> None:
    """Raise InputError where an assumption is accepted and refused at once."""
    if assume_engine_scale and require_scale:
        raise InputError(
            "--assume-engine-scale and --require-scale exclude each other: the one accepts an assumed pixel size, the other "
            "refuses it. Remedy: leave one out."
        )


def field_pixel_size(
    micrograph: Micrograph, domain_um: float | None, rules: ScaleRules
) -> tuple[PixelSize | None, tuple[Notice, ...]]:
    """The pixel size of a field: the command line's, else the domain.yaml's, else the file's, else the assumed one.

    Args:
        micrograph: the field.
        domain_um: edge of a native pixel in micrometres that the domain.yaml states, or None.
        rules: what else decides.

    Returns:
        The size, or None where nothing states one and none is assumed; and notices.

    Raises:
        FieldError: the file contradicts itself and the user states nothing, a required size is not stated, or the size is far
            beyond those of the training.
    """
    if rules.takes_native_pixels:
        return None, ()
    given = ((rules.command_line_um, COMMAND_LINE), (domain_um, DOMAIN_FILE))
    stated = next((PixelSize.square(edge, source) for edge, source in given if edge), None)
    size, texts = _over_the_file(micrograph, stated) if stated is not None else _of_the_file(micrograph, rules)
    if size is not None and not size.is_assumed and rules.trained is not None:
        texts += _beyond_training(micrograph.path, size, rules.trained, rules.refuses_far)
    return size, tuple(Notice("pixel size", text) for text in texts)


def _over_the_file(micrograph: Micrograph, stated: PixelSize) -> tuple[PixelSize, list[str]]:
    """What the user states, with a sentence where the file says otherwise."""
    scale, source = micrograph.scale, f"the {stated.source}"
    own = scale.pixel_size
    if own is not None and _differ(stated, own):
        file_says = f"{size_text(own.width_um, own.height_um)} ({own.source})"
        return stated, [
            f"{source} states a pixel of {size_text(stated.width_um)}, the file {file_says}: {source} counts"
        ]
    if scale.contradiction is not None:
        return stated, [f"the file contradicts itself: {scale.contradiction}; {source} counts"]
    return stated, []


def _of_the_file(micrograph: Micrograph, rules: ScaleRules) -> tuple[PixelSize | None, list[str]]:
    """What the file states, else what is assumed, with sentences for the user. Raises FieldError."""
    scale = micrograph.scale
    if scale.contradiction is not None:
        raise FieldError(
            f"{micrograph.path}: its pixel size is contradictory: {scale.contradiction}. Remedy: {_STATE_IT}; or give the "
            "picture as the microscope wrote it."
        )
    size = scale.pixel_size
    if size is None:
        return rules.assumed, _unstated(micrograph, rules)
    if _is_square(size):
        return size, []
    told = size_text(size.width_um, size.height_um)
    return size, [f"its pixels are not square ({told}): the field is resampled to square ones"]


def _unstated(micrograph: Micrograph, rules: ScaleRules) -> list[str]:
    """What the user should know about a field that states no size. Raises FieldError where it must state one."""
    remarks = list(micrograph.scale.remarks)
    if rules.requires_statement:
        why = f" ({'; '.join(remarks)})" if remarks else ""
        raise FieldError(
            f"{micrograph.path}: states no pixel size{why}, and --require-scale asks for one. Remedy: {_STATE_IT}; or leave "
            "--require-scale out."
        )
    if rules.assumed is not None and not rules.accepts_assumption:
        whose = "that of the training images is assumed"
        if rules.assumed.source == FOUND_BY_UDA:
            whose = "that of the images that `train uda` adapted to is assumed"
        remarks.append(
            f"nothing states its pixel size: {whose}, and no µm and no area are stated. Remedy: --pixel-size-um, or "
            "`pixel_sizes` in domain.yaml; or --assume-engine-scale, if it has that magnification"
        )
    return remarks


def _beyond_training(path: Path, size: PixelSize, trained: PixelSizeRange, refuses: bool) -> list[str]:
    """A sentence about a size that is beyond those of the training. Raises FieldError where it is far beyond and refused."""
    factor = trained.factor_beyond(size.width_um, size.height_um)
    if factor <= NOTICE_FACTOR:
        return []
    own = f"its pixel size of {size_text(size.width_um, size.height_um)}"
    told = f"is {factor:.3g} times beyond those that the engine was trained on ({trained.text})"
    if factor > REFUSAL_FACTOR and refuses:
        raise FieldError(
            f"{path}: {own} ({size.source}) {told}; more than {REFUSAL_FACTOR:g} times are refused. Remedy: --pixel-size-um "
            "where the size is wrong; a magnification nearer to the training's; or --force-scale."
        )
    # Without the source, so that reports can join the notices of many fields.
    return [f"{own} {told}: it may not know structures of this size"]


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
