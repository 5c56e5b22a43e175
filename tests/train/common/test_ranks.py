"""Processes that share a fold compute what one process does; one that dies or is told to stop loses nothing."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from microseg.core.errors import TrainingError
from microseg.models.build import build_network
from microseg.train.common.losses import cross_entropy, labelled_mass, soft_dice
from microseg.train.common.parallel.ranks import ALONE, Ranks, join_ranks
from microseg.train.common.progress import ProgressCallback
from tests.chain import ENCODER, NETWORK, tiny_recipe, train, write_recipe
from tests.processes import in_own_process, start_method

PHASES, SIDE = 3, 48
WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def _one_step(ranks: Ranks) -> dict[str, Tensor]:
    """Gradients, running statistics and the loss of a batch of four tiles, of which some pixels are unlabelled."""
    torch.manual_seed(0)
    network = build_network(ENCODER, {"kind": "unet", **NETWORK}, PHASES)
    rng = np.random.default_rng(0)
    tiles = torch.from_numpy(rng.integers(0, 256, (4, 1, SIDE, SIDE), np.uint8))
    labels = torch.from_numpy(rng.choice([0, 1, 2, 255], (4, SIDE, SIDE), p=[0.6, 0.3, 0.05, 0.05]).astype(np.int64))
    labels[0, :40] = 255  # the ranks' shares of labelled pixels differ
    network.train()
    forward = ranks.wrapped(network)
    mine = slice(ranks.rank, None, ranks.size)
    logits = forward(tiles[mine]).logits
    share = ranks.size * labelled_mass(labels[mine], WEIGHTS) / ranks.total(labelled_mass(labels[mine], WEIGHTS))
    loss = share * cross_entropy(logits, labels[mine], WEIGHTS) + 0.5 * soft_dice(logits, labels[mine], ranks.total)
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    found |= {name: value for name, value in network.named_buffers() if "running" in name}
    return found | {"loss": torch.tensor(ranks.mean(float(loss.detach()))[0])}


def _rank(rank: int, meeting: str, out: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error", FutureWarning)  # PyTorch's would stand on the terminal of whoever trains
    ranks = join_ranks(meeting, rank, 2)
    torch.save(_one_step(ranks), out / f"{rank}.pt")
    assert ranks.gathered([f"{rank}-{i}" for i in range(2 - rank)], 3) == ["0-0", "1-0", "0-1"]


def test_gradients_statistics_and_loss_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    meeting = (tmp_path / "ranks").as_uri()
    start_processes(_rank, (meeting, tmp_path), 2, start_method=start_method())  # type: ignore[no-untyped-call]
    alone = _one_step(ALONE)
    assert len(alone) > 20
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            # By norm: rounding that tips one activation over ReLU6's kink moves single elements by more.
            assert float((found[name] - value).norm()) <= 1e-5 + 5e-3 * float(value.norm()), name


def test_alone_nothing_changes() -> None:
    network = nn.BatchNorm2d(3)
    assert ALONE.mean(1.0, 2.0) == [1.0, 2.0]
    assert ALONE.gathered([1, 2], 2) == [1, 2]
    assert list(ALONE.share([1, 2, 3])) == [1, 2, 3]
    assert ALONE.total(network.weight) is network.weight


def test_a_fold_on_two_processes_equals_one_also_after_a_kill(trained: Path, source: Path, tmp_path: Path) -> None:
    run, steps = tmp_path / "run", []

    def killed(fold: int) -> ProgressCallback:
        def report(step: int, _: int, text: str) -> None:
            if step == 3:
                next(c for c in multiprocessing.active_children() if "Manager" not in c.name).kill()

        return report

    with pytest.raises(TrainingError, match=r"fold0: process \d of the 2 that trained it has ended.*--resume"):
        train(source, run, only_folds=[0], workers=2, on_fold=killed)
    assert json.loads((run / "fold0" / "last" / "state.json").read_text())["step"] >= 2
    train(source, run, resume=True, only_folds=[0], workers=2, on_fold=lambda fold: lambda step, *_: steps.append(step))
    assert steps[-1] == 6
    _assert_same_curve(run, trained, [0])


def test_torchrun_trains_fold_after_fold_and_one_process_speaks(trained: Path, source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "microseg"]
    arguments = ["train", "supervised", source, "--recipe", write_recipe(tmp_path / "tiny.yaml"), "--out", run]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("IoU on held-out fields") == 1
    _assert_same_curve(run, trained, [0, 1])


def test_a_stop_saves_the_step_under_way(source: Path, trained: Path, tmp_path: Path) -> None:
    signals = (signal.SIGTERM, signal.SIGINT)
    in_own_process(_train_and_stop, source, tmp_path, signals)
    for number in signals:
        run = tmp_path / number.name
        assert json.loads((run / "fold0" / "last" / "state.json").read_text())["step"] == 3, number
        train(source, run, resume=True, only_folds=[0])
        for name in ("history.csv", "model.safetensors"):
            ours, theirs = (folder / "fold0" / name for folder in (run, trained))
            assert ours.read_bytes() == theirs.read_bytes(), (number, name)


def _train_and_stop(source: Path, place: Path, signals: Sequence[signal.Signals]) -> None:
    """One run for each signal, which it sends to itself at the second step."""
    for number in signals:

        def stopped(fold: int, number: signal.Signals = number) -> ProgressCallback:
            return lambda step, steps, text: os.kill(os.getpid(), number) if step == 2 else None

        with pytest.raises(KeyboardInterrupt):
            train(source, place / number.name, only_folds=[0], on_fold=stopped)


def test_shares_that_do_not_divide_a_batch_leave_processes_out(source: Path, tmp_path: Path) -> None:
    """Three workers, batches of two: two ranks."""
    recipe = tiny_recipe(steps=2)
    train(source, tmp_path / "run", recipe, only_folds=[0], workers=3)
    assert (tmp_path / "run" / "fold0" / "fold.json").is_file()


def _assert_same_curve(run: Path, reference: Path, folds: Sequence[int]) -> None:
    for fold in folds:
        ours, theirs = (
            list(csv.DictReader((folder / f"fold{fold}" / "history.csv").read_text().splitlines()))
            for folder in (run, reference)
        )
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        for row, other in zip(ours, theirs, strict=True):
            assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=0.02)
            assert float(row["miou"]) == pytest.approx(float(other["miou"]), abs=0.03)
