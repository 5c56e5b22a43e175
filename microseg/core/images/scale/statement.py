"""What a file and the texts beside it state about the size of a pixel, and whether that agrees."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from microseg.core.images.pixel_size import PixelSize

# Statements that differ by more contradict each other.
TOLERANCE = 0.01
# Beyond these no statement is believed: 0.1 pm is less than any microscope resolves, 10 mm more than any needs.
_SMALLEST_UM, _LARGEST_UM = 1e-7, 1e4
# A face that is tilted by 80 degrees has pixels 5.8 times as high as wide.
_MOST_OBLONG = 6.0


@dataclass(frozen=True)
class Statement:
    """What one place says about the size of a native pixel.

    Attributes:
        width_um: edge along a row, in micrometres.
        source: the place, for reports: "Zeiss tag 34118 (Image Pixel Size)".
        height_um: edge along a column, in micrometres; None where the place says nothing of it.
        columns: width in pixels of the picture that the place speaks of; None where it names none.
        rounding: relative error that the digits of the statement leave.
    """

    width_um: float
    source: str
    height_um: float | None = None
    columns: int | None = None
    rounding: float = 0.0

    @property
    def is_believable(self) -> bool:
        """Whether the edges are lengths that a micrograph's pixel can have."""
        edges = (self.width_um, self.height_um or self.width_um)
        return all(_SMALLEST_UM < edge < _LARGEST_UM for edge in edges)


@dataclass(frozen=True)
class FileScale:
    """Everything that is stated about the scale of one picture, in the order of trust.

    Attributes:
        statements: what is stated.
        remarks: what is stated but is no scale, in words.
    """

    statements: tuple[Statement, ...] = ()
    remarks: tuple[str, ...] = ()

    def __add__(self, other: FileScale) -> FileScale:
        return FileScale(self.statements + other.statements, self.remarks + other.remarks)

    @property
    def sha256(self) -> str:
        """SHA-256 of the statements, 64 hex digits; empty where nothing is stated."""
        if not self.statements:
            return ""
        return hashlib.sha256(repr(self.statements).encode("utf-8", "backslashreplace")).hexdigest()

    def checked(self, columns: int) -> StatedScale:
        """The pixel size, if the statements agree with each other and with the picture.

        Args:
            columns: width of the picture in pixels.
        """
        believed = [each for each in self.statements if each.is_believable]
        if not believed:
            return StatedScale(remarks=self.remarks)
        first = believed[0]
        found = [_other_picture(each, columns) or _oblong(each) for each in believed]
        found += [_difference(first, other) for other in believed[1:]]
        if contradiction := next(filter(None, found), None):
            return StatedScale(contradiction=contradiction)
        # A place that states both edges says more than a first one that states one.
        height_um = next((each.height_um for each in believed if each.height_um), first.width_um)
        return StatedScale(PixelSize(first.width_um, height_um, first.source))


@dataclass(frozen=True)
class StatedScale:
    """The scale of a picture as its file and the texts beside it state it.

    Attributes:
        pixel_size: size of a native pixel; None where nothing states it, or the statements contradict each other.
        contradiction: how they contradict each other or the picture, with values and sources; None where they agree.
        remarks: what is stated but is no scale, in words.
    """

    pixel_size: PixelSize | None = None
    contradiction: str | None = None
    remarks: tuple[str, ...] = ()


def size_text(width_um: float, height_um: float | None = None) -> str:
    """A pixel size in words: "0.0277 um", or "0.0277 x 0.045 um" where the edges differ."""
    if height_um is None or abs(height_um / width_um - 1) <= TOLERANCE:
        return f"{width_um:.5g} um"
    return f"{width_um:.5g} x {height_um:.5g} um"


def _other_picture(stated: Statement, columns: int) -> str | None:
    """Why a statement speaks of another picture than one of `columns`."""
    if stated.columns is None or stated.columns == columns:
        return None
    whole = stated.width_um * stated.columns / columns
    return (
        f"{stated.source} states {stated.width_um:.5g} um a pixel for a picture of {stated.columns} columns, but the picture "
        f"has {columns} columns ({whole:.5g} um a pixel, if it shows the same width)"
    )


def _oblong(stated: Statement) -> str | None:
    """Why the two edges of a pixel cannot both be right."""
    if (
        stated.height_um is None
        or max(stated.height_um / stated.width_um, stated.width_um / stated.height_um) < _MOST_OBLONG
    ):
        return None
    return f"{stated.source} states {stated.width_um:.5g} um along a row and {stated.height_um:.5g} um along a column"


def _difference(one: Statement, other: Statement) -> str | None:
    """How two statements differ by more than their digits leave open."""
    tolerance = TOLERANCE + one.rounding + other.rounding
    pairs = [(one.width_um, other.width_um)]
    if one.height_um and other.height_um:
        pairs.append((one.height_um, other.height_um))
    if all(abs(ours / theirs - 1) <= tolerance for ours, theirs in pairs):
        return None
    return f"{one.source} states {size_text(one.width_um, one.height_um)} a pixel, {other.source} states " + size_text(
        other.width_um, other.height_um
    )
