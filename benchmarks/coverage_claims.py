"""What `segment` claims of fields that an engine of S is neither validated nor at home on: `unaudited_claims`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import microseg
from benchmarks.coverage_data import SIZE_PX, e562, field, write_field
from microseg.core.domains.domain import load_domain
from microseg.synthetic.appearance import DOMAINS
from microseg.synthetic.folder import PHASES
from microseg.synthetic.microscope import write_sem_tiff

SECTIONS, FIELDS = 5, 10
_MEANS = (0.2, 0.35, 0.5, 0.65, 0.8)
_DATA = Path(__file__).parent / "data"
_REAL = ("coating", "superalloy")
# True fraction of the phase by section; None where the fields hold no phase of the engine, so that every claim is wrong.
Truth = dict[str, float | None]


def claims_elsewhere(engines: Sequence[Path], work: Path, seed: int) -> dict[str, Any]:
    """Segment sections of each kind with each engine and count the claims.

    A claim is wrong where the raw fraction errs by more than the half width of the sampling interval (ASTM E562).

    Args:
        engines: engines of S.
        work: the work folder; fields and reports are kept in it.
        seed: seed of the work folder.

    Returns:
        `wrong_claims`, and in `cells` for each kind its sections, those with an interval and those with a wrong one.
    """
    kinds: dict[str, Callable[[Path], Truth]] = {
        **{name: _synthetic(name, seed) for name in DOMAINS if name != "s"},
        "noise": _noise(seed),
    }
    if "MICROSEG_DATA" in os.environ:
        kinds |= {name: _real(name) for name in _REAL}
    cells = []
    for kind, write in kinds.items():
        folder = work / f"elsewhere-{kind}"
        if not (folder / "truth.json").is_file():
            truth = write(folder / "fields")
            (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        counts = [_claimed(engine, folder, kind, truth) for engine in engines]
        sections, claimed, wrong = (sum(column) for column in zip(*counts, strict=True))
        cells.append({"kind": kind, "sections": sections, "claims": claimed, "wrong_claims": wrong})
    return {"wrong_claims": sum(cell["wrong_claims"] for cell in cells), "cells": cells}


def _claimed(engine: Path, folder: Path, kind: str, truth: Truth) -> tuple[int, int, int]:
    """Sections, claimed ones and wrongly claimed ones of one engine."""
    report = engine.with_name(f"report-{kind}")
    invert = True if kind in DOMAINS and DOMAINS[kind].invert else None
    microseg.segment_folder(folder / "fields", engine=engine, out=report, invert=invert)
    fields = microseg.read_report(report).fields
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    claimed = wrong = 0
    for section, found in summary["sections"].items():
        reported = found["phases"][PHASES[1][0]]["reported"]
        if reported["interval"] is None:
            continue
        claimed += 1
        true = truth[section]
        values = fields.loc[fields["section"] == section, f"fraction_{PHASES[1][0]}"].to_numpy(np.float64)
        wrong += true is None or abs(reported["raw"] - true) > e562(values)
    return len(summary["sections"]), claimed, wrong


def _synthetic(domain: str, seed: int) -> Callable[[Path], Truth]:
    def write(folder: Path) -> Truth:
        rng = np.random.default_rng([seed, 2])
        truth: Truth = {}
        for section in range(SECTIONS):
            shares = []
            for number in range(FIELDS):
                fraction = float(np.clip(rng.normal(_MEANS[section], 0.08), 0.02, 0.98))
                made = field(domain, seed + 1, section * FIELDS + number, fraction)
                write_field(folder.parent / "made", domain, f"{section}-{number:02d}", made)
                (folder / f"section-{section}").mkdir(parents=True, exist_ok=True)
                stem = f"{section}-{number:02d}.tif"
                shutil.move(folder.parent / "made" / "images" / stem, folder / f"section-{section}" / stem)
                shares.append(float(made.labels.mean()))
            truth[f"section-{section}"] = float(np.mean(shares))
        return truth

    return write


def _noise(seed: int) -> Callable[[Path], Truth]:
    """White and smooth noise with the pixel size of S."""

    def write(folder: Path) -> Truth:
        rng = np.random.default_rng([seed, 3])
        for section in range(SECTIONS):
            for number in range(FIELDS):
                grey = rng.normal(128, 40, (SIZE_PX["s"], SIZE_PX["s"]))
                for _ in range(2 * section):
                    grey = (grey + np.roll(grey, 1, 0) + np.roll(grey, 1, 1)) / 3
                grey = 128 + 40 * (grey - grey.mean()) / grey.std()
                path = folder / f"section-{section}" / f"{number:02d}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_sem_tiff(path, np.clip(grey, 0, 255).astype(np.uint8), DOMAINS["s"].pixel_size_um)
        return {f"section-{section}": None for section in range(SECTIONS)}

    return write


def _real(name: str) -> Callable[[Path], Truth]:
    """Real micrographs, in sections of their files' order."""

    def write(folder: Path) -> Truth:
        images = [each.image for each in load_domain(_DATA / f"{name}.yaml").fields][: SECTIONS * FIELDS]
        truth: Truth = {}
        for number, image in enumerate(images):
            section = f"section-{number // FIELDS}"
            (folder / section).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder / section / f"{number:02d}{image.suffix}")
            truth[section] = None
        return truth

    return write
