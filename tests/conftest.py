"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-fold engine that thresholds a 3 x 3 mean: dark is `ferrite`, bright is `bainite`."""
    from tests.engines import write_threshold_engine

    return write_threshold_engine(tmp_path_factory.mktemp("engine") / "tiny.onnx")
