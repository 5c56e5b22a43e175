"""Whether audits of eight of sixty fields hold: lots, draws and counts are drawn anew, by several engines.

`python -m benchmarks.audit [--json FILE] [--work FOLDER] [--engines N] [--draws N] [--pool N] [--seed SEED] [--aged ENGINE]`

- Engines of 8 labelled fields of S on T1, T2 and T3: those of `benchmarks.coverage`, whose work folder serves both.
- `--aged`: engines of `superalloy` or `superalloy-binary` (`python -m benchmarks.real_data` trains them) on the fields of the
  aged superalloy, cut into parts.

A lot is sixty fields drawn around a mean fraction. Eight of them are audited by masks, or by 100 points a field. `covered` is
the share of intervals that hold the true fraction of what the lot is drawn from. `half_width_ratio` is to the interval of
ASTM E562 from the same eight fields by labels alone. `lot` has the same for the mean of the sixty fields, with the finite
population correction on both sides.
"""

from __future__ import annotations

import argparse
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import microseg
from benchmarks.coverage import MEANS, section_weights, work_seed
from benchmarks.coverage_data import Pool, e562, pool_of, trained_engine
from benchmarks.machine import machine
from microseg.core.domains.domain import load_domain, read_labels
from microseg.core.evaluation.metrics import confusion_matrix
from microseg.core.images.image_file import open_raster
from microseg.core.statistics.audit import AuditSample, audited_fractions
from microseg.core.statistics.audit_draw import audit_order, systematic_positions
from microseg.core.system.files import write_json

FIELDS, AUDITED, POINTS = 60, 8, 100
ENGINES_LABELLED = 8
_PHASE = 1
# Rows and columns that a field of the aged superalloy (768 x 1024 px) is cut into.
_PARTS = (4, 4)
_AGED = Path(__file__).parent / "data" / "superalloy-aged.yaml"


@dataclass
class Tally:
    """Audits of one cell."""

    audits: int = 0
    claimed: int = 0
    covered: int = 0
    covered_lot: int = 0
    by_labels: int = 0
    used: int = 0
    correlation: list[float] = field(default_factory=list)
    widths: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("own", "alone", "lot", "lot_alone"), 0.0))

    def figures(self) -> dict[str, float]:
        """The cell of the JSON file."""
        claimed, widths = max(1, self.claimed), self.widths
        return {
            "audits": self.audits,
            "without_interval": 1 - self.claimed / self.audits,
            "covered": self.covered / claimed,
            "half_width": widths["own"] / claimed,
            "half_width_ratio": widths["own"] / widths["alone"] if self.claimed else math.nan,
            "covered_lot": self.covered_lot / claimed,
            "half_width_ratio_lot": widths["lot"] / widths["lot_alone"] if self.claimed else math.nan,
            "covered_by_labels_alone": self.by_labels / claimed,
            "correlation": float(np.mean(self.correlation)) if self.correlation else math.nan,
            "predictions_used": self.used / self.audits,
        }


def main() -> None:
    """Draw, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--work", type=Path, default=Path("runs/coverage"), help="folder for engines and pools")
    parser.add_argument("--engines", type=int, default=5, help="engines of S")
    parser.add_argument("--draws", type=int, default=2000, help="audits of a cell, over all engines")
    parser.add_argument("--pool", type=int, default=150, help="fields of each domain that lots are drawn from")
    parser.add_argument("--seed", type=int, help="seed of lots and audits (default: a new one)")
    parser.add_argument("--aged", type=Path, nargs="*", default=[], help="engines of superalloy or superalloy-binary")
    options = parser.parse_args()
    console = Console(width=110)
    made, drawn = work_seed(options.work), options.seed if options.seed is not None else secrets.randbits(32)
    console.print(f"seed of engines and fields {made} (kept in {options.work}), of lots and audits {drawn}")
    rng = np.random.default_rng(drawn)
    engines = [
        trained_engine(options.work, ENGINES_LABELLED, index, made, console.print) for index in range(options.engines)
    ]
    cells, tails = [], {}
    for domain in ("s", "t1", "t2", "t3"):
        pools = [pool_of(engine, domain, options.pool, made) for engine in engines]
        tails[domain] = float(np.mean([excess_kurtosis(pool) for pool in pools]))
        if domain == "s":
            continue
        cells += list(_cells(domain, pools, MEANS, options.draws, rng))
    if options.aged:
        cells += list(_cells("aged", [aged_pool(engine) for engine in options.aged], (None,), options.draws, rng))
    result = summary(cells) | {"excess_kurtosis": tails}
    console.print(table(result))
    shown = ", ".join(f"{domain} {value:.2f}" for domain, value in tails.items())
    console.print(f"excess kurtosis of the differences to a line: {shown}; mean {np.mean(list(tails.values())):.2f}")
    if options.json:
        setting = {"engines": options.engines, "aged": len(options.aged), "pool": options.pool, "points": POINTS,
                   "fields": FIELDS, "audited": AUDITED, "seed_made": made, "seed_drawn": drawn}  # fmt: skip
        write_json(options.json, {"machine": machine(), "setting": setting, **result})


def _cells(
    domain: str, pools: Sequence[Pool], means: Sequence[float | None], draws: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """A cell for each way to audit and each mean fraction; None: every field of a pool has the same chance."""
    for points in (0, POINTS):
        for mean in means:
            tally = Tally()
            for pool in pools:
                true = pool.true[:, _PHASE]
                weights = np.full(len(true), 1 / len(true)) if mean is None else section_weights(true, mean)
                for _ in range(-(-draws // len(pools))):
                    chosen = rng.choice(len(weights), FIELDS, p=weights)
                    measure(tally, pool, chosen, float(weights @ true), points, rng)
            yield {"domain": domain, "audit": "points" if points else "masks", "mean": mean, **tally.figures()}


def measure(
    tally: Tally, pool: Pool, lot: NDArray[np.int64], truth: float, points: int, rng: np.random.Generator
) -> None:
    """Audit one lot and enter it.

    Args:
        tally: the cell.
        pool: fields of the domain as an engine finds them.
        lot: the fields of the lot.
        truth: true fraction of what it is drawn from.
        points: points of a field's count; 0 for masks.
        rng: draws.
    """
    true, found = pool.true[lot], pool.found[lot]
    drawn = audit_order(found)[systematic_positions(len(lot), AUDITED, float(rng.random()))]
    seen = true[drawn]
    if points:
        seen = np.array([rng.multinomial(points, row / row.sum()) for row in seen]) / points
    sample = AuditSample(seen, found[drawn], found, np.full(len(drawn), float(points) if points else math.inf))
    result = audited_fractions(sample)[_PHASE]
    tally.audits += 1
    tally.used += result.weight != 0
    if result.correlation is not None:
        tally.correlation.append(result.correlation)
    if result.interval is None or result.lot_interval is None:
        return
    values, left = seen[:, _PHASE], math.sqrt(1 - AUDITED / len(lot))
    alone = e562(values)
    tally.claimed += 1
    tally.covered += result.interval[0] <= truth <= result.interval[1]
    tally.covered_lot += result.lot_interval[0] <= true[:, _PHASE].mean() <= result.lot_interval[1]
    tally.by_labels += abs(values.mean() - truth) <= alone
    for name, width in (
        ("own", (result.interval[1] - result.interval[0]) / 2),
        ("alone", alone),
        ("lot", (result.lot_interval[1] - result.lot_interval[0]) / 2),
        ("lot_alone", alone * left),
    ):
        tally.widths[name] += width


def excess_kurtosis(pool: Pool) -> float:
    """Of the true fractions of a pool about their line over the found ones; 0 for a normal distribution."""
    true, found = pool.true[:, _PHASE], pool.found[:, _PHASE]
    left = true - np.polyval(np.polyfit(found, true, 1), found)
    return float((left**4).mean() / (left**2).mean() ** 2 - 3)


def aged_pool(engine: Path) -> Pool:
    """The fields of the aged superalloy, cut into parts, as one engine finds them."""
    domain = load_domain(_AGED)
    shares = []
    with microseg.load_engine(engine) as opened:
        for each in domain.fields:
            labels = read_labels(each, domain)
            with open_raster(each.image) as raster:
                # Both kinds of precipitates of an engine of three phases are one phase here.
                found = np.minimum(opened.predict(raster.read(0, raster.height)).labels, 1)
            true_parts, found_parts = (
                [part for row in np.array_split(grid, _PARTS[0]) for part in np.array_split(row, _PARTS[1], axis=1)]
                for grid in (labels, found)
            )
            shares += [confusion_matrix(a, b, 2) for a, b in zip(true_parts, found_parts, strict=True)]
    parts = np.array(shares, np.float64)
    parts /= parts.sum((1, 2), keepdims=True)
    return Pool(parts.sum(2), parts.sum(1), parts.sum(1)[:, None])


def summary(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The cells with the figures that are judged."""
    claimed = np.array([cell["audits"] * (1 - cell["without_interval"]) for cell in cells])
    related = [cell["half_width_ratio"] for cell in cells if cell["correlation"] > 0.6]

    def pooled(key: str) -> float:
        return float((np.array([cell[key] for cell in cells]) * claimed).sum() / claimed.sum())

    return {
        "covered": pooled("covered"),
        "worst_covered": min(cell["covered"] for cell in cells),
        "covered_lot": pooled("covered_lot"),
        "worst_covered_lot": min(cell["covered_lot"] for cell in cells),
        "half_width_ratio": pooled("half_width_ratio"),
        "largest_ratio_above_correlation_0_6": max(related, default=None),
        "cells": list(cells),
    }


def table(result: dict[str, Any]) -> Table:
    """One row for each cell."""
    shown = Table(
        title=f"audits of {AUDITED} of {FIELDS} fields: covered {result['covered']:.3f}, worst cell "
        f"{result['worst_covered']:.3f}; of the lot's mean {result['covered_lot']:.3f}, worst cell "
        f"{result['worst_covered_lot']:.3f}",
        title_justify="left",
    )
    for column in ("domain", "audit"):
        shown.add_column(column)
    for column in ("mean %", "correlation", "predictions\nused", "covered", "half width\npoints", "of labels\nalone",
                   "covered\nlot", "of labels\nalone"):  # fmt: skip
        shown.add_column(column, justify="right")
    for cell in result["cells"]:
        mean = "all" if cell["mean"] is None else f"{100 * cell['mean']:.0f}"
        shown.add_row(
            cell["domain"], cell["audit"], mean, f"{cell['correlation']:.2f}", f"{cell['predictions_used']:.2f}",
            f"{cell['covered']:.3f}", f"{100 * cell['half_width']:.1f}", f"{cell['half_width_ratio']:.2f}",
            f"{cell['covered_lot']:.3f}", f"{cell['half_width_ratio_lot']:.2f}",
        )  # fmt: skip
    return shown


if __name__ == "__main__":
    main()
