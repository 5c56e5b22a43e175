"""The rows of a field list in blocks: what an actor takes at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from microseg.deploy.archive.extra import arrow

if TYPE_CHECKING:
    import pyarrow

_MOST_FIELDS = 64
_MOST_BYTES = 256 << 20
# Of each actor, so that the last ones end together.
_BLOCKS = 32


def fields_of_a_block(fields: int, actors: int) -> int:
    """How many fields a block holds at most.

    Args:
        fields: number of fields in all.
        actors: actors that share them.
    """
    return min(_MOST_FIELDS, max(1, fields // (_BLOCKS * actors)))


def blocks(tables: Iterable[pyarrow.Table], most_fields: int) -> Iterator[pyarrow.Table]:
    """Rows in their order, in blocks of as many fields and of bytes that one actor works on for minutes at most.

    A list has no pixels, only bytes; how many tiles run together is decided by pixels where they are read.

    Args:
        tables: the rows, with the column `size` in bytes.
        most_fields: fields of a block, at most.
    """
    pa, _ = arrow()
    for table in tables:
        sizes = pa.compute.fill_null(table.column("size"), 0).to_numpy()
        ends = np.cumsum(sizes)
        start = 0
        while start < len(sizes):
            before = ends[start - 1] if start else 0
            fitting = int(np.searchsorted(ends, before + _MOST_BYTES, side="right"))
            stop = min(max(fitting, start + 1), start + most_fields)
            # A slice alone would carry the whole table to the actor.
            yield table.slice(start, stop - start).combine_chunks()
            start = stop
