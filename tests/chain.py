"""The whole chain in seconds: a tiny domain, recipe and run, and the command line in this process."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from microseg.core.schemas.run import RunSummary, read_record
from microseg.core.system.files import write_yaml
from microseg.synthetic.folder import write_domain
from microseg.train.common.curves import plot_histories
from microseg.train.common.progress import ProgressCallback
from microseg.train.common.recipe import Recipe
from microseg.train.supervised.command import run_supervised

# Three encoder stages of EfficientNet-Lite0, untrained: 0.1 s a step, and a receptive field that tests can surround.
ENCODER = {"name": "tf_efficientnet_lite0", "weights": "none"}
NETWORK = {"decoder_channels": [16, 8, 8]}
SETTINGS: dict[str, Any] = {
    "encoder": ENCODER,
    "network": NETWORK,
    "scale": 1.0,
    "tile": {"core_px": 48, "halo_px": 8},
    "augmentation": {"kind": "randomised"},
    "loss": {"kind": "cross_entropy", "dice": 0.5},
    "optimiser": {"learning_rate": 5e-3, "encoder_factor": 1.0, "weight_decay": 1e-4},
    "rare_phase_share": 0.3,
    "ema_decay": 0.8,
    "batch": 2,
    "steps": 6,
    "validate_every": 2,
    "folds": 2,
    "halo_px": 16,
}


def tiny_recipe(**changes: Any) -> Recipe:
    """The tests' recipe with some keys replaced."""
    return Recipe.model_validate(SETTINGS | changes)


def write_recipe(path: Path, **changes: Any) -> Path:
    """The same as a file."""
    path.write_text(yaml.safe_dump(SETTINGS | changes), encoding="utf-8")
    return path


def tiny_domain(folder: Path, fields: int = 4, seed: int = 1) -> Path:
    """Synthetic S, 180 x 150 px: no multiple of any stride."""
    write_domain(folder, "s", fields, seed, size_px=(180, 150))
    return folder


def train(
    domain: Path,
    out: Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    only_folds: list[int] | None = None,
    on_fold: Callable[[int], ProgressCallback] = lambda fold: lambda step, steps, text: None,
    workers: int | None = None,
    draws: bool = False,
) -> RunSummary | None:
    """`microseg train supervised` without its command line. Curves are drawn if asked: it takes longer than a step."""
    drawn = plot_histories if draws else lambda path, *others: path.touch()
    with patch("microseg.train.supervised.command.plot_histories", drawn):
        return run_supervised(
            domain, "tiny", recipe or tiny_recipe(), out,
            resume=resume, only_folds=only_folds, on_fold=on_fold, workers=workers,
        )  # fmt: skip


def copied(source: Path, trained: Path, domain: Path, run: Path) -> None:
    """Own copies of a domain and of the run on it, which says where its domain is now: a training spared."""
    shutil.copytree(source, domain)
    shutil.copytree(trained, run)
    record = read_record(run).model_copy(update={"domain_source": str(domain.resolve())})
    write_yaml(run / "run.yaml", record.model_dump(mode="json"))


@dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str


def microseg(*arguments: object, columns: int = 250) -> Outcome:
    """Run a command in this process as the console script would, in a terminal of that width."""
    from microseg.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["microseg", *map(str, arguments)]),
        patch.dict(os.environ, {"COLUMNS": str(columns)}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Outcome(status, out.getvalue(), err.getvalue())
