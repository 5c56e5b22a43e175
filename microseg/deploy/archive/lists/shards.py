"""Shards: disjoint parts of a field list of nearly equal bytes, cut the same on every machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError

_MOST = 1_000_000
# What a file costs beside its bytes: opening it, and a row of the results.
_FILE_BYTES = 4096


@dataclass(frozen=True)
class Shard:
    """One of several shards.

    Attributes:
        number: its number, from 1.
        of: how many there are.
    """

    number: int = 1
    of: int = 1

    @classmethod
    def parsed(cls, text: str) -> Shard:
        """The shard of `--shard K/N`. Raises InputError."""
        found = re.fullmatch(r"\s*([0-9]{1,7})\s*/\s*([0-9]{1,7})\s*", text)
        if found is None:
            raise InputError(f"--shard {text}: is no shard. Remedy: its number and how many there are, such as 3/64.")
        number, of = int(found[1]), int(found[2])
        if not 1 <= number <= of <= _MOST:
            raise InputError(
                f"--shard {text}: there is no such shard. Remedy: a number from 1 to {min(max(of, 1), _MOST)}."
            )
        return cls(number, of)

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.number}/{self.of}"


def rows_of(shard: Shard, digests: NDArray[np.uint64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The rows of a shard.

    Rows in the order of their hashes are cut where the sum of their bytes passes a multiple of an N-th. The cut depends on
    the list alone; a shard has an N-th of the bytes, but for one file at each end.

    Args:
        shard: the shard.
        digests: hash of each row, uint64 (n,).
        sizes: bytes of each file, int64 (n,).

    Returns:
        Which rows belong to it, bool (n,).
    """
    costs = sizes + _FILE_BYTES
    order = np.lexsort((np.arange(len(digests)), digests))
    # Whole numbers: floating point may round differently elsewhere. Twice the middle of each file decides.
    middles = 2 * np.cumsum(costs[order], dtype=np.int64) - costs[order]
    total = 2 * int(costs.sum())
    low, high = (-(-total * number // shard.of) for number in (shard.number - 1, shard.number))
    chosen = np.zeros(len(digests), np.bool_)
    chosen[order[(middles >= low) & (middles < high)]] = True
    return chosen
