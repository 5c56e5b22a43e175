"""Phases and the mask values that stand for them."""

from __future__ import annotations

from dataclasses import dataclass

UNLABELLED = 255
# Mask values from here on are kept for pixels without label and for values that no phase names.
MAX_PHASES = 250
GREY = "grey"
OTHER = "other"
TRANSPARENT = "transparent"


@dataclass(frozen=True)
class PhaseSpec:
    """A phase and its mask values.

    Attributes:
        name: name of the phase.
        color: `#rrggbb`, for overlays and reports.
        values: a number is an index or grey value, "#rrggbb" an overlay colour, "grey" any grey that no other value names,
            "transparent" what the mask's alpha channel hides, "other" anything else, another text the name of a label.
    """

    name: str
    color: str
    values: tuple[int | str, ...]
