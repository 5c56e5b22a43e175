"""How a micrograph becomes the grey image that the network sees: the schema of a domain's preparation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel, PositiveFloat


class Crop(FrozenModel):
    """Native pixels cut off each side before anything else (the data bar)."""

    top_px: int = Field(0, ge=0)
    bottom_px: int = Field(0, ge=0)
    left_px: int = Field(0, ge=0)
    right_px: int = Field(0, ge=0)


class Intensity(FrozenModel):
    """How grey values become 8 bit.

    full: the range of the dtype (uint8 unchanged, uint16 / 257, float 0..1).
    significant_bits: 2**bits - 1 becomes 255; `bits` null is resolved once per domain from its brightest pixel.
    percentiles: the `low` and `high` percentile of the whole field become 0 and 255, any dtype.
    """

    rule: Literal["full", "significant_bits", "percentiles"] = "significant_bits"
    bits: int | None = Field(None, ge=8, le=16)
    low: float = Field(0.5, ge=0, lt=100)
    high: float = Field(99.5, gt=0, le=100)


class Preparation(FrozenModel):
    """What turns a file into the network's grey image, less the grid. Belongs to a domain, not to the engine.

    tone: the grey value that each of the 256 becomes, after inversion and rescaling (adaptation by histogram).
    """

    invert: bool = False
    crop: Crop = Crop()
    pixel_size_um: PositiveFloat | None = None
    intensity: Intensity = Intensity()
    tone: Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=256, max_length=256)] | None = (
        None
    )


class DomainEntry(FrozenModel):
    """A domain that the engine can measure, picked with `--as NAME`."""

    name: str
    role: Literal["source", "target"] = "source"
    preparation: Preparation = Preparation()


class Grid(FrozenModel):
    """The pixel grid that the network sees.

    pixel_size_um: the network's pixel size; null where the source had none: then native pixels times `scale`.
    scale: network pixels per native source pixel (the paper: 0.5, with area averaging).
    """

    pixel_size_um: PositiveFloat | None = None
    scale: PositiveFloat = 1.0
