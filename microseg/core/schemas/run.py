"""The run folder's schema: written by train, read by export. Nothing here needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from microseg.core.errors import InputError
from microseg.core.schemas.bag import Distillation, Fingerprint, FoldInfo, PhaseInfo, TrainingField
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange, known_pixel_sizes
from microseg.core.schemas.versioned import VersionedModel

RUN_VERSION = 1
# Name of the folder of a student in its run.
STUDENT_FOLDER = "student"


class AdaptationRecord(FrozenModel):
    """What an adapted run has beyond its source: the target and its unlabelled fields."""

    target: DomainEntry = Field(description="The domain that the networks are adapted to.")
    target_source: str = Field(description="Folder or domain.yaml of the target.")
    fields: list[TrainingField] = Field(description="Unlabelled fields of the target.")
    method: str = Field(description="Method asked for; `auto` tries several.")
    recipe: dict[str, Any] = Field(description="The recipe of the adaptation, resolved.")
    source_run: str = Field(description="Run that the networks come from.")
    oracle: bool = Field(False, description="Whether labels of the target chose the candidate; for studies only.")


class DistilledDomain(FrozenModel):
    """A domain whose fields a student learned the bag's soft labels of."""

    source: str = Field(description="Folder or domain.yaml.")
    prepared_as: str = Field(description="The bag's domain that the fields are prepared as.")
    fields: list[TrainingField] = Field(description="The fields.")


class DistillationRecord(FrozenModel):
    """What a student has beyond its bag."""

    run: str = Field(description="Run of the bag.")
    weights_sha256: list[str] = Field(description="SHA-256 of the weights of each fold of the bag.")
    domains: list[DistilledDomain] = Field(description="What the student learns from.")
    compared: list[str] = Field(description="SHA-256 of the fields that are kept for the comparison with the bag.")


class Block(FrozenModel):
    """A part of a field that one fold did not learn from, where folds hold out blocks of fields. The blocks cover the field."""

    sha256: str = Field(description="SHA-256 of the field's file, 64 hex digits.")
    fold: int = Field(ge=0, description="The fold that held the block out.")
    top_px: int = Field(ge=0, description="First row, in pixels of the network's grid.")
    left_px: int = Field(ge=0, description="First column.")
    height_px: int = Field(ge=1, description="Rows.")
    width_px: int = Field(ge=1, description="Columns.")


class UnlabelledFields(FrozenModel):
    """Unlabelled fields of the labelled domain that training may learn from."""

    source: str = Field(description="Folder or domain.yaml.")
    fields: list[TrainingField] = Field(description="The fields.")


class RunRecord(VersionedModel):
    """`run.yaml`: everything that decides the weights, and where they come from."""

    schema_name: ClassVar[str] = "run"
    schema_version: ClassVar[tuple[int, int]] = (RUN_VERSION, 2)
    version_key: ClassVar[str] = "run_version"

    run_version: int = Field(RUN_VERSION, description="Major version of this schema.")
    recipe_name: str = Field(description="Name of the recipe.")
    recipe: dict[str, Any] = Field(description="The recipe, resolved.")
    seed: int = Field(description="Seed of the training.")
    folds: int = Field(ge=1, description="Number of networks of the bag.")
    phases: list[PhaseInfo] = Field(min_length=2, description="The phases, in the order of their indices.")
    domain: DomainEntry = Field(description="The labelled domain.")
    domain_source: str = Field(description="Folder or domain.yaml of that domain.")
    grid: Grid = Field(description="The pixel grid that the network sees.")
    tile_core_px: int = Field(description="Side of a training tile's core, in pixels of the network's grid.")
    halo_px: int = Field(description="Pixels around the core that the network sees and that are not counted.")
    stride: int = Field(description="Heights and widths of tiles are multiples of it, in pixels.")
    fields: list[TrainingField] = Field(description="The labelled fields.")
    blocks: list[Block] = Field(
        default_factory=list, description="Blocks of labelled fields, where folds hold out blocks; else empty."
    )
    unlabelled: UnlabelledFields | None = Field(None, description="Unlabelled fields of the same domain, if any.")
    dataset_sha256: str = Field(description="SHA-256 over the fields and their labels.")
    trained_pixel_sizes: PixelSizeRange | None = Field(
        None,
        description="Native pixel sizes that the networks see, augmentation included; null where the fields have none, and in "
        "runs of earlier versions.",
    )
    git_commit: str | None = Field(None, description="Commit of the code; null outside a repository.")
    created: str = Field(description="Time of the first start, ISO 8601.")
    versions: dict[str, str] = Field(description="Versions of the packages.")
    adaptation: AdaptationRecord | None = Field(None, description="What an adapted run has beyond its source.")
    continued_from: str | None = Field(None, description="Run whose weights this one began with.")
    earlier_domains: list[DomainEntry] = Field(
        default_factory=list, description="Domains of the runs before that the networks can still measure."
    )
    distillation: DistillationRecord | None = Field(
        None,
        description="Of a student, which is one network with a head for each fold of its bag. No field is held out (fold -1).",
    )

    @property
    def folders(self) -> list[str]:
        """Names of the folders of the run's networks."""
        return [f"fold{fold}" for fold in range(self.folds)] if self.distillation is None else [STUDENT_FOLDER]

    @property
    def domains(self) -> list[DomainEntry]:
        """The domains that the networks can measure; the last one is the latest that they were trained for."""
        adapted = [] if self.adaptation is None else [self.adaptation.target]
        return [*self.earlier_domains, self.domain, *adapted]

    @property
    def known_pixel_sizes(self) -> PixelSizeRange | None:
        """The pixel sizes that the networks see; of a run of an earlier version, those of its domains."""
        return known_pixel_sizes(self.trained_pixel_sizes, self.grid, self.domains)

    def domain_called(self, name: str | None) -> DomainEntry:
        """The domain of that name, by default the last one. Raises InputError."""
        for entry in self.domains:
            if entry.name == name:
                return entry
        if name is not None:
            known = ", ".join(repr(entry.name) for entry in self.domains)
            raise InputError(f"--as {name!r}: the run knows no such domain. Remedy: one of {known}.")
        return self.domains[-1]


def _renamed(tree: Any, names: dict[str, str]) -> Any:
    """A mapping that an earlier version wrote, with the present names of its keys."""
    return {names.get(key, key): value for key, value in tree.items()} if isinstance(tree, dict) else tree


class ConsistencyGain(FrozenModel):
    """What a candidate gains over another one on the same target fields, fold by fold."""

    over: str = Field(description="Name of the other candidate: `unadapted`, or `source` for equally long training.")
    criterion: Literal["self-consistency", "flips"] = Field(
        description="What is compared: self-consistency, or for `source` the agreement under flips alone."
    )
    mean: float = Field(description="Mean gain over fields and folds, as a difference of mIoU.")
    ratio: float = Field(
        description="Disagreement (1 - criterion) over that of the other candidate, geometric mean over fields and folds."
    )
    p: float | None = Field(
        None,
        description="Probability, 0-1, of such a ratio or a smaller one by chance, with fields and folds as random; null for a "
        "single field.",
    )
    fields: int = Field(description="Number of target fields.")
    folds: int = Field(description="Number of folds.")


class FractionEstimates(FrozenModel):
    """Area fractions of the target that are estimated without its labels, beside those that the bag counts."""

    corrected: dict[str, float] = Field(
        description="Mean of the folds' counts, less the error that they make on held-out fields of the source, 0-1."
    )
    emq: dict[str, float] = Field(
        description="The most likely fractions where phases look as in the source, from tempered probabilities, 0-1 (EMQ)."
    )
    temperatures: list[float] = Field(description="Temperature of each fold, from its held-out fields.")
    disagreement: float = Field(description="Largest difference of counted, corrected and EMQ, over the phases, 0-1.")
    limit: float = Field(
        description="Disagreement, 0-1, from which on it is larger than on held-out fields of the source; 0.02 at least."
    )


class Candidate(FrozenModel):
    """One way to treat the target, scored without labels on views of the target."""

    name: str = Field(
        description="Name of the candidate: a method, `unadapted`, or `source` for equally long training."
    )
    self_consistency: float = Field(description="Mean of `flips` and `photometric`, 0-1: the choice depends on it.")
    flips: float = Field(description="mIoU, 0-1, of the bag's labels with those of the flipped views.")
    photometric: float = Field(
        description="mIoU, 0-1, of the bag's labels with those of the photometrically changed views."
    )
    certainty: float = Field(description="1 - mean entropy of the bag's probabilities over log P, 0-1.")
    information: float = Field(description="Entropy of the mean probabilities less the mean entropy, over log P.")
    density: float = Field(description="Soft neighbourhood density less its largest value.")
    fold_agreement: float = Field(description="Mean mIoU, 0-1, between the labels of each pair of folds.")
    label_change: float = Field(description="1 - mIoU of the bag's labels with those of the unadapted bag, 0-1.")
    fractions: dict[str, float] = Field(description="Area fractions of the phases, 0-1, as the bag counts them.")
    estimates: FractionEstimates | None = Field(
        None, description="The fractions estimated otherwise; null in runs of earlier versions."
    )
    gains: list[ConsistencyGain] = Field(
        default_factory=list,
        description="Gains over what needs no target; empty for the unadapted source, and in runs of earlier versions.",
    )
    source_miou: float = Field(description="Mean mIoU, 0-1, of the folds on held-out fields of the source.")
    minutes: float = Field(description="Time of training of all folds, in minutes.")
    steps: list[int] = Field(description="Steps at the snapshot of each fold.")
    warnings: list[str] = Field(default_factory=list, description="What went wrong in training.")

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, tree: Any) -> Any:
        return _renamed(tree, {"trust": "self_consistency", "moved": "label_change"})


class Adaptation(FrozenModel):
    """What `train uda` decided."""

    verdict: Literal["adapt", "do not adapt", "label a few fields"] = Field(
        description="Whether to use the adapted networks."
    )
    evidence: str = Field(description="The figures behind the verdict, in words.")
    chosen: str = Field(description="Name of the candidate whose networks the run holds.")
    candidates: list[Candidate] = Field(description="The candidates, the unadapted source first.")
    source_consistency: float = Field(
        description="Mean self-consistency, 0-1, of the source's folds on source fields that they held out."
    )
    target_consistency: float = Field(description="Mean self-consistency, 0-1, of the source's folds on the target.")
    source_fold_agreement: float | None = Field(
        None, description="Mean mIoU, 0-1, between the labels of each pair of the source's folds on source fields."
    )
    shift: float | None = Field(
        None,
        description="Difference of the phases' textures from the source's, in standard deviations over source fields; null "
        "for too few fields.",
    )
    otsu: dict[str, float] | None = Field(
        None, description="Area fractions of the target by Otsu's threshold, 0-1; null for too many phases."
    )
    to_label: list[str] = Field(
        default_factory=list, description="Fields of the target whose labels would teach most, the best first."
    )
    oracle: bool = Field(False, description="Whether labels of the target chose the candidate; for studies only.")

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, tree: Any) -> Any:
        names = {
            "at_home": "source_consistency",
            "abroad": "target_consistency",
            "folds_at_home": "source_fold_agreement",
        }
        return _renamed(tree, names)


class UnlabelledGain(FrozenModel):
    """What unlabelled fields changed on held-out labels. Their networks are kept where the mean over the folds rises."""

    kept: bool = Field(description="Whether the run holds the networks that learned from unlabelled fields too.")
    fields: int = Field(description="Number of unlabelled fields.")
    before: list[float] = Field(description="mIoU of each fold on held-out labels, with labels alone, 0-1.")
    after: list[float] = Field(description="The same with unlabelled fields.")

    @property
    def sentence(self) -> str:
        """The result in words."""
        before, after = (sum(values) / len(values) for values in (self.before, self.after))
        told = f"{self.fields} unlabelled field{'s' * (self.fields != 1)}: mIoU on held-out labels {before:.3f} -> {after:.3f}"
        return f"{told}; {'kept' if self.kept else 'not kept, the networks are those of the labels alone'}"


class RunSummary(VersionedModel):
    """`summary.json` of a run, written when every fold is done."""

    schema_name: ClassVar[str] = "run-summary"
    schema_version: ClassVar[tuple[int, int]] = (1, 3)
    version_key: ClassVar[str] = "summary_version"

    summary_version: int = Field(1, description="Major version of this schema.")
    folds: list[FoldInfo] = Field(description="Scores of each fold; of a student, those of its bag.")
    fingerprints: list[Fingerprint] = Field(description="Features of the training fields, of each fold.")
    miou_mean: float = Field(description="Mean over the folds of their mean IoU on held-out fields, 0-1.")
    miou_std: float = Field(description="Standard deviation of the same.")
    iou_mean: dict[str, float | None] = Field(description="Mean over the folds of each phase's IoU, 0-1.")
    iou_std: dict[str, float | None] = Field(description="Standard deviation of the same.")
    seconds: float = Field(description="Time of training of all folds, in seconds, without interruptions.")
    adaptation: Adaptation | None = Field(None, description="What `train uda` decided.")
    earlier_miou: float | None = Field(
        None,
        description="Mean over the folds of their mean IoU on the held-out fields of the run that this one continues.",
    )
    distillation: Distillation | None = Field(None, description="How close a student is to its bag.")
    unlabelled: UnlabelledGain | None = Field(None, description="What unlabelled fields changed, if there are any.")


class PretrainSummary(VersionedModel):
    """`summary.json` of `train pretrain`: the encoder, and how well its head classifies files that it has not seen."""

    schema_name: ClassVar[str] = "pretrain-summary"
    schema_version: ClassVar[tuple[int, int]] = (1, 1)
    version_key: ClassVar[str] = "summary_version"

    summary_version: int = Field(1, description="Major version of this schema.")
    task: Literal["pretrain"] = Field(description="Always `pretrain`.")
    encoder: str = Field(description="Name of the encoder.")
    init: str = Field(description="Weights that the training began with.")
    classes: list[str] = Field(description="The classes, by their folders.")
    accuracy: float = Field(description="Share of the validation files that are classified correctly, 0-1.")
    confusion: list[list[int]] = Field(description="Files by true class (rows) and predicted class (columns).")
    weights_sha256: str = Field(description="SHA-256 of the encoder's weights.")
    seconds: float = Field(description="Time of training, in seconds, without interruptions.")


def read_pretrained(run: Path, encoder: str) -> Path:
    """The weights of a finished pre-training run.

    Args:
        run: its folder.
        encoder: name of the encoder that they must fit.

    Raises:
        InputError: no finished pre-training run, or another encoder.
    """
    path = run / "summary.json"
    if not path.is_file():
        raise InputError(
            f"{run}: is no finished pre-training run. Remedy: give the --out folder of `microseg train pretrain`."
        )
    try:
        is_pretrained = json.loads(path.read_bytes())["task"] == "pretrain"
    except (ValueError, KeyError, TypeError):
        is_pretrained = False
    if not is_pretrained:
        raise InputError(
            f"{run}: is not a run of `microseg train pretrain`. Remedy: give its --out folder as encoder.weights."
        )
    summary = PretrainSummary.read_json(path, "the summary of the run", "copy the run again")
    if summary.encoder != encoder:
        raise InputError(
            f"{run}: holds a pre-trained {summary.encoder}, but encoder.name is {encoder}. "
            f"Remedy: encoder.name={summary.encoder}, or pre-train {encoder}."
        )
    return run / "encoder.safetensors"


def read_run(run: Path) -> tuple[RunRecord, RunSummary]:
    """The record and the summary of a finished run. Raises InputError: no run, not finished, damaged, or newer."""
    if not (run / "run.yaml").is_file():
        raise InputError(
            f"{run}: is not a run folder (no run.yaml). Remedy: give the --out folder of `microseg train`."
        )
    record = read_record(run)
    if not (run / "summary.json").is_file():
        raise InputError(
            f"{run}: training is not finished (no summary.json). Remedy: repeat the command with --resume."
        )
    return record, RunSummary.read_json(run / "summary.json", "the summary of the run", "copy the run again")


def read_record(run: Path) -> RunRecord:
    """The record of a run, also of an unfinished one. Raises InputError: no record, damaged, or newer."""
    return RunRecord.read_yaml(run / "run.yaml", "the record of the run", "copy the run again")


def refuse_student(run: Path, record: RunRecord) -> None:
    """Raise InputError where a run is a student and a command needs the bag."""
    if record.distillation is not None:
        raise InputError(f"{run}: is a student (`distill`). Remedy: give its bag, {record.distillation.run}.")
