"""How a micrograph becomes the grey image that the network sees: the schema of a domain's preparation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel, PositiveFloat

ARTEFACTS = (
    "Names of phases that are no material, such as scratches, pores or stains: what is found of them leaves the denominator of "
    "the other fractions."
)
PAGE = "Number of the page, from 1, of files that hold several; null: the one that is neither reduced nor a thumbnail."
CHANNEL = "Number of the channel, from 1, of files that hold several; null: grey, or three equal channels."
KEEP_DATA_BAR = (
    "Whether rows that the file states as its data bar, or that look like one in the picture, are measured as material."
)
KEEP_PADDING = (
    "Whether regions of one exact value with straight edges at the border, such as the margins of a stitched mosaic, are "
    "measured as material."
)


class Crop(FrozenModel):
    """Native pixels that are cut off each side before anything else, such as the data bar."""

    top_px: int = Field(0, ge=0, description="Rows cut off at the top, in native pixels.")
    bottom_px: int = Field(0, ge=0, description="Rows cut off at the bottom, in native pixels.")
    left_px: int = Field(0, ge=0, description="Columns cut off at the left, in native pixels.")
    right_px: int = Field(0, ge=0, description="Columns cut off at the right, in native pixels.")


class Intensity(FrozenModel):
    """How grey values become 8 bit."""

    rule: Literal["bit_depth", "full", "significant_bits", "percentiles"] = Field(
        "bit_depth",
        description="bit_depth: the upper 8 of the bits that 99.9 % of a field's pixels need; an offset of 32768 is taken "
        "off; uint8 stays; float values are read as 0 to 1 or by their bits. full: the range of the data type becomes 0 to "
        "255 (uint8 unchanged, uint16 / 257, float 0 to 1). significant_bits (runs of version 0.1): 2**bits - 1 becomes 255. "
        "percentiles: the percentiles `low` and `high` of the whole field become 0 and 255.",
    )
    bits: int | None = Field(
        None,
        ge=8,
        le=16,
        description="Bits of `bit_depth` and `significant_bits`; null: found from the domain's fields, else from each field.",
    )
    low: float = Field(0.5, ge=0, lt=100, description="Percentile that becomes 0, for `percentiles`.")
    high: float = Field(99.5, gt=0, le=100, description="Percentile that becomes 255, for `percentiles`.")


class Preparation(FrozenModel):
    """What turns a file into the network's grey image, except for the pixel grid. It belongs to a domain."""

    invert: bool = Field(False, description="Whether dark and bright are exchanged (bright-field light micrographs).")
    crop: Crop = Field(Crop(), description="Pixels that are cut off each side.")
    pixel_size_um: PositiveFloat | None = Field(
        None, description="Edge of a native pixel in micrometres; null: unknown, and pixels are taken as they are."
    )
    intensity: Intensity = Field(Intensity(), description="How grey values become 8 bit.")
    allow_coloured_percent: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Share of coloured pixels up to which a field is measured without them, %; a field with more is refused.",
    )
    artefacts: tuple[str, ...] = Field((), description=ARTEFACTS)
    page: int | None = Field(None, ge=1, description=PAGE)
    channel: int | None = Field(None, ge=1, description=CHANNEL)
    keep_data_bar: bool = Field(False, description=KEEP_DATA_BAR)
    keep_padding: bool = Field(False, description=KEEP_PADDING)
    tone: Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=256, max_length=256)] | None = (
        Field(
            None,
            description="The grey value that each of the 256 becomes after inversion and rescaling (adaptation by "
            "histogram); null: unchanged.",
        )
    )


class PixelSizeRange(FrozenModel):
    """Native pixel sizes, from the smallest to the largest."""

    smallest_um: PositiveFloat = Field(description="Smallest edge of a native pixel, micrometres.")
    largest_um: PositiveFloat = Field(description="Largest edge of a native pixel, micrometres.")

    @classmethod
    def spanning(cls, *sizes_um: float) -> PixelSizeRange:
        """The range of some sizes in micrometres, at least one."""
        return cls(smallest_um=min(sizes_um), largest_um=max(sizes_um))

    @classmethod
    def over(cls, ranges: Iterable[PixelSizeRange | None]) -> PixelSizeRange | None:
        """The range over several; None where none of them is known."""
        known = [each for each in ranges if each is not None]
        return (
            cls.spanning(*(edge for each in known for edge in (each.smallest_um, each.largest_um))) if known else None
        )

    @property
    def text(self) -> str:
        """In words: "0.02 um", or "0.02 to 0.03 um"."""
        low, high = f"{self.smallest_um:.4g}", f"{self.largest_um:.4g}"
        return f"{low} um" if low == high else f"{low} to {high} um"

    def factor_beyond(self, *edges_um: float) -> float:
        """How many times the edges of a pixel lie beyond the range; at most 1 inside."""
        return max(max(edges_um) / self.largest_um, self.smallest_um / min(edges_um))


class DomainEntry(FrozenModel):
    """A domain that the engine can measure, picked with `--as NAME`."""

    name: str = Field(description="Name of the domain.")
    role: Literal["source", "target"] = Field(
        "source",
        description="source: the networks learn from its labels. target: they are adapted to it without labels.",
    )
    preparation: Preparation = Field(Preparation(), description="How its micrographs are prepared.")
    pixel_size_source: str | None = Field(
        None,
        description="Where the pixel size of the training images is stated: command line, domain.yaml, the files' metadata, "
        "found by train uda, or assumed from the training images of the source; null where there is none.",
    )


class Grid(FrozenModel):
    """The pixel grid that the network sees."""

    pixel_size_um: PositiveFloat | None = Field(
        None, description="Edge of the network's pixel in micrometres; null where the source has no pixel size."
    )
    scale: PositiveFloat = Field(
        1.0, description="Network pixels per native pixel of the source (Goetz et al. 2022: 0.5, with area averaging)."
    )


def known_pixel_sizes(
    trained: PixelSizeRange | None, grid: Grid, domains: Iterable[DomainEntry]
) -> PixelSizeRange | None:
    """The pixel sizes that networks saw in training.

    Args:
        trained: what run or engine record; None in those of earlier versions.
        grid: the network's pixel grid.
        domains: their domains, whose training images have one pixel size each.

    Returns:
        The range; None where the networks work in native pixels.
    """
    if trained is not None or grid.pixel_size_um is None:
        return trained
    sizes = [size for entry in domains if (size := entry.preparation.pixel_size_um) is not None]
    return PixelSizeRange.spanning(*sizes) if sizes else None
