"""The merged table: each field once, with its section and what stands behind it, in few files."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from microseg.core.storage.storage import Storage
from microseg.deploy.archive.archive_file import Begun
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.merging.chosen import Chosen
from microseg.deploy.archive.results import FOLDER, METADATA_KEY, schema, settings_sha256
from microseg.deploy.archive.rows import opened_part

if TYPE_CHECKING:
    from microseg.deploy.archive.merging.findings import TableFindings

# Rows of a merged file, of which each process holds one in memory.
_ROWS = 50_000


def write_joined(storage: Storage, there: Begun, chosen: Chosen, findings: TableFindings) -> None:
    """Write the merged table, then remove the files that it is made of.

    A process that is killed in between leaves fields twice, of which the next `merge` counts one.

    Raises:
        InputError: it cannot be written.
    """
    pa, pq = arrow()
    phases = findings.table.phases
    columns = schema(phases, is_merged=True).with_metadata({METADATA_KEY: tie_text(there).encode()})
    # The name tells which files are joined: equal merges write equal names.
    token = os.urandom(6).hex()
    number = 0
    waiting: list[Any] = []
    count = 0

    def write() -> None:
        nonlocal number, waiting, count
        stream = io.BytesIO()
        pq.write_table(pa.concat_tables(waiting), stream, compression="zstd", row_group_size=20_000)
        storage.write(f"{FOLDER}/part-merged-{token}-{number:04d}.parquet", stream.getvalue())
        number, waiting, count = number + 1, [], 0

    for table in _with_standing(storage, chosen, findings, columns):
        waiting.append(table)
        count += table.num_rows
        if count >= _ROWS:
            write()
    if waiting:
        write()
    for name, length in zip(chosen.names, chosen.lengths, strict=True):
        has_grown = True
        with suppress(FileNotFoundError), opened_part(storage, name) as file:
            has_grown = file.metadata.num_rows != length
        # A shard that ran again has added to it: the next merge takes what is new.
        if not has_grown:
            storage.remove(name)


def tie_text(there: Begun) -> str:
    """What merged results belong to, as JSON."""
    return json.dumps(
        {
            "list_sha256": there.archive.list_sha256,
            "engine_sha256": there.settings.engine_sha256,
            "settings_sha256": settings_sha256(there.settings),
            "runtime_version": there.settings.runtime_version,
        }
    )


def _with_standing(storage: Storage, chosen: Chosen, findings: TableFindings, columns: Any) -> Iterator[Any]:
    """The rows of each file that are fields, with what `merge` knows of them."""
    pa, _ = arrow()
    table, claims = findings.table, findings.claims
    codes, names = table.sections
    of_row = np.full(int(chosen.rows[-1]) + 1 if len(chosen.rows) else 0, -1, np.int64)
    of_row[table.numbers("row")] = codes
    evidence = {
        f"evidence_{phase}": pa.array(
            [claims.sections[name].phases[index].evidence if name in claims.sections else "none" for name in names],
            pa.string(),
        )
        for index, phase in enumerate(table.phases)
    }
    for name, mask in chosen.masks():
        if not mask.any():
            continue
        with opened_part(storage, name) as file:
            part = file.read().filter(pa.array(mask))
        section = of_row[part.column("row").to_numpy()]
        known = pa.array(section, mask=section < 0)
        found = {column: part.column(column) for column in part.column_names}
        found |= {column: texts.take(known) for column, texts in evidence.items()}
        found["counted"] = _counted(part, findings, section)
        yield pa.table({field.name: _cast(found[field.name], field.type) for field in columns}, schema=columns)


def _counted(part: Any, findings: TableFindings, section: Any) -> Any:
    pa, _ = arrow()
    if not findings.not_counted:
        return pa.array(["yes" if each >= 0 else None for each in section.tolist()], pa.string())
    why = findings.not_counted
    names = part.column("field").to_pylist()
    return pa.array(
        [
            None if at < 0 else f"no: {why[name]}" if name in why else "yes"
            for name, at in zip(names, section.tolist(), strict=True)
        ],
        pa.string(),
    )


def _cast(column: Any, kind: Any) -> Any:
    pa, _ = arrow()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        return column.dictionary_encode()
    return column.cast(kind)
