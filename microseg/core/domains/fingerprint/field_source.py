"""Where the pixels of a field come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldSource:
    """A field.

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
