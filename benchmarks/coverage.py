"""Whether the 95 % intervals of a section hold: engines trained for it, sections and labelled fields drawn anew.

`python -m benchmarks.coverage [--json FILE] [--work FOLDER] [--engines N] [--sections N] [--pool N] [--seed SEED]
[--only PART ...]`

- `home`: engines of 8 and of 12 labelled fields of S, by the cross-validation that `export` keeps, on sections of S.
- `validated`: engines of 8 labelled fields on T1, T2 and T3, by 8 and by 16 labelled fields of them, drawn for each section.
- `unaudited_claims`: what `segment` claims of fields that these engines are neither validated nor at home on.

A section is n fields drawn from a pool whose fields are weighted around the wanted mean fraction: the weighted mean of the pool
is its true fraction. The work folder keeps engines and pools; the seed of sections and labelled fields is new in each run.
"""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.coverage_claims import claims_elsewhere
from benchmarks.coverage_data import LABELLED_FRACTIONS, Pool, e562, pool_of, trained_engine
from benchmarks.machine import machine
from microseg.core.statistics.corrected import corrected_fractions
from microseg.core.statistics.validation_sample import ValidationSample
from microseg.core.system.files import write_json
from microseg.deploy.measurement.reported import reason_against, sample_of
from microseg.runtime import EngineFile
from microseg.synthetic.folder import PHASES

LABELLED, VALIDATED, FIELDS = (8, 12), (8, 16), (5, 10, 20)
MEANS = (0.2, 0.35, 0.5, 0.65, 0.8)
# Standard deviation of the true fraction between fields of a section, as `microseg synth` makes them.
SECTION_SPREAD = 0.08
_PHASE = 1
PARTS = ("home", "validated", "unaudited_claims")

Draw = Callable[[np.random.Generator], ValidationSample]


@dataclass
class Tally:
    """Sections of one cell."""

    sections: int = 0
    claimed: int = 0
    covered: int = 0
    by_labels: int = 0
    by_e562: int = 0
    half_width: float = 0.0
    half_width_labels: float = 0.0
    bias: float = 0.0

    def figures(self) -> dict[str, float]:
        """The cell of the JSON file: shares of its sections, and means over those with an interval."""
        claimed = max(1, self.claimed)
        return {
            "sections": self.sections,
            "without_interval": 1 - self.claimed / self.sections,
            "coverage": self.covered / claimed,
            "half_width": self.half_width / claimed,
            "bias_corrected": self.bias / claimed,
            "coverage_perfect_labels": self.by_labels / self.sections,
            "half_width_perfect_labels": self.half_width_labels / self.sections,
            "coverage_e562": self.by_e562 / self.sections,
        }


def main() -> None:
    """Train, draw, print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--work", type=Path, default=Path("runs/coverage"), help="folder for engines and pools")
    parser.add_argument("--engines", type=int, default=5, help="engines for each number of labelled fields")
    parser.add_argument("--sections", type=int, default=2000, help="sections of a cell, over all engines")
    parser.add_argument("--pool", type=int, default=150, help="fields of each domain that sections are drawn from")
    parser.add_argument("--seed", type=int, help="seed of the drawn sections and labelled fields (default: a new one)")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="the file of --json keeps the other parts"
    )
    options = parser.parse_args()
    console = Console(width=120)
    made, drawn = work_seed(options.work), options.seed if options.seed is not None else secrets.randbits(32)
    console.print(f"seed of engines and fields {made} (kept in {options.work}), of sections {drawn}")
    rng = np.random.default_rng(drawn)
    engines = {
        number: [trained_engine(options.work, number, index, made, console.print) for index in range(options.engines)]
        for number in LABELLED
    }

    def pools(chosen: Iterable[Path], domain: str) -> list[Pool]:
        console.print(f"fields of {domain}")
        return [pool_of(engine, domain, options.pool, made) for engine in chosen]

    results: dict[str, Any] = kept_parts(options.json, options.only)
    if "home" in options.only:
        home = [
            {"labelled": number, **cell}
            for number in LABELLED
            for cell in cells(
                [
                    (pool, _kept(engine))
                    for pool, engine in zip(pools(engines[number], "s"), engines[number], strict=True)
                ],
                options.sections,
                rng,
                by_folds=True,
            )
        ]
        results["home"] = {"seed_drawn": drawn, **summary(home)}
    if "validated" in options.only:
        validated = []
        for domain in ("t1", "t2", "t3"):
            found = pools(engines[LABELLED[0]], domain)
            for number in VALIDATED:
                drawn_from = [(pool, _redrawn(pool, number)) for pool in found]
                validated += [
                    {"domain": domain, "validated": number, **cell} for cell in cells(drawn_from, options.sections, rng)
                ]
        results["validated"] = {"seed_drawn": drawn, **summary(validated)}
    if "unaudited_claims" in options.only:
        results["unaudited_claims"] = claims_elsewhere(engines[LABELLED[0]], options.work, made)
    for name in ("home", "validated"):
        if name in options.only:
            console.print(table(name, results[name]))
    if "unaudited_claims" in options.only:
        for cell in results["unaudited_claims"]["cells"]:
            console.print(cell)
    if options.json:
        setting = {"engines": options.engines, "pool": options.pool, "seed_made": made}
        ordered = {name: results[name] for name in PARTS if name in results}
        write_json(options.json, {"machine": machine(), "setting": setting, **ordered})


def kept_parts(path: Path | None, only: Sequence[str]) -> dict[str, Any]:
    """The parts of an earlier run that the file holds and that are not drawn anew."""
    if path is None or not path.is_file():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: stored[name] for name in PARTS if name in stored and name not in only}
    for name in {"home", "validated"} & set(kept):
        # Earlier files hold one seed for all parts.
        kept[name] = {"seed_drawn": stored["setting"].get("seed_drawn"), **kept[name]}
    return kept


def work_seed(work: Path) -> int:
    """The seed of the work folder: kept in it, new for a new folder."""
    kept = work / "seed.json"
    if not kept.is_file():
        write_json(kept, secrets.randbits(32))
    return int(json.loads(kept.read_text(encoding="utf-8")))


def cells(
    engines: Sequence[tuple[Pool, Draw]], sections: int, rng: np.random.Generator, *, by_folds: bool = False
) -> list[dict[str, float]]:
    """A cell for each number of fields and each mean fraction.

    Args:
        engines: of each engine the fields, and what draws the labelled fields behind it.
        sections: sections of a cell, divided among the engines.
        rng: draws.
        by_folds: whether folds found the labelled fields, as in a cross-validation.
    """
    found = []
    for n in FIELDS:
        for mean in MEANS:
            tally = Tally()
            for pool, draw in engines:
                weights = section_weights(pool.true[:, _PHASE], mean)
                for _ in range(-(-sections // len(engines))):
                    chosen = rng.choice(len(weights), n, p=weights)
                    measure(tally, pool, chosen, draw(rng), float(weights @ pool.true[:, _PHASE]), by_folds)
            found.append({"fields": n, "mean": mean, **tally.figures()})
    return found


def measure(
    tally: Tally, pool: Pool, chosen: NDArray[np.int64], validation: ValidationSample, truth: float, by_folds: bool
) -> None:
    """Measure one section and enter it."""
    tally.sections += 1
    labels, found = pool.true[chosen, _PHASE], pool.found[chosen, _PHASE]
    width = e562(labels)
    tally.by_labels += abs(labels.mean() - truth) <= width
    tally.half_width_labels += width
    tally.by_e562 += abs(found.mean() - truth) <= e562(found)
    folds = pool.folds[chosen] if by_folds else None
    result = corrected_fractions(pool.found[chosen], validation, fold_found=folds)[_PHASE]
    if result.interval is None or reason_against(result, len(chosen), PHASES[_PHASE][0]) is not None:
        return
    low, high = result.interval
    tally.claimed += 1
    tally.covered += low <= truth <= high
    tally.half_width += (high - low) / 2
    tally.bias += result.corrected - truth


def section_weights(fractions: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Weights of the fields of a pool whose weighted mean fraction is the wanted one, float64 (N,).

    A normal density around the mean, tilted so that the pool's own gaps and ends do not move it.
    """
    distance = (fractions - mean) / SECTION_SPREAD
    low, high = -20.0, 20.0
    for _ in range(60):
        tilt = (low + high) / 2
        exponent = -(distance**2) / 2 + tilt * distance
        weights = np.exp(exponent - exponent.max())
        weights /= weights.sum()
        low, high = (tilt, high) if weights @ fractions < mean else (low, tilt)
    return np.asarray(weights)


def _kept(engine: Path) -> Draw:
    """The cross-validation that the engine carries: its labelled fields trained it and cannot be drawn anew."""
    (validation,) = (each for each in EngineFile(engine).manifest.validations if each.kind == "cross-validated")
    sample = sample_of(validation)
    return lambda rng: sample


def _redrawn(pool: Pool, number: int) -> Draw:
    """Labelled fields with one fraction in each of `number` equal parts of the range."""
    limits = np.linspace(*LABELLED_FRACTIONS, number + 1)
    part = np.digitize(pool.true[:, _PHASE], limits)
    parts = [np.flatnonzero(part == 1 + index) for index in range(number)]

    def draw(rng: np.random.Generator) -> ValidationSample:
        chosen = np.array([rng.choice(fields) for fields in parts if len(fields)])
        names = tuple(map(str, range(len(chosen))))
        return ValidationSample(pool.true[chosen], pool.found[chosen], names, np.full(len(chosen), np.inf))

    return draw


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The cells with the figures that are judged."""
    claimed = np.array([cell["sections"] * (1 - cell["without_interval"]) for cell in found])
    coverage = np.array([cell["coverage"] for cell in found])
    ten = [cell for cell in found if cell["fields"] == 10]
    return {
        "pooled_coverage": float((coverage * claimed).sum() / claimed.sum()),
        "worst_coverage": float(coverage.min()),
        "without_interval": float(np.mean([cell["without_interval"] for cell in found])),
        "half_width_ratio_10_fields": sum(cell["half_width"] for cell in ten)
        / sum(cell["half_width_perfect_labels"] for cell in ten),
        "cells": list(found),
    }


def table(name: str, result: dict[str, Any]) -> Table:
    """One row for each kind and number of fields; a column of coverage for each mean fraction."""
    shown = Table(
        title=f"{name}: pooled coverage {result['pooled_coverage']:.3f}, worst cell {result['worst_coverage']:.3f}, without "
        f"interval {100 * result['without_interval']:.1f} %",
        title_justify="left",
    )
    shown.add_column("labelled")
    for column in ("fields", *(f"{100 * mean:.0f} %" for mean in MEANS), "half width\npoints", "of perfect\nlabels",
                   "coverage\nof E562"):  # fmt: skip
        shown.add_column(column, justify="right")
    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for cell in result["cells"]:
        label = f"{cell['domain']} {cell['validated']}" if "domain" in cell else f"s {cell['labelled']}"
        rows.setdefault((label, cell["fields"]), []).append(cell)
    for (label, n), of in rows.items():
        half, perfect, e562_coverage = (
            float(np.mean([cell[key] for cell in of]))
            for key in ("half_width", "half_width_perfect_labels", "coverage_e562")
        )
        coverages = (f"{cell['coverage']:.3f}" for cell in of)
        shown.add_row(label, str(n), *coverages, f"{100 * half:.1f}", f"{half / perfect:.2f}", f"{e562_coverage:.2f}")
    return shown


if __name__ == "__main__":
    main()
