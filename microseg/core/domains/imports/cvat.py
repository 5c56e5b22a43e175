"""CVAT for images 1.1: one XML file for all images (https://docs.cvat.ai/docs/manual/advanced/xml_format/)."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microseg.core.domains.imports.files import read_xml
from microseg.core.domains.imports.polygons import Ring, ellipse, rectangle, ring
from microseg.core.domains.imports.runs import checked_runs, from_runs
from microseg.core.domains.imports.shapes import ImageLabels, Shape
from microseg.core.errors import InputError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_REGIONS = ("polygon", "box", "ellipse", "mask")
_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
_MAX_BITMAP_PX = 1 << 28


def read(path: Path) -> dict[str, ImageLabels]:
    """The polygons, boxes, ellipses and masks of a CVAT file, by their `z_order`, then by their order in the file.

    Args:
        path: the XML file.

    Returns:
        The labels by name of the image.

    Raises:
        InputError: the file cannot be read, is one of a video, or a shape is none.
    """
    root = read_xml(path)
    if root.find("track") is not None:
        raise InputError(f"{path}: is CVAT for video. Remedy: export as CVAT for images 1.1.")
    found = {}
    for image in root.iter("image"):
        name = image.get("name", "")
        shapes = []
        for number, item in enumerate(image, 1):
            where = f"{path}: image {name!r}, shape {number}"
            try:
                if item.tag in _REGIONS:
                    shapes.append((int(item.get("z_order", 0)), _shape(item, where)))
            except (KeyError, OverflowError, ValueError) as error:
                raise InputError(f"{where}: is no shape of CVAT. Remedy: export it again.") from error
        ordered = [shape for _, shape in sorted(shapes, key=lambda entry: entry[0])]
        size = (image.get("height", ""), image.get("width", ""))
        stated = (int(size[0]), int(size[1])) if all(side.isdecimal() and len(side) < 10 for side in size) else None
        without_area = sum(item.tag in _WITHOUT_AREA for item in image)
        found[name] = ImageLabels(tuple(ordered), stated, without_area)
    return found


def _shape(item: Element, where: str) -> Shape:
    label, values = item.attrib["label"], item.attrib
    match item.tag:
        case "polygon":
            outline = [[float(value) for value in pair.split(",")] for pair in values["points"].split(";")]
        case "box":
            outline = rectangle(*(float(values[key]) for key in ("xtl", "ytl", "xbr", "ybr")))
        case "ellipse":
            outline = ellipse(*(float(values[key]) for key in ("cx", "cy", "rx", "ry")))
        case _:
            height, width, top, left = (int(values[key]) for key in ("height", "width", "top", "left"))
            if not (height > 0 and width > 0 and height * width <= _MAX_BITMAP_PX):
                raise InputError(f"{where}: its mask has {width} x {height} px. Remedy: export it again.")
            runs = checked_runs([int(run) for run in values["rle"].split(",")], height, width, where)
            return Shape(label, bitmap=partial(from_runs, runs, height, width, by_columns=False), top=top, left=left)
    return Shape(label, ((_turned(ring(outline, where), float(values.get("rotation", 0))),),))


def _turned(points: Ring, degrees: float) -> Ring:
    """Points, float64 (n, 2), turned clockwise about the centre of their box."""
    if not degrees:
        return points
    centre = (points.min(0) + points.max(0)) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.asarray((points - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre)
