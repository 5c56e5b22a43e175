"""LabelMe: one JSON file for each image (https://github.com/wkentaro/labelme)."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.imports.files import read_json
from microseg.core.domains.imports.polygons import ellipse, rectangle, ring
from microseg.core.domains.imports.shapes import ImageLabels, Shape
from microseg.core.errors import InputError

_WITHOUT_AREA = ("point", "points", "line", "linestrip")
_MAX_BITMAP_PX = 1 << 26


def read(path: Path) -> dict[str, ImageLabels]:
    """The shapes of a LabelMe file: polygons, rectangles, circles and masks.

    Args:
        path: the JSON file.

    Returns:
        The labels of its one image, under an empty name.

    Raises:
        InputError: the file cannot be read, or a shape is none.
    """
    content = read_json(path)
    shapes: list[Shape] = []
    without_area = 0
    for number, item in enumerate(content["shapes"], 1):
        where = f"{path}: shape {number}"
        try:
            kind = item.get("shape_type") or "polygon"
            if kind in _WITHOUT_AREA:
                without_area += 1
            else:
                shapes.append(_shape(str(item["label"]), kind, item, where))
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"{where}: is no shape of LabelMe. Remedy: draw it again, or delete it.") from error
    size = (content.get("imageHeight"), content.get("imageWidth"))
    stated = (size[0], size[1]) if all(type(side) is int and side > 0 for side in size) else None
    return {"": ImageLabels(tuple(shapes), stated, without_area)}


def _shape(label: str, kind: str, item: dict[str, Any], where: str) -> Shape:
    points = item["points"]
    match kind:
        case "polygon" | "rotation":
            outline = points
        case "rectangle":
            (x0, y0), (x1, y1) = points[0], points[-1]
            outline = points if len(points) == 4 else rectangle(x0, y0, x1, y1)
        case "circle":
            (x, y), edge = points
            radius = math.dist((x, y), edge)
            outline = ellipse(x, y, radius, radius)
        case "mask":
            bitmap = _bitmap(base64.b64decode(item["mask"]), where)
            return Shape(label, bitmap=lambda: bitmap, left=round(points[0][0]), top=round(points[0][1]))
        case _:
            raise InputError(f"{where}: is a {kind!r}, which is not read. Remedy: draw a polygon.")
    return Shape(label, ((ring(outline, where),),))


def _bitmap(data: bytes, where: str) -> NDArray[np.bool_]:
    """A mask from its PNG file."""
    from PIL import Image  # imported here: `segment` pairs names with this package, and starts sooner without decoders

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > _MAX_BITMAP_PX:
                raise InputError(f"{where}: its mask has {image.width} x {image.height} px. Remedy: export masks.")
            return np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: its mask is no PNG ({error}). Remedy: draw it again, or delete it.") from error
