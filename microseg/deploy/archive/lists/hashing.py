"""Hashes of rows of a table, a million in seconds, the same on every machine."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow

_STEP, _ONE, _TWO = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_NOTHING = np.uint64(0xD6E8FEB86659FD93)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers of 64 bit, spread over all of them one to one (the finaliser of Steele et al. 2014)."""
    found = (values ^ (values >> np.uint64(30))) * _ONE
    found = (found ^ (found >> np.uint64(27))) * _TWO
    return np.asarray(found ^ (found >> np.uint64(31)))


def text_hashes(texts: pyarrow.StringArray) -> NDArray[np.uint64]:
    """A hash of each text, uint64 (n,): the sum of its bytes times fixed odd numbers, by their positions, then spread.

    Args:
        texts: an Arrow array of texts; a missing one has a hash of its own.
    """
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    lengths = np.diff(places)
    each = np.frombuffer(data, np.uint8)[places[0] : places[-1]] if data is not None else np.empty(0, np.uint8)
    places -= places[0]
    positions = np.arange(len(each)) - np.repeat(places[:-1], lengths)
    terms = (each.astype(np.uint64) + np.uint64(1)) * _weights(int(lengths.max(initial=0)))[positions]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
    found = mixed(sums[places[1:]] - sums[places[:-1]] + lengths.astype(np.uint64) * _STEP)
    if texts.null_count:
        found[np.asarray(texts.is_null())] = _NOTHING
    return found


def number_hashes(numbers: Any) -> NDArray[np.uint64]:
    """A hash of each number, uint64 (n,).

    Args:
        numbers: an Arrow array of int64 or double; a missing one has a hash of its own.
    """
    values = np.ascontiguousarray(numbers.fill_null(0).to_numpy(zero_copy_only=False))
    found = mixed(values.view(np.uint64) + _STEP)
    if numbers.null_count:
        found[np.asarray(numbers.is_null())] = _NOTHING
    return found


def combined(columns: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """One hash of each row of several columns, uint64 (n,)."""
    found = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        found = mixed(found * _ONE + column + _STEP)
    return found


@lru_cache(1)
def _table(size: int) -> NDArray[np.uint64]:
    return mixed(np.arange(1, size + 1, dtype=np.uint64) * _STEP) | np.uint64(1)


def _weights(longest: int) -> NDArray[np.uint64]:
    """Odd numbers for the positions of at least so many bytes; powers of two, so that one table serves many batches."""
    return _table(1 << max(10, (longest - 1).bit_length() if longest else 0))
