"""`microseg merge`: the results of all shards, each field once, to tables, a summary and a page."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.schemas.validation import validation_beside
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.archive_file import SETTINGS, Begun, read_archive
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.merging.chosen import Chosen, choose
from microseg.deploy.archive.merging.compact import text_hashes
from microseg.deploy.archive.merging.findings import TableFindings
from microseg.deploy.archive.merging.joined import write_joined
from microseg.deploy.archive.merging.page import page
from microseg.deploy.archive.merging.sections_table import sections_table
from microseg.deploy.archive.merging.table import NEEDED, ResultTable
from microseg.deploy.archive.rows import opened_part
from microseg.deploy.measurement.evidence import Sources
from microseg.deploy.measurement.reported import claims
from microseg.deploy.report.alarms import alarms_among
from microseg.deploy.report.claims import sources_of
from microseg.deploy.report.records import FailedField
from microseg.deploy.report.repeated import Clues, repeated_among
from microseg.deploy.report.summary import summary
from microseg.deploy.report.summary_file import SummaryRun

# With the ending of a validation it must be a name, too.
_MOST_NAME_BYTES = 240


def merge(storage: Storage, *, partial: bool = False, run: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Join the results of all shards, each field once, and write what they say together.

    Args:
        storage: where the results lie.
        partial: whether fields may be missing.
        run: what this very process measured before; None where it only merges.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: no results, fields without a result, results of several engines or settings, or nothing can be written.
        MissingExtraError: pyarrow is not installed.
    """
    arrow()
    begun = time.monotonic()
    there = read_archive(storage)
    _require_file_name(there.settings.engine, f"{storage.label}/{SETTINGS}")
    storage.require_writable()
    chosen = choose(storage, there)
    missing = there.archive.fields - len(chosen.parts)
    if missing and not partial:
        first = np.setdiff1d(np.arange(there.archive.fields), chosen.rows, assume_unique=True)[:3].tolist()
        listed = ", ".join(str(row + 1) for row in first)
        raise InputError(
            f"{storage.label}: {missing} of {there.archive.fields} fields have no result (rows "
            f"{listed}{' ...' * (missing > 3)} of the list). Remedy: repeat the shards that did not end, or --partial for what "
            "there is."
        )
    merged = _Merged.read(storage, there, chosen)
    findings = merged.findings(missing)
    with_run = _run(run, findings, time.monotonic() - begun)
    content = summary(findings, with_run, int((run or {}).get("engine_calls", 0))).content()
    shown = page(storage, chosen, findings)
    if not missing:
        # A shard that still runs writes its files again.
        write_joined(storage, there, chosen, findings)
    storage.write("sections.parquet", sections_table(findings))
    storage.write("report.html", shown.encode("utf-8"))
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    storage.write("summary.json", text.encode("utf-8"))
    return content


def _require_file_name(name: str, where: str) -> None:
    """Raise InputError where the engine's name is none: whoever may write to the storage may write anything."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= _MOST_NAME_BYTES or name == ".." or "\0" in name or Path(name).name != name:
        raise InputError(f"{where}: {name[:80]!r} is no file name of an engine. Remedy: measure into another --out.")


@dataclass(frozen=True)
class _Merged:
    """The results of all fields.

    Attributes:
        storage: where they lie.
        there: what they belong to.
        chosen: which rows of the files are the fields.
        table: the measured fields.
        failures: the failed ones.
    """

    storage: Storage
    there: Begun
    chosen: Chosen
    table: ResultTable
    failures: tuple[FailedField, ...]

    @classmethod
    def read(cls, storage: Storage, there: Begun, chosen: Chosen) -> _Merged:
        """Read the columns that a summary needs. Raises InputError."""
        pa, _ = arrow()
        manifest = there.manifest
        phases = tuple(phase.name for phase in manifest.phases)
        spreads = [f"fold_std_{name}" for name in phases]
        has_alarm = manifest.alarm is not None
        wanted = [*NEEDED, *spreads, *(["alarm_deviations"] if has_alarm and manifest.validations else [])]
        measured: list[Any] = []
        failed: list[tuple[int, str, str]] = []
        # Wide columns go to their places at once: moved together, one of them is in memory three times.
        fields, each_px = len(chosen.rows), len(phases)
        wide: dict[str, NDArray[Any]] = {
            "counts": np.empty((fields, each_px), np.int64),
            "fold_counts": np.empty((fields, each_px * len(manifest.folds)), np.int64),
            "sha256": np.empty((fields, 2), np.uint64),
        }
        narrow = [name for name in wanted if name not in wide]
        known = np.zeros(fields, np.bool_)
        for name, mask in chosen.masks():
            with opened_part(storage, name) as file:
                table = file.read([*wanted, "status", "reason"]).filter(pa.array(mask))
            is_measured = pa.compute.equal(table.column("status").cast(pa.string()), "measured")
            other = table.filter(pa.compute.invert(is_measured)).select(["row", "field", "reason"]).to_pylist()
            failed += [(each["row"], each["field"], each["reason"]) for each in other]
            part = table.filter(is_measured)
            measured.append(part.select(narrow))
            if part.num_rows:
                at = np.searchsorted(chosen.rows, part.column("row").to_numpy())
                known[at] = True
                for key in ("counts", "fold_counts"):
                    wide[key][at] = _whole(part.column(key)).flatten().to_numpy().reshape(len(at), -1)
                wide["sha256"][at] = text_hashes(part.column("sha256").to_pylist())
            pa.default_memory_pool().release_unused()
        joined = pa.concat_tables(measured)
        del measured
        order = pa.compute.sort_indices(joined.column("row"))
        columns: dict[str, Any] = wide if known.all() else {name: values[known] for name, values in wide.items()}
        for name in narrow:
            # One column after another: the whole table twice takes too much memory.
            columns[name] = _whole(joined.column(name).take(order))
            joined = joined.drop_columns([name])
            pa.default_memory_pool().release_unused()
        settings = there.settings
        return cls(
            storage,
            there,
            chosen,
            ResultTable(
                columns=columns,
                phases=phases,
                folds=len(manifest.folds),
                preparations={"": settings.preparation, **settings.nearby},
                pixel_sizes=settings.pixel_sizes,
                trained=frozenset(field.sha256 for field in manifest.training_fields),
            ),
            tuple(FailedField(name=name, reason=reason) for _, name, reason in sorted(failed)),
        )

    def findings(self, missing: int) -> TableFindings:
        """What the fields say together."""
        table, manifest = self.table, self.there.manifest
        table.forget_hashes()
        every = table.rows()
        not_counted = repeated_among(
            every, Clues(table.same_files, table.placed, lambda row: row.section, self._marks())
        )
        counts = np.ones(len(table), np.bool_)
        if not_counted:
            counts[[index for index, row in enumerate(every) if row.name in not_counted]] = False
        rows = [row for row, is_counted in zip(every, counts.tolist(), strict=True) if is_counted]
        del every
        alarms = None
        if manifest.alarm is not None:
            alarms = alarms_among(manifest.alarm, ((row.section, row.alarm) for row in rows))
        found = claims(rows, self._sources(), None if alarms is None else alarms.verdicts)
        told = [f"{missing} fields of the list have no result yet. They do not count."] if missing else []
        return TableFindings(
            settings=self.there.settings,
            manifest=manifest,
            outcomes=(),
            left_over=0,
            claims=found,
            left_out=(*self.there.archive.left_out, *told),
            not_counted=not_counted,
            alarms=alarms,
            table=table,
            counts=counts,
            failures=self.failures,
        )

    def _marks(self) -> list[tuple[int, str]]:
        """The marks of the fields that have any, in the order of the fields."""
        pa, _ = arrow()
        order = np.full(self.there.archive.fields, -1, np.int64)
        order[self.table.numbers("row")] = np.arange(len(self.table))
        found = []
        for name, mask in self.chosen.masks():
            with opened_part(self.storage, name) as file:
                part = file.read(["row", "marks"]).filter(pa.array(mask))
            if part.column("marks").null_count < part.num_rows:
                rows, texts = (part.column(key).to_pylist() for key in ("row", "marks"))
                found += [(int(order[row]), text) for row, text in zip(rows, texts, strict=True) if text]
        return sorted(found)

    def _sources(self) -> Sources:
        """The labelled fields that may stand behind the figures."""
        settings = self.there.settings
        with TemporaryDirectory(prefix="microseg-") as folder:
            engine = Path(folder, settings.engine)
            beside = validation_beside(engine)
            data = self.storage.read(beside.name)
            if data is not None:
                beside.write_bytes(data)
            return sources_of(engine, self.there.manifest, settings.domain)


def _whole(column: Any) -> Any:
    """A column as one Arrow array; texts of few kinds with one list of them."""
    pa, _ = arrow()
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def _run(run: Mapping[str, Any] | None, findings: TableFindings, seconds: float) -> SummaryRun:
    """What this process did."""
    done = run or {}
    settings = findings.settings
    version = settings.runtime_version
    return SummaryRun(
        seconds=round(seconds + float(done.get("seconds", 0.0)), 3),
        fields_measured=int(done.get("measured", 0)),
        fields_resumed=findings.numbers.measured - int(done.get("measured", 0)),
        runtime=f"{settings.runtime} {version}" if version and done.get("measured") else None,
        provider=done.get("provider"),
        threads=done.get("threads"),
        streams=int(done.get("streams", 1)),
        profile=done.get("profile"),
    )
