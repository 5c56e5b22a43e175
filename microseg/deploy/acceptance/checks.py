"""The checks of `verify`: each adds rows to a record, with what was found, what is allowed, and whether it passed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from microseg.agreement.comparison import Record
from microseg.core.schemas.reference import Reference, unpack
from microseg.core.schemas.tolerance import difference, limit_over, point_limits
from microseg.deploy.acceptance.comparing import FieldDifferences
from microseg.runtime import Engine


def check_tiles_against(record: Record, engine: Engine, other: Engine, reference: Reference, name: str) -> None:
    """The pixels of the stored tiles by both engines; `name` is the other's. Raises as `check_reference`."""
    folds = len(engine.manifest.folds)
    tiles = [unpack(tile, folds)[0][None, None] for tile in reference.tiles]
    wanted = [other.run(tile).labels[0] for tile in tiles]
    seen = difference([engine.run(tile).labels[0] for tile in tiles], wanted, len(record.phases))
    means = [float(np.mean([np.mean(labels == index) for labels in wanted])) for index in range(len(record.phases))]
    record.compare(f"reference tiles against {name}", seen, means)


def check_fields(record: Record, found: FieldDifferences, against: Path) -> None:
    """Labels over all fields, and on each field the phase that comes closest to its limit."""
    for name, reason in found.failed:
        record.add(f"field {name}", reason, "measured", False)
    if not found.each:
        return
    pixels = [seen.pixels for _, seen in found.each]
    wrong = sum(seen.labels * seen.pixels for _, seen in found.each)
    record.labels(f"fields against {against.name}: labels", wrong / sum(pixels))
    for name, seen in found.each:
        limits = [limit_over(limit, seen.pixels) for limit in point_limits(record.limit, found.means)]
        worst = int(np.argmax([points / limit for points, limit in zip(seen.points, limits, strict=True)]))
        record.add(
            f"field {name}: {record.phases[worst]}",
            f"{seen.points[worst]:.4f} points",
            f"{limits[worst]:.3g} points",
            seen.points[worst] <= limits[worst],
        )


def check_masks(record: Record, miou: float | None, least: float) -> None:
    """The mean IoU over labelled fields."""
    found = "undefined" if miou is None else f"{miou:.3f}"
    record.add("fields against their masks: mIoU", found, f"at least {least:.3f}", miou is not None and miou >= least)
