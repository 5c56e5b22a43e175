"""`--roi`: the region of interest of each field, as a mask image, GeoJSON, or regions of ImageJ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.imports.polygons import Ring, ring
from microseg.core.domains.imports.shapes import ImageLabels, Shape, painted
from microseg.core.domains.labels import Mask, on_stored_grid, read_mask
from microseg.core.errors import FieldError, InputError, MissingExtraError
from microseg.core.images.exclusion import Exclusion
from microseg.core.images.folders import IMAGE_SUFFIXES
from microseg.core.images.orientation import StoredGrid
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.system.files import sha256_of

OUTSIDE = "outside of the region"
_GEOJSON, _IMAGEJ = frozenset({".geojson", ".json"}), frozenset({".roi", ".zip"})
_KINDS = "a mask image, GeoJSON (.geojson, .json), or regions of ImageJ (.roi, .zip)"
_INSIDE = "inside"


@dataclass(frozen=True)
class Regions:
    """Regions of interest: one file for all fields, or a folder with one file for each.

    Attributes:
        files: the file of each field by its name; "" stands for all fields.
        sha256: SHA-256 of the files by name of the field; "" stands for all fields.
    """

    files: dict[str, Path]
    sha256: dict[str, str]

    @classmethod
    def find(cls, path: Path, names: Iterable[str]) -> Regions:
        """The regions of an input.

        Args:
            path: the file, or a folder with a file of the stem of each field (`a.geojson` or `a.tif.png` for `a.tif`).
            names: names of the fields.

        Raises:
            InputError: no such file, a file of another kind, or a folder that has none or two of them for a field.
        """
        names = list(names)
        try:
            if path.is_file():
                _require_kind(path)
                return cls({"": path}, {"": sha256_of(path)})
            if not path.is_dir():
                raise InputError(f"--roi {path}: does not exist. Remedy: {_KINDS}, or a folder of them.")
            files = {name: _of_field(path, name) for name in names}
            return cls(files, {name: sha256_of(file) for name, file in files.items()})
        except OSError as error:
            raise InputError(
                f"--roi {path}: cannot be read ({error.strerror or error}). Remedy: check its rights."
            ) from error

    def applied(self, name: str, field: PreparedField) -> PreparedField:
        """A field without what lies outside of its region.

        Args:
            name: name of the field.
            field: the open field.

        Raises:
            FieldError: the region cannot be read, has another size, or covers no measured pixel.
        """
        path = self.files.get("") or self.files[name]
        height, width = field.full_shape
        try:
            inside = _inside(path, StoredGrid(height, width, field.orientation), field.path)
        except InputError as error:
            raise FieldError(f"{field.path}: its region cannot be used: {error}") from error
        top, left = field.crop.top_px, field.crop.left_px
        if not inside[top : top + field.native_shape[0], left : left + field.native_shape[1]].any():
            raise FieldError(
                f"{field.path}: the region in {path} covers no measured pixel. Remedy: correct the region."
            )
        return field.within(Exclusion.of(OUTSIDE, ~inside))


def _require_kind(path: Path) -> None:
    if path.suffix.lower() not in IMAGE_SUFFIXES | _GEOJSON | _IMAGEJ:
        raise InputError(f"--roi {path}: is no region. Remedy: {_KINDS}.")


def _of_field(folder: Path, name: str) -> Path:
    """The region of a field. A folder of regions has no sub-folders: stems decide."""
    field = Path(name)
    found = sorted(
        path
        for path in folder.iterdir()
        if path.stem in (field.stem, field.name) and path.suffix.lower() in IMAGE_SUFFIXES | _GEOJSON | _IMAGEJ
    )
    if len(found) != 1:
        listed = " and ".join(path.name for path in found) or "no file"
        raise InputError(f"--roi {folder}: has {listed} for {name}. Remedy: one file of its stem, {field.stem}.")
    return found[0]


def _inside(path: Path, grid: StoredGrid, image: Path) -> NDArray[np.bool_]:
    """The pixels of a region on the stored grid of its image, bool (height, width)."""
    suffix = path.suffix.lower()
    if suffix not in _GEOJSON | _IMAGEJ:
        mask = on_stored_grid(read_mask(path), grid, image)
        pixels = mask.pixels if mask.palette is None else mask.palette[mask.pixels]
        return np.asarray(pixels != 0 if pixels.ndim == 2 else (pixels != 0).any(axis=2))
    parts = _geojson(path) if suffix in _GEOJSON else _imagej(path)
    shapes = tuple(Shape(_INSIDE, (part,)) for part in parts)
    if not shapes:
        raise InputError(f"{path}: holds no region with an area. Remedy: draw a polygon, a rectangle or an ellipse.")
    drawn = painted(ImageLabels(shapes), grid.shown_shape, {_INSIDE: 1}, 0, path)
    return np.asarray(on_stored_grid(Mask(path, drawn), grid, image).pixels != 0)


def _geojson(path: Path) -> list[tuple[Ring, ...]]:
    """The polygons of a GeoJSON file, with their holes, whatever their class."""
    from microseg.core.domains.imports.files import read_json
    from microseg.core.domains.imports.qupath import features, polygons

    found: list[tuple[Ring, ...]] = []
    for number, feature in enumerate(features(read_json(path)), 1):
        where = f"{path}: feature {number}"
        try:
            found += polygons(feature["geometry"], where)
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{where}: is no feature of GeoJSON. Remedy: export it again.") from error
    return found


def _imagej(path: Path) -> list[tuple[Ring, ...]]:
    """The regions of an ImageJ file; lines and points have no area."""
    try:
        import roifile
    except ImportError as error:
        raise MissingExtraError(f"{path}: a region of ImageJ", "formats") from error
    try:
        read: Any = roifile.roiread(path)
        outlines = [
            outline
            for each in (read if isinstance(read, list) else [read])
            if each.roitype not in (roifile.ROI_TYPE.LINE, roifile.ROI_TYPE.POINT, roifile.ROI_TYPE.POLYLINE)
            for outline in each.coordinates(multi=True)
        ]
    except Exception as error:  # a damaged file makes the reader raise anything
        raise InputError(f"{path}: cannot be read as regions of ImageJ ({error}). Remedy: save them again.") from error
    return [(ring(outline, str(path)),) for outline in outlines]
