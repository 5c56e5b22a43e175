"""The size of a native pixel, and where it is stated."""

from __future__ import annotations

from dataclasses import dataclass

ASSUMED, FOUND_BY_UDA = "assumed from the training images", "found by train uda"
"""Sources of a size that nothing states for the field itself: it sets the scale, and is never printed as the field's."""
ASSUMPTIONS = (ASSUMED, FOUND_BY_UDA)
NO_SIZE = "none (native pixels)"
"""Stands for a source where a field has no pixel size."""


@dataclass(frozen=True)
class PixelSize:
    """The size of a native pixel.

    Attributes:
        width_um: edge along a row, in micrometres.
        height_um: edge along a column, in micrometres.
        source: where it is stated, for reports: "Zeiss tag 34118 (Image Pixel Size)".
    """

    width_um: float
    height_um: float
    source: str

    @classmethod
    def square(cls, edge_um: float, source: str) -> PixelSize:
        """A pixel with equal edges, in micrometres."""
        return cls(edge_um, edge_um, source)

    @property
    def is_assumed(self) -> bool:
        """Whether nothing states the size for the field itself."""
        return self.source in ASSUMPTIONS


def source_of(size: PixelSize | None) -> str:
    """Where a pixel size is stated, or that there is none."""
    return NO_SIZE if size is None else size.source
