"""A seeded tiny run: the same command gives the same weights, interrupted or not."""

from __future__ import annotations

import csv
import itertools
import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from microseg.core.domains.domain import load_domain
from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import TrainingError
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import Grid
from microseg.core.system.files import sha256_of, write_json
from microseg.models.unet import UNet
from microseg.train.common import checkpoint
from microseg.train.common import prediction as predict
from microseg.train.common.datasets import Batch, LabelledField, load_fields
from microseg.train.common.losses import cross_entropy
from microseg.train.common.parallel.ranks import ALONE
from microseg.train.common.recipe import Recipe, Schedule
from microseg.train.common.schedule import rate_factor
from microseg.train.supervised import loop as supervised
from microseg.train.supervised.loop import SupervisedFold, steps_of, train_fold
from tests.chain import tiny_recipe

STEPS = 5


class Interrupted(Exception):
    """Stands for a kill between two steps."""


@pytest.fixture(scope="module")
def fields(source: Path) -> list[LabelledField]:
    return load_fields(load_domain(source), Grid())


@pytest.fixture(scope="module")
def phases(source: Path) -> list[PhaseInfo]:
    return [PhaseInfo(name=phase.name, color=phase.color) for phase in load_domain(source).phases]


def recipe() -> Recipe:
    """Validated after steps 2, 4 and 5."""
    return tiny_recipe(steps=STEPS)


def fold(
    fields: Sequence[LabelledField],
    phases: Sequence[PhaseInfo],
    folder: Path,
    stop_at: int | None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    def report(step: int, steps: int, text: str) -> None:
        assert steps == STEPS
        assert "loss" in text
        if step == stop_at:
            raise Interrupted

    train_fold(SupervisedFold(recipe(), phases, fields[:3], fields[3:], 0, folder), report, clock=clock)


def what_it_left(folder: Path) -> tuple[str, str, str]:
    """Weights, learning curve, scores and fingerprint; not the time it took."""
    kept = json.loads((folder / "fold.json").read_text(encoding="utf-8"))
    assert kept.pop("seconds") > 0
    return (
        sha256_of(folder / "model.safetensors"),
        (folder / "history.csv").read_text(encoding="utf-8"),
        json.dumps(kept),
    )


@pytest.fixture(scope="module")
def uninterrupted(
    fields: list[LabelledField], phases: list[PhaseInfo], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, str]:
    folder = tmp_path_factory.mktemp("fold")
    fold(fields, phases, folder, None)
    return what_it_left(folder)


@pytest.mark.parametrize("stops", [(1,), (3, 4), (5,)], ids=str)
def test_a_resumed_fold_equals_an_uninterrupted_one(
    fields: list[LabelledField],
    phases: list[PhaseInfo],
    uninterrupted: tuple[str, str, str],
    tmp_path: Path,
    stops: tuple[int, ...],
) -> None:
    for stop in stops:
        with pytest.raises(Interrupted):
            fold(fields, phases, tmp_path, stop)
        assert not (tmp_path / "fold.json").exists()
    fold(fields, phases, tmp_path, None)
    assert what_it_left(tmp_path) == uninterrupted


def test_a_kill_while_the_state_is_written_loses_nothing(
    fields: list[LabelledField],
    phases: list[PhaseInfo],
    uninterrupted: tuple[str, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = write_json

    def killed(path: Path, value: dict[str, object]) -> None:
        if value.get("step") == 4:
            raise Interrupted
        write(path, value)

    monkeypatch.setattr(checkpoint, "write_json", killed)
    with pytest.raises(Interrupted):
        fold(fields, phases, tmp_path, None)
    assert json.loads((tmp_path / "last" / "state.json").read_text())["step"] == 2
    monkeypatch.undo()
    fold(fields, phases, tmp_path, None)
    assert what_it_left(tmp_path) == uninterrupted
    assert len(list((tmp_path / "last").glob("*.safetensors"))) == 1


def test_seconds_add_up_over_interruptions(
    fields: list[LabelledField], phases: list[PhaseInfo], tmp_path: Path
) -> None:
    ticks = itertools.count()

    def clock() -> float:
        return 10.0 * next(ticks)

    with pytest.raises(Interrupted):
        fold(fields, phases, tmp_path, 4, clock)
    first = json.loads((tmp_path / "last" / "state.json").read_text())
    assert (first["step"], first["seconds"]) == (2, 10.0)
    fold(fields, phases, tmp_path, None, clock)
    assert json.loads((tmp_path / "fold.json").read_text())["seconds"] == 30.0


def test_a_diverging_run_stops_and_keeps_the_last_good_weights(
    fields: list[LabelledField], phases: list[PhaseInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = itertools.count()
    honest = cross_entropy

    def exploding(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        return honest(logits, labels, weights) * (float("nan") if next(counted) == 3 else 1.0)

    monkeypatch.setattr("microseg.train.common.losses.cross_entropy", exploding)
    with pytest.raises(
        TrainingError, match=r"nan at step 4, on tiles of .*tif, at a learning rate of .*step 2 are kept"
    ):
        fold(fields, phases, tmp_path, None)
    kept = load_file(tmp_path / "model.safetensors")
    assert all(value.isfinite().all() for value in kept.values())


def test_the_history_has_a_row_per_validation(uninterrupted: tuple[str, str, str]) -> None:
    rows = list(csv.DictReader(uninterrupted[1].splitlines()))
    assert [int(row["step"]) for row in rows] == [2, 4, 5]
    assert set(rows[0]) == {"step", "loss", "miou", "iou_ferrite", "iou_lath-bainite"}
    assert all(float(row["loss"]) > 0 for row in rows)
    best = max(float(row["miou"]) for row in rows)
    kept = json.loads(uninterrupted[2])
    assert kept["info"]["miou"] == pytest.approx(best)
    assert kept["info"]["weights_sha256"] == uninterrupted[0]
    assert len(kept["fingerprint"]["mean"]) == len(kept["fingerprint"]["std"]) > 0


@pytest.mark.parametrize("kind", ["constant", "polynomial", "cosine"])
def test_rates_warm_up_and_decay(kind: str) -> None:
    schedule = Schedule.model_validate({"kind": kind, "warmup": 0.1})
    rates = [rate_factor(schedule, step, 100) for step in range(100)]
    assert 0 < rates[0] < rates[5] < rates[9] < 1
    assert rates[10] == 1
    assert all(a >= b >= 0 for a, b in pairwise(rates[10:]))
    assert (rates[-1] == 1) == (kind == "constant")


def test_tiled_equals_whole_with_a_sufficient_halo(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = UNet("tf_efficientnet_lite0", 3, "none", (16, 8, 8)).eval()
    image = np.random.default_rng(0).integers(0, 256, (70, 420), np.uint8)
    whole, _ = predict.predict_field([network], image, network.stride, 64)
    monkeypatch.setattr(predict, "MAX_TILE_PIXELS", 72 * 240)
    tiled, features = predict.predict_field([network, network], image, network.stride, 64)
    assert tiled.shape == (2, 3, 70, 420)
    assert features.shape[0] == 2
    assert np.allclose(tiled[:1], whole, atol=1e-5)
    margin = np.diff(np.sort(whole[0], axis=0)[-2:], axis=0)[0]
    same = tiled[0].argmax(0) == whole[0].argmax(0)
    assert same[margin > 1e-4].all()
    narrow, _ = predict.predict_field([network], image, network.stride, 0)
    assert not np.allclose(narrow, whole, atol=1e-5), "the halo is what does it"


def test_an_epoch_is_as_many_tiles_as_cover_the_fields(fields: list[LabelledField]) -> None:
    """180 x 150 px in cores of 48 px: 4 x 4 tiles a field, four fields, batches of 6."""
    recipe = tiny_recipe(steps=None, epochs=3, batch=6)
    assert steps_of(recipe, fields) == 3 * 11
    assert steps_of(tiny_recipe(steps=7), fields) == 7


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_a_batch_in_parts_trains_as_well(
    fields: list[LabelledField], phases: list[PhaseInfo], tmp_path: Path, micro_batch: int
) -> None:
    recipe = tiny_recipe(
        batch=3, micro_batch=micro_batch, steps=2, network={"kind": "deeplabv2", "auxiliary_loss": 0.1}
    )
    result = train_fold(SupervisedFold(recipe, phases, fields[:3], fields[3:], 0, tmp_path))
    assert 0 < result.info.miou < 1
    batch = Batch(np.zeros((3, 1, 4, 4), np.uint8), np.arange(12, dtype=np.uint8).reshape(3, 2, 2), ("a",))
    batch.labels[0] = UNLABELLED
    parts = list(supervised.micro_batches(recipe, batch, None, torch.device("cpu"), ALONE))
    assert sum(share.tiles for _, _, share in parts) == pytest.approx(1)
    labelled = [float((labels != UNLABELLED).sum()) / 8 for _, labels, _ in parts]
    assert [float(share.labelled) for _, _, share in parts] == pytest.approx(labelled), (
        "unlabelled pixels count nowhere"
    )
    assert torch.equal(torch.cat([labels for _, labels, _ in parts]), torch.from_numpy(batch.labels).long())


def test_out_of_memory_says_what_to_lower(
    fields: list[LabelledField], phases: list[PhaseInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("microseg.train.common.losses.cross_entropy", full)
    with pytest.raises(TrainingError, match=r"out of memory on cpu with 2 tiles of 64 px.*--set micro_batch=1"):
        fold(fields, phases, tmp_path, None)
