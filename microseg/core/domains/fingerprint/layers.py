"""Whether phases lie in layers: what the row alone, or the column alone, tells about the label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.fingerprint.chords import Chords
from microseg.core.schemas.fingerprint import Orientation

# A field has layers where its rows, or its columns, explain this share of its labels' variance.
_LAYERED = 0.25
# Share of the fields that must have layers, in one order.
_MOST = 0.6
# Layers thinner than this share of the field are none.
_THIN = 0.03


@dataclass(frozen=True)
class Direction:
    """One direction of one field.

    Attributes:
        explained: share of the labels' variance that the place along it explains beyond chance, 0-1; None with one phase alone.
        order: the phases that prevail, in their order along it.
    """

    explained: float | None
    order: tuple[int, ...]


def direction_of(labels: NDArray[np.uint8], phases: int, chords: Sequence[Chords]) -> Direction:
    """What the row of a pixel tells about its label. The column's is that of `labels.T`.

    Lines that cross few regions differ by chance. A line of length L through a two-phase structure whose phase of share p has
    the mean intercept l varies by about 2 l (1 - p) / L of the labels' variance (exponential covariance: Torquato, Random
    Heterogeneous Materials, 2002). That is taken off. Layers lengthen intercepts along them, so that the shorter ones count.

    Args:
        labels: uint8 (h, w), 255 where unlabelled.
        phases: number of phases.
        chords: all intercepts of the field along its rows, and along its columns.
    """
    counts = np.stack([np.count_nonzero(labels == phase, axis=1) for phase in range(phases)], 1).astype(np.float64)
    labelled = counts.sum(1)
    rows = counts[labelled > 0] / labelled[labelled > 0, None]
    weights = labelled[labelled > 0]
    if not len(rows):
        return Direction(None, ())
    shares = np.average(rows, axis=0, weights=weights)
    variance = float((shares * (1 - shares)).sum())
    order = _order(rows)
    if variance < 1e-6:
        return Direction(None, order)
    between = float((np.average((rows - shares) ** 2, axis=0, weights=weights)).sum())
    means = [min(each.mean(phase) or np.inf for each in chords) for phase in range(phases)]
    chance = sum(
        share * (1 - share) * min(1.0, 2 * mean * (1 - share) / float(np.mean(weights)))
        for share, mean in zip(shares, means, strict=True)
        if share and np.isfinite(mean)
    )
    by_chance = min(chance / variance, 0.95)
    return Direction(float(np.clip((between / variance - by_chance) / (1 - by_chance), 0, 1)), order)


def _order(rows: NDArray[np.float64]) -> tuple[int, ...]:
    """The phases that prevail along the rows, without thin ones and repetitions."""
    prevailing = rows.argmax(1)
    starts = np.flatnonzero(np.diff(prevailing, prepend=-1))
    lengths = np.diff(np.append(starts, len(prevailing)))
    kept = [int(prevailing[start]) for start in starts[lengths >= _THIN * len(rows)]]
    return tuple(value for place, value in enumerate(kept) if place == 0 or kept[place - 1] != value)


def orientation_of(directions: Sequence[tuple[Direction, Direction]]) -> Orientation:
    """The orientation of a domain from its fields.

    Args:
        directions: rows and columns of each field.
    """
    found = [_mean([pair[axis].explained for pair in directions]) for axis in (0, 1)]
    return Orientation(
        by_row=found[0],
        by_column=found[1],
        is_layered=any(_is_layered([pair[axis] for pair in directions]) for axis in (0, 1)),
    )


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else 0.0


def _is_layered(fields: Sequence[Direction]) -> bool:
    known = [field for field in fields if field.explained is not None]
    orders = Counter(field.order for field in known if (field.explained or 0) >= _LAYERED and len(field.order) > 1)
    return bool(orders) and orders.most_common(1)[0][1] >= _MOST * len(known)
