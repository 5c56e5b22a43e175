"""One field from tiles to files: stitch, back to the native grid, count, mask, overlay."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.preparation.resampling import nearest_indices
from microseg.core.preparation.stitching import BandStitcher
from microseg.core.preparation.tiling import Tile
from microseg.core.schemas.manifest import PhaseInfo
from microseg.core.system.files import replacing, write_bytes
from microseg.deploy.report.overlay import Overlay, jpeg, thumbnail
from microseg.deploy.report.png import MaskWriter
from microseg.deploy.report.records import NOT_MEASURED, FieldRecord, mask_path, overlay_path, writing

# Native pixels read at a time, for files are compressed in pieces; and mapped, counted and written at a time: as many as stay
# in a processor's cache meanwhile.
_BLOCK_PX, _STRIPE_PX = 4 << 20, 1 << 16
# A micrograph has neither so few grey values nor so dark ones; a mask of phase indices has both.
_FEWEST_GREYS, _DARKEST_WHITE = 8, 16


class Measurement:
    """Takes a field's tiles in the order of the plan and writes its mask row by row."""

    def __init__(
        self, field: PreparedField, reading: Lock, phases: Sequence[PhaseInfo], folds: int, mask: MaskWriter
    ) -> None:
        self._field = field
        self._reading = reading
        self._mask = mask
        self._overlay = Overlay(*field.native_shape, [phase.color for phase in phases])
        self._counts = np.zeros((1 + folds, len(phases)), np.int64)
        self._greys = np.zeros(256, np.int64)
        self._rows_of = nearest_indices(field.shape[0], field.native_shape[0])
        self._columns_of = nearest_indices(field.shape[1], field.native_shape[1])
        self._stitcher = BandStitcher(field.shape[1])
        self._blank(field.crop.top_px)

    def add(self, tile: Tile, labels: NDArray[np.uint8], votes: NDArray[np.uint8]) -> None:
        """Take the labels (H, W) and votes (F, H, W) of a tile. A band of tiles goes out once its last one is here.

        Raises FieldError where the field can no longer be read.
        """
        if (band := self._stitcher.add(tile, labels, votes)) is not None:
            self._finish_band(band.top, *band.values)

    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.uint8], tuple[str, ...]]:
        """Pixels per phase by the bag and by every fold (1 + F, P), the overlay as BGR, and notices.

        Raises FieldError where the field cannot have been a micrograph.
        """
        self._blank(self._field.crop.bottom_px)
        self._mask.finish()
        return self._counts, self._overlay.finish(), self._doubts()

    def _finish_band(self, top: int, labels: NDArray[np.uint8], votes: NDArray[np.uint8]) -> None:
        """Network rows `top` and on of the bag (h, w) and the folds (F, h, w), to native rows."""
        start, stop = np.searchsorted(self._rows_of, (top, top + len(labels)))
        for first, last in _parts(int(start), int(stop), _BLOCK_PX // self._field.native_shape[1]):
            with self._reading:
                block = self._field.native_rows(first, last)
            for begin, end in _parts(first, last, _STRIPE_PX // self._field.native_shape[1]):
                self._finish_rows(block[begin - first : end - first], self._rows_of[begin:end] - top, labels, votes)

    def _finish_rows(
        self, grey: NDArray[np.uint8], rows: NDArray[np.intp], labels: NDArray[np.uint8], votes: NDArray[np.uint8]
    ) -> None:
        """Native rows of the micrograph, and what network rows of a band they are, to the counts, the mask and the overlay."""
        native = self._native(labels, rows)
        if np.count_nonzero(self._greys) <= _FEWEST_GREYS:  # a field of more raises no doubt
            self._greys += _grey_histogram(grey)
        self._overlay.add(grey, native)
        self._mask.write(self._with_margins(native))
        self._counts[0] += _pixels_per_phase(native, self._counts.shape[1])
        for fold, vote in enumerate(votes, start=1):
            self._counts[fold] += _pixels_per_phase(self._native(vote, rows), self._counts.shape[1])

    def _native(self, labels: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Native rows from network rows, by the nearest pixel centre."""
        if self._field.shape == self._field.native_shape:
            return labels[rows[0] : rows[-1] + 1]
        return labels[rows[:, None], self._columns_of]

    def _with_margins(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        crop = self._field.crop
        if not crop.left_px and not crop.right_px:
            return rows
        return np.pad(rows, ((0, 0), (crop.left_px, crop.right_px)), constant_values=NOT_MEASURED)

    def _blank(self, rows: int) -> None:
        self._mask.write(np.full((rows, self._field.full_shape[1]), NOT_MEASURED, np.uint8))

    def _doubts(self) -> tuple[str, ...]:
        values = np.flatnonzero(self._greys)
        if len(values) > _FEWEST_GREYS:
            return ()
        if values[-1] < _DARKEST_WHITE:
            raise FieldError(
                f"{self._field.path}: holds nothing but the values {', '.join(map(str, values))}: a label mask, no "
                "micrograph. Remedy: give the folder of images."
            )
        return (f"only {len(values)} different grey values: is this a micrograph?",)


@contextmanager
def measuring(
    report: Path, name: str, field: PreparedField, reading: Lock, phases: Sequence[PhaseInfo], folds: int
) -> Iterator[Measurement]:
    """A measurement whose mask appears in `report` if the block ends well, and leaves nothing otherwise.

    `reading` is held while `field` is read, which another thread does too.
    """
    colors = [phase.color for phase in phases]
    # In this order: the file is closed before it is renamed, which Windows insists on.
    with writing(report), replacing(report / mask_path(name)) as part, part.open("wb") as stream:
        yield Measurement(field, reading, phases, folds, MaskWriter(stream, *field.full_shape, colors))


def write_overlay(report: Path, name: str, picture: NDArray[np.uint8]) -> str:
    """Write the overlay (BGR) of a field; returns its thumbnail, JPEG in base64."""
    with writing(report):
        write_bytes(report / overlay_path(name), jpeg(picture))
    return base64.b64encode(thumbnail(picture)).decode("ascii")


def field_record(
    name: str, sha256: str, field: PreparedField, counts: NDArray[np.int64], notices: tuple[str, ...]
) -> FieldRecord:
    """The record of a measured field; `counts` is (1 + F, P): the bag, then the folds."""
    return FieldRecord(
        name=name,
        sha256=sha256,
        width_px=field.full_shape[1],
        height_px=field.full_shape[0],
        measured_width_px=field.native_shape[1],
        measured_height_px=field.native_shape[0],
        pixel_size_um=field.pixel_size_um,
        counts=counts[0].tolist(),
        fold_counts=counts[1:].tolist(),
        notices=[*field.notices, *notices],
        mask=mask_path(name),
        overlay=overlay_path(name),
    )


def _parts(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive parts of at most `size`, at least one, of start ... stop."""
    for first in range(start, stop, max(1, size)):
        yield first, min(first + max(1, size), stop)


def _pixels_per_phase(labels: NDArray[np.uint8], phases: int) -> list[int]:
    """How often each phase occurs; a comparison per phase is several times faster than a histogram."""
    labels = np.ascontiguousarray(labels)
    counts = [cv2.countNonZero(cv2.compare(labels, phase, cv2.CMP_EQ)) for phase in range(1, phases)]  # type: ignore[call-overload]
    return [labels.size - sum(counts), *counts]


def _grey_histogram(grey: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often 0 ... 255 occur. Exact: OpenCV counts in float32, up to 2**24, and a stripe has fewer pixels."""
    return np.asarray(cv2.calcHist([np.ascontiguousarray(grey)], [0], None, [256], [0, 256])).astype(np.int64).ravel()
