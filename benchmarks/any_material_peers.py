"""The two peers of `benchmarks.any_material`, fitted to the folds that the recipes use and scored as `evaluate` scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import pixel_forest
from microseg.core.domains.domain import Domain, DomainField, load_domain, prepared_and_labels, resolve_intensity
from microseg.core.evaluation.scoring import Prediction, evaluation, score_fields
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid
from microseg.core.system.files import sha256_of

# Labels a field: probabilities float32 (P, h, w) of grey values uint8 (h, w).
Model = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class LabelledSet:
    """A labelled domain on its native pixels, and its folds.

    domain: The domain.
    entry: How its fields are prepared.
    phases: Names and colours.
    held_out: The fold that holds each field out, by the field's name; empty: one model learns from all of them.
    """

    domain: Domain
    entry: DomainEntry
    phases: list[PhaseInfo]
    held_out: Mapping[str, int]

    @property
    def folds(self) -> int:
        """Number of models."""
        return max(self.held_out.values(), default=0) + 1

    def seen_by(self, fold: int) -> list[DomainField]:
        """The fields that a fold learns from."""
        return [field for field in self.domain.training_fields if self.held_out.get(field.name) != fold]

    def pixels(self, field: DomainField) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image and labels of a field, uint8 (h, w)."""
        return prepared_and_labels(field, self.domain, Grid())


def labelled_set(source: Path, held_out: Mapping[str, int]) -> LabelledSet:
    """Read a domain. held_out: The fold that holds each field out, by the field's name."""
    domain = load_domain(source)
    preparation = domain.preparation.model_copy(update={"intensity": resolve_intensity(domain)})
    phases = [PhaseInfo(name=phase.name, color=phase.color) for phase in domain.phases]
    return LabelledSet(domain, DomainEntry(name=domain.name, preparation=preparation), phases, held_out)


@dataclass(frozen=True)
class Fitted:
    """The models of a peer.

    models: One for each fold.
    minutes: What fitting took.
    about: How they came about, for the record.
    """

    models: Sequence[Model]
    minutes: float
    about: dict[str, Any]


def fit_forests(data: LabelledSet, seed: int) -> Fitted:
    """A pixel forest for each fold. The fields that it learns from choose its setting."""
    started = time.monotonic()
    fields = data.domain.training_fields
    most, phases = pixel_forest.most_of_a_phase(len(fields)), len(data.phases)
    rng = np.random.default_rng(seed)
    pools: dict[bool, dict[str, pixel_forest.Pool]] = {True: {}, False: {}}
    for field in fields:
        image, labels = data.pixels(field)
        for standard, of_fields in pools.items():
            grey = pixel_forest.standardised(image) if standard else image
            of_fields[field.name] = pixel_forest.pool_of(grey, labels, phases, most, rng)
    models = []
    for fold in range(data.folds):
        seen = data.seen_by(fold)
        known = {standard: [of_fields[field.name] for field in seen] for standard, of_fields in pools.items()}
        setting = pixel_forest.best_setting(known, [field.group for field in seen], seed)
        chosen = known[setting.standardised]
        models.append(pixel_forest.fit_forest(chosen, setting, seed + fold, pixel_forest.TREES, pixel_forest.PIXELS))
    minutes = (time.monotonic() - started) / 60
    return Fitted(models, minutes, {"settings": [asdict(model.setting) for model in models]})


def train_plain_unets(data: LabelledSet, minutes: float, seed: int) -> Fitted:
    """A plain U-Net for each fold, each in an equal part of the minutes."""
    from benchmarks.plain_unet import train_plain

    started = time.monotonic()
    pixels = {field.name: data.pixels(field) for field in data.domain.training_fields}
    models = []
    for fold in range(data.folds):
        left = 60 * minutes - (time.monotonic() - started)
        seen = [pixels[field.name] for field in data.seen_by(fold)]
        models.append(train_plain(seen, len(data.phases), left / (data.folds - fold), seed + fold))
    return Fitted(models, (time.monotonic() - started) / 60, {"steps": [model.steps for model in models]})


def scored(fitted: Fitted, data: LabelledSet, source: Path) -> dict[str, Any]:
    """Score models on a labelled domain: a field that a fold held out by its model, any other by the mean of all.

    Args:
        fitted: The models.
        data: What they learned from.
        source: The domain.

    Returns:
        Scores as of `core.evaluation.scoring.evaluation`.
    """
    held_out_by = dict(_held_out(data))

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        fold = held_out_by.get(sha256)
        used = range(data.folds) if fold is None else [fold]
        image = prepared.whole()
        probability = {k: fitted.models[k](image) for k in used}
        votes = {k: soft.argmax(0).astype(np.uint8) for k, soft in probability.items()}
        mean = np.mean(list(probability.values()), axis=0)
        return Prediction(mean.argmax(0).astype(np.uint8), votes, seen=False)

    scores = score_fields(load_domain(source), data.entry, Grid(), data.phases, predict)
    return evaluation(scores, data.phases)


def _held_out(data: LabelledSet) -> Iterator[tuple[str, int]]:
    for field in data.domain.training_fields:
        if field.name in data.held_out:
            yield sha256_of(field.image), data.held_out[field.name]
