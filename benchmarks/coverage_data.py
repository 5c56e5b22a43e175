"""Engines and fields of `benchmarks.coverage`: made once, kept in the work folder, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import microseg
from microseg.core.evaluation.metrics import confusion_matrix
from microseg.core.statistics.student import t_quantile_975
from microseg.core.system.files import write_bytes, write_yaml
from microseg.deploy.inference.loaded_engine import LoadedEngine
from microseg.synthetic.appearance import DOMAINS
from microseg.synthetic.field import SyntheticField, synthesise_field
from microseg.synthetic.folder import PHASES, field_seed
from microseg.synthetic.microscope import write_lom_tiff, write_sem_tiff
from microseg.train.recipe_files import load_recipe
from microseg.train.supervised.command import run_supervised

RECIPE = "demo"
# Native pixels of a field. T3 has pixels 4.6 times as large, so that its fields cover a little more material.
SIZE_PX = {"s": 448, "t1": 448, "t2": 448, "t3": 128}
LABELLED_FRACTIONS = (0.15, 0.85)
_POOL_FRACTIONS = (0.02, 0.98)


@dataclass(frozen=True)
class Pool:
    """Fields of one domain as one engine finds them. Fractions are 0-1.

    Attributes:
        true: fraction of each phase, float64 (N, P).
        found: fraction that the bag finds, float64 (N, P).
        folds: fraction that each fold finds, float64 (N, F, P).
    """

    true: NDArray[np.float64]
    found: NDArray[np.float64]
    folds: NDArray[np.float64]


def spread_fractions(limits: tuple[float, float], number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Fractions with one in each of `number` equal parts of the range, in random order, float64 (number,)."""
    low, high = limits
    return rng.permutation(low + (high - low) * (np.arange(number) + rng.random(number)) / number)


def field(domain: str, seed: int, index: int, fraction: float) -> SyntheticField:
    """One field of a domain; the seed and the index give its structure."""
    size = SIZE_PX[domain]
    return synthesise_field(domain, field_seed(seed, index), size_px=(size, size), fraction=fraction)


def write_field(folder: Path, domain: str, stem: str, made: SyntheticField) -> None:
    """Write a field as `images/STEM.tif` and `masks/STEM.png`."""
    write = write_lom_tiff if DOMAINS[domain].invert else write_sem_tiff
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write(folder / "images" / f"{stem}.tif", made.image, made.pixel_size_um)
    write_bytes(folder / "masks" / f"{stem}.png", cv2.imencode(".png", made.labels)[1].tobytes())


def trained_engine(work: Path, labelled: int, index: int, seed: int, say: Callable[[str], None]) -> Path:
    """The engine of a bag that was trained on `labelled` fields of S, trained and exported where it is not there yet.

    Args:
        work: the work folder.
        labelled: number of labelled fields.
        index: number of the engine: each has fields of its own.
        seed: seed of the work folder.
        say: receives what is done.

    Returns:
        The .onnx file.
    """
    folder = work / f"s-{labelled}-{index}"
    engine = folder / "bagged.onnx"
    if engine.is_file():
        return engine
    say(f"training {folder}")
    own = int(np.random.SeedSequence([seed, labelled, index]).generate_state(1)[0])
    fractions = spread_fractions(LABELLED_FRACTIONS, labelled, np.random.default_rng(own))
    for number, fraction in enumerate(fractions):
        write_field(folder / "labelled", "s", f"s-{number:02d}", field("s", own, number, float(fraction)))
    phases = [{"name": name, "value": index, "color": color} for index, (name, color) in enumerate(PHASES)]
    described = {"name": "s", "images": "images", "masks": "masks", "phases": phases}
    write_yaml(folder / "labelled" / "domain.yaml", described)
    run_supervised(
        folder / "labelled", RECIPE, load_recipe(RECIPE, [f"seed={own % 10_000}"])[1], folder / "run", resume=True
    )
    microseg.export_engine(folder / "run", out=engine)
    return engine


def pool_of(engine: Path, domain: str, number: int, seed: int) -> Pool:
    """Fields of a domain with fractions spread evenly over all there are, as the engine finds them.

    Args:
        engine: the engine's file; what it finds is kept beside it.
        domain: s, t1, t2 or t3.
        number: number of fields.
        seed: seed of the work folder.
    """
    kept = engine.with_name(f"pool-{domain}-{number}.npz")
    if not kept.is_file():
        rng = np.random.default_rng([seed, 1])
        fractions = spread_fractions(_POOL_FRACTIONS, number, rng)
        with microseg.load_engine(engine) as opened:
            found = [
                _confusions(opened, domain, field(domain, seed, index, float(fraction)))
                for index, fraction in enumerate(fractions)
            ]
        np.savez(kept, confusions=np.array(found))
    shares = np.load(kept)["confusions"].astype(np.float64)
    shares /= shares.sum((2, 3), keepdims=True)
    return Pool(shares[:, 0].sum(2), shares[:, 0].sum(1), shares[:, 1:].sum(2))


def _confusions(engine: LoadedEngine, domain: str, made: SyntheticField) -> NDArray[np.int64]:
    """Pixels by true and found phase of the bag and of each fold, int64 (1 + F, P, P)."""
    invert = True if DOMAINS[domain].invert else None
    result = engine.predict(made.image, pixel_size_um=made.pixel_size_um, invert=invert)
    return np.array([confusion_matrix(made.labels, each, len(PHASES)) for each in (result.labels, *result.votes)])


def e562(fractions: NDArray[np.float64]) -> float:
    """Half width of the interval of ASTM E562."""
    return float(t_quantile_975(len(fractions) - 1) * fractions.std(ddof=1) / np.sqrt(len(fractions)))
