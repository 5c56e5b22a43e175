"""Unlabelled fields are prepared as the labelled domain's, and hold none of its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from microseg.core.errors import InputError
from microseg.train.common.data import load_training_data
from microseg.train.common.fields.unlabelled import UnlabelledSet, read_unlabelled


def test_they_are_read_as_the_labelled_ones(source: Path, tmp_path: Path) -> None:
    data = load_training_data(source, 0.5, 2)
    inverted = data.entry.model_copy(update={"preparation": data.entry.preparation.model_copy(update={"invert": True})})
    known = {field.sha256 for field in data.fields}
    folder = tmp_path / "more"
    folder.mkdir()
    labelled = data.fields[0].field.image
    (folder / "again.tif").write_bytes(labelled.read_bytes())
    image = tifffile.imread(labelled)
    tifffile.imwrite(folder / "new.tif", image[::-1].copy())
    (field,) = read_unlabelled(folder, inverted, data.grid, data.phases, known)
    assert field.field.name == "new.tif" and field.shape == data.fields[0].shape
    assert np.abs(field.image[::-1].astype(int) - (255 - data.fields[0].image.astype(int))).max() <= 1
    assert field.counts[255] == field.area_px
    recorded = UnlabelledSet(folder, [field]).record()
    assert [(item.name, item.fold) for item in recorded.fields] == [("new.tif", -1)]

    (folder / "new.tif").unlink()
    with pytest.raises(InputError, match="no field beside the labelled ones"):
        read_unlabelled(folder, data.entry, data.grid, data.phases, known)
    (folder / "domain.yaml").write_text(
        yaml.safe_dump({"phases": [{"name": "moon", "value": 0}, {"name": "sun", "value": 1}]}), "utf-8"
    )
    with pytest.raises(InputError, match="moon"):
        read_unlabelled(folder, data.entry, data.grid, data.phases, known)
