"""The run folder's schema: written by train, read by export. Nothing here needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from microseg.core.errors import InputError
from microseg.core.files import read_yaml
from microseg.core.manifest import DomainEntry, Fingerprint, FoldInfo, Grid, PhaseInfo, Strict, TrainingField

RUN_VERSION = 1


class RunRecord(Strict):
    """`run.yaml`: everything that decides the weights, and where they came from."""

    run_version: int = RUN_VERSION
    recipe_name: str
    recipe: dict[str, Any]
    seed: int
    folds: int = Field(ge=1)
    phases: list[PhaseInfo] = Field(min_length=2)
    domain: DomainEntry
    domain_source: str
    grid: Grid
    tile_core_px: int
    halo_px: int
    stride: int
    fields: list[TrainingField]
    dataset_sha256: str
    git_commit: str | None = None
    created: str
    versions: dict[str, str]


class RunSummary(Strict):
    """`summary.json`: written when every fold is done. seconds: of training, all folds, interruptions left out."""

    folds: list[FoldInfo]
    fingerprints: list[Fingerprint]
    miou_mean: float
    miou_std: float
    iou_mean: dict[str, float | None]
    iou_std: dict[str, float | None]
    seconds: float


class PretrainSummary(Strict):
    """`summary.json` of `train pretrain`: the encoder, and how well its head tells the classes apart on unseen files.

    confusion: rows are true classes, columns predicted ones. seconds: of training, interruptions left out.
    """

    task: Literal["pretrain"]
    encoder: str
    init: str
    classes: list[str]
    accuracy: float
    confusion: list[list[int]]
    weights_sha256: str
    seconds: float


def read_pretrained(run: Path, encoder: str) -> Path:
    """The weights that a finished pre-training run holds for `encoder`. Raises InputError, naming both encoders."""
    if not (run / "summary.json").is_file():
        raise InputError(f"{run}: no finished pre-training run. Remedy: the --out folder of `microseg train pretrain`.")
    try:
        summary = PretrainSummary.model_validate(json.loads((run / "summary.json").read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        raise InputError(
            f"{run}: not a run of `microseg train pretrain`. Remedy: its --out folder as encoder.weights."
        ) from error
    if summary.encoder != encoder:
        raise InputError(
            f"{run}: holds a pre-trained {summary.encoder}, but encoder.name is {encoder}. "
            f"Remedy: encoder.name={summary.encoder}, or pre-train {encoder}."
        )
    return run / "encoder.safetensors"


def read_run(run: Path) -> tuple[RunRecord, RunSummary]:
    """Read a finished run folder. Raises InputError if `run` is none, or is not finished."""
    if not (run / "run.yaml").is_file():
        raise InputError(f"{run}: not a run folder (no run.yaml). Remedy: give the --out folder of `microseg train`.")
    record = read_record(run)
    if not (run / "summary.json").is_file():
        raise InputError(
            f"{run}: training is not finished (no summary.json). Remedy: repeat the command with --resume."
        )
    try:
        return record, RunSummary.model_validate(json.loads((run / "summary.json").read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        raise InputError(f"{run / 'summary.json'}: not a summary that this version reads: {error}") from error


def read_record(run: Path) -> RunRecord:
    """Read `run.yaml` alone, also of an unfinished run."""
    try:
        return RunRecord.model_validate(read_yaml(run / "run.yaml"))
    except ValidationError as error:
        raise InputError(f"{run / 'run.yaml'}: not a run that this version reads: {error}") from error
