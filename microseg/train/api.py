"""The training half of the Python API: supervised training and adaptation, each to a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.schemas.bag import FoldInfo
from microseg.core.schemas.run import RunRecord, RunSummary, read_record, read_run
from microseg.train import ADAPTATION_METHODS
from microseg.train.auto.options import AutoOptions, FingerprintCallback, no_fingerprint
from microseg.train.common.progress import FoldCallback, NoticeCallback, no_fold_progress, no_notice
from microseg.train.common.recipe import Recipe
from microseg.train.recipe_files import AUTO, load_recipe, load_uda_recipe, recipe_of_run
from microseg.train.uda.recipe import UdaRecipe

__all__ = ["Run", "read_finished_run", "train_supervised", "train_uda"]

RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """A finished run folder.

    path: The folder.
    record: Everything that decided the weights (`run.yaml`).
    summary: Scores of all folds (`summary.json`).
    """

    path: Path
    record: RunRecord
    summary: RunSummary

    @property
    def phases(self) -> list[str]:
        """Names of the phases, by index."""
        return [phase.name for phase in self.record.phases]

    @property
    def folds(self) -> list[FoldInfo]:
        """Scores of each fold on the fields that it held out, mIoU and IoU from 0 to 1."""
        return self.summary.folds

    @property
    def miou(self) -> float:
        """Mean over folds of the mIoU, 0 to 1, on held-out fields. Of an adapted run: of the source's."""
        return self.summary.miou_mean

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Scores of whole held-out fields on their native grid, as `microseg evaluate --json` writes them.

        Each field is scored by the fold that did not see it. None for a run of another recipe than `auto`.
        """
        from microseg.train.auto.closing import read_evaluation

        return read_evaluation(self.path)

    @property
    def verdict(self) -> str | None:
        """`adapt`, `do not adapt` or `label a few fields`; None for a run that is not adapted."""
        return self.summary.adaptation.verdict if self.summary.adaptation else None


def read_finished_run(path: str | PathLike[str]) -> Run:
    """Read a run folder. Raises InputError where it is none, or not finished."""
    return Run(Path(path), *read_run(Path(path)))


def train_supervised(
    domain: str | PathLike[str],
    *,
    recipe: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    folds: int | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | Sequence[str] | None = None,
    init: str | PathLike[str] | None = None,
    unlabelled: str | PathLike[str] | None = None,
    resume: bool = False,
    workers: int | None = None,
    minutes: float | None = None,
    progress: FoldCallback | None = None,
    on_trial: FoldCallback | None = None,
    on_fingerprint: FingerprintCallback | None = None,
    notice: NoticeCallback | None = None,
) -> Run:
    """Train one network for each fold of a labelled domain. The command is `microseg train supervised`.

    The process stays as it is: torch's threads and random state, warning filters, signals and environment do not change.

    Args:
        domain: A labelled domain: a folder, or a YAML file that describes one.
        recipe: Name of a shipped recipe, or a YAML file. By default `auto`, which configures itself, or the recipe of `init`.
        out: Run folder to write; `runs/DOMAIN-RECIPE` by default, and `runs/DOMAIN-supervised` for `auto`.
        folds: Folds of the cross-validation, by group; the recipe's by default.
        seed: Seed of everything that is drawn; the recipe's by default.
        settings: Keys of the recipe to override, such as `{"optimiser.learning_rate": 1e-3}`, or texts `KEY=VALUE` as on the
            command line.
        init: A finished run to continue. Its labelled domain makes half of the tiles.
        unlabelled: Unlabelled fields of the same domain. They are learned from after the labels, and this is kept where the
            held-out labels gain.
        resume: Continue an interrupted run.
        workers: Processes that train; by default one for each GPU. Without a GPU `auto` takes one for each processor.
        minutes: The budget of `auto`; by default 30 without a GPU, 60 with one.
        progress: Called with the number of a fold when it begins. Returns what is called after every step with the steps
            done, the steps in all and a text.
        on_trial: The same for the candidates that `auto` tries first.
        on_fingerprint: Receives what the labelled fields are like, which `auto` decides by.
        notice: Receives sentences for the user.

    Returns:
        The run.

    Raises:
        InputError: The domain cannot be trained on, the recipe is wrong, or `out` is in use.
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    source, overrides = Path(domain), _overrides(settings)
    more = None if unlabelled is None else Path(unlabelled)
    if init is None and str(recipe or AUTO) == AUTO:
        path = Path(out) if out is not None else RUNS / f"{load_domain(source).name}-supervised"
        options = AutoOptions(minutes, overrides, folds, seed, workers, more)
        return _train_automatically(
            source, path, options, resume=resume, progress=progress, on_trial=on_trial,
            on_fingerprint=on_fingerprint, notice=notice or no_notice,
        )  # fmt: skip
    if minutes is not None:
        which = "a continued run takes the recipe of the other and has no" if init else "only --recipe auto has a"
        raise InputError(f"--minutes: {which} budget. Remedy: leave it out, or --set steps=N.")
    name, loaded = _recipe(recipe, init, overrides, folds, seed)
    run = Path(out or RUNS / f"{load_domain(source).name}-{'supervised' if name == AUTO else name}")

    import torch

    from microseg.train.supervised.command import run_supervised

    is_finished = resume and (run / "summary.json").is_file()
    with torch.random.fork_rng():
        summary = run_supervised(
            source, name, loaded, run, resume=resume, on_fold=progress or no_fold_progress, workers=workers,
            init=None if init is None else Path(init), notice=notice or no_notice, unlabelled=more,
            few=init is not None and folds is None,
        )  # fmt: skip
    assert summary is not None  # all folds are trained
    if is_finished:
        (notice or no_notice)(f"{run} is already finished; nothing is trained")
    return Run(run, read_record(run), summary)


def _recipe(
    recipe: str | PathLike[str] | None,
    init: str | PathLike[str] | None,
    settings: list[str],
    folds: int | None,
    seed: int | None,
) -> tuple[str, Recipe]:
    """Name and content of the recipe: that of the run to continue, unless another one is asked for."""
    if init is not None and str(recipe or AUTO) == AUTO:
        return recipe_of_run(Path(init), settings, folds=folds, seed=seed)
    return load_recipe(str(recipe), settings, folds=folds, seed=seed)


def _train_automatically(
    source: Path,
    run: Path,
    options: AutoOptions,
    *,
    resume: bool,
    progress: FoldCallback | None,
    on_trial: FoldCallback | None,
    on_fingerprint: FingerprintCallback | None,
    notice: NoticeCallback,
) -> Run:
    """A run with the recipe `auto`."""
    import torch

    from microseg.train.auto.command import run_auto

    is_finished = resume and (run / "summary.json").is_file()
    with torch.random.fork_rng():
        summary = run_auto(
            source, options, run,
            resume=resume, on_fold=progress or no_fold_progress, on_trial=on_trial or no_fold_progress,
            on_fingerprint=on_fingerprint or no_fingerprint, notice=notice,
        )  # fmt: skip
    if is_finished:
        notice(f"{run} is already finished; nothing is trained")
    return Run(run, read_record(run), summary)


def train_uda(
    target: str | PathLike[str],
    *,
    run: str | PathLike[str] | None = None,
    method: str = "auto",
    recipe: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    folds: int | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | Sequence[str] | None = None,
    invert: bool | None = None,
    pixel_size_um: float | None = None,
    source_data: str | PathLike[str] | None = None,
    control: bool = True,
    oracle: bool = False,
    resume: bool = False,
    workers: int | None = None,
    progress: FoldCallback | None = None,
    notice: NoticeCallback | None = None,
) -> Run:
    """Adapt a supervised run to unlabelled micrographs, and decide whether to. The command is `microseg train uda`.

    The process stays as it is: torch's threads and random state, warning filters, signals and environment do not change.

    Args:
        target: Unlabelled micrographs: a folder, or a YAML file that describes one. No mask is opened.
        run: The supervised run, or the labelled domain that it was trained on; the newest run in `runs/` by default.
        method: `auto`, or a method of `microseg.train.ADAPTATION_METHODS`.
        recipe: Name of a shipped recipe, or a YAML file; `uda-METHOD` by default.
        out: Run folder to write; `runs/TARGET-METHOD` by default.
        folds: The first folds of the source to adapt; all by default.
        seed: Seed of everything that is drawn; the recipe's by default.
        settings: Keys of the recipe to override, such as `{"steps": 100}`, or texts `KEY=VALUE` as on the command line.
        invert: Whether grey values are inverted (bright field); found out by `auto` where it is None.
        pixel_size_um: Native pixel size in um, instead of the files' and domain.yaml's.
        source_data: The source run's labelled domain, where it has moved.
        control: Train equally long on the source alone as well, for comparison.
        oracle: For studies: target labels choose the candidate, and the run records it.
        resume: Continue an interrupted run.
        workers: Processes that train; one for each GPU, or without a GPU one for each fold or processor, by default.
        progress: Called with the number of a fold when it begins. Returns what is called after every step with the steps
            done, the steps in all and a text.
        notice: Receives sentences for the user.

    Returns:
        The run. Its `verdict` says whether to adapt, and `summary.adaptation` holds all candidates.

    Raises:
        InputError: No finished source run, a target that cannot be used, a wrong recipe, or `out` is in use.
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    name, loaded = _adaptation_recipe(method, recipe, settings, seed)
    path = Path(target)
    adapted = Path(out) if out is not None else RUNS / f"{load_domain(path, masks=False).name}-{method}"
    say = notice or no_notice

    import torch

    from microseg.train.uda.command import AdaptationOptions, run_uda

    source = _source_run(run, adapted, resume, say)
    options = AdaptationOptions(
        auto=method == "auto", invert=invert, pixel_size_um=pixel_size_um, folds=folds, oracle=oracle, control=control,
        workers=workers, source_data=None if source_data is None else Path(source_data),
    )  # fmt: skip
    with torch.random.fork_rng():
        run_uda(
            path, source, name, loaded, adapted, options,
            resume=resume, on_fold=progress or no_fold_progress, notice=say,
        )  # fmt: skip
    return read_finished_run(adapted)


def _adaptation_recipe(
    method: str,
    recipe: str | PathLike[str] | None,
    settings: Mapping[str, Any] | Sequence[str] | None,
    seed: int | None,
) -> tuple[str, UdaRecipe]:
    """Name and content of the recipe. Raises InputError where it has another method."""
    name, loaded = load_uda_recipe(str(recipe or f"uda-{_known(method)}"), _overrides(settings), seed=seed)
    kind = loaded.method.kind
    if method not in {"auto", kind, *(["mic"] if loaded.mic is not None else [])}:
        raise InputError(f"--method {method}: the recipe {name} has the method {kind}. Remedy: --method {kind}.")
    return name, loaded


def _source_run(run: str | PathLike[str] | None, adapted: Path, resume: bool, notice: NoticeCallback) -> Path:
    """The supervised run to adapt: the given one, that of the adaptation to resume, or the newest that fits."""
    from microseg.train.common.run_folder import newest_supervised_run, source_of_adaptation

    given = None if run is None else Path(run)
    if given is not None and (given / "run.yaml").is_file():
        return given
    begun = source_of_adaptation(adapted, given) if resume else None
    found = begun or newest_supervised_run(RUNS, trained_on=given)
    notice(f"the source run is {found}")
    return found


def _known(method: str) -> str:
    if method not in ADAPTATION_METHODS:
        raise InputError(f"--method {method}: no such method. Remedy: one of {', '.join(ADAPTATION_METHODS)}.")
    return method


def _overrides(settings: Mapping[str, Any] | Sequence[str] | None) -> list[str]:
    """Recipe keys as `--set` takes them: KEY=VALUE with the value in YAML."""
    if not isinstance(settings, Mapping):
        return list(settings or ())
    found = []
    for key, value in settings.items():
        plain = str(value) if isinstance(value, PathLike) else value
        text = yaml.safe_dump([plain], default_flow_style=True, width=float("inf"), allow_unicode=True).strip()
        found.append(f"{key}={text[1:-1]}")
    return found
