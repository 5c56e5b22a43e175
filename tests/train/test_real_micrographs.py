"""A short training on real micrographs reaches an accuracy that no threshold reaches."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from microseg.train.common.recipe import Recipe
from tests.chain import train

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MICROSEG_DATA", ROOT / ".." / "shared" / "data")).resolve()
DOMAIN = ROOT / "benchmarks" / "data" / "superalloy.yaml"
SETTINGS: dict[str, Any] = {
    "encoder": {"name": "tf_efficientnet_lite0", "weights": "imagenet"},
    "network": {"kind": "unet", "decoder_channels": [64, 48, 32, 24, 16]},
    "scale": 0.5,
    "tile": {"core_px": 96, "halo_px": 16},
    "augmentation": {"kind": "basic"},
    "loss": {"kind": "cross_entropy", "dice": 0.5},
    "optimiser": {"learning_rate": 3e-3, "encoder_factor": 0.5, "weight_decay": 1e-4},
    "schedule": {"kind": "cosine", "warmup": 0.05},
    "rare_phase_share": 0.3,
    "ema_decay": 0.9,
    "batch": 4,
    "steps": 60,
    "validate_every": 60,
    "folds": 5,
    "halo_px": 32,
}
# Seeds 0 to 3 reach 0.68 to 0.74: a seed draws the spots that are held out too. Multi-Otsu, with the best assignment of grey
# classes to phases, has 0.37 on the test fields (benchmarks/results/real_data-superalloy.json).
FLOOR = 0.62


@pytest.mark.skipif(not (DATA / "superalloy").is_dir(), reason=f"the micrographs are not at {DATA}")
def test_superalloy_reaches_its_floor(tmp_path: Path) -> None:
    """One fold, scored once, after its last step, on spots that it has not seen."""
    train(DOMAIN, tmp_path / "run", Recipe.model_validate(SETTINGS), only_folds=[0])
    info = json.loads((tmp_path / "run" / "fold0" / "fold.json").read_text(encoding="utf-8"))["info"]
    assert info["miou"] >= FLOOR
