"""Shards: disjoint, complete, balanced by bytes, and the same on every machine."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from microseg.core.errors import InputError
from microseg.deploy.archive.lists.hashing import combined, number_hashes, text_hashes
from microseg.deploy.archive.lists.shards import Shard, rows_of


@pytest.mark.parametrize("of", [1, 3, 64])
def test_every_field_is_in_one_shard_of_nearly_equal_bytes(of: int) -> None:
    rng = np.random.default_rng(of)
    digests, sizes = rng.integers(0, 1 << 63, 5000, np.uint64), rng.integers(0, 400_000, 5000)
    parts = np.array([rows_of(Shard(number, of), digests, sizes) for number in range(1, of + 1)])
    assert (parts.sum(axis=0) == 1).all()
    total = np.array([sizes[part].sum() for part in parts])
    assert abs(total - sizes.sum() / of).max() <= 2 * 404_096


def test_more_shards_than_fields_leave_some_empty() -> None:
    parts = [rows_of(Shard(number, 9), np.arange(4, dtype=np.uint64), np.ones(4, np.int64)) for number in range(1, 10)]
    assert sorted(part.sum() for part in parts) == [0] * 5 + [1] * 4


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/3", "1/9999999"])
def test_a_shard_that_there_is_not(text: str) -> None:
    with pytest.raises(InputError, match=f"--shard {text}: "):
        Shard.parsed(text)


def test_a_shard_is_written_as_on_the_command_line() -> None:
    assert Shard.parsed(" 3/64 ") == Shard(3, 64) and str(Shard(3, 64)) == "3/64"


def test_hashes_do_not_depend_on_batches() -> None:
    texts = pa.array(["", "a", None, "field 1.png", "ä" * 2000, "field 2.png"], pa.string())
    found = text_hashes(texts)
    assert len(set(found.tolist())) == 6
    assert (text_hashes(texts.slice(2)) == found[2:]).all()
    numbers = pa.array([1, None, 0, -1], pa.int64())
    both = combined([found[:4], number_hashes(numbers)])
    assert len(set(both.tolist())) == 4
    # Machines that cut a list at different times must cut it equally.
    assert [hex(each) for each in both.tolist()[:2]] == ["0x6e3cdb388ddb2def", "0x3a619a1f69511429"]
