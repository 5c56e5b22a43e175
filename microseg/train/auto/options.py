"""What a user asks of `--recipe auto`. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from microseg.core.schemas.fingerprint import DatasetFingerprint

FingerprintCallback = Callable[[DatasetFingerprint], None]
# The shortest budget.
LEAST_MINUTES = 0.5
# The file of a run of `auto` with the scores of its held-out fields.
EVALUATION = "evaluation.json"


def no_fingerprint(found: DatasetFingerprint) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class AutoOptions:
    """What the user asks for beside the domain.

    minutes: The budget; by default 30 without a GPU, 60 with one.
    settings: Texts KEY=VALUE that override what the rules decide.
    folds: Folds, instead of the rules' choice.
    seed: Seed, instead of the recipe's.
    workers: Processes that train; by default one for each GPU, or for each processor without one.
    unlabelled: Unlabelled fields of the same domain.
    """

    minutes: float | None = None
    settings: Sequence[str] = ()
    folds: int | None = None
    seed: int | None = None
    workers: int | None = None
    unlabelled: Path | None = None
