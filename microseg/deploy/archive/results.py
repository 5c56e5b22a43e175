"""The table of results: one row for each field, in Parquet files of some thousand rows."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from microseg.core.alarm.schema import GROUPS, FieldAlarm
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.lists.field_list import ListedField
from microseg.deploy.report.records import FailedField, FieldRecord
from microseg.deploy.report.settings_file import ReportSettings

if TYPE_CHECKING:
    import pyarrow

FOLDER = "fields"
METADATA_KEY = b"microseg.results"
MEASURED, FAILED = "measured", "failed"


def settings_sha256(settings: ReportSettings) -> str:
    """SHA-256 of the settings that decide a figure, 64 hex digits; the engine is one of them, and it is not yet open."""
    later = {"created", "decimal_comma", "input_path", "engine_path", "input", "runtime_version"}
    content = settings.model_dump(mode="json", exclude=later)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def result_key(record: FieldRecord, settings: str) -> str:
    """The key of a result: content of the file and of the texts beside it, engine and settings; 64 hex digits.

    Args:
        record: the measured field.
        settings: `settings_sha256`, which holds the engine.
    """
    return hashlib.sha256(f"{record.sha256} {record.sidecar_sha256} {settings}".encode()).hexdigest()


def schema(phases: Sequence[str], *, is_merged: bool = False) -> pyarrow.Schema:
    """The columns of the table.

    Args:
        phases: names of the phases, in the engine's order.
        is_merged: whether `merge` wrote it, which knows what stands behind each field.
    """
    pa, _ = arrow()
    text, number, real = pa.string(), pa.int64(), pa.float64()
    few = pa.dictionary(pa.int32(), pa.string())
    columns = [
        pa.field("row", number, nullable=False),
        pa.field("field", text, nullable=False),
        ("url", text),
        ("section", few),
        pa.field("status", few, nullable=False),
        ("reason", text),
        *((f"fraction_{name}", real) for name in phases),
        *((f"fold_std_{name}", real) for name in phases),
        ("predicted_error", real),
        ("alarm", few),
        ("notices", few),
        ("notice_list", few),
        ("width_px", number),
        ("height_px", number),
        ("measured_width_px", number),
        ("measured_height_px", number),
        ("measured_px", number),
        ("pixel_size_um", real),
        ("pixel_height_um", real),
        ("pixel_size_source", few),
        ("area_um2", real),
        ("not_measured_px", number),
        ("not_measured", few),
        ("counts", pa.list_(number)),
        ("fold_counts", pa.list_(number)),
        ("mask", text),
        ("overlay", text),
        ("sha256", text),
        ("sidecar_sha256", few),
        ("mask_sha256", text),
        ("engine_sha256", few),
        ("settings_sha256", few),
        ("key", text),
        ("settings", few),
        ("size", number),
        ("mtime_ns", number),
        ("etag", text),
        ("changed", pa.bool_()),
        *((f"score_{group}", real) for group in GROUPS),
        ("alarm_causes", few),
        ("alarm_cure", few),
        ("alarm_deviations", text),
        ("stage_x_um", real),
        ("stage_y_um", real),
        ("marks", text),
        ("thumbnail", pa.binary()),
    ]
    if is_merged:
        columns += [("counted", few), *((f"evidence_{name}", few) for name in phases)]
    return pa.schema(columns)


def measured_row(record: FieldRecord, phases: Sequence[str]) -> dict[str, Any]:
    """The columns of a measured field that its record gives.

    Args:
        record: the record.
        phases: names of the phases, in the engine's order.
    """
    return {
        "field": record.name,
        "status": MEASURED,
        **{f"fraction_{name}": value for name, value in zip(phases, record.fractions_of(phases), strict=True)},
        **{f"fold_std_{name}": value for name, value in zip(phases, record.fold_std, strict=True)},
        "notices": "; ".join(record.notices) or None,
        "notice_list": _notice_list(record),
        "width_px": record.width_px,
        "height_px": record.height_px,
        "measured_width_px": record.measured_width_px,
        "measured_height_px": record.measured_height_px,
        "measured_px": record.measured_px,
        "pixel_size_um": record.pixel_size_um,
        "pixel_height_um": record.pixel_height_um,
        "pixel_size_source": record.pixel_size_source,
        "area_um2": record.area_um2,
        "not_measured_px": sum(record.not_measured.values()),
        "not_measured": json.dumps(record.not_measured, ensure_ascii=False),
        "counts": record.counts,
        "fold_counts": [count for fold in record.fold_counts for count in fold],
        "mask": record.mask or None,
        "overlay": record.overlay or None,
        "sha256": record.sha256,
        "sidecar_sha256": record.sidecar_sha256,
        **({} if record.alarm is None else _alarm_columns(record.alarm)),
        "stage_x_um": None if record.stage_um is None else record.stage_um[0],
        "stage_y_um": None if record.stage_um is None else record.stage_um[1],
        "marks": record.marks or None,
    }


def _notice_list(record: FieldRecord) -> str | None:
    """Kind and text of each notice, as JSON."""
    pairs = list(zip(record.notice_kinds, record.notices, strict=True))
    return json.dumps(pairs, ensure_ascii=False) if pairs else None


def _alarm_columns(alarm: FieldAlarm) -> dict[str, Any]:
    return {
        "predicted_error": alarm.predicted_error,
        "alarm": alarm.level,
        **{f"score_{group}": score for group, score in alarm.scores.items()},
        "alarm_causes": json.dumps(alarm.causes, ensure_ascii=False),
        "alarm_cure": alarm.cure,
        "alarm_deviations": json.dumps(alarm.deviations),
    }


def failed_row(failed: FailedField) -> dict[str, Any]:
    """The columns of a field that fails."""
    return {"field": failed.name, "status": FAILED, "reason": failed.reason}


def listed_row(field: ListedField) -> dict[str, Any]:
    """The columns that the list gives."""
    return {
        "row": field.row,
        "url": field.url,
        "section": field.section,
        "settings": field.settings,
        "size": field.size,
        "mtime_ns": field.mtime_ns,
        "etag": field.etag,
    }


def packed(rows: Sequence[dict[str, Any]], columns: pyarrow.Schema, tie: str) -> bytes:
    """Rows as a Parquet file.

    Args:
        rows: the rows.
        columns: `schema`.
        tie: list, engine and settings that they belong to, as JSON.
    """
    pa, pq = arrow()
    table = pa.Table.from_pylist(list(rows), schema=columns.with_metadata({METADATA_KEY: tie.encode()}))
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()
