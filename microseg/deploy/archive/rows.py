"""The files of results that lie in a place, read by column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.lists.shards import Shard
from microseg.deploy.archive.results import FOLDER, MEASURED, METADATA_KEY

if TYPE_CHECKING:
    import pyarrow.parquet

_PART = re.compile(rf"{FOLDER}/part-(?:(?P<number>\d+)-of-(?P<of>\d+)|merged)-[0-9a-f]+-\d+\.parquet")


def part_names(storage: Storage) -> list[str]:
    """The files of results in a place, sorted."""
    return [name for name in storage.names(FOLDER) if _PART.fullmatch(name)]


@contextmanager
def opened_part(storage: Storage, name: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    """An open file of results. Raises InputError where it cannot be read, and FileNotFoundError where it is gone."""
    _, pq = arrow()
    with storage.open(name) as stream:
        try:
            file = pq.ParquetFile(stream)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{storage.label}/{name}: cannot be read as a table of results ({str(error).splitlines()[0]}). Remedy: remove "
                "it, then measure its shard again."
            ) from error
        with file:
            yield file


def tie_of(file: pyarrow.parquet.ParquetFile) -> dict[str, Any]:
    """List, engine and settings that a file of results belongs to; empty where it says nothing."""
    try:
        content = json.loads((file.schema_arrow.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def rows_done(storage: Storage, chosen: NDArray[np.bool_], shard: Shard) -> frozenset[int]:
    """The rows of a shard that have a result already.

    Args:
        storage: where results lie.
        chosen: the rows of the shard, bool (n,).
        shard: the shard. Results of the others of as many have none of its rows.
    """
    found: set[int] = set()
    for name in part_names(storage):
        match = _PART.fullmatch(name)
        assert match is not None
        if match["of"] == str(shard.of) and match["number"] != str(shard.number):
            continue
        try:
            with opened_part(storage, name) as file:
                table = file.read(["row", "status"])
        except FileNotFoundError:
            continue  # `merge` joined it with others, which are listed by now
        rows = table.column("row").to_numpy()
        is_measured = np.array([status == MEASURED for status in table.column("status").to_pylist()], np.bool_)
        known = rows[is_measured & (rows >= 0) & (rows < len(chosen))]
        found.update(known[chosen[known]].tolist())
    return frozenset(found)
