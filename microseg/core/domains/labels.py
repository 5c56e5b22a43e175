"""Masks to phase indices, by index, grey value, overlay colour, any grey, or anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.mask_planes import joined, read_planes
from microseg.core.domains.phases import GREY, OTHER, TRANSPARENT, UNLABELLED, PhaseSpec
from microseg.core.errors import FieldError, InputError
from microseg.core.images.image_file import open_raster
from microseg.core.images.orientation import StoredGrid, as_stored, shown
from microseg.core.images.raster import Raster

__all__ = ["UNLABELLED", "Mask", "PhaseSpec", "mask_notices", "on_stored_grid", "read_mask", "to_phases"]

# Neither a phase nor UNLABELLED: a mask value that no phase names.
_UNKNOWN = 254
_LISTED = 8
# More values than this that no phase names are the steps of a blurred border rather than phases.
_MANY = 4
NO_BLUR = (
    "Remedy: save the mask as PNG or TIFF without anti-aliasing, smoothing or interpolation (scale by nearest neighbour); "
    "where only this file is left, set a threshold (Fiji: Image > Adjust > Threshold) and save the result as PNG."
)


@dataclass(frozen=True)
class Mask:
    """A mask as viewers show it.

    Attributes:
        path: its file.
        pixels: (h, w) of values or (h, w, 3) of colours; values are uint8 or uint16.
        palette: (entries, 3) uint8 where the values are indices into it, else None.
        is_turned: whether its file states an orientation of its own, which `pixels` follow.
        white_is_zero: whether the file stores white as zero; `pixels` have it as the largest value.
        one_bit: whether the file stores one bit a pixel; the values are 0 and 255.
        transparent: (h, w), True where an alpha channel or a palette's transparency hides the pixel; None where it hides none
            or all.
        one_hot: number of pages or channels that say each for one phase where it is; the values are their places, from 0.
            0 for any other mask.
    """

    path: Path
    pixels: NDArray[Any]
    palette: NDArray[np.uint8] | None = None
    is_turned: bool = False
    white_is_zero: bool = False
    one_bit: bool = False
    transparent: NDArray[np.bool_] | None = None
    one_hot: int = 0


def read_mask(path: Path) -> Mask:
    """Read a mask.

    Args:
        path: the file.

    Returns:
        The mask as viewers show it: turned by its orientation (EXIF, TIFF tag 274), white as the largest value.

    Raises:
        InputError: the file cannot be read, is compressed with loss, holds values that are no whole numbers from 0 to 65535, or
            several pages or channels that are not one-hot.
    """
    try:
        planes = read_planes(path)
        if planes is not None:
            pixels = shown(joined(planes), planes.orientation)
            return Mask(path, pixels, is_turned=planes.orientation != 1, one_hot=len(planes.pixels))
        with open_raster(path) as raster:
            if raster.lossy:
                raise InputError(
                    f"mask {path}: is compressed with loss (JPEG), so that values at borders are blurred. {NO_BLUR}"
                )
            pixels = raster.read(0, raster.height)
            inverted = raster.white_is_zero and pixels.dtype.kind == "u"
            if inverted:
                pixels = np.iinfo(pixels.dtype).max - pixels if raster.bits is None else 2**raster.bits - 1 - pixels
            return Mask(
                path,
                shown(_whole_numbers(pixels, path), raster.orientation),
                raster.palette,
                is_turned=raster.orientation != 1,
                white_is_zero=inverted,
                one_bit=raster.one_bit,
                transparent=_transparent(raster),
            )
    except FieldError as error:
        raise InputError(f"mask {error}") from error


def _transparent(raster: Raster) -> NDArray[np.bool_] | None:
    hidden = np.zeros((raster.height, raster.width), np.bool_)
    for exclusion in raster.exclusions:
        if exclusion.reason == TRANSPARENT:
            hidden |= exclusion.rows(0, raster.height)
    return shown(hidden, raster.orientation) if hidden.any() and not hidden.all() else None


def _whole_numbers(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    """Values as uint8 or uint16, whatever number type stores them. Colours stay as they are."""
    if pixels.ndim == 3 or (pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2):
        return pixels
    if pixels.dtype.kind == "f":
        fractional = pixels[~(np.isfinite(pixels) & (np.rint(pixels) == pixels))]
        if fractional.size:
            raise InputError(
                f"mask {path}: {fractional.size} values are not whole numbers, such as {fractional[0]:g}. Remedy: save the "
                "labels themselves as 8 bit; probabilities and anti-aliased borders are no labels."
            )
    if pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
        raise InputError(
            f"mask {path}: holds values from {pixels.min():g} to {pixels.max():g}, which are not whole numbers from 0 to "
            "65535. Remedy: save the mask with 8 bit."
        )
    return pixels.astype(np.uint16)


def to_phases(mask: Mask, phases: Sequence[PhaseSpec], unlabelled: int | str | None) -> NDArray[np.uint8]:
    """Phase indices of a mask.

    Args:
        mask: the mask, as `read_mask` gives it.
        phases: the phases with their mask values.
        unlabelled: the value of pixels without label, or None.

    Returns:
        uint8 (h, w), the mask's pixels; UNLABELLED (255) where the mask says so.

    Raises:
        InputError: the mask holds values that no phase names.
    """
    if mask.one_hot:
        return _from_planes(mask, phases)
    entries = [(value, index) for index, phase in enumerate(phases) for value in phase.values]
    if unlabelled is not None:
        entries.append((unlabelled, UNLABELLED))
    index = hidden_index(mask, entries)
    if index is None:
        return _by_value(mask, entries)
    assert mask.transparent is not None
    # What is hidden takes any value that is not: it is overwritten.
    pixels = mask.pixels.copy()
    pixels[mask.transparent] = mask.pixels[~mask.transparent][0]
    return np.where(mask.transparent, np.uint8(index), _by_value(replace(mask, pixels=pixels), entries))


def hidden_index(mask: Mask, entries: Sequence[tuple[int | str, int]]) -> int | None:
    """The phase index of transparent pixels; None where they count by the value that the mask has there.

    In masks of a report, the value 255 is transparent: it is not labelled.

    Args:
        mask: the mask.
        entries: mask values with their phase indices.

    Raises:
        InputError: transparent pixels have a colour of opaque ones, so that it means two things.
    """
    if mask.transparent is None:
        return None
    stated = dict(entries)
    if TRANSPARENT in stated:
        return stated[TRANSPARENT]
    if mask.palette is not None:
        is_report = UNLABELLED not in stated and (mask.pixels[mask.transparent] == UNLABELLED).all()
        return UNLABELLED if is_report else None
    hidden, opaque = (np.unique(mask.pixels[where], axis=0) for where in (mask.transparent, ~mask.transparent))
    if {item.tobytes() for item in hidden} & {item.tobytes() for item in opaque}:
        raise InputError(
            f"mask {mask.path}: {np.count_nonzero(mask.transparent)} transparent pixels have a colour that opaque pixels have, "
            "too. Remedy: give them a meaning in domain.yaml: a phase with `value: transparent`, or `unlabelled: transparent`."
        )
    return None


def _by_value(mask: Mask, entries: list[tuple[int | str, int]]) -> NDArray[np.uint8]:
    pixels = _stated_values(mask, {value for value, _ in entries if isinstance(value, int)})
    if pixels.ndim == 3:
        red, green, blue = cv2.split(np.ascontiguousarray(pixels))
        if np.array_equal(red, green) and np.array_equal(green, blue):
            pixels = green
        else:
            return _from_colors(red, green, blue, entries, mask)
    return _from_values(pixels, entries, mask)


def on_stored_grid(mask: Mask, grid: StoredGrid, image: Path) -> Mask:
    """A mask on the grid that the image's file stores, which masks of `segment` and training share.

    Labelling tools show, and save, the image as its orientation turns it. A mask that states no orientation and fits the stored
    grid alone was drawn on that.

    Args:
        mask: the mask.
        grid: the image's grid.
        image: its file, for messages.

    Returns:
        The mask with pixels (height, width) of the grid.

    Raises:
        InputError: mask and image differ in size.
    """
    require_size(mask.pixels.shape[:2], grid, mask.path, image, is_turned=mask.is_turned)
    if mask.pixels.shape[:2] == grid.shown_shape:
        pixels = np.ascontiguousarray(as_stored(mask.pixels, grid.orientation))
        hidden = None if mask.transparent is None else as_stored(mask.transparent, grid.orientation)
        return replace(mask, pixels=pixels, transparent=hidden)
    return mask


def require_size(size: tuple[int, ...], grid: StoredGrid, mask: Path, image: Path, *, is_turned: bool) -> None:
    """Raise InputError where labels are not of the size of their image.

    Args:
        size: height and width of the labels.
        grid: the image's grid.
        mask: the file of the labels, for messages.
        image: that of the image, for messages.
        is_turned: whether the labels state an orientation of their own: without, they may lie on the stored grid.
    """
    if size == grid.shown_shape or (size == grid.shape and not is_turned):
        return
    height, width = grid.shown_shape
    turned = "" if grid.orientation == 1 else f" as viewers show it (orientation {grid.orientation})"
    raise InputError(
        f"mask {mask}: {size[1]} x {size[0]} px, its image {image.name} has {width} x {height} px{turned}. "
        "Remedy: export the mask at the image's size, data bar included, and do not scale it."
    )


def _stated_values(mask: Mask, stated: set[int]) -> NDArray[Any]:
    """The pixels in the terms of the stated values: a palette's indices, its grey levels or its colours."""
    if mask.one_bit and 1 in stated and 255 not in stated:
        return (mask.pixels > 0).astype(np.uint8)
    if mask.palette is None:
        return mask.pixels
    if not stated:
        return np.take(mask.palette, mask.pixels, axis=0)
    used = np.unique(mask.pixels)
    levels = mask.palette[used]
    is_grey = (levels == levels[:, :1]).all() and len(np.unique(levels[:, 0])) == len(used)
    # An editor that makes a palette of a grey mask numbers the values as it likes: what viewers show is the value.
    by_level = is_grey and {int(level) for level in levels[:, 0]} <= stated
    return np.take(mask.palette[:, 0], mask.pixels) if by_level else mask.pixels


def _from_planes(mask: Mask, phases: Sequence[PhaseSpec]) -> NDArray[np.uint8]:
    """A one-hot mask: each page or channel is the phase whose value is its place, else the phase at its place."""
    places = place_of_plane(mask.one_hot, phases)
    if places is None:
        raise InputError(
            f"mask {mask.path}: is one-hot with {mask.one_hot} pages or channels, and {len(phases)} phases are stated. "
            "Remedy: state one phase for each page or channel, in their order."
        )
    return np.take(np.array(places, np.uint8), mask.pixels)


def mask_notices(mask: Mask, phases: Sequence[PhaseSpec]) -> tuple[str, ...]:
    """What the user should know about a mask that `to_phases` takes.

    Args:
        mask: the mask.
        phases: the phases.
    """
    notices = []
    if places := place_of_plane(mask.one_hot, phases) if mask.one_hot else None:
        parts = ", ".join(f"{number} is {phases[index].name}" for number, index in enumerate(places, 1))
        notices.append(f"one-hot mask: of its pages or channels, {parts}")
    if mask.white_is_zero:
        notices.append("the mask stores white as zero: its values count as viewers show them")
    return tuple(notices)


def place_of_plane(planes: int, phases: Sequence[PhaseSpec]) -> list[int] | None:
    """The phase of each page or channel of a one-hot mask, or None where their numbers differ.

    Args:
        planes: number of pages or channels.
        phases: the phases.
    """
    index_of = {value: index for index, phase in enumerate(phases) for value in phase.values}
    for first in (0, 1):
        if set(index_of) == set(range(first, first + planes)):
            return [index_of[first + plane] for plane in range(planes)]
    return list(range(planes)) if len(phases) == planes else None


def _from_values(pixels: NDArray[Any], entries: list[tuple[int | str, int]], mask: Mask) -> NDArray[np.uint8]:
    """One channel, through a table of all values."""
    table = np.full(np.iinfo(pixels.dtype).max + 1, _UNKNOWN, np.uint8)
    for kind in (OTHER, GREY):
        for value, index in entries:
            if value == kind:
                table[:] = index
    for value, index in entries:
        level = _grey_level(value)
        if level is not None and level < table.size:
            table[level] = index
    labels = np.take(table, pixels)
    if (table == _UNKNOWN).any() and (unknown := labels == _UNKNOWN).any():
        values, counts = np.unique(pixels[unknown], return_counts=True)
        raise _unknown_values(mask, values.tolist(), counts.tolist(), entries)
    return labels


def _grey_level(value: int | str) -> int | None:
    """The grey value of an entry: the number itself, or that of a colour with equal channels."""
    if isinstance(value, int):
        return value
    if value.startswith("#"):
        red, green, blue = bytes.fromhex(value[1:])
        return red if red == green == blue else None
    return None


def _from_colors(
    red: NDArray[Any], green: NDArray[Any], blue: NDArray[Any], entries: list[tuple[int | str, int]], mask: Mask
) -> NDArray[np.uint8]:
    """Three channels that differ somewhere: an overlay."""
    if red.dtype == np.uint16 and not any((channel % 257).any() for channel in (red, green, blue)):
        # 8-bit colours as 16 bit: 255 is 65535.
        red, green, blue = ((channel // 257).astype(np.uint8) for channel in (red, green, blue))
    if red.dtype != np.uint8:
        raise InputError(f"mask {mask.path}: a colour mask with {red.dtype} channels. Remedy: save it with 8 bit.")
    labels = np.full(red.shape, _UNKNOWN, np.uint8)
    is_grey = (red == green) & (green == blue)
    for value, index in entries:
        if value == OTHER:
            labels[:] = index
    for value, index in entries:
        if value == GREY:
            labels[is_grey] = index
    for value, index in entries:
        if isinstance(value, int) and value <= 255:
            labels[is_grey & (green == value)] = index
        elif isinstance(value, str) and value.startswith("#"):
            r, g, b = bytes.fromhex(value[1:])
            labels[(red == r) & (green == g) & (blue == b)] = index
    unknown = labels == _UNKNOWN
    if unknown.any():
        codes = (red[unknown].astype(np.uint32) << 16) | (green[unknown].astype(np.uint32) << 8) | blue[unknown]
        values, counts = np.unique(codes, return_counts=True)
        raise _unknown_values(mask, [f"#{value:06x}" for value in values], counts.tolist(), entries)
    return labels


def _unknown_values(
    mask: Mask, values: Sequence[int | str], counts: Sequence[int], entries: list[tuple[int | str, int]]
) -> InputError:
    """The error that names the commonest unknown values and their number of pixels."""
    ranked = sorted(zip(counts, values, strict=True), key=lambda item: (-item[0], str(item[1])))
    listed = ", ".join(f"{_told(value, mask)} ({count} px)" for count, value in ranked[:_LISTED])
    more = f" and {len(ranked) - _LISTED} more values" if len(ranked) > _LISTED else ""
    known = ", ".join(str(value) for value, _ in entries)
    inverted = " The file stores white as zero: its values count as viewers show them, 0 as the largest."
    found = (
        f"mask {mask.path}: {sum(counts)} pixels have values that no phase names: {listed}{more}. Known: {known}."
        f"{inverted if mask.white_is_zero else ''}"
    )
    if len(values) > _MANY and _lie_between(values, [value for value, _ in entries]):
        return InputError(f"{found} They lie between the values of the phases, as blurred borders do. {NO_BLUR}")
    return InputError(
        f'{found} Remedy: add them to `phases` in domain.yaml (`values`, or "other" for anything else), or set `unlabelled`.'
    )


def _told(value: int | str, mask: Mask) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if mask.palette is None or value >= len(mask.palette):
        return str(value)
    return f'{value}, in the palette "#{mask.palette[value].tobytes().hex()}"'


def _lie_between(values: Sequence[int | str], stated: Sequence[int | str]) -> bool:
    """Whether grey values lie between the stated ones. Colours: whether there are more of them than phases ever have."""
    levels = [level for value in stated if (level := _grey_level(value)) is not None]
    if all(isinstance(value, int) for value in values):
        return len(levels) > 1 and all(min(levels) < int(value) < max(levels) for value in values)
    return len(values) > _MANY * len(stated)
