from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from microseg.train.common.curves import LOSSES, plot_adaptation, write_history


def test_the_curves_of_an_adaptation_are_drawn(tmp_path: Path) -> None:
    criteria = {"flips": 0.8, "photometric": 0.7, "certainty": 0.9, "source_miou": 0.6}
    for fold in (0, 1):
        (tmp_path / f"fold{fold}").mkdir()
        rows = [
            {"step": step} | dict.fromkeys(LOSSES) | {"segmentation": 1 / (step + 1)} | criteria | {"fraction_a": 0.3}
            for step in (0, 10, 20)
        ]
        write_history(tmp_path / f"fold{fold}", rows)
    plot_adaptation(tmp_path / "history.png", [tmp_path / "fold0", tmp_path / "fold1"], ["a"])
    picture = np.asarray(Image.open(tmp_path / "history.png").convert("RGB"))
    assert picture.shape == (456, 1560, 3)
    coloured = np.ptp(picture.astype(int), axis=2) > 60
    thirds = [part.sum() for part in np.array_split(coloured, 3, axis=1)]
    assert min(thirds) > 100, "losses, criteria and fractions: each panel holds curves"
