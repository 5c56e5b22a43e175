"""Micrographs for the pipeline's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


def micrograph(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Smooth noise over all grey values: regions of either phase with winding borders."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.asarray((smooth - smooth.min()) * (255 / np.ptp(smooth))).astype(np.uint8)


@pytest.fixture
def wafer(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a folder of `count` micrographs and returns it."""

    def make(count: int = 3, size: tuple[int, int] = (90, 120), name: str = "wafer_dir") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for index in range(count):
            Image.fromarray(micrograph(*size, index)).save(folder / f"field{index}.png")
        return folder

    return make
