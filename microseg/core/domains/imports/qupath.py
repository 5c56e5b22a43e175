"""QuPath: one GeoJSON file for each image (https://qupath.readthedocs.io, Exporting annotations; RFC 7946)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microseg.core.domains.imports.files import read_json
from microseg.core.domains.imports.polygons import Ring, ring
from microseg.core.domains.imports.shapes import ImageLabels, Shape
from microseg.core.errors import InputError


def read(path: Path) -> dict[str, ImageLabels]:
    """The polygons of a GeoJSON file. The label is the name of their classification, else their own name.

    Args:
        path: the GeoJSON file: a collection of features, a list of them, or one.

    Returns:
        The labels of its one image, under an empty name.

    Raises:
        InputError: the file cannot be read, a feature is none, or a polygon has no name.
    """
    shapes: list[Shape] = []
    without_area = 0
    for number, feature in enumerate(features(read_json(path)), 1):
        where = f"{path}: feature {number}"
        try:
            parts = tuple(polygons(feature["geometry"], where))
            if parts:
                shapes.append(Shape(_label(feature, where), parts))
            else:
                without_area += 1
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{where}: is no feature of GeoJSON. Remedy: export it again.") from error
    return {"": ImageLabels(tuple(shapes), None, without_area)}


def features(content: Any) -> list[Any]:
    """The features of a GeoJSON file; none for other content.

    Args:
        content: what JSON gives.
    """
    if isinstance(content, dict):
        content = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    found = content if isinstance(content, list) else []
    return found if all(isinstance(item, dict) and item.get("type") == "Feature" for item in found) else []


def _label(feature: dict[str, Any], where: str) -> str:
    properties = feature.get("properties") or {}
    name = (properties.get("classification") or {}).get("name") or properties.get("name")
    if not name:
        raise InputError(f"{where}: has no class. Remedy: set its class in QuPath, or delete it.")
    return str(name)


def polygons(geometry: dict[str, Any], where: str) -> Iterator[tuple[Ring, ...]]:
    """Polygons with their holes; nothing of points, lines and empty polygons.

    Args:
        geometry: the geometry of a feature.
        where: file and place, for messages.

    Raises:
        InputError: a line that is no outline.
        KeyError, TypeError: no geometry of GeoJSON.
    """
    match geometry["type"]:
        case "Polygon" | "MultiPolygon" as kind:
            found = geometry["coordinates"]
            for polygon in [found] if kind == "Polygon" else found:
                if polygon:
                    yield tuple(ring(points, where) for points in polygon)
        case "GeometryCollection":
            for part in geometry["geometries"]:
                yield from polygons(part, where)
