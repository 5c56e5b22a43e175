"""A domain folder of fields to label, with predictions as pre-labels: masks and outlines."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.images.exclusion import NOT_MEASURED
from microseg.core.images.orientation import shown
from microseg.core.images.pixel_size import PixelSize
from microseg.core.images.scale.sidecars import sidecar_paths, states_scale
from microseg.core.labelling.candidates import Candidates, Place
from microseg.core.labelling.committee import RegionOpinion
from microseg.core.labelling.outlines import geojson
from microseg.core.pictures.png import MaskWriter
from microseg.core.preparation.field_scale import COMMAND_LINE, DOMAIN_FILE
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import Crop, Preparation
from microseg.core.system.files import sha256_of

IMAGES, MASKS, OUTLINES = "images", "masks", "qupath"
# Keys of a preparation that a domain.yaml states. Crop, page and channel belong to the file as a whole.
_OF_THE_FILE = ("crop", "page", "channel")
_STATED = ("invert", "intensity", "artefacts", "keep_data_bar", "keep_padding")


@dataclass(frozen=True)
class LabelImage:
    """One picture of the folder with its pre-labels.

    Attributes:
        place: the field, or the region of one.
        stem: name of its files without suffix.
        is_copy: whether the picture is the field's file, byte for byte; else it is written as TIFF.
    """

    place: Place
    stem: str
    is_copy: bool

    @property
    def image(self) -> str:
        """The picture below the folder."""
        return f"{IMAGES}/{self.stem}{self.place.field.image.suffix if self.is_copy else '.tif'}"

    @property
    def mask(self) -> str:
        """Its mask."""
        return f"{MASKS}/{self.stem}.png"

    @property
    def outlines(self) -> str:
        """Its outlines."""
        return f"{OUTLINES}/{self.stem}.geojson"


def label_images(places: Sequence[Place], preparation: Preparation) -> list[LabelImage]:
    """How the pictures of a folder are called, and which of them are copies of files.

    A field that is taken whole is copied. Where regions are among them, a crop, page or channel that holds for whole files
    cannot be stated for the folder: then all pictures are written.

    Args:
        places: the fields and regions.
        preparation: how the files are prepared.
    """
    has_regions = any(not place.region.is_whole for place in places)
    is_plain = (preparation.crop, preparation.page, preparation.channel) == (Crop(), None, None)
    stems = _stems(places)
    return [
        LabelImage(place, stem, place.region.is_whole and (is_plain or not has_regions))
        for place, stem in zip(places, stems, strict=True)
    ]


def _stems(places: Sequence[Place]) -> list[str]:
    """Names without suffix, the shortest that tell the pictures apart on every system."""
    forms: list[Callable[[PurePosixPath], str]] = [
        lambda name: name.stem,
        lambda name: "-".join(name.with_suffix("").parts),
        lambda name: "-".join(name.parts).replace(".", "-"),
    ]
    for form in forms:
        stems = [form(PurePosixPath(place.field.name)) + _suffix(place) for place in places]
        if max(Counter(stem.casefold() for stem in stems).values()) == 1:
            return stems
    return [f"{number}-{stem}" for number, stem in enumerate(stems, 1)]


def _suffix(place: Place) -> str:
    region = place.region
    return "" if region.is_whole else f"-y{region.top}-x{region.left}"


def write_image(
    out: Path, item: LabelImage, prepared: PreparedField, found: RegionOpinion, phases: Sequence[PhaseInfo]
) -> None:
    """Write a picture with its pre-labels, masks on the native grid of the picture.

    Args:
        out: the folder.
        item: what to write.
        prepared: the open field.
        found: the prediction of its region.
        phases: the phases.

    Raises:
        FieldError: the field cannot be read.
        OSError: a file cannot be written.
    """
    for name in (item.image, item.mask, item.outlines):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
    labels = found.labels
    if item.is_copy:
        _copy(item.place.field.image, out / item.image)
        crop = prepared.crop
        labels = np.full(prepared.full_shape, NOT_MEASURED, np.uint8)
        height, width = prepared.native_shape
        labels[crop.top_px : crop.top_px + height, crop.left_px : crop.left_px + width] = found.labels
        orientation = prepared.orientation
    else:
        # As viewers show it, so that picture, mask and outlines are turned alike.
        labels, orientation = np.ascontiguousarray(shown(labels, prepared.orientation)), 1
        region = found.region
        grey = prepared.native_rows(region.top, region.top + region.height)[:, region.columns]
        _write_tiff(out / item.image, shown(grey, prepared.orientation), _turned(prepared))
    with (out / item.mask).open("wb") as stream:
        height, width = labels.shape
        writer = MaskWriter(stream, height, width, [phase.color for phase in phases], orientation)
        writer.write(labels)
        writer.finish()
    text = json.dumps(geojson(np.ascontiguousarray(shown(labels, orientation)), phases), separators=(",", ":"))
    (out / item.outlines).write_text(text + "\n", encoding="utf-8", newline="\n")


def _copy(source: Path, target: Path) -> None:
    """A file, with the texts beside it that state its pixel size."""
    shutil.copyfile(source, target)
    for beside in sidecar_paths(source):
        if beside.is_file() and states_scale(beside):
            shutil.copyfile(beside, target.with_name(target.stem + beside.name[len(source.stem) :]))


def _turned(prepared: PreparedField) -> PixelSize | None:
    """Size of a pixel as viewers show it, where the file states one."""
    size = prepared.pixel_size
    if size is None or size.is_assumed:
        return None
    return size if prepared.orientation <= 4 else PixelSize(size.height_um, size.width_um, size.source)


def _write_tiff(path: Path, grey: NDArray[np.uint8], size: PixelSize | None) -> None:
    """A picture as TIFF with its pixel size as ImageJ states it."""
    scale: dict[str, Any] = {}
    if size is not None:
        scale = {"resolution": (1 / size.width_um, 1 / size.height_um), "metadata": {"unit": "um"}}
    tifffile.imwrite(path, np.ascontiguousarray(grey), imagej=True, **scale)


def _unstated(sizes: dict[str, PixelSize | None]) -> dict[str, float]:
    """Pixel sizes in um, by the stem of the picture, that its file does not state, assumed ones included."""
    return {
        stem: size.width_um
        for stem, size in sizes.items()
        if size is not None and (size.is_assumed or size.source in (COMMAND_LINE, DOMAIN_FILE))
    }


def write_domain_files(
    out: Path,
    images: Sequence[LabelImage],
    found: Candidates,
    phases: Sequence[PhaseInfo],
    sizes: dict[str, PixelSize | None],
    *,
    title: str,
    head: str,
) -> None:
    """Write `domain.yaml`, which reads the masks, and `qupath.yaml`, which reads the outlines.

    Args:
        out: the folder.
        images: its pictures.
        found: the folder that they come from, with its preparation.
        phases: the phases.
        sizes: the pixel size of each picture, by its stem.
        title: name of the domain.
        head: comment lines without the sign.
    """
    shared = _shared_keys(images, found, sizes)
    assumed = [stem for stem, size in sizes.items() if size is not None and size.is_assumed]
    if assumed:
        head += (
            f"\nNothing states the pixel size of {', '.join(assumed)}: it is assumed to be that of the training images."
        )
    comment = "".join(f"# {line}".rstrip() + "\n" for line in head.splitlines())
    by_index = [{"name": phase.name, "value": index, "color": phase.color} for index, phase in enumerate(phases)]
    masks = {"images": IMAGES, "masks": MASKS, "labels": "masks", "phases": by_index, "unlabelled": UNLABELLED}
    by_name = [{"name": phase.name, "color": phase.color} for phase in phases]
    outlines = {"images": IMAGES, "masks": OUTLINES, "labels": "qupath", "phases": by_name, "unlabelled": "other"}
    for name, content in (("domain.yaml", masks), ("qupath.yaml", {"name": title} | outlines)):
        text = yaml.safe_dump(content | shared, sort_keys=False, allow_unicode=True)
        (out / name).write_text(comment + text, encoding="utf-8", newline="\n")


def _shared_keys(images: Sequence[LabelImage], found: Candidates, sizes: dict[str, PixelSize | None]) -> dict[str, Any]:
    """The keys of both files that say how pictures are prepared, and which belong together."""
    preparation, usual = found.preparation, Preparation()
    names = _STATED + (_OF_THE_FILE if all(item.is_copy for item in images) else ())
    keys = [
        name for name in names if getattr(preparation, name) != getattr(usual, name) or name in found.domain.explicit
    ]
    stated = preparation.model_dump(mode="json", include=set(keys), exclude_none=True)
    values: dict[str, Any] = {key: stated[key] for key in keys if key in stated}
    unstated = _unstated(sizes)
    if len(unstated) == len(images) and len(set(unstated.values())) == 1:
        values["pixel_size_um"] = next(iter(unstated.values()))
    elif unstated:
        values["pixel_sizes"] = unstated
    groups: dict[str, list[str]] = defaultdict(list)
    for item in images:
        groups[item.place.field.group].append(item.stem)
    is_stated = any(item.place.field.group != item.place.field.name for item in images)
    if is_stated or len(groups) < len(images):
        values["groups"] = dict(groups)
    return values


def file_hashes(out: Path, item: LabelImage) -> tuple[str, str]:
    """SHA-256 of a picture's mask and of its outlines."""
    return sha256_of(out / item.mask), sha256_of(out / item.outlines)
