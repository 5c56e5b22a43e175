"""A field list of a million rows: when a shard begins, and what the merge of as many results takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microseg.deploy.archive.lists.field_list import FieldList, FieldListInfo, schema, to_metadata

_SHARDS, _SECTIONS, _PART_ROWS = 1000, 1000, 10_000


def measure_scale(work: Path, listed: Path, engine: Path, merged: Path, rows: int) -> dict[str, float]:
    """Seconds and peak memory until a shard's first field is computed, also of the short list, and of the merge.

    Args:
        work: Folder for what it writes.
        listed: A short field list, whose files stand for all.
        engine: The engine.
        merged: Merged results of that list, whose rows are repeated under other names.
        rows: Number of rows.
    """
    long, out = work / "long.parquet", work / "long"
    _write_list(long, listed, rows)
    short_s, short_mb = _begin(listed, engine, work / "short", 1)
    begin_s, begin_mb = _begin(long, engine, out, min(_SHARDS, rows))
    _write_results(out, merged, long, rows)
    merge_s, merge_mb = measured_run(["merge", out], None)
    return {
        "rows": rows,
        "begin_seconds": begin_s,
        "begin_mb": begin_mb,
        "short_begin_seconds": short_s,
        "short_begin_mb": short_mb,
        "merge_rows_seconds": merge_s,
        "merge_rows_mb": merge_mb,
    }


def _begin(listed: Path, engine: Path, out: Path, shards: int) -> tuple[float, float]:
    """Seconds and peak resident MB until the first of some shards of a list measures."""
    how = ["--shard", f"1/{shards}", "--masks", "none", "--measure-changed"]
    return measured_run(["segment", listed, "--engine", engine, "--out", out, *how], out / "archive.json")


def measured_run(arguments: Sequence[Any], until: Path | None) -> tuple[float, float]:
    """Seconds and peak resident MB of a command; `until`: it is ended once this file is there."""
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "microseg", *map(str, arguments)], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _resident_mb(process.pid))
        if until is not None and until.exists():
            seconds = time.monotonic() - begun
            # The tables of the place are begun; what the shard has measured so far is kept.
            process.terminate()
            process.wait()
            return seconds, peak
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{arguments}: {process.returncode}")
    return time.monotonic() - begun, peak


def _resident_mb(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return float(peak[0]) * 1024 / 1e6 if peak else 0.0


def _names(start: int, stop: int) -> list[str]:
    return [f"lot{index % _SECTIONS:03d}/field {index:07d}.png" for index in range(start, stop)]


def _write_list(path: Path, listed: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pq.read_table(listed)
    columns = schema()
    with pq.ParquetWriter(path, columns, compression="zstd") as file:
        for start in range(0, rows, _PART_ROWS):
            stop = min(rows, start + _PART_ROWS)
            part = source.take(np.arange(start, stop) % source.num_rows)
            names = _names(start, stop)
            part = part.set_column(0, "field", pa.array(names))
            section = part.schema.get_field_index("section")
            part = part.set_column(section, "section", pa.array([name.partition("/")[0] for name in names]))
            file.write_table(part.cast(columns))
        metadata = to_metadata(FieldListInfo(title="long"))
        file.add_key_value_metadata({key.decode(): value.decode() for key, value in metadata.items()})


def _write_results(out: Path, merged: Path, long: Path, rows: int) -> None:
    """Results for every row of the long list, under what its first shard says of itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from microseg.core.schemas.manifest import Manifest
    from microseg.core.storage.folder import Folder
    from microseg.deploy.archive.archive_file import read_archive
    from microseg.deploy.archive.merging.joined import tie_text
    from microseg.deploy.archive.results import METADATA_KEY
    from microseg.deploy.archive.results import schema as results

    there = read_archive(Folder(out))
    manifest: Manifest = there.manifest
    columns = results([phase.name for phase in manifest.phases])
    columns = columns.with_metadata({METADATA_KEY: tie_text(there).encode()})
    source = pq.read_table(next((merged / "fields").glob("part-merged-*.parquet"))).select(columns.names)
    assert FieldList(long).rows == rows
    (out / "fields").mkdir(exist_ok=True)
    for old in (out / "fields").iterdir():
        old.unlink()
    for number, start in enumerate(range(0, rows, _PART_ROWS)):
        stop = min(rows, start + _PART_ROWS)
        part = source.take(np.arange(start, stop) % source.num_rows)
        names = _names(start, stop)
        changes = {
            "row": pa.array(range(start, stop)),
            "field": pa.array(names),
            "section": pa.array([name.partition("/")[0] for name in names]).dictionary_encode(),
            "sha256": pa.array([f"{index:064x}" for index in range(start, stop)]),
            "thumbnail": pa.nulls(stop - start, pa.binary()),
        }
        for name, values in changes.items():
            part = part.set_column(part.schema.get_field_index(name), name, values)
        target = out / "fields" / f"part-1-of-1000-{os.urandom(6).hex()}-{number:04d}.parquet"
        pq.write_table(part.cast(columns), target, compression="zstd")
