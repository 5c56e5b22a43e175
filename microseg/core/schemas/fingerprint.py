"""`fingerprint.json`: what a labelled domain is like, measured from its fields and labels."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.versioned import VersionedModel

FINGERPRINT_VERSION = 1


class Spread(FrozenModel):
    """Smallest, median and largest value over the training fields."""

    smallest: float = Field(description="The smallest value.")
    median: float = Field(description="The median over the fields.")
    largest: float = Field(description="The largest value.")


class PhaseFingerprint(FrozenModel):
    """One phase, over all training fields."""

    name: str = Field(description="Name of the phase.")
    area_share: float = Field(ge=0, le=1, description="Share of the labelled pixels, 0-1.")
    labelled_px: int = Field(ge=0, description="Labelled pixels of the phase.")
    chord_px: float | None = Field(
        description="Mean intercept length along rows and columns, in native pixels. Intercepts that the border of a field or "
        "unlabelled pixels cut count only where no others exist; null where the phase does not occur."
    )
    chord_std_px: float | None = Field(description="Standard deviation of the same.")
    chord_um: float | None = Field(
        description="Mean intercept length in micrometres, over the fields whose pixel size is known; null without any."
    )
    chord_std_um: float | None = Field(description="Standard deviation of the same.")
    regions: int = Field(ge=0, description="Connected regions (8-connected), summed over the fields.")
    fields: int = Field(ge=0, description="Number of fields in which the phase occurs.")
    groups: int = Field(ge=0, description="Number of groups in which the phase occurs.")
    grey_mean: float | None = Field(
        description="Mean of the phase's grey values as the network sees them, 0-255; null where the phase does not occur."
    )
    grey_std: float | None = Field(description="Standard deviation of the same.")


class Orientation(FrozenModel):
    """Whether up and down matter: what the row alone and the column alone tell about the phase."""

    by_row: float = Field(
        ge=0,
        le=1,
        description="Share of the labels' variance that the row of a pixel explains, beyond what chance gives for structures "
        "of that size; mean over the fields, 0-1.",
    )
    by_column: float = Field(ge=0, le=1, description="The same for the column.")
    is_layered: bool = Field(description="Whether the phases lie in layers, in the same order in most fields.")


class FieldCopy(FrozenModel):
    """Two fields that show the same place of the material."""

    kind: Literal["copy", "overlap"] = Field(
        description="copy: one picture twice, perhaps flipped, turned, scaled or with other grey values. overlap: shared part."
    )
    first: str = Field(description="Name of the one field.")
    second: str = Field(description="Name of the other field.")
    first_group: str = Field(description="Group of the one field.")
    second_group: str = Field(description="Group of the other field.")
    is_across: bool = Field(
        description="Whether a fold or a test can hold out one of them while training sees the other."
    )
    change: str = Field(
        description="Of a copy, what turns the second field into the first: `none`, `flipped`, `turned by 90 degrees` ..."
    )
    shift_px: tuple[int, int] = Field(
        description="Place (y, x) of the second field's upper left corner in the first one, in native pixels."
    )
    score: float = Field(ge=-1, le=1, description="Normalised cross-correlation of what the two share.")


class ShiftedMask(FrozenModel):
    """A field whose labels fit its picture better when they are moved."""

    field: str = Field(description="Name of the field.")
    dy_px: int = Field(description="Rows by which the labels must be moved downwards, in native pixels.")
    dx_px: int = Field(description="Columns by which the labels must be moved to the right, in native pixels.")
    edges_here: float = Field(
        description="Mean contrast of edges and lines below the labels' borders as they are, in units of the field's mean."
    )
    edges_moved: float = Field(description="The same with the labels moved.")


class SuspectedGroups(FrozenModel):
    """What the names of the fields suggest as specimens where no groups are stated."""

    rule: str = Field(description="The value of `groups` in domain.yaml.")
    groups: int = Field(ge=2, description="Number of groups that it gives.")


class DatasetFingerprint(VersionedModel):
    """`fingerprint.json`: what a labelled domain is like. Fields for a test count in `copies` and `shifted_masks` alone."""

    schema_name: ClassVar[str] = "fingerprint"
    schema_version: ClassVar[tuple[int, int]] = (FINGERPRINT_VERSION, 0)
    version_key: ClassVar[str] = "fingerprint_version"

    fingerprint_version: int = Field(FINGERPRINT_VERSION, description="Major version of this schema.")
    fields: int = Field(ge=1, description="Number of training fields.")
    test_fields: int = Field(ge=0, description="Number of fields that are left out of training.")
    groups: int = Field(ge=1, description="Number of groups of the training fields.")
    groups_stated: bool = Field(description="Whether the domain states groups; without, every field is one of its own.")
    height_px: Spread = Field(description="Heights of the fields, in native pixels after the crop.")
    width_px: Spread = Field(description="Widths of the fields, in native pixels after the crop.")
    pixel_size_um: Spread | None = Field(
        description="Edges of native pixels in micrometres, over the fields that state one; null where none does."
    )
    labelled_px: int = Field(ge=0, description="Labelled pixels.")
    unlabelled_share: float = Field(ge=0, le=1, description="Share of the pixels without label, 0-1.")
    phases: list[PhaseFingerprint] = Field(description="The phases, in the order of their indices.")
    grey_mean: float = Field(description="Mean grey value as the network sees it, 0-255.")
    grey_std: float = Field(description="Standard deviation of the grey values.")
    grey_low: float = Field(description="1st percentile of the grey values.")
    grey_high: float = Field(description="99th percentile of the grey values.")
    noise_grey: float = Field(
        ge=0,
        description="Standard deviation of the noise in grey values (Immerkaer 1996, robust), median over the fields.",
    )
    focus_px: float | None = Field(
        description="Width of the sharpest edges from 10 to 90 % of their height, in native pixels (Zhuo & Sim 2011), median "
        "over the fields; 0 where they are sharper than pixels show, null where none stands out of the noise."
    )
    orientation: Orientation = Field(description="Whether up and down matter.")
    copies: list[FieldCopy] = Field(description="Fields that are copies of each other or overlap, the clearest first.")
    shifted_masks: list[ShiftedMask] = Field(description="Fields whose labels fit better when they are moved.")
    suspected_groups: SuspectedGroups | None = Field(
        description="What the names suggest as specimens; null where groups are stated, or nothing suggests any."
    )
