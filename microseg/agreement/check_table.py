"""A table of checks, each with what was found and what is allowed, and the error of a gate that fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from microseg.agreement.labels import LabelDifference
from microseg.core.errors import GateError
from microseg.core.schemas.tolerance import Limit, limit_over, point_limits


@dataclass(frozen=True)
class Check:
    """One row of a check table.

    Attributes:
        check: what is compared, for a reader.
        found: the measured value with its unit.
        limit: the largest value allowed, with its unit; empty for a notice.
        passed: whether the value is within the limit.
        ratio: measured value divided by its limit; infinite where the value is not a number.
        phase: the phase whose area fraction is compared; None for every other check.
    """

    check: str
    found: str
    limit: str
    passed: bool
    ratio: float = 0.0
    phase: str | None = None

    @property
    def text(self) -> str:
        """The row as part of a sentence."""
        return f"{self.check}: {self.found}, limit {self.limit}"


@dataclass
class CheckTable:
    """The checks of one comparison, in the order in which they were made.

    Attributes:
        phases: names of the phases, by index.
        limit: what labels and fractions may differ by.
        checks: the rows so far.
    """

    phases: Sequence[str]
    limit: Limit
    checks: list[Check] = field(default_factory=list)

    def add(self, check: str, found: str, limit: str, passed: bool) -> None:
        """Add a row that compares no number."""
        self.checks.append(Check(check, found, limit, passed, 0.0 if passed else math.inf))

    def measure(
        self, check: str, value: float, allowed: float, found: str, limit: str, phase: str | None = None
    ) -> None:
        """Add a row that compares a number with the largest one allowed.

        Args:
            check: what is compared.
            value: the measured difference; a value that is not a number fails.
            allowed: the largest difference allowed, in the unit of `value`.
            found: `value` as text with its unit.
            limit: `allowed` as text with its unit.
            phase: the phase whose area fraction is compared, None for another figure.
        """
        passed = value <= allowed
        if not math.isfinite(value):
            ratio = math.inf
        else:
            ratio = value / allowed if allowed else (0.0 if passed else math.inf)
        self.checks.append(Check(check, found, limit, passed, ratio, phase))

    def labels(self, check: str, share: float) -> None:
        """Add a row for a share of labels that differ, 0-1."""
        limit = self.limit.labels
        self.measure(check, share, limit, f"{100 * share:.4f} %", f"{100 * limit:g} %")

    def fraction(self, check: str, phase: str, points: float, limit_points: float) -> None:
        """Add a row for the difference of a phase's area fraction; both values in percentage points."""
        self.measure(check, points, limit_points, f"{points:.4f} points", f"{limit_points:.3g} points", phase)

    def compare(self, name: str, seen: LabelDifference, means: Sequence[float]) -> None:
        """Add a row for the labels and one for the area fraction of each phase.

        Args:
            name: what is compared.
            seen: the difference of the labels.
            means: mean area fraction of each phase, 0-1, from which the limits of rare phases follow.
        """
        self.labels(f"{name}: labels", seen.labels)
        for phase, points, least in zip(self.phases, seen.points, point_limits(self.limit, means), strict=True):
            self.fraction(f"{name}: {phase}", phase, points, limit_over(least, seen.pixels))

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(check.passed for check in self.checks)

    @property
    def nearest(self) -> Check:
        """The row whose value comes closest to its limit, or exceeds it most. Raises ValueError for an empty table."""
        return max(self.checks, key=lambda check: check.ratio)

    def rows(self) -> list[dict[str, object]]:
        """The rows as a record stores them: keys `check`, `found`, `limit` and `passed`."""
        return [
            {"check": row.check, "found": row.found, "limit": row.limit, "passed": row.passed} for row in self.checks
        ]


def require_agreement(table: CheckTable, engine: str, reference: str, remedy: str, note: str = "") -> None:
    """The gate: raise where a row of the table failed.

    Args:
        table: the checks.
        engine: what was checked, as the subject of the message.
        reference: what it was compared with.
        remedy: what the user can do.
        note: a further sentence about the cause, or nothing.

    Raises:
        GateError: a row failed. The message names the row that exceeds its limit most and, where that is another row, the
            phase whose fraction comes closest to its limit or exceeds it most.
    """
    if table.passed:
        return
    failed = [check for check in table.checks if not check.passed]
    worst = max(failed, key=lambda check: check.ratio)
    sentences = [f"{engine} does not agree with {reference}. {worst.text}."]
    phases = [check for check in table.checks if check.phase is not None]
    if worst.phase is None and phases:
        sentences.append(f"Largest difference of a phase: {max(phases, key=lambda check: check.ratio).text}.")
    if len(failed) > 1:
        sentences.append(f"{len(failed)} of {len(table.checks)} checks failed.")
    sentences += ["Nothing was written.", *([note] if note else []), f"Remedy: {remedy}."]
    raise GateError(" ".join(sentences))
