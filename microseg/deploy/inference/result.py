"""What an engine finds in one field, as arrays on the native grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.exclusion import NOT_MEASURED
from microseg.core.images.pixel_size import PixelSize, source_of
from microseg.core.notices import Notice
from microseg.core.pictures.overlay import Overlay
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import PhaseInfo

_OVERLAY_ROWS_PX = 1 << 20


class NativeArrays:
    """Native rows of a field to arrays of its full size.

    Attributes:
        labels: uint8 (H, W), phase indices, 255 where nothing is measured.
        votes: uint8 (F, H, W), the same of each fold.
        grey: uint8 (h, w), grey values of the measured part.
        measured: rows and columns of the measured part.
    """

    def __init__(self, prepared: PreparedField, folds: int) -> None:
        """Args:
        prepared: the open field.
        folds: number of folds F.
        """
        crop, (height, width) = prepared.crop, prepared.native_shape
        self.measured = (slice(crop.top_px, crop.top_px + height), slice(crop.left_px, crop.left_px + width))
        self.labels = np.full(prepared.full_shape, NOT_MEASURED, np.uint8)
        self.votes = np.full((folds, *prepared.full_shape), NOT_MEASURED, np.uint8)
        self.grey = np.empty(prepared.native_shape, np.uint8)
        self._from, self._to = 0, 0

    def add(self, grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Take the next rows of the measured part: grey values and phase indices, uint8 (n, w)."""
        self._from, self._to = self._to, self._to + len(grey)
        self.grey[self._from : self._to] = grey
        self.labels[self.measured][self._from : self._to] = labels

    def add_vote(self, fold: int, labels: NDArray[np.uint8]) -> None:
        """Take the phase indices of one fold for the same rows, uint8 (n, w)."""
        self.votes[fold][self.measured][self._from : self._to] = labels


@dataclass(frozen=True)
class Measured:
    """The measured content of a `FieldResult`.

    Attributes:
        arrays: labels, votes and grey values.
        counts: pixels per phase by the bag and by each fold, int64 (1 + F, P).
        pixel_size: size of a native pixel, or None where it is unknown.
        notices: what a user should know about the field.
        probability: computes `FieldResult.probability`.
    """

    arrays: NativeArrays
    counts: NDArray[np.int64]
    pixel_size: PixelSize | None
    notices: tuple[Notice, ...]
    probability: Callable[[], NDArray[np.float32]] = field(repr=False)


class FieldResult:
    """What an engine finds in one field. All arrays are on the native grid of the field, the crop included.

    A field that fails gives a result too: `error` holds the reason, and everything else raises it as a FieldError.

    Attributes:
        name: the path as given, or "array" with its place in the input.
        phases: names of the phases; a label is an index into them.
        error: why the field fails, else None.
    """

    def __init__(self, name: str, phases: tuple[PhaseInfo, ...], found: Measured | str) -> None:
        """Args:
        name: the field's name.
        phases: the engine's phases.
        found: the content, or why the field fails.
        """
        self.name = name
        self.phases: tuple[str, ...] = tuple(phase.name for phase in phases)
        self.error: str | None = found if isinstance(found, str) else None
        self._colors = [phase.color for phase in phases]
        self._content = found
        self._probability: NDArray[np.float32] | None = None

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The bag's phase index of each pixel, uint8 (H, W); 255 where nothing is measured (the crop)."""
        return self._found.arrays.labels

    @property
    def votes(self) -> NDArray[np.uint8]:
        """Each fold's phase index of each pixel, uint8 (F, H, W); 255 where nothing is measured."""
        return self._found.arrays.votes

    @property
    def probability(self) -> NDArray[np.float32]:
        """Mean probability of each phase over the folds, float32 (P, H, W), 0-1; NaN where nothing is measured.

        The first use computes the field again (the engine must be open, and the file or array unchanged) and keeps the
        array, 4 P bytes a pixel.

        Raises:
            FieldError: the file or array changed, or the computation fails.
            InputError: the engine is closed, or is a plan without the output `probability`.
        """
        if self._probability is None:
            self._probability = self._found.probability()
        return self._probability

    @property
    def fractions(self) -> dict[str, float]:
        """Area fraction of each phase in the measured part, 0-1."""
        return self._fractions(0)

    @property
    def fold_fractions(self) -> list[dict[str, float]]:
        """Area fraction of each phase by each fold, 0-1: one dict per fold."""
        return [self._fractions(1 + fold) for fold in range(len(self._found.counts) - 1)]

    @property
    def measured_px(self) -> int:
        """Number of measured native pixels."""
        return int(self._found.counts[0].sum())

    @property
    def pixel_size_um(self) -> float | None:
        """Edge of a native pixel along a row in micrometres; None where nothing states it for this field."""
        size = self._found.pixel_size
        return None if size is None or size.is_assumed else size.width_um

    @property
    def pixel_size_source(self) -> str:
        """Where the pixel size is stated, that it is assumed from the training images, or that there is none."""
        return source_of(self._found.pixel_size)

    @property
    def area_um2(self) -> float | None:
        """Measured area in square micrometres; None where the pixel size is unknown."""
        size = self._found.pixel_size
        return None if size is None or size.is_assumed else self.measured_px * size.width_um * size.height_um

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know about the field."""
        return self._found.notices

    def overlay(self) -> NDArray[np.uint8]:
        """The phases' colours over the measured part, uint8 (h, w, 3) RGB; large fields are reduced to 2048 px a side."""
        arrays = self._found.arrays
        labels = arrays.labels[arrays.measured]
        height, width = labels.shape
        picture = Overlay(height, width, self._colors)
        step = max(1, _OVERLAY_ROWS_PX // width)
        for start in range(0, height, step):
            picture.add(arrays.grey[start : start + step], labels[start : start + step])
        return np.asarray(cv2.cvtColor(picture.finish(), cv2.COLOR_BGR2RGB), np.uint8)

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<FieldResult {self.name}: failed: {self.error}>"
        shown = ", ".join(f"{name} {100 * fraction:.2f} %" for name, fraction in self.fractions.items())
        return f"<FieldResult {self.name}: {shown}>"

    @property
    def _found(self) -> Measured:
        if isinstance(self._content, str):
            raise FieldError(self._content)
        return self._content

    def _fractions(self, row: int) -> dict[str, float]:
        counts = self._found.counts[row].tolist()
        total = sum(counts)
        return {name: count / total for name, count in zip(self.phases, counts, strict=True)}
