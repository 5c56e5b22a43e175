"""Which rows of the files of results are the fields: each field once, whatever was measured twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.archive_file import Begun
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.results import settings_sha256
from microseg.deploy.archive.rows import opened_part, part_names, tie_of

_TRIES = 5


@dataclass(frozen=True)
class Chosen:
    """The fields of an archive among the rows of its files.

    Attributes:
        names: the files of results.
        lengths: numbers of their rows.
        rows: row of the list of each field, int64 (n,), ascending.
        parts: number of the file of each field, int64 (n,).
        places: number of its row in that file, int64 (n,).
    """

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    rows: NDArray[np.int64]
    parts: NDArray[np.int64]
    places: NDArray[np.int64]

    def masks(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Each file, and which of its rows are fields, bool (its rows,)."""
        order = np.argsort(self.parts, kind="stable")
        bounds = np.searchsorted(self.parts[order], np.arange(len(self.names) + 1))
        for index, (name, length) in enumerate(zip(self.names, self.lengths, strict=True)):
            mask = np.zeros(length, np.bool_)
            mask[self.places[order[bounds[index] : bounds[index + 1]]]] = True
            yield name, mask


def choose(storage: Storage, there: Begun) -> Chosen:
    """Look through all files of results.

    Of several results of a field, a measured one counts before a failed one, one of changed content before that of the listed
    content, and of these the later content. Equal results are equal.

    Args:
        storage: where they lie.
        there: what they must belong to.

    Raises:
        InputError: there are none, or one belongs to another list, engine or settings.
    """
    for _ in range(_TRIES):
        names = part_names(storage)
        try:
            return _chosen(storage, there, names)
        except FileNotFoundError:
            continue  # another `merge` joined files meanwhile
    raise InputError(f"{storage.label}: its tables change while they are read. Remedy: microseg merge again.")


def _chosen(storage: Storage, there: Begun, names: list[str]) -> Chosen:
    pa, _ = arrow()
    columns: dict[str, list[NDArray[np.int64]]] = {key: [] for key in ("row", "rank", "time", "part", "place")}
    lengths, versions = [], set()
    for number, name in enumerate(names):
        with opened_part(storage, name) as file:
            versions.add(_require_tied(tie_of(file), there, f"{storage.label}/{name}"))
            table = file.read(["row", "status", "changed", "mtime_ns"])
        rows = np.asarray(table.column("row").to_numpy(), np.int64)
        is_measured = pa.compute.equal(table.column("status").cast(pa.string()), "measured").to_numpy()
        is_changed = pa.compute.fill_null(table.column("changed"), False).to_numpy()
        columns["row"].append(rows)
        columns["rank"].append(2 * is_measured.astype(np.int64) + is_changed.astype(np.int64))
        columns["time"].append(pa.compute.fill_null(table.column("mtime_ns"), 0).to_numpy())
        columns["part"].append(np.full(len(rows), number, np.int64))
        columns["place"].append(np.arange(len(rows), dtype=np.int64))
        lengths.append(len(rows))
    if len(versions - {None}) > 1:
        listed = ", ".join(sorted(version for version in versions if version))
        raise InputError(
            f"{storage.label}: its results are of several versions of {there.settings.runtime} ({listed}), which are never "
            "mixed. Remedy: one version on all machines, and another --out."
        )
    joined = {key: np.concatenate(each) if each else np.empty(0, np.int64) for key, each in columns.items()}
    known = (joined["row"] >= 0) & (joined["row"] < there.archive.fields)
    order = np.lexsort([joined[key] for key in ("place", "part", "time", "rank", "row")])
    order = order[known[order]]
    rows = joined["row"][order]
    # The last of each field is the best.
    best = order[np.append(rows[1:] != rows[:-1], True)] if len(rows) else order
    return Chosen(tuple(names), tuple(lengths), joined["row"][best], joined["part"][best], joined["place"][best])


def _require_tied(tie: dict[str, object], there: Begun, where: str) -> str | None:
    """The version of the runtime. Raises InputError where a file belongs to something else."""
    wanted = {
        "list_sha256": ("another field list", there.archive.list_sha256),
        "engine_sha256": ("another engine", there.settings.engine_sha256),
        "settings_sha256": ("other settings", settings_sha256(there.settings)),
    }
    for key, (what, value) in wanted.items():
        if tie.get(key) != value:
            raise InputError(
                f"{where}: holds results of {what}, and results are never mixed. Remedy: remove that file if it is not wanted, "
                "or measure into another --out."
            )
    version = tie.get("runtime_version")
    return version if isinstance(version, str) else None
