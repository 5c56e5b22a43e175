"""A committee without networks: thresholds on grey values, and features that are means of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microseg.core.labelling.committee import Committee, Opinion
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid

PHASES = [PhaseInfo(name="ferrite", color="#0072b2"), PhaseInfo(name="bainite", color="#e69f00")]


def thresholds(*limits: int) -> Any:
    """Folds that call brighter pixels bainite."""

    def ask(image: NDArray[np.uint8]) -> Opinion:
        votes = np.stack([(image > limit).astype(np.uint8) for limit in limits])
        features = np.array([[image.mean(), image.std()]] * len(limits), np.float32)
        return Opinion(votes[0], votes, features)

    return ask


def committee(limits: Sequence[int] = (120, 130), **changes: Any) -> Committee:
    """Thresholds as a committee."""
    values: dict[str, Any] = {
        "name": "runs/steel",
        "phases": PHASES,
        "entry": DomainEntry(name="steel"),
        "grid": Grid(),
        "halo_px": 4,
        "folds": len(limits),
        "trained": None,
        "fields": [],
        "fingerprints": [],
        "ask": thresholds(*limits),
    }
    return Committee(**values | changes)


def picture(height: int = 60, width: int = 80, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise over all grey values."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.asarray((smooth - smooth.min()) * (255 / np.ptp(smooth))).astype(np.uint8)


def pictures(folder: Path, count: int, **options: Any) -> Path:
    """A folder of `count` pictures, field0.png and on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(picture(seed=number, **options)).save(folder / f"field{number}.png")
    return folder
