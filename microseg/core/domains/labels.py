"""Masks to phase indices, by index, grey value, overlay colour, any grey, or anything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import GREY, OTHER, UNLABELLED, PhaseSpec
from microseg.core.errors import FieldError, InputError
from microseg.core.images.image_file import open_raster

__all__ = ["UNLABELLED", "PhaseSpec", "read_mask", "to_phases"]

# Neither a phase nor UNLABELLED: a mask value that no phase names.
_UNKNOWN = 254
_LISTED = 8


def read_mask(path: Path) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Pixels of a mask as stored.

    Args:
        path: the file.

    Returns:
        Pixels (h, w) or (h, w, 3), and the palette (entries, 3) uint8 or None.

    Raises:
        InputError: the file cannot be read, or is JPEG, which blurs values.
    """
    try:
        with open_raster(path) as raster:
            if raster.lossy:
                raise InputError(
                    f"{path}: a mask in JPEG has blurred values. Remedy: save it from the original as PNG or TIFF."
                )
            return raster.read(0, raster.height), raster.palette
    except FieldError as error:
        raise InputError(f"mask {error}") from error


def to_phases(
    pixels: NDArray[Any],
    palette: NDArray[np.uint8] | None,
    phases: Sequence[PhaseSpec],
    unlabelled: int | str | None,
    path: Path,
) -> NDArray[np.uint8]:
    """Phase indices of a mask.

    Args:
        pixels: (h, w) or (h, w, 3), as `read_mask` gives them.
        palette: (entries, 3) uint8 where the pixels are indices into it, else None.
        phases: the phases with their mask values.
        unlabelled: the value of pixels without label, or None.
        path: the file, for messages.

    Returns:
        uint8 (h, w); UNLABELLED (255) where the mask says so.

    Raises:
        InputError: the mask holds values that no phase names.
    """
    entries = [(value, index) for index, phase in enumerate(phases) for value in phase.values]
    if unlabelled is not None:
        entries.append((unlabelled, UNLABELLED))
    if palette is not None and not any(isinstance(value, int) for value, _ in entries):
        pixels = palette[pixels]
    if pixels.ndim == 3:
        red, green, blue = cv2.split(np.ascontiguousarray(pixels))
        if np.array_equal(red, green) and np.array_equal(green, blue):
            pixels = green
        else:
            return _from_colors(red, green, blue, entries, path)
    return _from_values(pixels, entries, path)


def _from_values(pixels: NDArray[Any], entries: list[tuple[int | str, int]], path: Path) -> NDArray[np.uint8]:
    """One channel, through a table of all values."""
    if pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > 2:
        rounded = np.rint(pixels)
        if pixels.size and (not np.array_equal(rounded, pixels) or pixels.min() < 0 or pixels.max() > 65535):
            raise InputError(f"mask {path}: values are not whole numbers from 0 to 65535. Remedy: save it with 8 bit.")
        pixels = rounded.astype(np.uint16)
    if pixels.dtype.kind == "i":
        pixels = pixels.astype(np.uint16)
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
        raise _unknown_values(path, [str(value) for value in values], counts.tolist(), entries)
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
    red: NDArray[Any], green: NDArray[Any], blue: NDArray[Any], entries: list[tuple[int | str, int]], path: Path
) -> NDArray[np.uint8]:
    """Three channels that differ somewhere: an overlay."""
    if red.dtype != np.uint8:
        raise InputError(f"mask {path}: a colour mask with {red.dtype} channels. Remedy: save it with 8 bit.")
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
        raise _unknown_values(path, [f'"#{value:06x}"' for value in values], counts.tolist(), entries)
    return labels


def _unknown_values(
    path: Path, values: list[str], counts: list[int], entries: list[tuple[int | str, int]]
) -> InputError:
    """The error that names the commonest unknown values and their number of pixels."""
    ranked = sorted(zip(counts, values, strict=True), reverse=True)
    listed = ", ".join(f"{value} ({count} px)" for count, value in ranked[:_LISTED])
    more = f" and {len(ranked) - _LISTED} more values" if len(ranked) > _LISTED else ""
    known = ", ".join(str(value) for value, _ in entries)
    return InputError(
        f"mask {path}: {sum(counts)} pixels have values that no phase names: {listed}{more}. Known: {known}. "
        'Remedy: add them to `phases` in domain.yaml (`values`, or "other" for anything else), or set `unlabelled`.'
    )
