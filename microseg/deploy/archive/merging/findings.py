"""What the fields of an archive say together: the figures of a report, from columns instead of records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from microseg.core.images.exclusion import artefact_reason
from microseg.core.images.pixel_size import ASSUMPTIONS, NO_SIZE
from microseg.core.statistics.astm_e562 import PhaseStatistics, statistics_by_fold
from microseg.deploy.archive.merging.compact import real_numbers, whole_numbers
from microseg.deploy.archive.merging.table import ResultTable
from microseg.deploy.report.field_notices import LISTED, counted_notices
from microseg.deploy.report.records import FailedField
from microseg.deploy.report.summary import LARGE_SPREAD, Facts, Findings
from microseg.deploy.report.summary_file import FieldNotice, SummaryFields

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class TableFindings(Findings):
    """Findings whose measured fields are rows of a table.

    Attributes:
        table: the measured fields.
        counts: which of them count, bool (n,).
        failures: the failed fields.
    """

    table: ResultTable
    counts: NDArray[np.bool_]
    failures: tuple[FailedField, ...]

    @cached_property
    def failed(self) -> list[FailedField]:
        """The failed fields."""
        return list(self.failures)

    @cached_property
    def numbers(self) -> SummaryFields:
        """Numbers of fields."""
        measured, failed = len(self.table), len(self.failures)
        return SummaryFields(total=measured + failed, measured=measured, failed=failed)

    @cached_property
    def phases(self) -> dict[str, PhaseStatistics]:
        """Statistics by phase name, in the engine's order."""
        table, chosen = self.table, self.counts
        totals = whole_numbers(table.measured_px[chosen])
        found = {}
        for index, name in enumerate(table.phases):
            if name in self.artefacts or not totals:
                found[name] = statistics_by_fold([], [], [], [])
                continue
            found[name] = statistics_by_fold(
                real_numbers(table.fractions[chosen, index]),
                whole_numbers(table.counts[chosen, index]),
                totals,
                (real_numbers(table.fold_fractions(fold, index)[chosen]) for fold in range(table.folds)),
            )
        return found

    @cached_property
    def area_um2(self) -> float | None:
        """Measured area of all fields, None unless every pixel size is known."""
        areas = self.table.reals("area_um2")
        return sum(areas.tolist()) if len(areas) and not np.isnan(areas).any() else None

    @cached_property
    def pixel_size_sources(self) -> dict[str, int]:
        """Number of measured fields by the source of their pixel size, the most frequent first."""
        codes, texts = self.table.coded("pixel_size_source")
        names = [text or NO_SIZE for text in texts] + [NO_SIZE]
        # The order of the fields decides between equal numbers, so that the first of each comes first.
        first = dict.fromkeys(names[code] for code in codes.tolist())
        numbers = Counter(dict.fromkeys(first, 0))
        for code, number in zip(*np.unique(codes, return_counts=True), strict=True):
            numbers[names[code]] += int(number)
        return dict(numbers.most_common())

    @cached_property
    def facts(self) -> Facts:
        """What the notices rest on."""
        table = self.table
        wide = np.flatnonzero(self.spread > LARGE_SPREAD)
        widths, heights = table.reals("pixel_size_um"), table.reals("pixel_height_um")
        scales = np.unique(np.nan_to_num(np.stack([widths, heights], 1), nan=-1.0), axis=0)
        codes, texts = table.coded("pixel_size_source")
        is_assumed = np.array([text in ASSUMPTIONS for text in texts] + [False], np.bool_)[codes]
        kinds, left_out = table.left_out
        numbers = np.bincount(kinds, minlength=len(left_out))
        return Facts(
            trained=sum(table.is_trained),
            spread=([table.name(index) for index in wide[:LISTED].tolist()], len(wide)),
            differs_in_size=len(np.unique(table.measured_px)) > 1,
            differs_in_scale=len(scales) > 1,
            lacks_scale=bool((np.isnan(widths) & ~is_assumed).any()),
            artefacts={
                name: sum(
                    int(number) * found.get(artefact_reason(name), 0)
                    for number, found in zip(numbers, left_out, strict=True)
                )
                for name in self.artefacts
            },
            pixels=int((table.numbers("measured_width_px") * table.numbers("measured_height_px")).sum()),
        )

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        """Largest standard deviation of a phase's fraction over the folds in each field, 0-1, float64 (n,)."""
        columns: Sequence[NDArray[np.float64]] = [self.table.reals(f"fold_std_{name}") for name in self.table.phases]
        return np.asarray(np.nan_to_num(np.stack(columns, 1)).max(axis=1))

    @cached_property
    def field_notices(self) -> list[FieldNotice]:
        """Notices of the measured fields by kind and text, in the order in which they first occur."""
        return counted_notices(self.table.notices())
