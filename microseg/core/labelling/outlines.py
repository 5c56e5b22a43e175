"""Labels to outlines, as QuPath's GeoJSON: the inverse of `core.domains.imports.qupath`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.schemas.bag import PhaseInfo

# With more regions in a field, annotation tools become slow: then all regions of a phase are one annotation.
MOST_REGIONS = 5000
# Steps along the sides of pixels, clockwise: east, south, west, north.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
_NAMES = uuid.UUID("6d9c1c6e-6a0b-4f43-9a58-5b0f5f3f8f6d")

Ring = list[list[int]]


def geojson(labels: NDArray[np.uint8], phases: Sequence[PhaseInfo]) -> dict[str, Any]:
    """The regions of a label image as annotations of QuPath (GeoJSON, RFC 7946).

    Outlines run along the sides of pixels, so that they give the same labels back.

    Args:
        labels: phase indices as viewers show them, uint8 (h, w). Other values are in no region.
        phases: the phases.

    Returns:
        A FeatureCollection: one polygon for each region whose pixels share sides; with more than `MOST_REGIONS` of them, one
        multi-polygon for each phase.
    """
    regions, phase_of = _regions(labels, len(phases))
    polygons = _polygons(regions, len(phase_of))
    if len(phase_of) <= MOST_REGIONS:
        parts = [(phase, [polygon]) for phase, polygon in zip(phase_of, polygons, strict=True)]
    else:
        parts = [
            (phase, [polygon for each, polygon in zip(phase_of, polygons, strict=True) if each == phase])
            for phase in sorted(set(phase_of))
        ]
    return {
        "type": "FeatureCollection",
        "features": [_feature(number, phases[phase], shape) for number, (phase, shape) in enumerate(parts)],
    }


def _feature(number: int, phase: PhaseInfo, polygons: list[list[Ring]]) -> dict[str, Any]:
    is_one = len(polygons) == 1
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMES, str(number))),
        "geometry": {
            "type": "Polygon" if is_one else "MultiPolygon",
            "coordinates": polygons[0] if is_one else polygons,
        },
        "properties": {
            "objectType": "annotation",
            "classification": {"name": phase.name, "color": list(bytes.fromhex(phase.color[1:]))},
        },
    }


def _regions(labels: NDArray[np.uint8], phases: int) -> tuple[NDArray[np.int32], list[int]]:
    """The number of the region of each pixel, int32 (h, w), from 1, 0 in none; and the phase of each region."""
    regions = np.zeros(labels.shape, np.int32)
    phase_of: list[int] = []
    for phase in range(phases):
        inside = np.asarray(labels == phase)
        count, found = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
        regions[inside] = found[inside] + len(phase_of)
        phase_of += [phase] * (count - 1)
    return regions, phase_of


def _polygons(regions: NDArray[np.int32], count: int) -> list[list[Ring]]:
    """Of each region its outline, then the outlines of its holes, along the sides of pixels."""
    height, width = regions.shape
    padded = np.zeros((height + 2, width + 2), np.int32)
    padded[1:-1, 1:-1] = regions
    # Every side between a pixel and one of another region is a step with the region to its right. There is one step at most
    # from a corner in a direction, so that both name it.
    across, corners = width + 1, (height + 1) * (width + 1)
    exists = np.zeros((4, height + 1, width + 1), np.bool_)
    region_of = np.zeros((4, height + 1, width + 1), np.int32)
    neighbours = ((-1, 0), (0, 1), (1, 0), (0, -1))
    starts = ((0, 0), (0, 1), (1, 1), (1, 0))
    for direction, ((dy, dx), (top, left)) in enumerate(zip(neighbours, starts, strict=True)):
        other = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        is_side = (regions != other) & (regions > 0)
        place = np.s_[direction, top : top + height, left : left + width]
        exists[place] = is_side
        region_of[place] = regions * is_side
    exist = exists.reshape(4, corners)
    moves = [dy * across + dx for dx, dy in _STEPS]
    polygons: list[list[tuple[float, Ring]]] = [[] for _ in range(count)]
    following = _following(exist, moves)
    todo = exist.ravel().copy()
    belongs = region_of.reshape(-1)
    for begin in np.flatnonzero(todo).tolist():
        if todo[begin]:
            ring, area = _walk(begin, following, todo, corners, across)
            polygons[int(belongs[begin]) - 1].append((area, ring))
    # Clockwise on the screen is an outline, with a positive area; holes run the other way.
    return [[ring for _, ring in sorted(rings, key=lambda item: -item[0])] for rings in polygons]


def _following(exist: NDArray[np.bool_], moves: list[int]) -> list[int]:
    """The step after each step: to the right where there is one, so that regions which touch at a corner stay apart."""
    corners = exist.shape[1]
    following = np.zeros((4, corners), np.int64)
    for direction in range(4):
        begins = np.flatnonzero(exist[direction])
        ends = begins + moves[direction]
        right, left = (direction + 1) % 4, (direction + 3) % 4
        turn = np.where(exist[right, ends], right, np.where(exist[direction, ends], direction, left))
        following[direction, begins] = turn * corners + ends
    return following.ravel().tolist()


def _walk(begin: int, following: list[int], todo: NDArray[np.bool_], corners: int, across: int) -> tuple[Ring, float]:
    """The closed ring (first point repeated) through a step, without points on straight lines; and twice its signed area."""
    ring: Ring = []
    visited = []
    step, before = begin, -1
    while True:
        visited.append(step)
        direction, corner = divmod(step, corners)
        if direction != before:
            y, x = divmod(corner, across)
            ring.append([x, y])
        before = direction
        step = following[step]
        if step == begin:
            break
    todo[visited] = False
    if before == begin // corners and len(ring) > 1:
        ring.pop(0)  # the walk began in the middle of a side
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))
    ring.append(list(ring[0]))
    return ring, float(area)
