"""What the fields of a domain add up to: sums over fields, of one size however many there are."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.fingerprint.chords import Chords, chords_of
from microseg.core.domains.fingerprint.field_source import FieldSource
from microseg.core.domains.fingerprint.layers import Direction, direction_of
from microseg.core.domains.phases import UNLABELLED
from microseg.core.schemas.fingerprint import PhaseFingerprint

_LEVELS = 256
# Pixels that are counted at once.
_BLOCK_PX = 4 << 20


@dataclass
class LabelSums:
    """Sums over the labels of the training fields.

    Attributes:
        phases: number of phases.
        grey: histogram of all grey values, int64 (256,).
        phase_grey: the histogram of each phase, int64 (P, 256).
        total_px: pixels with and without label.
    """

    phases: int
    grey: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LEVELS, np.int64))
    phase_grey: NDArray[np.int64] = field(init=False)
    total_px: int = 0

    def __post_init__(self) -> None:
        self.phase_grey = np.zeros((self.phases, _LEVELS), np.int64)
        self._regions = np.zeros(self.phases, np.int64)
        self._fields = np.zeros(self.phases, np.int64)
        self._groups: list[set[str]] = [set() for _ in range(self.phases)]
        # In pixels and in micrometres: intercepts that end at other phases, and those that are cut.
        self._chords = {unit: (Chords.none(self.phases), Chords.none(self.phases)) for unit in ("px", "um")}

    @property
    def labelled_px(self) -> int:
        """Labelled pixels."""
        return int(self.phase_grey.sum())

    def add(
        self, source: FieldSource, image: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> tuple[Direction, Direction]:
        """Count a field.

        Args:
            source: the field.
            image: grey values as the network sees them, uint8 (h, w).
            labels: phase indices, uint8 (h, w), 255 where unlabelled.

        Returns:
            What rows and what columns tell about the labels.
        """
        table = _histograms(image, labels)
        pixels = table[: self.phases].sum(1)
        self.grey += table.sum(0)
        self.phase_grey += table[: self.phases]
        self.total_px += labels.size
        for phase in np.flatnonzero(pixels):
            self._groups[phase].add(source.group)
            self._fields[phase] += 1
            self._regions[phase] += _regions(labels == phase)
        along_rows, along_columns = chords_of(labels, self.phases), chords_of(labels.T, self.phases)
        for unit, edge in (("px", 1.0), ("um", source.pixel_size_um)):
            if edge is not None:
                whole, cut = self._chords[unit]
                whole += (along_rows[0] + along_columns[0]).in_units(edge)
                cut += (along_rows[1] + along_columns[1]).in_units(edge)
                self._chords[unit] = whole, cut
        both = [each[0] + each[1] for each in (along_rows, along_columns)]
        return direction_of(labels, self.phases, both), direction_of(labels.T, self.phases, both)

    def phase(self, index: int, name: str) -> PhaseFingerprint:
        """What the fields say about a phase."""
        pixels, labelled = int(self.phase_grey[index].sum()), self.labelled_px
        # One rule for both units: cut intercepts are shorter than whole ones of the same phase.
        is_cut = not self._chords["px"][0].number[index]
        native, micrometres = (self._chords[unit][is_cut] for unit in ("px", "um"))
        mean, std = moments(self.phase_grey[index]) if pixels else (None, None)
        return PhaseFingerprint(
            name=name,
            area_share=pixels / labelled if labelled else 0.0,
            labelled_px=pixels,
            chord_px=native.mean(index),
            chord_std_px=native.std(index),
            chord_um=micrometres.mean(index),
            chord_std_um=micrometres.std(index),
            regions=int(self._regions[index]),
            fields=int(self._fields[index]),
            groups=len(self._groups[index]),
            grey_mean=mean,
            grey_std=std,
        )


def moments(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation of grey values.

    Args:
        histogram: pixels of each grey value.
    """
    levels = np.arange(histogram.size)
    mean = float(np.average(levels, weights=histogram))
    return mean, float(np.sqrt(np.average((levels - mean) ** 2, weights=histogram)))


def _histograms(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels by label and grey value, int64 (256, 256)."""
    counts = np.zeros((UNLABELLED + 1) * _LEVELS, np.int64)
    step = max(1, _BLOCK_PX // image.shape[1])
    for start in range(0, image.shape[0], step):
        rows = slice(start, start + step)
        both = labels[rows].astype(np.uint16) * _LEVELS + image[rows]
        counts += np.bincount(both.ravel(), minlength=counts.size)
    return counts.reshape(UNLABELLED + 1, _LEVELS)


def _regions(here: NDArray[np.bool_]) -> int:
    """Number of 8-connected regions."""
    pixels = here.view(np.uint8)
    left, top, width, height = cv2.boundingRect(pixels)
    return cv2.connectedComponents(pixels[top : top + height, left : left + width], connectivity=8)[0] - 1
