"""`audit.html`: the point grid of ASTM E562 on the drawn fields, one offline page without a server."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Template
from markupsafe import Markup
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.pages.template import inline_json, page_template
from microseg.core.plain_text import plain_name
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.system.files import write_text
from microseg.deploy.audit.files import Draw, DrawnField

_TEMPLATE = "grid_page.html.j2"
# Larger pictures are reduced: browsers decode no more in reasonable time.
_MOST_PIXELS = 16 << 20
_QUALITY = 92
_TRIES = 20
# A grid is laid over the measured part; where holes take more than this, no denser one makes up for them.
_MOST_DENSER = 4.0

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Counted:
    """A field of the page.

    Attributes:
        drawn: the drawn field.
        picture: its picture, JPEG in base64.
        size: width and height that the points are of, native pixels as viewers show them.
        points: the points of the grid, x and y from the upper left corner, native pixels.
    """

    drawn: DrawnField
    picture: str
    size: tuple[int, int]
    points: Points


def grid_points(measured: NDArray[np.bool_], number: int, rng: np.random.Generator) -> Points:
    """A grid with a random offset over a field (ASTM E562: placed without regard to what it meets).

    Args:
        measured: where the field is measured, bool (h, w), as viewers show it.
        number: wanted points. Points where nothing is measured are left out, and the grid is denser there.
        rng: draws the offset.

    Returns:
        The points, row by row.

    Raises:
        InputError: no point meets a measured pixel.
    """
    height, width = measured.shape
    wanted = round(number * min(_MOST_DENSER, 1 / max(float(measured.mean()), 1e-9)))
    rows, columns = _rows_and_columns(wanted, height, width)
    for _ in range(_TRIES):
        top, left = rng.random(2)
        ys, xs = (np.arange(rows) + top) * height / rows, (np.arange(columns) + left) * width / columns
        # Down to a hundredth: rounded up, the last point would lie beyond the edge.
        points = [(int(100 * x) / 100, int(100 * y) / 100) for y in ys for x in xs if measured[int(y), int(x)]]
        if points:
            return points
    raise InputError("no point of the grid meets a measured pixel. Remedy: more --points.")


def _rows_and_columns(number: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a grid whose cells are nearly square, exactly `number` points where that is possible."""
    best = math.sqrt(number * height / width)
    exact = [rows for rows in range(1, number + 1) if number % rows == 0 and 0.5 <= rows / best <= 2]
    if exact:
        rows = min(exact, key=lambda each: abs(math.log(each / best)))
        return rows, number // rows
    rows = max(1, round(best))
    return rows, max(1, round(number / rows))


def page_field(grey: NDArray[np.uint8], points: Points) -> tuple[str, tuple[int, int], Points]:
    """The picture of a field for the page, its size and its points.

    Args:
        grey: the measured part as viewers show it, uint8 (h, w).
        points: its points.
    """
    height, width = grey.shape
    scale = min(1.0, math.sqrt(_MOST_PIXELS / (height * width)))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    done, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise InputError("the picture of a field cannot be encoded. Remedy: audit by masks.")
    return base64.b64encode(data.tobytes()).decode("ascii"), (width, height), points


def write_page(path: Path, draw: Draw, fields: Sequence[Counted], phases: Sequence[PhaseInfo], title: str) -> None:
    """Write the page. It holds nothing of what the engine found. Raises OSError.

    Args:
        path: the file.
        draw: the draw.
        fields: the drawn fields with their grids.
        phases: the phases.
        title: name of the report's input.
    """
    content = {
        "audit": draw.audit,
        "title": plain_name(title),
        "phases": [{"name": phase.name, "color": phase.color} for phase in phases],
        "fields": [
            {
                "field": each.drawn.name,
                "shown": plain_name(each.drawn.name),
                "sha256": each.drawn.sha256,
                "width": each.size[0],
                "height": each.size[1],
                "points": each.points,
            }
            for each in fields
        ],
    }
    pictures = [Markup(each.picture) for each in fields]
    text = _template().render(
        title=plain_name(title), audit=draw.audit, content=inline_json(content), pictures=pictures
    )
    write_text(path, text)


@cache
def _template() -> Template:
    return page_template(Path(__file__).with_name(_TEMPLATE))
