"""COCO: one JSON file for all images, with polygons or run-length coded masks (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from microseg.core.domains.imports.files import read_json
from microseg.core.domains.imports.polygons import ring
from microseg.core.domains.imports.runs import checked_runs, coco_runs, from_runs
from microseg.core.domains.imports.shapes import ImageLabels, Shape
from microseg.core.errors import InputError

_MAX_BITMAP_PX = 1 << 28


def read(path: Path) -> dict[str, ImageLabels]:
    """The annotations of a COCO file. The parts of a polygon are joined; the order is that of the file.

    Args:
        path: the JSON file.

    Returns:
        The labels by `file_name`, also of images without annotations. Annotations that are boxes alone outline nothing.

    Raises:
        InputError: the file cannot be read, or an annotation is none.
    """
    content = read_json(path)
    try:
        names = {item["id"]: str(item["name"]) for item in content.get("categories") or ()}
        images = {item["id"]: item for item in content["images"]}
        shapes: dict[Any, list[Shape]] = {key: [] for key in images}
        boxes = dict.fromkeys(images, 0)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its images or categories are not those of COCO. Remedy: export it again.") from error
    for number, item in enumerate(content["annotations"], 1):
        where = f"{path}: annotation {number}"
        try:
            image = images[item["image_id"]]
            if item.get("segmentation"):
                label = names.get(item["category_id"], str(item["category_id"]))
                shapes[image["id"]].append(_shape(label, item["segmentation"], _size(image), where))
            else:
                boxes[image["id"]] += 1
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"{where}: is no annotation of COCO. Remedy: export it again.") from error
    return {
        str(item["file_name"]): ImageLabels(tuple(shapes[key]), _size(item), boxes[key]) for key, item in images.items()
    }


def _size(item: dict[str, Any]) -> tuple[int, int] | None:
    height, width = item.get("height"), item.get("width")
    return (height, width) if type(height) is int and type(width) is int and height > 0 < width else None


def _shape(label: str, segmentation: Any, size: tuple[int, int] | None, where: str) -> Shape:
    if isinstance(segmentation, list):
        parts = [ring(np.asarray(part, np.float64).reshape(-1, 2), where) for part in segmentation]
        return Shape(label, tuple((part,) for part in parts))
    height, width = segmentation["size"]
    if type(height) is not int or type(width) is not int or not 0 < height * width <= _MAX_BITMAP_PX:
        raise InputError(f"{where}: its mask has {width} x {height} px. Remedy: export it again.")
    if size not in (None, (height, width)):
        raise InputError(f"{where}: its mask is {width} x {height} px, its image is not. Remedy: export it again.")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        # A run takes one character at least.
        if len(counts) > 2 * height * width + 2:
            raise InputError(f"{where}: its mask has more runs than pixels. Remedy: export it again.")
        counts = coco_runs(counts, where)
    runs = checked_runs(counts, height, width, where)
    return Shape(label, bitmap=partial(from_runs, runs, height, width, by_columns=True))
