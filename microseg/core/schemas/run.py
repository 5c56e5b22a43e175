"""The run folder's schema: written by train, read by export. Nothing here needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from microseg.core.errors import InputError
from microseg.core.schemas.bag import Distillation, Fingerprint, FoldInfo, PhaseInfo, TrainingField
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.preparation import DomainEntry, Grid
from microseg.core.system.files import read_yaml

RUN_VERSION = 1
# The folder of a student in its run.
STUDENT = "student"


class AdaptationRecord(FrozenModel):
    """What an adapted run has beyond its source's: the target, its unlabelled fields, the recipe, the run it came from."""

    target: DomainEntry
    target_source: str
    fields: list[TrainingField]
    method: str
    recipe: dict[str, Any]
    source_run: str
    oracle: bool = False


class DistilledDomain(FrozenModel):
    """Fields that a student learned the bag's soft labels of. prepared_as: the bag's domain that they belong to."""

    source: str
    prepared_as: str
    fields: list[TrainingField]


class DistillationRecord(FrozenModel):
    """What a student has beyond its bag: the run that it reproduces, the weights of its folds, and what it learned on.

    compared: of each domain, the hashes of the fields that were kept for the comparison with the bag.
    """

    run: str
    weights_sha256: list[str]
    domains: list[DistilledDomain]
    compared: list[str]


class RunRecord(FrozenModel):
    """`run.yaml`: everything that decides the weights, and where they came from.

    adaptation: what an adapted run has beyond its source's. continued_from: the run whose weights it began with, and
    earlier_domains: those that it can still measure. distillation: of a student, one network with a head for each of the
    bag's `folds`; what it measures is what its bag does, and no field is held out (fold -1).
    """

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
    adaptation: AdaptationRecord | None = None
    continued_from: str | None = None
    earlier_domains: list[DomainEntry] = Field(default_factory=list)
    distillation: DistillationRecord | None = None

    @property
    def folders(self) -> list[str]:
        """Where the run's networks are, one folder for each."""
        return [f"fold{fold}" for fold in range(self.folds)] if self.distillation is None else [STUDENT]

    @property
    def domains(self) -> list[DomainEntry]:
        """What the run's networks can measure; the last one is what they were trained for last."""
        adapted = [] if self.adaptation is None else [self.adaptation.target]
        return [*self.earlier_domains, self.domain, *adapted]

    def domain_called(self, name: str | None) -> DomainEntry:
        """The domain of that name, by default the last one. Raises InputError."""
        for entry in self.domains:
            if entry.name == name:
                return entry
        if name is not None:
            known = ", ".join(repr(entry.name) for entry in self.domains)
            raise InputError(f"--as {name!r}: the run knows no such domain. Remedy: one of {known}.")
        return self.domains[-1]


class Candidate(FrozenModel):
    """One way to treat the target, judged without labels: criteria of its bag on target views.

    trust: what the choice goes by. fractions: phases found, 0-1. moved: 1 - mIoU of its labels with the source bag's.
    source_miou: mean over folds on the source's held-out fields. minutes: of its training.
    """

    name: str
    trust: float
    flips: float
    photometric: float
    certainty: float
    information: float
    density: float
    fold_agreement: float
    moved: float
    fractions: dict[str, float]
    source_miou: float
    minutes: float
    steps: list[int]
    warnings: list[str] = Field(default_factory=list)


class Adaptation(FrozenModel):
    """What `train uda` decided: verdict, evidence in words, candidates, and fields worth labelling where it says so.

    at_home, abroad: mean over the source's folds of their trust on source fields that they held out, and on the target.
    folds_at_home: agreement of the folds on source fields. shift: how far the textures of the phases differ, in standard
    deviations over source fields; None where too few fields tell.
    otsu: phase fractions of the target by Otsu's threshold, or None where there are too many phases. oracle: target labels
    chose; such a run is for studies only.
    """

    verdict: Literal["adapt", "do not adapt", "label a few fields"]
    evidence: str
    chosen: str
    candidates: list[Candidate]
    at_home: float
    abroad: float
    folds_at_home: float | None = None
    shift: float | None = None
    otsu: dict[str, float] | None = None
    to_label: list[str] = Field(default_factory=list)
    oracle: bool = False


class RunSummary(FrozenModel):
    """`summary.json`: written when every fold is done. seconds: of training, all folds, interruptions left out.

    earlier_miou: mean over folds on the domain that the run it continues was trained on (its held-out fields).
    distillation: of a student; the scores of the folds are then the bag's.
    """

    folds: list[FoldInfo]
    fingerprints: list[Fingerprint]
    miou_mean: float
    miou_std: float
    iou_mean: dict[str, float | None]
    iou_std: dict[str, float | None]
    seconds: float
    adaptation: Adaptation | None = None
    earlier_miou: float | None = None
    distillation: Distillation | None = None


class PretrainSummary(FrozenModel):
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


def refuse_student(run: Path, record: RunRecord) -> None:
    """Raise InputError where a run is a student, and something wants the bag: to train on from, or to reproduce."""
    if record.distillation is not None:
        raise InputError(f"{run}: is a student that was distilled. Remedy: its bag, {record.distillation.run}.")


def read_record(run: Path) -> RunRecord:
    """Read `run.yaml` alone, also of an unfinished run."""
    try:
        return RunRecord.model_validate(read_yaml(run / "run.yaml"))
    except ValidationError as error:
        raise InputError(f"{run / 'run.yaml'}: not a run that this version reads: {error}") from error
