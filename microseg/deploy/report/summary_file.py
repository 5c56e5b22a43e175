"""The schema of `summary.json`: the figures of a report."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from microseg.core.alarm.schema import Level
from microseg.core.schemas.bag import Distillation
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.preparation import PixelSizeRange, Preparation
from microseg.core.schemas.tolerance import Precision
from microseg.core.schemas.versioned import VersionedModel
from microseg.deploy.measurement.evidence import Evidence
from microseg.deploy.report.settings_file import REPORT_VERSION

OF_EARLIER_VERSION = "the report is of an earlier microseg. Remedy: the same `microseg segment` again, with its engine"
_NOT_BELOW_TWO = "null with fewer than two fields"


class FoldScore(FrozenModel):
    """Validation of one network of the bag, on the labelled fields that it did not see."""

    index: int = Field(description="Number of the fold, from 0.")
    miou: float = Field(description="Mean IoU over the phases, 0-1.")
    iou: dict[str, float | None] = Field(
        description="IoU of each phase, 0-1; null where no held-out field has the phase."
    )


class FromFloat32(FrozenModel):
    """Distance of an engine of less precision from float32, measured on one set of fields at its export."""

    fields_from: str = Field(description="Domain of the fields, or the run's held-out tiles.")
    fields: int = Field(description="Number of the fields.")
    points: dict[str, float] = Field(
        description="Largest difference of each phase's area fraction on one field, percentage points."
    )
    limits: dict[str, float] = Field(description="Largest difference that the export allows there, percentage points.")


class SummaryEngine(FrozenModel):
    """The engine that measured."""

    name: str = Field(description="File name of the engine.")
    sha256: str = Field(description="SHA-256 of the engine's file.")
    model_sha256: str = Field(description="SHA-256 of the network without its metadata.")
    domain: str = Field(description="Domain of the engine that the fields were measured as.")
    run: str = Field(description="Name of the training run.")
    recipe: str = Field(description="Name of the run's recipe.")
    created: str = Field(description="Time of the export, ISO 8601.")
    folds: list[FoldScore] = Field(description="Validation of each network of the bag.")
    precision: Precision = Field(description="Number format of the network.")
    from_float32: list[FromFloat32] = Field(description="Distance from float32; empty for a float32 engine.")
    from_bag: Distillation | None = Field(description="How well a distilled engine reproduces its bag; null for a bag.")


class SummarySettings(FrozenModel):
    """The settings that decide the figures."""

    preparation: Preparation = Field(description="How the fields were prepared.")
    nearby: dict[str, Preparation] = Field(
        default_factory=dict,
        description="How fields are prepared that have the settings of a domain.yaml near them, by its path.",
    )
    regions: dict[str, str] = Field(
        default_factory=dict,
        description='SHA-256 of the files of regions of interest by name of the field; "" stands for all fields.',
    )
    pixel_size_um: float | None = Field(description="Native pixel size given on the command line, µm.")
    fallback_pixel_size_um: float | None = Field(description="Pixel size for files that state none, µm.")
    pixel_sizes: dict[str, float] = Field(
        default_factory=dict, description="Native pixel sizes that the domain.yaml states for single fields, µm."
    )
    assume_engine_scale: bool = Field(
        False, description="Whether the pixel size of the training images is accepted for files that state none."
    )
    require_scale: bool = Field(False, description="Whether fields fail whose pixel size nothing states.")
    force_scale: bool = Field(
        False, description="Whether fields far beyond the pixel sizes of the training are measured all the same."
    )
    max_tile_pixels: int = Field(description="Largest tile that the memory limit allows, pixels.")
    runtime: str = Field(description="Library that computed: onnxruntime, openvino or tensorrt.")
    device: str = Field(description="Device that computed: cpu, cuda or tensorrt.")
    runtime_version: str | None = Field(description="Version of the library; null where it is unknown.")


class SummaryFields(FrozenModel):
    """Numbers of fields."""

    total: int = Field(description="Fields of the input.")
    measured: int = Field(description="Fields with a result.")
    failed: int = Field(description="Fields without a result.")


class BudgetRow(FrozenModel):
    """A source of the uncertainty of a reported fraction (GUM, JCGM 100:2008)."""

    term: str = Field(description="The source.")
    value: float = Field(description="Standard uncertainty, as a fraction 0-1.")
    kind: Literal["A", "B"] = Field(description="A: by statistics of observations. B: otherwise.")
    degrees: float | None = Field(description="Degrees of freedom; null for infinitely many.")
    share: float = Field(description="Share of the variance, 0-1.")


class SummaryReported(FrozenModel):
    """What is reported of a phase, and what stands behind it. Fractions are 0-1."""

    fraction: float | None = Field(
        description="The corrected fraction where it is claimed, else the raw one; null without a measured field."
    )
    interval: tuple[float, float] | None = Field(
        description="95 % interval of the corrected fraction, errors of the network included; null where nothing is claimed."
    )
    evidence: Evidence = Field(
        description="audited: fields of this lot were labelled or counted. validated: labelled fields of this domain that "
        "trained nothing. cross-validated: the folds' held-out fields. none: nothing is claimed."
    )
    raw: float | None = Field(description="Mean of the fractions as found.")
    reasons: list[str] = Field(description="What the figure rests on, or why nothing is claimed.")
    budget: list[BudgetRow] = Field(description="The sources of uncertainty; empty where nothing is claimed.")


class SummaryPhase(FrozenModel):
    """One phase over all fields that count. Fractions are 0-1. All but `reported` is of ASTM E562 and covers sampling only."""

    color: str = Field(description="Colour of the phase in masks and overlays, #rrggbb.")
    n: int = Field(description="Number of fields.")
    mean: float | None = Field(description="Mean of the fields' area fractions; null without a field.")
    std: float | None = Field(description=f"Standard deviation between fields (n - 1); {_NOT_BELOW_TWO}.")
    ci95: float | None = Field(description=f"Half width of the 95 % confidence interval; {_NOT_BELOW_TWO}.")
    relative_accuracy_percent: float | None = Field(
        description="100 ci95 / mean (%RA); null where either is missing or 0."
    )
    minimum: float | None = Field(description="Smallest fraction of a field.")
    maximum: float | None = Field(description="Largest fraction of a field.")
    pooled: float | None = Field(description="Fraction of all measured pixels together.")
    fold_std: float | None = Field(
        description="Standard deviation, over the folds, of each fold's mean fraction; null for one fold."
    )
    reported: SummaryReported | None = Field(
        None, description="What is reported of the phase; null in reports of earlier versions, which claim nothing."
    )

    @property
    def claim(self) -> SummaryReported:
        """What is reported; of a report of an earlier version, that nothing is claimed."""
        return self.reported or SummaryReported(
            fraction=self.mean, interval=None, evidence="none", raw=self.mean, reasons=[OF_EARLIER_VERSION], budget=[]
        )


class SectionPhase(FrozenModel):
    """One phase of one section."""

    reported: SummaryReported = Field(description="What is reported of the phase in this section.")


class SummaryAlarm(FrozenModel):
    """What the engine's alarm says of the fields of a section, or of the report, together."""

    level: Level = Field(description="known, doubtful or foreign.")
    predicted_error: float = Field(description="Mean predicted error of the fields' fractions after correction, 0-1.")
    fields: dict[Level, int] = Field(description="Number of fields by their own level.")
    causes: list[str] = Field(description="What differs from the labelled fields, the most frequent first.")
    cure: str = Field(description="What helps; empty for known fields.")
    text: str = Field(description="The verdict in words.")


class SummarySection(FrozenModel):
    """One section: fields that together give a fraction."""

    fields: int = Field(description="Number of fields that count.")
    alarm: SummaryAlarm | None = Field(
        None, description="What the engine's alarm says of the section; null where the engine holds none."
    )
    phases: dict[str, SectionPhase] = Field(description="The phases, in the engine's order.")


class SummaryAudit(FrozenModel):
    """What a person found on fields that were drawn from this report."""

    audit: str = Field(description="Identity of the draw.")
    created: str = Field(description="Time at which it was applied, ISO 8601.")
    method: Literal["masks", "points"] = Field(description="Whether the fields were labelled or point-counted.")
    fields: int = Field(description="Number of audited fields.")
    of_fields: int = Field(description="Number of fields that they were drawn from.")
    sections: list[str] = Field(description="The audited sections.")
    auditors: list[str] = Field(description="Who counted, where it is stated.")
    agreement: str | None = Field(description="How far two people agree, in words; null for one.")
    fit: str = Field(description="Whether the engine fits this material, and what to do, in words.")


class SummaryValidation(FrozenModel):
    """The labelled fields behind the reported fractions."""

    kind: Literal["validated", "cross-validated"] = Field(description="Whether the bag or its folds were validated.")
    domain: str = Field(description="Domain of the engine that they were measured as.")
    fields: int = Field(description="Number of labelled or point-counted fields.")
    groups: int = Field(description="Number of their groups: specimens or spots.")
    pixel_sizes: PixelSizeRange | None = Field(description="Their native pixel sizes; null where unknown.")
    created: str = Field(description="Time of the validation, ISO 8601.")
    sha256: str | None = Field(
        description="Hash that the validation file states of itself; null for one in the engine. It finds accidents, not "
        "forgers."
    )


class SummaryFailure(FrozenModel):
    """A field without a result."""

    field: str = Field(description="Name of the field.")
    reason: str = Field(description="Why it failed, and the remedy.")


class FieldNotice(FrozenModel):
    """What readers must know about fields, once for all fields that it is said of."""

    kind: str = Field(description="What it is about: pixel size, data bar, grey values, ...")
    text: str = Field(description="The notice.")
    count: int = Field(description="Number of fields that it is said of.")
    fields: list[str] = Field(description="Names of the first five of them.")


class SummaryRun(FrozenModel):
    """What the last run of the command did. It differs between a resumed and an uninterrupted report."""

    seconds: float = Field(description="Duration of the run, s.")
    fields_measured: int = Field(description="Fields that this run measured.")
    fields_resumed: int = Field(description="Fields whose results an earlier run left.")
    runtime: str | None = Field(description="Library and version; null where nothing was left to compute.")
    provider: str | None = Field(description="What computed, in the library's words; null where nothing was left.")
    threads: int | None = Field(description="CPU threads of the network; null for the library's own choice.")
    streams: int = Field(description="Calls of the engine under way at once.")
    profile: str | None = Field(description="Tuning profile that was used.")


class ReportSummary(VersionedModel):
    """`summary.json`. Between two equal runs only `created`, `engine_calls` and `run` differ."""

    schema_name: ClassVar[str] = "report-summary"
    schema_version: ClassVar[tuple[int, int]] = (REPORT_VERSION, 3)
    version_key: ClassVar[str] = "report_version"

    report_version: int = Field(REPORT_VERSION, description="Major version of the report's files.")
    microseg: str = Field(description="Version of microseg that began the report.")
    created: str = Field(description="Day of the first run, ISO 8601.")
    input: str = Field(description="Name of the input.")
    engine: SummaryEngine = Field(description="The engine that measured.")
    settings: SummarySettings = Field(description="The settings that decide the figures.")
    fields: SummaryFields = Field(description="Numbers of fields.")
    area_um2: float | None = Field(
        description="Measured area of all fields, µm²; null unless every pixel size is known."
    )
    pixel_size_sources: dict[str, int] = Field(
        default_factory=dict,
        description="Number of measured fields by the source of their pixel size, most frequent first.",
    )
    phases: dict[str, SummaryPhase] = Field(description="Statistics by phase, in the engine's order.")
    sections: dict[str, SummarySection] = Field(
        default_factory=dict,
        description="The same for each section, by its name; empty in reports of earlier versions.",
    )
    validation: SummaryValidation | None = Field(
        None,
        description="The labelled fields behind the fractions of the whole report; null where nothing is claimed of it.",
    )
    alarm: SummaryAlarm | None = Field(
        None, description="What the engine's alarm says of all fields; null where the engine holds none."
    )
    audit: SummaryAudit | None = Field(
        None, description="What a person found on drawn fields; null where none were audited."
    )
    failed: list[SummaryFailure] = Field(description="Fields without a result, with the reason.")
    notices: list[str] = Field(description="What a reader must know before signing.")
    field_notices: list[FieldNotice] = Field(
        default_factory=list, description="Notices on measured fields, grouped by kind and text. Not in version 1.0."
    )
    engine_calls: int = Field(description="Calls of the engine in the last run.")
    run: SummaryRun = Field(description="What the last run did.")

    @property
    def fractions(self) -> dict[str, float | None]:
        """Mean area fraction of each phase, 0-1; None without a measured field."""
        return {name: phase.mean for name, phase in self.phases.items()}

    def content(self) -> dict[str, Any]:
        """The JSON of `summary.json`."""
        return self.model_dump(mode="json")
