"""What a phase is in a mask."""

from __future__ import annotations

from dataclasses import dataclass

UNLABELLED = 255
MAX_PHASES = 250
GREY = "grey"
OTHER = "other"


@dataclass(frozen=True)
class PhaseSpec:
    """A phase and the mask values that mean it.

    values: int = index or grey value, "#rrggbb" = overlay colour, "grey" = any grey that no other value names,
    "other" = anything else. color: `#rrggbb` for overlays and reports.
    """

    name: str
    color: str
    values: tuple[int | str, ...]
