"""Outlines give the labels back, pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.domains.imports.qupath import polygons
from microseg.core.domains.imports.shapes import ImageLabels, Shape, painted
from microseg.core.labelling import outlines
from microseg.core.labelling.outlines import geojson
from tests.core.labelling.committees import PHASES


def back(content: dict[str, Any], shape: tuple[int, int]) -> NDArray[np.uint8]:
    shapes = [
        Shape(each["properties"]["classification"]["name"], tuple(polygons(each["geometry"], "here")))
        for each in json.loads(json.dumps(content))["features"]
    ]
    return painted(ImageLabels(tuple(shapes)), shape, {"ferrite": 0, "bainite": 1}, 255, Path("here"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 999))
def test_any_labels_come_back(height: int, width: int, seed: int) -> None:
    labels = np.random.default_rng(seed).choice(np.array([0, 1, 255], np.uint8), (height, width))
    np.testing.assert_array_equal(back(geojson(labels, PHASES), labels.shape), labels)


def test_a_region_is_one_polygon_with_its_holes() -> None:
    labels = np.zeros((9, 10), np.uint8)
    labels[2:7, 2:8] = 1
    labels[3:5, 3:6] = 0
    labels[0, 0] = 255
    content = geojson(labels, PHASES)
    assert content["type"] == "FeatureCollection"
    found = [(each["properties"]["classification"], each["geometry"]) for each in content["features"]]
    ferrite, inside, bainite = found
    assert ferrite[0] == inside[0] == {"name": "ferrite", "color": [0x00, 0x72, 0xB2]}
    assert bainite[0] == {"name": "bainite", "color": [0xE6, 0x9F, 0x00]}
    assert all(geometry["type"] == "Polygon" for _, geometry in found)
    assert bainite[1]["coordinates"] == [
        [[2, 2], [8, 2], [8, 7], [2, 7], [2, 2]],
        [[3, 5], [6, 5], [6, 3], [3, 3], [3, 5]],
    ]
    assert [len(geometry["coordinates"]) for _, geometry in found] == [2, 1, 2]
    assert len({each["id"] for each in content["features"]}) == 3
    # A corner that two regions share joins them in no tool that asks for simple polygons.
    touching = geojson(np.array([[1, 255], [255, 1]], np.uint8), PHASES)
    assert [each["geometry"]["coordinates"] for each in touching["features"]] == [
        [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]],
        [[[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]],
    ]


def test_very_many_regions_become_one_annotation_for_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.indices((8, 8)).sum(0).astype(np.uint8) % 2
    assert len(geojson(labels, PHASES)["features"]) == 64
    monkeypatch.setattr(outlines, "MOST_REGIONS", 20)
    content = geojson(labels, PHASES)
    assert [each["geometry"]["type"] for each in content["features"]] == ["MultiPolygon"] * 2
    np.testing.assert_array_equal(back(content, labels.shape), labels)


def test_nothing_labelled_has_no_outline() -> None:
    assert geojson(np.full((3, 4), 255, np.uint8), PHASES)["features"] == []
