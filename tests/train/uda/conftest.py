"""The runs and domains of the adaptation's tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from microseg.synthetic.folder import write_domain
from microseg.train.common import prediction, score
from microseg.train.common.fields import cross_validation
from microseg.train.uda import bags, command, criteria, loop, normalise, tiles
from microseg.train.uda.scoring import candidates, fractions
from tests.chain import copied
from tests.networks import predicted_once


@pytest.fixture(scope="module")
def place(source: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A source run under runs/, its domain s/, the targets t2/, labelled/ (the same with masks to read) and lom/ (bare)."""
    root = tmp_path_factory.mktemp("uda")
    copied(source, trained, root / "s", root / "runs" / "s-tiny")
    write_domain(root / "labelled", "t2", 3, 5, size_px=(180, 150))
    shutil.copytree(root / "labelled", root / "t2")
    for mask in (root / "t2" / "masks").iterdir():
        mask.write_bytes(b"opened")  # reading this raises: no training may
    write_domain(root / "t3", "t3", 2, 5, size_px=(40, 40))
    (root / "t3" / "images").rename(root / "lom")
    with pytest.MonkeyPatch.context() as patch:
        # Candidates are compared on views of 96 px, a third of these fields, which each candidate predicts six times.
        patch.setattr(criteria, "VIEW_PX", 96)
        patch.setattr(criteria, "VIEWS", 1)
        # Drawing takes as long as the training: `test_curves.py` looks at the picture.
        patch.setattr(bags, "plot_adaptation", lambda path, *others: path.touch())
        patch.setattr(candidates, "MOST_ENLARGED", 1.0)
        # Every adaptation begins with the same networks, and the chosen ones are asked again at its end.
        of_view, of_field = predicted_once(prediction.predict_view), predicted_once(prediction.predict_field)
        for module in (bags, candidates, command, loop, normalise):
            patch.setattr(module, "predict_view", of_view)
        for module in (bags, cross_validation, fractions, score, tiles):
            patch.setattr(module, "predict_field", of_field)
        yield root
