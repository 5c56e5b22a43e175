"""Planes of a training set: few in memory, the others in a file that ends with them, and the same pixels either way."""

from __future__ import annotations

import errno
import gc
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.schemas.preparation import Grid
from microseg.train.common import datasets
from microseg.train.common.datasets import ImagesOf, LabelledField, TileSampler, load_fields, phase_frequencies
from microseg.train.common.fields.stored import PlaneStore, StoredPlane, pixels_of
from microseg.train.common.recipe import ExtendedAugmentation


def planes(count: int, shape: tuple[int, int] = (20, 30)) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, np.uint8) for _ in range(count)]


def test_planes_beyond_the_budget_are_in_one_file_and_come_back_unchanged() -> None:
    wanted, store = planes(7), PlaneStore(budget_bytes=1250)
    kept = [store.keep(plane) for plane in wanted]
    assert [isinstance(plane, StoredPlane) for plane in kept] == [False, False] + 5 * [True]
    assert store.in_memory_bytes == 1200, "never more than the budget"
    assert len({plane.path for plane in kept if isinstance(plane, StoredPlane)}) == 1
    for plane, pixels in zip(kept, wanted, strict=True):
        assert plane.shape == pixels.shape
        assert np.array_equal(pixels_of(plane), pixels)


def test_the_file_is_deleted_after_its_last_plane() -> None:
    store = PlaneStore(budget_bytes=0)
    first, last = (store.keep(plane) for plane in planes(2))
    assert isinstance(first, StoredPlane) and isinstance(last, StoredPlane)
    path = last.path
    del store, first
    gc.collect()
    assert path.is_file()
    del last
    gc.collect()
    assert not path.exists()


def test_another_process_gets_the_place_and_not_the_pixels() -> None:
    (pixels,) = planes(1, (400, 500))
    plane = PlaneStore(budget_bytes=0).keep(pixels)
    sent = pickle.dumps(plane)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert np.array_equal(received.read(), pixels)
    del received
    gc.collect()
    assert isinstance(plane, StoredPlane) and plane.path.is_file(), "the file ends with its owner alone"


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, mode: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match=r"microseg-fields-.*the disk is full"):
        PlaneStore(budget_bytes=0).keep(planes(1)[0])


def test_training_draws_the_same_tiles_from_memory_and_from_the_file(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = load_domain(source)

    def read(budget_bytes: int) -> list[LabelledField]:
        return load_fields(domain, Grid(), store=PlaneStore(budget_bytes))

    def sampler(fields: list[LabelledField]) -> TileSampler:
        return TileSampler(
            fields, ExtendedAugmentation(), core_px=32, halo_px=8, batch=8, rare_phase_share=0.5, seed=(0, 1)
        )

    in_memory, stored = read(10**9), read(0)
    assert all(isinstance(field.labels_plane, StoredPlane) for field in stored)
    assert [field.shape for field in stored] == [field.image.shape for field in in_memory]
    assert np.array_equal(phase_frequencies(stored, 3), phase_frequencies(in_memory, 3))
    for ours, theirs in zip(ImagesOf(stored)[1:], ImagesOf(in_memory)[1:], strict=True):
        assert np.array_equal(ours, theirs)
    wanted = sampler(in_memory)
    # Positions are kept for no field, for some, and for all.
    for most in (0, 60_000, 10**9):
        monkeypatch.setattr(datasets, "MOST_POSITIONS", most)
        found = sampler(stored)
        for step in range(4):
            assert np.array_equal(found.batch(step).tiles, wanted.batch(step).tiles)
            assert np.array_equal(found.batch(step).labels, wanted.batch(step).labels)


def test_positions_are_kept_up_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = planes(1, (300, 400))
    field = LabelledField(None, "", image, np.zeros_like(image))  # type: ignore[arg-type]
    monkeypatch.setattr(datasets, "MOST_POSITIONS", 130_000)
    places = datasets._PhasePlaces([field] * 9)
    kept = sum(where.size for where in places._known.values())
    assert kept == 2 * 40_000, "120,000 pixels are thinned to every third, and 50,000 are reckoned with"
    rng = np.random.default_rng(0)
    assert {places.drawn(rng)[0] for _ in range(100)} == set(range(9)), "all fields are drawn from"
