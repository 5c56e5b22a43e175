"""A labelled domain as training reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microseg.core.domains.checking import check_domain
from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.train.common.data import load_training_data
from tests.core.samples import halves, write_domain

PHASES = [{"name": "ferrite"}, {"name": "bainite"}]


def test_what_labels_may_mean_otherwise_reaches_training(tmp_path: Path) -> None:
    scribbles = np.zeros((32, 40), np.uint8)
    scribbles[4:12, :20], scribbles[4:12, 20:] = 1, 2
    folder = write_domain(tmp_path, {"a": scribbles, "b": scribbles})
    assert "write `unlabelled: 0`" in load_training_data(folder, 1.0, 2).notices[0]
    (folder / "domain.yaml").write_text("unlabelled: 0\n")
    data = load_training_data(folder, 1.0, 2)
    assert data.notices == ()
    np.testing.assert_array_equal(np.unique(data.fields[0].labels), [0, 1, 255])


def test_a_field_without_a_label_is_refused_as_by_check(tmp_path: Path) -> None:
    masks = {"a": halves(), "b": halves(), "c": halves(values=(255,))}
    folder = write_domain(tmp_path, masks, {"phases": PHASES, "unlabelled": 255})
    with pytest.raises(InputError) as caught:
        load_training_data(folder, 1.0, 2)
    assert check_domain(load_domain(folder), 2).problems == (str(caught.value),)
    (folder / "domain.yaml").write_text("unlabelled: 255\ntest: [c]\nphases: [{name: ferrite}, {name: bainite}]\n")
    assert [item.field.name for item in load_training_data(folder, 1.0, 2).fields] == ["a.tif", "b.tif"]
    assert check_domain(load_domain(folder), 2).problems == ()
