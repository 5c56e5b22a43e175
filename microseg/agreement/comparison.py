"""An engine against what it said when it was made: the rows of such a comparison, and its reference tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from microseg.core.errors import InputError
from microseg.core.schemas.plan import PlanComparison
from microseg.core.schemas.reference import Reference, unpack
from microseg.core.schemas.tolerance import Difference, Limit, difference, limit_over, point_limits
from microseg.runtime.engine import Engine


@dataclass(frozen=True)
class Check:
    """One row: both texts are for people."""

    check: str
    found: str
    limit: str
    passed: bool


@dataclass
class Record:
    """The rows so far. phases: names, by index. limit: what may differ."""

    phases: Sequence[str]
    limit: Limit
    checks: list[Check] = field(default_factory=list)

    def add(self, check: str, found: str, limit: str, passed: bool) -> None:
        """Add a row."""
        self.checks.append(Check(check, found, limit, passed))

    def labels(self, check: str, share: float) -> None:
        """A share of labels that differ, 0-1."""
        limit = self.limit.labels
        self.add(check, f"{100 * share:.4f} %", f"{100 * limit:g} %", share <= limit)

    def compare(self, name: str, seen: Difference, means: Sequence[float]) -> None:
        """Labels, and every phase's fraction by its mean."""
        self.labels(f"{name}: labels", seen.labels)
        for phase, points, least in zip(self.phases, seen.points, point_limits(self.limit, means), strict=True):
            limit = limit_over(least, seen.pixels)
            self.add(f"{name}: {phase}", f"{points:.4f} points", f"{limit:.3g} points", points <= limit)

    @property
    def passed(self) -> bool:
        """Whether no row failed."""
        return all(check.passed for check in self.checks)

    def rows(self) -> list[dict[str, object]]:
        """The rows as they are stored."""
        return [asdict(check) for check in self.checks]


def check_reference(record: Record, engine: Engine, reference: Reference) -> PlanComparison:
    """The stored tiles: the bag's labels, the folds' votes, and nothing that is not a number; returns the figures.

    Raises InputError for damaged tiles, FieldError where the computation fails.
    """
    model = engine.manifest.model_sha256
    is_ours = reference.model_sha256 == model
    record.add("reference tiles are of this network", reference.model_sha256[:12], model[:12], is_ours)
    if any(len(tile.fractions) != len(record.phases) for tile in reference.tiles):
        raise InputError(
            f"the engine's reference tiles are not of the {len(record.phases)} phases that its manifest lists. Remedy: copy or "
            "export the engine again."
        )
    tiles = [unpack(tile, len(engine.manifest.folds)) for tile in reference.tiles]
    # A plan built without its probabilities can still tell by its features that it computes no numbers.
    has = engine.manifest.gives_probability
    # As `segment` runs it first: a runtime may compile a network anew for outputs that are asked for rarely.
    found = [engine.run(pixels[None, None]) for pixels, _, _ in tiles]
    whole = [engine.run(pixels[None, None], features=not has, probability=has) for pixels, _, _ in tiles]
    numbers = [out.probability if has else out.features for out in whole]
    is_finite = all(values is not None and bool(np.isfinite(values).all()) for values in numbers)
    record.add(
        "probabilities" if has else "features", "finite" if is_finite else "NaN or infinite", "finite", is_finite
    )
    means = np.mean([tile.fractions for tile in reference.tiles], axis=0).tolist()
    phases = len(record.phases)
    bag = difference([out.labels[0] for out in found], [labels for _, labels, _ in tiles], phases)
    record.compare("reference tiles", bag, means)
    folds = difference([out.votes[0] for out in found], [votes for _, _, votes in tiles], phases)
    record.labels("reference tiles: votes of the folds", folds.labels)
    return PlanComparison(
        provider=engine.provider,
        label_disagreement=bag.labels,
        vote_disagreement=folds.labels,
        fraction_difference_points=dict(zip(record.phases, bag.points, strict=True)),
    )
