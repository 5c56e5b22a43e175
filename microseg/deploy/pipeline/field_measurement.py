"""One field from tiles to native rows: stitch, map to the native grid, count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.exclusion import NOT_MEASURED, artefact_reason, merged, not_measured_notices
from microseg.core.notices import Notice
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.preparation.resampling import nearest_indices
from microseg.core.preparation.stitching import BandStitcher
from microseg.core.preparation.tiling import Tile

# Native pixels that are read at a time, because files are compressed in pieces; and that are mapped, counted and written at a
# time: as many as a processor's cache holds.
_BLOCK_PX, _STRIPE_PX = 4 << 20, 1 << 16
# A field of which one grey value takes this share shows no structure. A clipped share beyond the other is told.
_BLANK_SHARE, _TOLD_SHARE = 0.99, 0.01
# A micrograph has neither so few grey values nor so dark ones; a mask of phase indices has both.
_FEWEST_GREYS, _DARKEST_WHITE = 8, 16


class NativeRows(Protocol):
    """Takes the measured native rows of a field from top to bottom."""

    def add(self, grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Take the next rows: 8-bit grey values and phase indices of the bag, both uint8 (n, measured width)."""
        ...

    def add_vote(self, fold: int, labels: NDArray[np.uint8]) -> None:
        """Take the phase indices of one fold for the rows that `add` took last, uint8 (n, measured width)."""
        ...


class FieldMeasurement:
    """Takes a field's tiles in the order of the plan; counts phases and hands native rows on.

    Attributes:
        not_measured: native pixels that are not measured, by reason; complete after the last tile.
    """

    def __init__(
        self, field: PreparedField, reading: Lock, phases: Sequence[str], folds: int, rows: NativeRows
    ) -> None:
        """Args:
        field: the open field.
        reading: held while `field` is read, which another thread does too.
        phases: names of the phases.
        folds: number of folds.
        rows: takes the native rows.
        """
        self._field = field
        self._reading = reading
        self._rows = rows
        self._phases = tuple(phases)
        self._counts = np.zeros((1 + folds, len(phases)), np.int64)
        self._greys = np.zeros(256, np.int64)
        self._rows_of = nearest_indices(field.shape[0], field.native_shape[0])
        self._columns_of = nearest_indices(field.shape[1], field.native_shape[1])
        self._stitcher = BandStitcher(field.shape[1])
        self.not_measured = {each.reason: 0 for each in field.exclusions}

    def add(self, tile: Tile, labels: NDArray[np.uint8], votes: NDArray[np.uint8]) -> None:
        """Take the labels (H, W) and votes (F, H, W) of a tile. Rows go on once the last tile of their band is here.

        Raises:
            FieldError: the field can no longer be read.
        """
        if (band := self._stitcher.add(tile, labels, votes)) is not None:
            self._finish_band(band.top, *band.values)

    def finish(self) -> tuple[NDArray[np.int64], tuple[Notice, ...]]:
        """The result, after the last tile.

        Returns:
            Pixels per phase by the bag and by every fold, int64 (1 + F, P), and notices for the user. Artefacts have none.

        Raises:
            FieldError: the field cannot be a micrograph.
        """
        self._leave_out_artefacts()
        height, width = self._field.native_shape
        notices = not_measured_notices(self.not_measured, height * width)
        return self._counts, notices + self._about_grey_values()

    def _leave_out_artefacts(self) -> None:
        """Take the pixels of artefacts, as the bag finds them, out of what is measured; each fold leaves out its own."""
        for index, name in enumerate(self._phases):
            if name in self._field.artefacts:
                self.not_measured[artefact_reason(name)] = int(self._counts[0, index])
                self._counts[:, index] = 0
        if not self._counts[0].any():
            raise FieldError(
                f"{self._field.path}: every pixel is an artefact ({', '.join(self._field.artefacts)}). Remedy: check "
                "`artefacts` in domain.yaml."
            )

    def _about_grey_values(self) -> tuple[Notice, ...]:
        """Notices on the 8-bit grey values. Raises FieldError where they cannot be those of a micrograph."""
        total, values = int(self._greys.sum()), np.flatnonzero(self._greys)
        commonest = int(self._greys.argmax())
        if (share := self._greys[commonest] / total) >= _BLANK_SHARE:
            raise FieldError(
                f"{self._field.path}: {share:.4%} of the pixels have the grey value {commonest} (of 255): there is no "
                "structure to measure. Remedy: capture it again, or remove it."
            )
        if len(values) <= _FEWEST_GREYS and values[-1] < _DARKEST_WHITE:
            raise FieldError(
                f"{self._field.path}: holds only the grey values {', '.join(map(str, values))} (of 255), as label masks do. "
                "Remedy: give the folder of images."
            )
        told = []
        if len(values) <= _FEWEST_GREYS:
            told.append(f"only {len(values)} different grey values: is this a micrograph?")
        for value, what in ((255, "saturated (255)"), (0, "black (0)")):
            if (share := self._greys[value] / total) >= _TOLD_SHARE:
                told.append(f"{share:.1%} of the pixels are {what}")
        return tuple(Notice("grey values", text) for text in told)

    def _finish_band(self, top: int, labels: NDArray[np.uint8], votes: NDArray[np.uint8]) -> None:
        """Network rows `top` and on of the bag (h, w) and the folds (F, h, w), to native rows."""
        start, stop = np.searchsorted(self._rows_of, (top, top + len(labels)))
        for first, last in _parts(int(start), int(stop), _BLOCK_PX // self._field.native_shape[1]):
            with self._reading:
                block = self._field.native_rows(first, last)
                excluded = self._field.excluded_rows(first, last)
            for begin, end in _parts(first, last, _STRIPE_PX // self._field.native_shape[1]):
                part = slice(begin - first, end - first)
                outside = merged(self._field.exclusions, [rows[part] for rows in excluded], self.not_measured)
                self._finish_rows(block[part], outside, self._rows_of[begin:end] - top, labels, votes)

    def _finish_rows(
        self,
        grey: NDArray[np.uint8],
        outside: NDArray[np.bool_] | None,
        rows: NDArray[np.intp],
        labels: NDArray[np.uint8],
        votes: NDArray[np.uint8],
    ) -> None:
        """Native rows of the micrograph, and the network rows of a band that they lie on, to the counts and on."""
        phases = self._counts.shape[1]
        self._greys += _grey_histogram(grey, outside)
        native = self._native(labels, rows, outside)
        self._rows.add(grey, native)
        self._counts[0] += _pixels_per_phase(native, phases, outside)
        for fold, vote in enumerate(votes):
            native = self._native(vote, rows, outside)
            self._rows.add_vote(fold, native)
            self._counts[1 + fold] += _pixels_per_phase(native, phases, outside)

    def _native(
        self, labels: NDArray[np.uint8], rows: NDArray[np.intp], outside: NDArray[np.bool_] | None
    ) -> NDArray[np.uint8]:
        """Native rows from network rows, by the nearest pixel centre; NOT_MEASURED where `outside`."""
        native = labels[rows[0] : rows[-1] + 1]
        if self._field.shape != self._field.native_shape:
            # One axis after the other: both at once take several times longer.
            native = native.take(self._columns_of, axis=1)[rows - rows[0]]
        return native if outside is None else np.where(outside, np.uint8(NOT_MEASURED), native)


def _parts(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive parts of at most `size`, at least one, of start ... stop."""
    for first in range(start, stop, max(1, size)):
        yield first, min(first + max(1, size), stop)


def _pixels_per_phase(labels: NDArray[np.uint8], phases: int, outside: NDArray[np.bool_] | None) -> list[int]:
    """How often each phase occurs; a comparison per phase is several times faster than a histogram."""
    labels = np.ascontiguousarray(labels)
    counts = [cv2.countNonZero(cv2.compare(labels, phase, cv2.CMP_EQ)) for phase in range(1, phases)]  # type: ignore[call-overload]
    measured = labels.size - (0 if outside is None else int(np.count_nonzero(outside)))
    return [measured - sum(counts), *counts]


def _grey_histogram(grey: NDArray[np.uint8], outside: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """How often 0 ... 255 occur. Exact: OpenCV counts in float32, up to 2**24, and a stripe has fewer pixels."""
    if not grey.size:
        return np.zeros(256, np.int64)
    inside = None if outside is None else (~outside).view(np.uint8)
    counts = cv2.calcHist([np.ascontiguousarray(grey)], [0], inside, [256], [0, 256])
    return np.asarray(counts).astype(np.int64).ravel()
