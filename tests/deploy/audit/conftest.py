"""A measured lot whose true masks are known. Its engine finds a little less of the bright phase than there is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.engines import write_threshold_engine


@dataclass(frozen=True)
class Lot:
    """A measured lot.

    Attributes:
        input: the micrographs.
        true: their true masks.
        engine: the engine.
        report: the report.
    """

    input: Path
    true: Path
    engine: Path
    report: Path

    def masks(self, folder: Path, names: list[str]) -> Path:
        """A folder with the true masks of these fields."""
        for name in names:
            target = folder / Path(name).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.true / target.relative_to(folder), target)
        return folder


@pytest.fixture(scope="session")
def _measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audited")
    rng = np.random.default_rng(1)
    for index in range(14):
        field = cv2.GaussianBlur(rng.random((40, 56)), (0, 0), 3)
        true = field > np.quantile(field, 1 - rng.uniform(0.2, 0.6))
        grey = np.where(true & (rng.random(true.shape) > 0.03), 170, 70) + rng.normal(0, 4, true.shape)
        name = f"s{index % 2}/f{index:02d}"
        for folder in ("lot", "true"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / "lot" / f"{name}.tif", grey.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "true" / f"{name}.png"), true.astype(np.uint8))
    write_threshold_engine(root / "bagged.onnx")
    segment(SegmentOptions(root / "lot", root / "bagged.onnx", root / "report", sections="^(.)"))
    return root


@pytest.fixture
def lot(_measured: Path, tmp_path: Path) -> Lot:
    """The lot, its engine and its report, to be changed by one test. The report says where the originals are."""
    shutil.copytree(_measured, tmp_path / "w")
    root = tmp_path / "w"
    return Lot(root / "lot", root / "true", root / "bagged.onnx", root / "report")
