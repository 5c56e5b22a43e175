"""The one preparation of training and station: crop, grey, 8 bit, invert, rescale to the network's grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.exclusion import Exclusion, merged
from microseg.core.images.micrograph import Micrograph, damage_told, open_micrograph
from microseg.core.images.pages import Selection
from microseg.core.images.pixel_size import PixelSize
from microseg.core.material.material import find_material
from microseg.core.notices import Notice
from microseg.core.preparation.field_scale import ScaleRules, factors, field_pixel_size
from microseg.core.preparation.filling import filled
from microseg.core.preparation.intensity import EightBit, eight_bit
from microseg.core.preparation.resampling import nearest_indices, network_side, resample_rows, source_rows
from microseg.core.schemas.preparation import Crop, Grid, Intensity, Preparation
from microseg.core.system.files import Closing

MIN_SIDE_PX = 16
_FEW_VALUES = 8
# Statistics need about ten times this while they count.
_STRIPE_BYTES = 4 << 20


@dataclass(frozen=True)
class PreparedField(Closing):
    """A micrograph as the network sees it, a context manager. One thread at a time may use it.

    Attributes:
        path: the file.
        dtype: data type of the file's grey values.
        full_shape: native (height, width) before the crop.
        native_shape: native (height, width) after the crop.
        crop: pixels cut off each side, data bars included.
        data_bars: the rows of them that are data bars.
        shape: (height, width) on the network's grid.
        pixel_size: size of a native pixel, or None where it is unknown.
        intensity: the rule to 8 bit, as resolved.
        invert: whether dark and bright are exchanged.
        orientation: how viewers turn the picture, 1 to 8. It is not turned here.
        notices: what the user should know.
        exclusions: pixels that are not measured, by reason. The network sees their surroundings mirrored there, except for
            burnt-in white and what lies outside of a region of interest.
        artefacts: names of phases that are no material.
    """

    path: Path
    dtype: np.dtype[Any]
    full_shape: tuple[int, int]
    native_shape: tuple[int, int]
    crop: Crop
    data_bars: Crop
    shape: tuple[int, int]
    pixel_size: PixelSize | None
    intensity: Intensity
    invert: bool
    orientation: int
    notices: tuple[Notice, ...]
    exclusions: tuple[Exclusion, ...]
    artefacts: tuple[str, ...]
    _micrograph: Micrograph = field(repr=False)
    _eight_bit: EightBit = field(repr=False)
    _filled: int = field(repr=False, default=0)
    _level: int = field(repr=False, default=0)
    _tone: NDArray[np.uint8] | None = field(repr=False, default=None)

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows of the network's grid, the same bits whether the field is read whole or in stripes.

        Args:
            start: first row.
            stop: the row after the last.

        Returns:
            uint8 (stop - start, width).

        Raises:
            FieldError: the file is damaged or coloured.
        """
        if start == stop:
            return np.empty((0, self.shape[1]), np.uint8)
        if self.shape == self.native_shape:
            return self._toned(self.filled_rows(start, stop))
        first, last = source_rows(self.native_shape[0], self.shape[0], start, stop)
        native = self.filled_rows(first, last)
        return self._toned(resample_rows(native, first, self.native_shape, self.shape, start, stop))

    def _toned(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows = 255 - rows if self.invert else rows
        return rows if self._tone is None else self._tone[rows]

    def whole(self) -> NDArray[np.uint8]:
        """The whole field on the network's grid, uint8 `shape`. Raises FieldError."""
        return self.rows(0, self.shape[0])

    def native_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Native rows after the crop, uint8 (stop - start, native width), not inverted: the picture that a person knows."""
        return self._eight_bit(_cropped_rows(self._micrograph, self.crop, start, stop))

    def data_bar_rows(self, *, at_top: bool) -> NDArray[np.uint8]:
        """Rows of the data bar at the top or the bottom, for pictures: uint8 (n, native width), white if they have no grey."""
        crop, bars, height = self.crop, self.data_bars, self.full_shape[0]
        stop = crop.top_px if at_top else height - crop.bottom_px + bars.bottom_px
        start = stop - (bars.top_px if at_top else bars.bottom_px)
        try:
            return self._eight_bit(self._micrograph.rows(start, stop, crop.left_px, self.full_shape[1] - crop.right_px))
        except FieldError:
            return np.full((stop - start, self.native_shape[1]), 255, np.uint8)

    def excluded_rows(self, start: int, stop: int) -> list[NDArray[np.bool_]]:
        """Pixels of native rows after the crop that are not measured: bool (stop - start, native width) for each exclusion."""
        top, left = self.crop.top_px, self.crop.left_px
        columns = slice(left, left + self.native_shape[1])
        return [each.rows(top + start, top + stop)[:, columns] for each in self.exclusions]

    def filled_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """`native_rows` with what is not measured filled from its surroundings, so that it does not change their labels."""
        rows = self.native_rows(start, stop)
        if not self._filled:
            return rows
        return filled(rows, np.logical_or.reduce(self.excluded_rows(start, stop)[: self._filled]), self._level)

    def within(self, region: Exclusion) -> PreparedField:
        """The field without what lies outside of a region of interest. The network sees it, and it does not count."""
        return replace(self, exclusions=(*self.exclusions, region))

    @property
    def pixel_size_um(self) -> float | None:
        """Edge of a native pixel along a row in micrometres, or None where it is unknown."""
        return None if self.pixel_size is None else self.pixel_size.width_um

    @property
    def sidecar_sha256(self) -> str:
        """SHA-256 of what texts beside the file state about its pixel size; empty where they state nothing."""
        return self._micrograph.beside.sha256

    def close(self) -> None:
        """Close the file."""
        self._micrograph.close()


def open_prepared(
    source: Path | Micrograph,
    preparation: Preparation,
    grid: Grid,
    scale: ScaleRules = ScaleRules(),
) -> PreparedField:
    """Open a field for the network.

    The native pixel size is the command line's, else the preparation's, else the file's, else an assumed one. Divided by the
    grid's it gives the factors of the rescaling along columns and rows; a grid without pixel size has a factor of its own. A
    field whose shape the factors do not change is not resampled.

    Args:
        source: the file, or a micrograph that is open.
        preparation: the domain's preparation.
        grid: the network's pixel grid.
        scale: what decides the pixel size beside the preparation and the file.

    Raises:
        FieldError: the file cannot be read, the crop leaves nothing, the field is too small or blank, or its pixel size is
            missing, contradictory, out of range or refused by the rules.
    """
    selection = Selection(preparation.page, preparation.channel)
    micrograph = source if isinstance(source, Micrograph) else open_micrograph(source, selection)
    try:
        size, on_scale = field_pixel_size(micrograph, preparation.pixel_size_um, scale)
        with damage_told(micrograph.path):
            return _prepared(micrograph, preparation, grid, size, on_scale)
    except BaseException:
        micrograph.close()
        raise


def _prepared(
    micrograph: Micrograph,
    preparation: Preparation,
    grid: Grid,
    pixel_size: PixelSize | None,
    on_scale: tuple[Notice, ...],
) -> PreparedField:
    path = micrograph.path
    full = (micrograph.height, micrograph.width)
    _require_size(path, cropped_shape(full, preparation.crop, path))
    material = find_material(micrograph, preparation)
    crop, exclusions = material.crop, material.exclusions
    native = cropped_shape(full, crop, path)
    _require_size(path, native)
    down, across = factors(path, pixel_size, grid)
    looks = _first_look(micrograph, crop, exclusions)
    found = eight_bit(
        preparation.intensity,
        micrograph.dtype,
        lambda: _measured_stripes(micrograph, crop, exclusions),
        str(path),
        white_is_zero=micrograph.white_is_zero,
    )
    burnt_in = _burnt_in(micrograph, found.burnt_in)
    level = 0
    if exclusions:
        first = next(iter(_measured_stripes(micrograph, crop, exclusions)))
        level = int(np.median(found.convert(first)))
    return PreparedField(
        path=path,
        dtype=micrograph.dtype,
        full_shape=full,
        native_shape=native,
        crop=crop,
        data_bars=material.data_bars,
        shape=(network_side(native[0], down), network_side(native[1], across)),
        pixel_size=pixel_size,
        intensity=found.rule,
        invert=preparation.invert,
        orientation=micrograph.orientation,
        notices=micrograph.notices + on_scale + material.notices + looks + found.notices,
        exclusions=exclusions + burnt_in,
        artefacts=preparation.artefacts,
        _filled=len(exclusions),  # a thin bar or text disturbs less than what would fill it
        _micrograph=micrograph,
        _eight_bit=found.convert,
        _level=level,
        _tone=None if preparation.tone is None else np.array(preparation.tone, np.uint8),
    )


def _burnt_in(micrograph: Micrograph, value: int | None) -> tuple[Exclusion, ...]:
    """The pixels of a scale bar or text that software wrote into the picture with this grey value."""
    if value is None:
        return ()
    return (Exclusion("burnt-in white", lambda start, stop: micrograph.rows(start, stop) == value),)


def _require_size(path: Path, native: tuple[int, int]) -> None:
    if min(native) < MIN_SIDE_PX:
        raise FieldError(
            f"{path}: is too small ({native[1]} x {native[0]} px; at least {MIN_SIDE_PX} x {MIN_SIDE_PX}). Remedy: give a "
            "larger field, or a smaller `crop`."
        )


def cropped_shape(full: tuple[int, int], crop: Crop, path: Path) -> tuple[int, int]:
    """Native (height, width) that the crop leaves.

    Args:
        full: native (height, width) before the crop.
        crop: pixels to cut off.
        path: the file, for messages.

    Raises:
        FieldError: nothing is left.
    """
    height, width = full[0] - crop.top_px - crop.bottom_px, full[1] - crop.left_px - crop.right_px
    if height < 1 or width < 1:
        raise FieldError(
            f"{path}: the crop (top {crop.top_px}, bottom {crop.bottom_px}, left {crop.left_px}, right {crop.right_px} "
            f"px) leaves nothing of {full[1]} x {full[0]} px. Remedy: a smaller `crop`."
        )
    return height, width


def stripes(micrograph: Micrograph, crop: Crop) -> Iterator[NDArray[Any]]:
    """The cropped native field from top to bottom in stripes of at most 4 MiB, in the file's dtype."""
    height, width = cropped_shape((micrograph.height, micrograph.width), crop, micrograph.path)
    step = max(1, _STRIPE_BYTES // (width * micrograph.dtype.itemsize))
    for start in range(0, height, step):
        yield _cropped_rows(micrograph, crop, start, min(start + step, height))


def _cropped_rows(micrograph: Micrograph, crop: Crop, start: int, stop: int) -> NDArray[Any]:
    right = micrograph.width - crop.right_px
    return micrograph.rows(start + crop.top_px, stop + crop.top_px, crop.left_px, right)


def _measured_stripes(micrograph: Micrograph, crop: Crop, exclusions: tuple[Exclusion, ...]) -> Iterator[NDArray[Any]]:
    """`stripes` without what is not measured: (n, width), or (n,) where pixels are left out. No stripe is empty."""
    top = crop.top_px
    for stripe in stripes(micrograph, crop):
        if exclusions:
            columns = slice(crop.left_px, crop.left_px + stripe.shape[1])
            outside = [each.rows(top, top + len(stripe))[:, columns] for each in exclusions]
            top += len(stripe)
            stripe = stripe[~np.logical_or.reduce(outside)]
        if stripe.size:
            yield stripe


def _first_look(micrograph: Micrograph, crop: Crop, exclusions: tuple[Exclusion, ...]) -> tuple[Notice, ...]:
    """Notices on the grey values. Ends at the first stripe that has two of them.

    Raises FieldError for a blank capture, which is no field of the material, and for one of which nothing is measured.
    """
    first = None
    for stripe in _measured_stripes(micrograph, crop, exclusions):
        first = stripe.flat[0] if first is None else first
        if stripe.min() == first == stripe.max():
            continue
        if stripe.dtype != np.uint8:
            return ()
        values = np.count_nonzero(np.bincount(stripe[(slice(None, None, 4),) * stripe.ndim].ravel()))
        if values > _FEW_VALUES:
            return ()
        return (Notice("grey values", f"holds only {values} grey values, as masks and thresholded images do"),)
    if first is None:
        why = " or ".join(each.reason for each in exclusions)
        raise FieldError(
            f"{micrograph.path}: every pixel is {why}: nothing is left to measure. Remedy: give the picture itself."
        )
    raise FieldError(
        f"{micrograph.path}: every pixel is {first:g}: there is nothing to measure. Remedy: capture it again, or remove it."
    )


def read_through(prepared: PreparedField) -> dict[str, int]:
    """Read a field once and keep nothing.

    Args:
        prepared: the open field.

    Returns:
        Native pixels after the crop that are not measured, by reason.

    Raises:
        FieldError: damage that only reading shows.
    """
    counts = {each.reason: 0 for each in prepared.exclusions}
    start = 0
    for stripe in stripes(prepared._micrograph, prepared.crop):
        merged(prepared.exclusions, prepared.excluded_rows(start, start + len(stripe)), counts)
        start += len(stripe)
    return counts


def read_whole(prepared: PreparedField) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """`whole` and `read_through` at once: the file is decoded once.

    Args:
        prepared: the open field.

    Returns:
        The whole field on the network's grid, uint8 `shape`; native pixels after the crop that are not measured, by reason.

    Raises:
        FieldError: damage that only reading shows.
    """
    counts = {each.reason: 0 for each in prepared.exclusions}
    native = np.empty(prepared.native_shape, np.uint8)
    step = max(1, _STRIPE_BYTES // prepared.native_shape[1])
    for start in range(0, len(native), step):
        stop = min(start + step, len(native))
        native[start:stop] = prepared.filled_rows(start, stop)
        merged(prepared.exclusions, prepared.excluded_rows(start, stop), counts)
    if prepared.shape != prepared.native_shape:
        native = resample_rows(native, 0, prepared.native_shape, prepared.shape, 0, prepared.shape[0])
    return prepared._toned(native), counts


def labels_to_native(
    labels: NDArray[np.uint8], native_shape: tuple[int, int], start: int = 0, stop: int | None = None
) -> NDArray[np.uint8]:
    """Labels on the native grid after the crop, by nearest pixel centre: the inverse of the rescaling.

    Args:
        labels: uint8 (h, w) of the whole field on the network's grid.
        native_shape: native (height, width) after the crop.
        start: first native row.
        stop: the native row after the last; None: to the end.

    Returns:
        uint8 (stop - start, native width). Stripes equal the whole.
    """
    if labels.shape == native_shape:
        return labels[start:stop]
    # Columns first: they are gathered once from the smaller grid, then whole rows are copied.
    down = nearest_indices(labels.shape[0], native_shape[0])[start:stop]
    top = int(down[0]) if len(down) else 0
    wide = np.take(
        labels[top : int(down[-1]) + 1 if len(down) else 0], nearest_indices(labels.shape[1], native_shape[1]), 1
    )
    return np.take(wide, down - top, 0)


def labels_to_grid(labels: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Native labels on the network's grid by nearest pixel centre: masks for training.

    Args:
        labels: uint8 (h, w) on the native grid after the crop.
        shape: (height, width) on the network's grid.
    """
    return labels_to_native(labels, shape)
