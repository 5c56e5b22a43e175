"""What a station knows of a field without labels: votes of the folds, pooled features, grey values, structure.

Everything is on the network's grid. The measures of a field are means over its tiles, so that fields of any size compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.fingerprint.grey import centre_of, noise_of

# Bands of a Laplacian pyramid: structure of about 1, 2, 4 and 8 px. The last of them per phase is too coarse for small phases.
_BANDS, _PHASE_BANDS = 4, 3
# Of each tile the middle of this side is looked at for bands; of votes, every second row and column.
_PATCH_PX, _STEP = 256, 2
# The least values of which a logarithm is taken: a pixel in a thousand, a grey value in ten.
_LEAST_SHARE, _LEAST_GREY = 1e-3, 0.1
_FEWEST_PX = 64


@dataclass(frozen=True)
class FieldMeasures:
    """What is known of a field without labels.

    Attributes:
        pixels: number of pixels on the network's grid.
        fractions: area fraction of each phase by the bag, 0-1, float64 (P,).
        values: the measures by name.
        features: pooled features of each fold, float64 (F, D); None where the engine gave none.
    """

    pixels: int
    fractions: NDArray[np.float64]
    values: Mapping[str, float]
    features: NDArray[np.float64] | None


class FieldProbe:
    """Takes the tiles of a field and adds up its measures."""

    def __init__(self, phases: int, folds: int) -> None:
        """Args:
        phases: number of phases P.
        folds: number of folds F.
        """
        self._phases, self._folds = phases, folds
        self._pixels = 0
        self._counts = np.zeros(phases)
        self._votes = np.zeros((folds, phases))
        self._shared = np.zeros((folds * (folds - 1) // 2, phases))
        self._unsure = self._voted = self._borders = 0
        self._greys = np.zeros(256)
        self._structure: list[tuple[int, NDArray[np.float64]]] = []
        self._features: list[tuple[int, NDArray[np.float64]]] = []

    def add(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        votes: NDArray[np.uint8],
        features: NDArray[np.float32] | None,
    ) -> None:
        """Take a tile, without its halo.

        Args:
            pixels: grey values, uint8 (h, w).
            labels: phase indices of the bag, uint8 (h, w).
            votes: phase indices of each fold, uint8 (F, h, w).
            features: pooled features of each fold over the tile, float32 (F, D).
        """
        self._pixels += labels.size
        self._counts += np.bincount(labels[::_STEP, ::_STEP].ravel(), minlength=self._phases)[: self._phases]
        self._borders += cv2.countNonZero(cv2.compare(labels[:, 1:], labels[:, :-1], cv2.CMP_NE))
        self._borders += cv2.countNonZero(cv2.compare(labels[1:], labels[:-1], cv2.CMP_NE))
        self._add_votes(np.ascontiguousarray(votes[:, ::_STEP, ::_STEP]))
        self._greys += cv2.calcHist([np.ascontiguousarray(pixels)], [0], None, [256], [0, 256]).ravel()
        patch = np.ascontiguousarray(centre_of(pixels, _PATCH_PX))
        if min(patch.shape) > 2 ** (_BANDS + 1):
            self._structure.append((labels.size, _structure(patch, centre_of(labels, _PATCH_PX), self._phases)))
        if features is not None:
            self._features.append((labels.size, features.astype(np.float64)))

    def measures(self) -> FieldMeasures | None:
        """The measures of the tiles so far; None where they are too small to tell anything."""
        if not self._structure:
            return None
        structure = _mean(self._structure)
        levels = np.arange(256)
        mean = float(np.average(levels, weights=self._greys))
        std = float(np.sqrt(np.average((levels - mean) ** 2, weights=self._greys)))
        values = {
            "grey_mean": mean,
            "grey_std": _log(std, _LEAST_GREY),
            "borders": _log(self._borders / self._pixels, _LEAST_SHARE),
        }
        values |= dict(zip(_names(self._phases), structure.tolist(), strict=True))
        values |= self._agreement()
        return FieldMeasures(
            self._pixels,
            self._counts / self._counts.sum(),
            values,
            _mean(self._features) if self._features else None,
        )

    def _add_votes(self, votes: NDArray[np.uint8]) -> None:
        planes = [[cv2.compare(vote, phase, cv2.CMP_EQ) for phase in range(self._phases)] for vote in votes]  # type: ignore[call-overload]
        self._votes += [[cv2.countNonZero(plane) for plane in of_fold] for of_fold in planes]
        self._shared += [
            [cv2.countNonZero(cv2.bitwise_and(a, b)) for a, b in zip(planes[one], planes[other], strict=True)]
            for one, other in combinations(range(self._folds), 2)
        ] or 0
        self._voted += votes[0].size
        if self._folds > 1:
            same = votes[0] == votes[1]
            for vote in votes[2:]:
                same &= vote == votes[0]
            self._unsure += int(same.size - np.count_nonzero(same))

    def _agreement(self) -> dict[str, float]:
        """Disagreement of the folds, as logarithms: of votes, of pairs by Dice, of fractions. Empty for one fold."""
        if self._folds < 2:
            return {}
        fractions = self._votes / self._voted
        dice = []
        for (one, other), shared in zip(combinations(range(self._folds), 2), self._shared, strict=True):
            both = self._votes[one] + self._votes[other]
            # Of a phase with few pixels the ratio is chance, unless no phase has more.
            present = both > 2 * _FEWEST_PX
            present = present if present.any() else both > 0
            dice.append(np.mean(2 * shared[present] / both[present]))
        return {
            "unsure": _log(self._unsure / self._voted, _LEAST_SHARE),
            "pairwise_dice": _log(1 - float(np.mean(dice)), _LEAST_SHARE),
            "fold_spread": _log(float(fractions.std(0, ddof=1).max()), _LEAST_SHARE),
        }


def _names(phases: int) -> list[str]:
    """Names of the values of `_structure`, in their order."""
    return [
        "noise",
        *(f"band_{band}" for band in range(_BANDS)),
        "shading",
        *(f"phase_grey_{phase}" for phase in range(phases)),
        *(f"phase_band_{phase}_{band}" for phase in range(phases) for band in range(_PHASE_BANDS)),
    ]


def _structure(patch: NDArray[np.uint8], labels: NDArray[np.uint8], phases: int) -> NDArray[np.float64]:
    """Noise, strength of bands and shading of a patch, and grey value and bands of each phase in it."""
    grey = patch.astype(np.float32)
    mean, std = float(grey.mean()), max(float(grey.std()), 1.0)
    bands, of_phases = [], np.zeros((phases, _PHASE_BANDS))
    level = grey
    for band in range(_BANDS):
        smaller = cv2.pyrDown(level)
        detail = cv2.absdiff(level, cv2.pyrUp(smaller, dstsize=(level.shape[1], level.shape[0])))
        bands.append(_log(float(detail.mean()), _LEAST_GREY))
        if band < _PHASE_BANDS:
            here = labels[:: 2**band, :: 2**band]
            strengths = _by_phase(detail, here, phases, float(detail.mean()))
            of_phases[:, band] = np.log(np.maximum(strengths, _LEAST_GREY))
        level = np.asarray(smaller, np.float32)
    greys = (_by_phase(grey, labels, phases, mean) - mean) / std
    shading = _log(float(cv2.GaussianBlur(level, (0, 0), 2.0).std()), _LEAST_GREY)
    noise = _log(noise_of(patch), _LEAST_GREY)
    return np.array([noise, *bands, shading, *greys, *of_phases.ravel()])


def _by_phase(values: Any, labels: NDArray[np.uint8], phases: int, default: float) -> NDArray[np.float64]:
    """Mean of values (h, w) over each phase, (P,); the default where a phase hardly occurs."""
    found = []
    for phase in range(phases):
        inside = cv2.compare(np.ascontiguousarray(labels), phase, cv2.CMP_EQ)  # type: ignore[call-overload]
        few = cv2.countNonZero(inside) < _FEWEST_PX
        found.append(default if few else cv2.mean(values, inside)[0])
    return np.array(found)


def _log(value: float, least: float) -> float:
    return float(np.log(max(value, least)))


def _mean(weighted: list[tuple[int, NDArray[np.float64]]]) -> NDArray[np.float64]:
    return np.asarray(
        np.average([values for _, values in weighted], axis=0, weights=[weight for weight, _ in weighted])
    )
