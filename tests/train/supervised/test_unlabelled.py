"""Unlabelled fields: a second stage after the labels, kept where held-out labels gain, and never a change of the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.core.schemas.bag import Fingerprint, FoldInfo
from microseg.core.schemas.run import read_record, read_run
from microseg.train.common.run_folder import FoldResult, read_fold, write_fold
from microseg.train.supervised.command import run_supervised
from microseg.train.supervised.unlabelled import settled_gain, stage_folder
from tests.chain import tiny_recipe

WEIGHTS = "model.safetensors"


def _scored(folder: Path, fold: int, miou: float) -> None:
    """A finished fold with this score."""
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_text(f"{folder.parent.name} {miou}", "utf-8")
    info = FoldInfo(index=fold, miou=miou, iou={}, weights_sha256="0" * 64)
    write_fold(folder, FoldResult(info, Fingerprint(fold=fold, mean=[], std=[]), 1.0))


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [([0.5, 0.7], [0.6, 0.65], True), ([0.5, 0.7], [0.6, 0.55], False), ([0.5, 0.7], [0.7, 0.5], False)],
)
def test_held_out_labels_decide(tmp_path: Path, before: list[float], after: list[float], kept: bool) -> None:
    for fold in range(2):
        _scored(tmp_path / f"fold{fold}", fold, before[fold])
        _scored(stage_folder(tmp_path, fold), fold, after[fold])
    for _ in range(2):  # an interrupted run decides no second time
        gain = settled_gain(tmp_path, 2, 7)
        assert (gain.kept, gain.before, gain.after, gain.fields) == (kept, before, after, 7)
        for fold in range(2):
            wanted = (stage_folder(tmp_path, fold) if kept else tmp_path / f"fold{fold}") / WEIGHTS
            assert (tmp_path / f"fold{fold}" / WEIGHTS).read_bytes() == wanted.read_bytes()
            assert read_fold(tmp_path / f"fold{fold}").info.miou == (after if kept else before)[fold]
    assert gain.sentence.startswith(f"7 unlabelled fields: mIoU on held-out labels 0.600 -> {sum(after) / 2:.3f}; ")
    assert ("not kept" in gain.sentence) != kept


def test_folds_go_on_with_unlabelled_fields(source: Path, unseen: Path, trained: Path, tmp_path: Path) -> None:
    """The first stage is the training with labels alone, bit for bit. What is interrupted goes on."""
    run = tmp_path / "run"
    recipe = tiny_recipe(unlabelled={"steps_share": 0.5, "patch_px": 8})
    begun = run_supervised(source, "tiny", recipe, run, resume=False, only_folds=[0], unlabelled=unseen)
    assert begun is None
    assert (run / "fold0" / WEIGHTS).read_bytes() == (trained / "fold0" / WEIGHTS).read_bytes()
    stage = stage_folder(run, 0)
    assert (stage / WEIGHTS).read_bytes() != (run / "fold0" / WEIGHTS).read_bytes()
    assert (stage / "history.csv").read_text("utf-8").splitlines()[-1].startswith("3,")
    first, second = read_fold(run / "fold0").info.miou, read_fold(stage).info.miou

    told: list[str] = []
    summary = run_supervised(source, "tiny", recipe, run, resume=True, notice=told.append, unlabelled=unseen)
    assert summary is not None and summary.unlabelled is not None
    gain = summary.unlabelled
    assert (gain.before[0], gain.after[0]) == (first, second)
    assert gain.kept == (sum(gain.after) > sum(gain.before)) and told[-1] == gain.sentence
    assert [fold.miou for fold in summary.folds] == (gain.after if gain.kept else gain.before)
    record, written = read_run(run)
    assert written == summary
    assert record.unlabelled is not None and Path(record.unlabelled.source) == unseen.resolve()
    assert len(record.unlabelled.fields) == gain.fields > 0
    assert record.recipe["unlabelled"]["steps_share"] == 0.5
    assert read_record(trained).unlabelled is None


def test_fields_and_recipe_belong_together(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--unlabelled FOLDER"):
        run_supervised(source, "tiny", tiny_recipe(unlabelled={}), tmp_path / "run", resume=False)
    with pytest.raises(InputError, match="no field beside the labelled ones"):
        run_supervised(source, "tiny", tiny_recipe(), tmp_path / "run", resume=False, unlabelled=source)
    assert not (tmp_path / "run").exists()
