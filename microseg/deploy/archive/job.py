"""What every process that measures fields of a list knows, and how it measures some of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.errors import InputError
from microseg.core.schemas.manifest import Manifest
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.archive_file import Archive, begin_archive
from microseg.deploy.archive.lists.field_list import ListedField
from microseg.deploy.archive.parts import PartWriter
from microseg.deploy.archive.results import schema, settings_sha256
from microseg.deploy.archive.sink import ArchivePlace, ArchiveSink, Masks
from microseg.deploy.pipeline.field_pipeline import FieldPipeline
from microseg.deploy.pipeline.inputs import SegmentInput
from microseg.deploy.pipeline.region import Regions
from microseg.deploy.pipeline.tile_memory import TileLimits
from microseg.deploy.report.records import FailedField
from microseg.deploy.report.settings_file import ReportSettings, with_version
from microseg.runtime import Engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A file of results is written again so often, at most: a killed run loses the fields that were finished since.
_PERIOD_S = 1.0


@dataclass(frozen=True)
class ArchiveJob:
    """How fields of a list are measured, and where their results go.

    Attributes:
        storage: where results go.
        archive: the list that they belong to.
        alike: hashes of names that differ only in case from another one, uint64, sorted.
        given: the preparation of the fields.
        settings: the settings of the results.
        masks: which masks are written.
        measures_changed: whether files that changed since they were listed are measured.
        engine: the engine's file.
        manifest: its manifest.
        has_evidence: whether labelled fields stand behind the engine.
        limits: tiles under way at once and their size.
        regions: the region of interest, or None.
    """

    storage: Storage
    archive: Archive
    alike: NDArray[np.uint64]
    given: SegmentInput
    settings: ReportSettings
    masks: Masks
    measures_changed: bool
    engine: Path
    manifest: Manifest
    has_evidence: bool
    limits: TileLimits
    regions: Regions | None

    def begin(self, settings: ReportSettings) -> None:
        """Say in the place what its results belong to, or make sure that it says the same. Raises InputError.

        Args:
            settings: the settings, with the runtime's version once the engine is open.
        """
        begin_archive(self.storage, self.archive, settings, self.engine, self.manifest)

    def tie(self, runtime_version: str | None) -> str:
        """What results belong to, as JSON."""
        return json.dumps(
            {
                "list_sha256": self.archive.list_sha256,
                "engine_sha256": self.settings.engine_sha256,
                "settings_sha256": settings_sha256(self.settings),
                "runtime_version": runtime_version,
            }
        )


class ArchiveWorker:
    """Measures fields of a list, any number of times. The engine is opened when the first tile is ready."""

    def __init__(self, job: ArchiveJob, shard: str, open_engine: Callable[[], Engine]) -> None:
        """Args:
        job: what to measure and how.
        shard: the shard, for the names of the files of results.
        open_engine: opens the engine.
        """
        self._job = job
        self._open = open_engine
        self._engine: Engine | None = None
        self._version = job.settings.runtime_version
        self._has_begun = False
        columns = schema([phase.name for phase in job.manifest.phases])
        self._parts = PartWriter(job.storage, columns, shard, lambda: job.tie(self._version), _PERIOD_S)
        place = ArchivePlace(job.storage, self._parts, job.masks, job.archive.fields, job.alike, job.measures_changed)
        self._sink = ArchiveSink(place, job.given, job.manifest, job.settings, job.regions, places=job.has_evidence)

    def measure(self, fields: Iterable[ListedField], on_advance: Callable[[float], None]) -> None:
        """Measure fields. What is finished counts, whatever ends it.

        Args:
            fields: the fields, in any order.
            on_advance: gets fractions of a field.

        Raises:
            InputError: the engine does not open, or results cannot be written.
        """
        opened = self._engine
        pipeline: FieldPipeline[ListedField] = FieldPipeline(
            fields,
            self._sink,
            self._job.limits,
            self._opened if opened is None else lambda: opened,
            on_advance,
            with_features=self._sink.is_judged,
        )
        try:
            pipeline.run()
            self._begin(self._job.settings)
        finally:
            if self._has_begun:
                self._parts.flush()
            self._sink.close()

    def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            self._engine.close()

    @property
    def measured(self) -> int:
        """How many fields were measured."""
        return self._sink.counts.measured

    @property
    def resumed(self) -> int:
        """How many fields had a result."""
        return self._sink.counts.resumed

    @property
    def failures(self) -> list[FailedField]:
        """The fields that failed."""
        return self._sink.failures

    @property
    def engine_calls(self) -> int:
        """Calls of the engine."""
        return self._engine.runs if self._engine is not None else 0

    @property
    def provider(self) -> str | None:
        """What the engine computes with; None before it is open."""
        return self._engine.provider if self._engine is not None else None

    def _opened(self) -> Engine:
        """The engine. Raises InputError where it is not the one that began the results."""
        opened = self._open()
        try:
            self._begin(with_version(self._job.settings, opened.version, self._job.storage.label))
        except InputError:
            opened.close()
            raise
        self._version, self._engine = opened.version, opened
        return opened

    def _begin(self, settings: ReportSettings) -> None:
        """Say what the results belong to, unless that is said. From then on rows are written."""
        if not self._has_begun:
            self._job.begin(settings)
            self._parts.begin()
            self._has_begun = True
