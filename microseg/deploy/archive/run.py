"""One shard of a field list, from its rows to the table of results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from microseg.core.errors import InputError
from microseg.core.preparation.field_scale import assumed_size, refuse_contradicting_options
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import Preparation
from microseg.core.schemas.validation import validation_beside
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.archive_file import archive_of, check_archive
from microseg.deploy.archive.job import ArchiveJob, ArchiveWorker
from microseg.deploy.archive.lists.field_list import FieldList, ListScan
from microseg.deploy.archive.lists.shards import Shard, rows_of
from microseg.deploy.archive.rows import rows_done
from microseg.deploy.archive.sink import Masks
from microseg.deploy.pipeline.inputs import SegmentInput, domain_preparation, stated_keys
from microseg.deploy.pipeline.measurement_run import settings_of
from microseg.deploy.pipeline.region import Regions
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning.profile import SegmentConfig
from microseg.runtime import Engine


@dataclass(frozen=True)
class ShardRun:
    """A shard, how it is measured, and where its results go.

    Attributes:
        fields: the field list.
        scan: what is known of it.
        shard: the shard.
        job: how it is measured, and where its results go.
    """

    fields: FieldList
    scan: ListScan
    shard: Shard
    job: ArchiveJob

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
        job = ArchiveJob(
            storage=storage,
            archive=archive,
            alike=scan.alike,
            given=given,
            settings=settings,
            masks=masks,  # type: ignore[arg-type]
            measures_changed=options.measure_changed,
            engine=options.engine,
            manifest=manifest,
            has_evidence=bool(manifest.validations) or validation_beside(options.engine).exists(),
            limits=limits,
            regions=regions,
        )
        return cls(fields, scan, shard, job)

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
        done = rows_done(self.job.storage, chosen, self.shard)
        on_total(int(chosen.sum()))
        worker = ArchiveWorker(self.job, str(self.shard), open_engine)
        tables = self.fields.tables(self.scan, chosen, done)
        try:
            worker.measure(chain.from_iterable(map(self.fields.info.fields_of, tables)), on_advance)
        finally:
            worker.close()
        return {
            "shard": str(self.shard),
            "fields": int(chosen.sum()),
            "measured": worker.measured,
            "resumed": worker.resumed,
            "failed": [{"field": failure.name, "reason": failure.reason} for failure in worker.failures],
            "seconds": round(time.monotonic() - begun, 3),
            "engine_calls": worker.engine_calls,
            "provider": worker.provider,
        }


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
