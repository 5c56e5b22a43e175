"""`sections.parquet`: one row for each section and phase."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from microseg.deploy.archive.extra import arrow

if TYPE_CHECKING:
    from microseg.deploy.archive.merging.findings import TableFindings


def sections_table(findings: TableFindings) -> bytes:
    """The table as a Parquet file: fraction, interval, evidence and alarm of each phase in each section; fractions are 0-1."""
    pa, pq = arrow()
    alarms = {} if findings.alarms is None else findings.alarms.sections
    rows = []
    for name, section in findings.claims.sections.items():
        alarm = alarms.get(name)
        for phase, reported in zip(findings.table.phases, section.phases, strict=True):
            low, high = reported.interval or (None, None)
            rows.append(
                {
                    "section": name,
                    "phase": phase,
                    "fields": section.fields,
                    "fraction": reported.fraction,
                    "interval_low": low,
                    "interval_high": high,
                    "evidence": reported.evidence,
                    "raw": reported.raw,
                    "reasons": json.dumps(reported.reasons_in_file, ensure_ascii=False),
                    "alarm": None if alarm is None else alarm.level,
                    "predicted_error": None if alarm is None else alarm.predicted_error,
                }
            )
    text, real = pa.string(), pa.float64()
    columns = pa.schema(
        [
            ("section", text), ("phase", text), ("fields", pa.int64()), ("fraction", real), ("interval_low", real),
            ("interval_high", real), ("evidence", text), ("raw", real), ("reasons", text), ("alarm", text),
            ("predicted_error", real),
        ]
    )  # fmt: skip
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=columns), stream, compression="zstd")
    return stream.getvalue()
