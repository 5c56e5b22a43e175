"""The results of all fields as columns in memory: what a summary needs of a million fields, in some hundred bytes each."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.schema import GROUPS, FieldAlarm
from microseg.core.images.exclusion import artefact_reason
from microseg.core.images.pixel_size import ASSUMPTIONS
from microseg.core.schemas.preparation import Preparation
from microseg.deploy.archive.merging.compact import are_among, real_numbers, repeated, whole_numbers
from microseg.deploy.report.field_notices import LISTED

_SCORES = tuple(f"score_{group}" for group in GROUPS)
# Columns that a summary reads. Texts of single fields stay in the files.
NEEDED = (
    "row", "field", "section", "notice_list", "width_px", "height_px", "measured_width_px",
    "measured_height_px", "measured_px", "pixel_size_um", "pixel_height_um", "pixel_size_source", "area_um2", "not_measured",
    "counts", "fold_counts", "sha256", "settings", "stage_x_um", "stage_y_um", "predicted_error", "alarm", "alarm_causes",
    "alarm_cure", *_SCORES,
)  # fmt: skip


@dataclass(frozen=True)
class ResultTable:
    """The measured fields in the order of the list.

    Attributes:
        columns: the columns `NEEDED` and the standard deviations over the folds, as Arrow arrays; `counts` and `fold_counts` as
            int64 (n, their length), `sha256` as its `text_hashes`.
        phases: names of the phases, in the engine's order.
        folds: number of folds.
        preparations: how fields are prepared that have settings of their own, by their path; "" is that of the others.
        pixel_sizes: pixel sizes that are stated for single fields, µm, by name.
        trained: SHA-256 of the fields that the engine learned from.
    """

    columns: dict[str, Any]
    phases: tuple[str, ...]
    folds: int
    preparations: Mapping[str, Preparation]
    pixel_sizes: Mapping[str, float]
    trained: frozenset[str]

    def __len__(self) -> int:
        return len(self.columns["row"])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Pixels of each phase, int64 (n, P)."""
        return np.asarray(self.columns["counts"], np.int64)

    @cached_property
    def fold_counts(self) -> NDArray[np.int64]:
        """Pixels of each phase by each fold, int64 (n, F, P)."""
        return np.asarray(self.columns["fold_counts"], np.int64).reshape(len(self), self.folds, len(self.phases))

    @cached_property
    def measured_px(self) -> NDArray[np.int64]:
        """Measured pixels of each field, int64 (n,)."""
        return self.numbers("measured_px")

    @cached_property
    def fractions(self) -> NDArray[np.float64]:
        """Fraction of each phase, 0-1, float64 (n, P), also of artefacts."""
        return self.counts / self.measured_px[:, None]

    def fold_fractions(self, fold: int, phase: int) -> NDArray[np.float64]:
        """Fraction of a phase by a fold, 0-1, float64 (n,)."""
        counts = self.fold_counts[:, fold]
        totals = counts.sum(axis=1)
        return np.asarray(counts[:, phase] / np.where(totals == 0, 1, totals))

    def numbers(self, name: str) -> NDArray[np.int64]:
        """A column of whole numbers without gaps, int64 (n,)."""
        return np.asarray(self.columns[name].to_numpy(zero_copy_only=False), np.int64)

    def reals(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, float64 (n,); NaN where there is none."""
        return np.asarray(self.columns[name].to_numpy(zero_copy_only=False), np.float64)

    def name(self, index: int) -> str:
        """The name of a field."""
        return cast(str, self.columns["field"][index].as_py())

    def coded(self, name: str) -> tuple[NDArray[np.int64], list[Any]]:
        """A column of few different texts: the number of each field's text, -1 for none, and the texts."""
        column = self.columns[name]
        if not hasattr(column, "indices"):
            column = column.dictionary_encode()
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.asarray(codes, np.int64), column.dictionary.to_pylist()

    @cached_property
    def sections(self) -> tuple[array[int], list[str]]:
        """The number of each field's section, and the sections' names."""
        codes, names = self.coded("section")
        return whole_numbers(codes), names

    @cached_property
    def same_files(self) -> list[tuple[int, int]]:
        """Number of each field whose file is that of a field before it, and the number of the first one."""
        return repeated(self.columns["sha256"])

    def forget_hashes(self) -> None:
        """Keep what the files' hashes say, and not the hashes."""
        _ = self.same_files, self.is_trained
        del self.columns["sha256"]

    @cached_property
    def placed(self) -> list[int]:
        """Numbers of the fields with a position of the stage and a pixel size."""
        has_both = ~np.isnan(self.reals("stage_x_um")) & ~np.isnan(self.reals("pixel_size_um"))
        return np.flatnonzero(has_both).tolist()

    @cached_property
    def is_trained(self) -> list[bool]:
        """Whether the engine learned from this very file."""
        return are_among(self.columns["sha256"], self.trained)

    @cached_property
    def left_out(self) -> tuple[NDArray[np.int64], list[dict[str, int]]]:
        """The number of each field's pixels that are not measured, and these by reason."""
        codes, texts = self.coded("not_measured")
        return codes, [json.loads(text) for text in texts]

    @cached_property
    def edges(self) -> list[tuple[float, ...]]:
        """Edges of a native pixel of each field, µm; empty where nothing states them."""
        widths, heights = self.reals("pixel_size_um"), self.reals("pixel_height_um")
        heights = np.where(np.isnan(heights), widths, heights)
        pairs, inverse = np.unique(np.nan_to_num(np.stack([widths, heights], 1)), axis=0, return_inverse=True)
        known = [tuple(map(float, pair)) if pair[0] else () for pair in pairs]
        return [known[index] for index in inverse.ravel().tolist()]

    @cached_property
    def is_scale_assumed(self) -> list[bool]:
        """Whether the pixel size of each field is only assumed."""
        codes, texts = self.coded("pixel_size_source")
        known = np.array([text in ASSUMPTIONS for text in texts] + [False], np.bool_)
        return cast(list[bool], known[codes].tolist())

    @cached_property
    def prepared(self) -> list[Preparation]:
        """How each field was prepared."""
        from microseg.core.domains.pixel_sizes import preparation_of

        codes, texts = self.coded("settings")
        known = [self.preparations[text] for text in texts] + [self.preparations[""]]
        found = [known[code] for code in codes.tolist()]
        if self.pixel_sizes:
            for index, name in enumerate(self.columns["field"].to_pylist()):
                if (size := self.pixel_sizes.get(name)) is not None:
                    found[index] = preparation_of(found[index], size)
        return found

    @cached_property
    def artefacts(self) -> list[tuple[bool, ...]]:
        """For each kind of pixels that are not measured: which phases are no material."""
        return [tuple(artefact_reason(name) in found for name in self.phases) for found in self.left_out[1]]

    def notices(self) -> Iterator[tuple[list[tuple[str, str]], list[tuple[int, str]], int]]:
        """Notices, numbers and names of the first fields that have them, and how many have them; by the first field."""
        codes, texts = self.coded("notice_list")
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(texts)))
        ends = np.searchsorted(codes[order], np.arange(len(texts)), side="right")
        there = [code for code in range(len(texts)) if ends[code] > starts[code]]
        for code in sorted(there, key=lambda code: int(order[starts[code]])):
            first = order[starts[code] : min(ends[code], starts[code] + LISTED)].tolist()
            notices = [(kind, text) for kind, text in json.loads(texts[code])]
            yield notices, [(at, self.name(at)) for at in first], int(ends[code] - starts[code])

    @cached_property
    def alarms(self) -> _Alarms | None:
        """What the alarm says of the fields; None where none was looked at."""
        levels, names = self.coded("alarm")
        return None if not names or (levels < 0).all() else _Alarms.of(self, levels, names)

    def row(self, index: int) -> TableRow:
        """One of the fields."""
        return TableRow(self, index)

    def rows(self) -> list[TableRow]:
        """The fields."""
        return [TableRow(self, index) for index in range(len(self))]


@dataclass(frozen=True)
class _Alarms:
    """The columns of the alarm."""

    levels: list[Any]
    errors: array[float]
    scores: NDArray[np.float64]
    causes: tuple[array[int], list[list[str]]]
    cures: tuple[array[int], list[str]]

    @classmethod
    def of(cls, table: ResultTable, levels: NDArray[np.int64], names: list[Any]) -> _Alarms:
        """Of a table."""
        causes, texts = table.coded("alarm_causes")
        cures, words = table.coded("alarm_cure")
        return cls(
            levels=[None if level < 0 else names[level] for level in levels.tolist()],
            errors=real_numbers(table.reals("predicted_error")),
            scores=np.stack([table.reals(name) for name in _SCORES], 1),
            causes=(whole_numbers(causes), [json.loads(text) for text in texts]),
            cures=(whole_numbers(cures), words),
        )


class _OfTable:
    """What is read from a table when it is asked for. It holds no values of its own."""

    __slots__ = ("_at", "_table")

    def __init__(self, table: ResultTable, index: int) -> None:
        """Args:
        table: the table.
        index: number of the field.
        """
        self._table = table
        self._at = index


class TableRow(_OfTable):
    """A measured field of a table, as far as claims and repeated fields ask for it."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its name."""
        return self._table.name(self._at)

    @property
    def section(self) -> str:
        """Its section."""
        codes, names = self._table.sections
        return names[codes[self._at]]

    @property
    def fractions(self) -> tuple[float | None, ...]:
        """Area fraction of each phase, 0-1; None for artefacts."""
        table = self._table
        values = table.fractions[self._at].tolist()
        gone = table.artefacts[table.left_out[0][self._at]]
        if not any(gone):
            return tuple(values)
        return tuple(None if is_gone else value for value, is_gone in zip(values, gone, strict=True))

    @property
    def fold_fractions(self) -> tuple[tuple[float, ...], ...]:
        """Area fractions by each fold, 0-1; empty with artefacts."""
        table = self._table
        if any(table.artefacts[table.left_out[0][self._at]]):
            return ()
        counts = table.fold_counts[self._at].tolist()
        return tuple(tuple(count / (sum(fold) or 1) for count in fold) for fold in counts)

    @property
    def preparation(self) -> Preparation:
        """How it was prepared."""
        return self._table.prepared[self._at]

    @property
    def edges_um(self) -> tuple[float, ...]:
        """Edges of a native pixel, µm."""
        return self._table.edges[self._at]

    @property
    def is_scale_assumed(self) -> bool:
        """Whether its pixel size is only assumed."""
        return self._table.is_scale_assumed[self._at]

    @property
    def is_trained(self) -> bool:
        """Whether the engine learned from this very file."""
        return self._table.is_trained[self._at]

    @property
    def alarm(self) -> FieldAlarm | None:
        """What the alarm says of it."""
        alarms = self._table.alarms
        if alarms is None or alarms.levels[self._at] is None:
            return None
        return cast(FieldAlarm, TableAlarm(self._table, self._at))

    @property
    def pixel_size_um(self) -> float | None:
        """Edge of a native pixel along a row, µm."""
        edges = self.edges_um
        return edges[0] if edges else None

    @property
    def pixel_height_um(self) -> float | None:
        """Edge of a native pixel along a column, µm."""
        edges = self.edges_um
        return edges[1] if edges else None

    @property
    def stage_um(self) -> tuple[float, float] | None:
        """X and Y of the stage, µm."""
        found = self._number("stage_x_um"), self._number("stage_y_um")
        return None if found[0] is None else cast(tuple[float, float], found)

    @property
    def width_px(self) -> int:
        """Width, native pixels."""
        return cast(int, self._number("width_px"))

    @property
    def height_px(self) -> int:
        """Height, native pixels."""
        return cast(int, self._number("height_px"))

    @property
    def measured_width_px(self) -> int:
        """Width of the measured part, native pixels."""
        return cast(int, self._number("measured_width_px"))

    @property
    def measured_height_px(self) -> int:
        """Height of the measured part, native pixels."""
        return cast(int, self._number("measured_height_px"))

    def _number(self, name: str) -> Any:
        return self._table.columns[name][self._at].as_py()


class TableAlarm(_OfTable):
    """What the alarm says of a field of a table; it reads like a `FieldAlarm`."""

    __slots__ = ()

    @property
    def _columns(self) -> _Alarms:
        assert self._table.alarms is not None
        return self._table.alarms

    @property
    def level(self) -> str:
        """known, doubtful or foreign."""
        return cast(str, self._columns.levels[self._at])

    @property
    def predicted_error(self) -> float:
        """Predicted absolute error of a phase's fraction, 0-1."""
        return self._columns.errors[self._at]

    @property
    def scores(self) -> dict[str, float]:
        """Distance of each group of measures from the labelled fields."""
        row = self._columns.scores[self._at].tolist()
        return {group: score for group, score in zip(GROUPS, row, strict=True) if score == score}

    @property
    def causes(self) -> list[str]:
        """What differs, in words."""
        codes, texts = self._columns.causes
        return texts[codes[self._at]]

    @property
    def cure(self) -> str:
        """What helps."""
        codes, texts = self._columns.cures
        return texts[codes[self._at]]

    @property
    def deviations(self) -> dict[str, float]:
        """Difference of each measure from labelled fields of the same fractions."""
        column = self._table.columns.get("alarm_deviations")
        text = None if column is None else column[self._at].as_py()
        return json.loads(text) if text else {}
