"""One shard of a field list, from its rows to the table of results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from microseg.core.errors import InputError
from microseg.core.preparation.field_scale import assumed_size, refuse_contradicting_options
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import Preparation
from microseg.core.schemas.validation import validation_beside
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.archive_file import Archive, archive_of, begin_archive, check_archive
from microseg.deploy.archive.lists.field_list import FieldList, ListedField, ListScan
from microseg.deploy.archive.lists.shards import Shard, rows_of
from microseg.deploy.archive.parts import PartWriter
from microseg.deploy.archive.results import schema, settings_sha256
from microseg.deploy.archive.rows import rows_done
from microseg.deploy.archive.sink import ArchivePlace, ArchiveSink, Masks
from microseg.deploy.pipeline.field_pipeline import FieldPipeline
from microseg.deploy.pipeline.inputs import SegmentInput, domain_preparation, stated_keys
from microseg.deploy.pipeline.measurement_run import settings_of
from microseg.deploy.pipeline.region import Regions
from microseg.deploy.pipeline.tile_memory import TileLimits
from microseg.deploy.report.settings_file import ReportSettings, with_version
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning.profile import SegmentConfig
from microseg.runtime import Engine

# A file of results is written again so often, at most: a killed run loses the fields that were finished since.
_PERIOD_S = 1.0


@dataclass(frozen=True)
class ShardRun:
    """A shard, how it is measured, and where its results go.

    Attributes:
        storage: where results go.
        fields: the field list.
        scan: what is known of it.
        shard: the shard.
        given: the preparation of the fields.
        settings: the settings of the results.
        archive: the list that they belong to.
        masks: which masks are written.
        options: what the user asks for.
        manifest: the engine's manifest.
        limits: tiles under way at once and their size.
        regions: the region of interest, or None.
    """

    storage: Storage
    fields: FieldList
    scan: ListScan
    shard: Shard
    given: SegmentInput
    settings: ReportSettings
    archive: Archive
    masks: Masks
    options: SegmentOptions
    manifest: Manifest
    limits: TileLimits
    regions: Regions | None

    @classmethod
    def prepare(
        cls,
        options: SegmentOptions,
        config: SegmentConfig,
        manifest: Manifest,
        storage: Storage,
        engine_sha256: str,
    ) -> ShardRun:
        """Read the list and make sure that the place fits. Nothing is computed.

        Args:
            options: what the user asks for; its input is a field list.
            config: how the engine is run.
            manifest: the engine's manifest.
            storage: where results go.
            engine_sha256: SHA-256 of the engine's file.

        Raises:
            InputError: wrong list, shard or settings, or a place that cannot be written or holds other results.
        """
        refuse_contradicting_options(options.assume_engine_scale, options.require_scale)
        if options.sections is not None:
            raise InputError("--sections: a field list has its sections. Remedy: microseg list INPUT --sections ...")
        if options.xlsx:
            raise InputError(
                "--xlsx: a field list gives tables of its own. Remedy: no --xlsx; programs read fields/*.parquet."
            )
        masks = options.masks or "all"
        if masks not in get_args(Masks):
            raise InputError(f"--masks {masks}: is unknown. Remedy: one of {', '.join(get_args(Masks))}.")
        shard = Shard() if options.shard is None else Shard.parsed(options.shard)
        fields = FieldList(options.input)
        scan = fields.scan()
        given = _given(fields, manifest, options)
        limits = config.limits(manifest, options.engine.stat().st_size, options.memory_mb)
        regions = _region(options.roi)
        settings = settings_of(options, given, scan.pixel_sizes, (config, limits, regions), engine_sha256)
        archive = archive_of(fields, scan)
        settings = check_archive(storage, archive, settings)
        storage.require_writable()
        return cls(
            storage=storage,
            fields=fields,
            scan=scan,
            shard=shard,
            given=given,
            settings=settings,
            archive=archive,
            masks=masks,  # type: ignore[arg-type]
            options=options,
            manifest=manifest,
            limits=limits,
            regions=regions,
        )

    def measure(
        self,
        open_engine: Callable[[], Engine],
        on_total: Callable[[int], None],
        on_advance: Callable[[float], None],
        begun: float,
    ) -> dict[str, Any]:
        """Measure the fields of the shard that have no result yet.

        Args:
            open_engine: opens the engine; called when the first tile is ready.
            on_total: gets the number of fields.
            on_advance: gets fractions of a field.
            begun: start of the run by the monotonic clock, in seconds.

        Returns:
            What the run did.

        Raises:
            InputError: the engine does not open, or results cannot be written.
        """
        chosen = rows_of(self.shard, self.scan.digests, self.scan.sizes)
        opening = _Opening(self, open_engine)
        place = ArchivePlace(
            storage=self.storage,
            parts=opening.parts,
            masks=self.masks,
            scan=self.scan,
            done=rows_done(self.storage, chosen, self.shard),
            measures_changed=self.options.measure_changed,
        )
        on_total(int(chosen.sum()))
        has_evidence = bool(self.manifest.validations) or validation_beside(self.options.engine).exists()
        sink = ArchiveSink(place, self.given, self.manifest, self.settings, self.regions, places=has_evidence)
        fields = self.fields.fields(self.scan, chosen)
        pipeline: FieldPipeline[ListedField] = FieldPipeline(
            fields, sink, self.limits, opening.open, on_advance, with_features=sink.is_judged
        )
        try:
            pipeline.run()
            opening.begin(self.settings)
        finally:
            # What is finished counts, whatever ended the run.
            opening.flush()
            sink.close()
        engine = opening.engine
        if engine is not None:
            engine.close()
        return {
            "shard": str(self.shard),
            "fields": int(chosen.sum()),
            "measured": sink.counts.measured,
            "resumed": sink.counts.resumed,
            "failed": [{"field": failure.name, "reason": failure.reason} for failure in sink.failures],
            "seconds": round(time.monotonic() - begun, 3),
            "engine_calls": engine.runs if engine else 0,
            "provider": engine.provider if engine else None,
        }


class _Opening:
    """What happens once the engine is open: the place says what its results belong to, and rows are written.

    Attributes:
        engine: the engine; None before it is open.
        parts: takes the rows.
    """

    def __init__(self, run: ShardRun, open_engine: Callable[[], Engine]) -> None:
        self.engine: Engine | None = None
        self._run = run
        self._open = open_engine
        self._version = run.settings.runtime_version
        self._has_begun = False
        phases = [phase.name for phase in run.manifest.phases]
        self.parts = PartWriter(run.storage, schema(phases), str(run.shard), self._tie, _PERIOD_S)

    def open(self) -> Engine:
        """The engine. Raises InputError where it is not the one that began the results."""
        opened = self._open()
        try:
            self.begin(with_version(self._run.settings, opened.version, self._run.storage.label))
        except InputError:
            opened.close()
            raise
        self._version, self.engine = opened.version, opened
        return opened

    def begin(self, settings: ReportSettings) -> None:
        """Say what the results belong to, unless that is said."""
        run = self._run
        if not self._has_begun:
            begin_archive(run.storage, run.archive, settings, run.options.engine, run.manifest)
            self.parts.begin()
            self._has_begun = True

    def flush(self) -> None:
        """Write the rows that are left."""
        if self._has_begun:
            self.parts.flush()

    def _tie(self) -> str:
        return json.dumps(
            {
                "list_sha256": self._run.archive.list_sha256,
                "engine_sha256": self._run.settings.engine_sha256,
                "settings_sha256": settings_sha256(self._run.settings),
                "runtime_version": self._version,
            }
        )


def _given(fields: FieldList, manifest: Manifest, options: SegmentOptions) -> SegmentInput:
    """How the fields of a list are prepared."""
    info = fields.info
    own = info.domain_file("")
    stated = {} if own is None else stated_keys(own)
    entry, preparation = domain_preparation(manifest, options.domain, stated | options.preparation)
    nearby: dict[str, Preparation] = {}
    for name in info.settings:
        if name and (content := info.domain_file(name)) is not None:
            nearby[name] = domain_preparation(manifest, options.domain, stated_keys(content) | options.preparation)[1]
    return SegmentInput(
        title=info.title,
        fields=(),
        domain=entry.name,
        preparation=preparation,
        nearby=nearby,
        assumed=assumed_size(entry, manifest.grid),
        left_out=tuple(info.left_out),
    )


def _region(path: Path | None) -> Regions | None:
    """The region of interest of all fields. Raises InputError."""
    if path is None:
        return None
    if path.is_dir():
        raise InputError(f"--roi {path}: a field list takes one region for all fields. Remedy: a file.")
    return Regions.find(path, ())
