"""`suggest.json`: what `microseg suggest` chose and why, and the pre-labels as it wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.versioned import VersionedModel
from microseg.core.system.files import sha256_of

SUGGEST_VERSION = 1
FILE_NAME = "suggest.json"


class SuggestedRegion(FrozenModel):
    """A part of a large field, in native pixels after the crop, as the file stores it."""

    top_px: int = Field(ge=0, description="First row.")
    left_px: int = Field(ge=0, description="First column.")
    height_px: int = Field(ge=1, description="Number of rows.")
    width_px: int = Field(ge=1, description="Number of columns.")


class Suggestion(FrozenModel):
    """A field to label, or a region of one."""

    field: str = Field(description="Name of the field: its path below the folder that was searched.")
    sha256: str = Field(description="SHA-256 of its file, 64 hex digits.")
    region: SuggestedRegion | None = Field(None, description="The part of it; null: the whole field.")
    image: str = Field(description="The picture, below this folder.")
    mask: str = Field(description="The predicted mask to correct, below this folder.")
    mask_sha256: str = Field(description="SHA-256 of the mask as predicted, 64 hex digits.")
    outlines: str = Field(description="The same prediction as GeoJSON, below this folder.")
    outlines_sha256: str = Field(description="SHA-256 of the outlines as predicted, 64 hex digits.")
    disagreement: float | None = Field(
        description="Share of its measured pixels, 0-1, on which the folds do not all agree; null for a single network."
    )
    distance: float | None = Field(
        description="Distance of its bottleneck features from those of labelled fields, where 1 is the root mean square "
        "distance between two candidates; null where the labelled ones are unknown."
    )
    represents: int = Field(
        description="Number of candidates, itself included, that have no labelled or suggested field nearer to them."
    )
    reason: str = Field(description="Why it was chosen, in words.")


LeftOutKind = Literal["labelled already", "a copy", "nearly the same", "hardly measured", "not read"]


class LeftOut(FrozenModel):
    """A field that was not among the candidates, or is nearly the same as one that was chosen."""

    field: str = Field(description="Name of the field.")
    kind: LeftOutKind | None = Field(
        None, description="Why, in a word that can be counted; null in files of version 1.0."
    )
    reason: str = Field(description="Why.")


class Suggestions(VersionedModel):
    """`suggest.json` of a folder of fields to label."""

    schema_name: ClassVar[str] = "suggest"
    schema_version: ClassVar[tuple[int, int]] = (SUGGEST_VERSION, 1)
    version_key: ClassVar[str] = "suggest_version"

    suggest_version: int = Field(SUGGEST_VERSION, description="Major version of this schema.")
    model: str = Field(description="The run or the engine whose folds were asked.")
    folder: str = Field(description="The folder that was searched.")
    candidates: int = Field(description="Number of fields, and regions of large ones, that could be chosen.")
    fields: list[Suggestion] = Field(description="The fields to label, the most useful first.")
    left_out: list[LeftOut] = Field(default_factory=list, description="Fields that were left out.")


def unchanged_predictions(source: Path) -> list[str]:
    """Names of the suggested pictures whose labels are still the predictions, byte for byte.

    Args:
        source: a domain: its folder or its YAML file.

    Returns:
        The pictures below the folder, whichever of mask and outlines the domain reads; empty for other domains.

    Raises:
        InputError: `suggest.json` is damaged or newer.
    """
    folder = source if source.is_dir() else source.parent
    if not (folder / FILE_NAME).is_file():
        return []
    found = Suggestions.read_json(folder / FILE_NAME, "the record of `microseg suggest`", f"remove {FILE_NAME}")
    by_outlines = not source.is_dir() and source.name.lower() == "qupath.yaml"
    unchanged = []
    for item in found.fields:
        name, sha256 = (item.outlines, item.outlines_sha256) if by_outlines else (item.mask, item.mask_sha256)
        try:
            if sha256_of(folder / name) == sha256:
                unchanged.append(item.image)
        except OSError:
            continue  # removed or renamed: it is no prediction any more
    return unchanged
