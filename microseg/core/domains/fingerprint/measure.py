"""What one field contributes to the fingerprint of its domain: small, whatever the size of the field."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.fingerprint.chords import Chords, chords_of
from microseg.core.domains.fingerprint.grey import centre_of, focus_of, noise_of
from microseg.core.domains.fingerprint.layers import Direction, direction_of
from microseg.core.domains.phases import UNLABELLED

_LEVELS = 256
# Rows that are counted at once.
_BLOCK_PX = 4 << 20


@dataclass(frozen=True)
class FieldSource:
    """Where the pixels of a field come from.

    Attributes:
        name: name of the field.
        group: specimen or spot.
        pixel_size_um: edge of a pixel in micrometres, or None.
        is_test: whether the field is left out of training.
    """

    name: str
    group: str
    pixel_size_um: float | None = None
    is_test: bool = False


@dataclass(frozen=True)
class FieldMeasures:
    """What is kept of a field.

    Attributes:
        source: the field.
        shape: (height, width) in px.
        pixels: labelled pixels of each phase, int64 (P,).
        grey: histogram of all its grey values, int64 (256,).
        phase_grey: the histogram of each phase, int64 (P, 256).
        whole: intercepts that end at other phases.
        cut: intercepts that the border or unlabelled pixels cut.
        regions: connected regions of each phase, int64 (P,).
        noise: standard deviation of the noise in grey values.
        focus_px: width of the sharpest edges, or None.
        directions: what rows and what columns tell about the labels.
    """

    source: FieldSource
    shape: tuple[int, int]
    pixels: NDArray[np.int64]
    grey: NDArray[np.int64]
    phase_grey: NDArray[np.int64]
    whole: Chords
    cut: Chords
    regions: NDArray[np.int64]
    noise: float
    focus_px: float | None
    directions: tuple[Direction, Direction]


def measured(source: FieldSource, image: NDArray[np.uint8], labels: NDArray[np.uint8], phases: int) -> FieldMeasures:
    """Measure a field.

    Args:
        source: the field.
        image: grey values as the network sees them, uint8 (h, w).
        labels: phase indices, uint8 (h, w), 255 where unlabelled.
        phases: number of phases.
    """
    pixels, grey, phase_grey = _histograms(image, labels, phases)
    along_rows, along_columns = chords_of(labels, phases), chords_of(labels.T, phases)
    by_direction = [each[0] + each[1] for each in (along_rows, along_columns)]
    centre = centre_of(image)
    noise = noise_of(centre)
    return FieldMeasures(
        source=source,
        shape=(image.shape[0], image.shape[1]),
        pixels=pixels,
        grey=grey,
        phase_grey=phase_grey,
        whole=along_rows[0] + along_columns[0],
        cut=along_rows[1] + along_columns[1],
        regions=_regions(labels, pixels),
        noise=noise,
        focus_px=focus_of(centre, noise),
        directions=(direction_of(labels, phases, by_direction), direction_of(labels.T, phases, by_direction)),
    )


def _histograms(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], phases: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of each phase, the histogram of all grey values, and that of each phase."""
    counts = np.zeros((UNLABELLED + 1) * _LEVELS, np.int64)
    step = max(1, _BLOCK_PX // image.shape[1])
    for start in range(0, image.shape[0], step):
        rows = slice(start, start + step)
        both = labels[rows].astype(np.uint16) * _LEVELS + image[rows]
        counts += np.bincount(both.ravel(), minlength=counts.size)
    table = counts.reshape(UNLABELLED + 1, _LEVELS)
    return table[:phases].sum(1), table.sum(0), table[:phases].copy()


def _regions(labels: NDArray[np.uint8], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of 8-connected regions of each phase."""
    found = np.zeros(len(pixels), np.int64)
    for phase in np.flatnonzero(pixels):
        here = (labels == phase).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(here)
        part = here[top : top + height, left : left + width]
        found[phase] = cv2.connectedComponents(part, connectivity=8)[0] - 1
    return found
