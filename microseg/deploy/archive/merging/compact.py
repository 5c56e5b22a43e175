"""Columns without an object of Python for each value: a million fields fit into a gigabyte."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray


def whole_numbers(values: NDArray[np.integer[Any]]) -> array[int]:
    """Whole numbers that are read one by one: 8 bytes each, where a list and its numbers take 40."""
    return array("q", np.ascontiguousarray(values, np.int64).tobytes())


def real_numbers(values: NDArray[np.float64]) -> array[float]:
    """As `whole_numbers`, of real numbers."""
    return array("d", np.ascontiguousarray(values, np.float64).tobytes())


def text_hashes(texts: Iterable[str | None]) -> NDArray[np.uint64]:
    """What tells texts apart: 128 bits of each (BLAKE2b), uint64 (n, 2). Texts that are absent are equal."""
    data = b"".join(blake2b((text or "").encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


def repeated(hashes: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """Number of each hash that is equal to one before it, and the number of the first such one, in ascending order.

    Args:
        hashes: of `text_hashes`.
    """
    if len(np.unique(hashes[:, 0])) == len(hashes):
        return []
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    in_order = hashes[order]
    is_first = np.append(True, (in_order[1:] != in_order[:-1]).any(axis=1))
    firsts = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    again = np.flatnonzero(~is_first)
    return sorted(zip(order[again].tolist(), firsts[again].tolist(), strict=True))


def are_among(hashes: NDArray[np.uint64], texts: Iterable[str]) -> list[bool]:
    """Whether each hash is that of one of some texts.

    Args:
        hashes: of `text_hashes`.
        texts: the texts.
    """
    wanted = text_hashes(sorted(texts))
    pairs = set(map(tuple, wanted.tolist()))
    found = np.isin(hashes[:, 0], wanted[:, 0])
    for index in np.flatnonzero(found).tolist():
        found[index] = tuple(hashes[index].tolist()) in pairs
    values: list[bool] = found.tolist()
    return values
