"""`microseg evaluate RUN DOMAIN`: a run's folds on whole fields; what a fold was trained on, it is not scored on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.evaluation.scoring import Prediction, evaluation, score_fields
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.run import RunRecord, read_run
from microseg.models.network import Network
from microseg.train.common.prediction import predict_field
from microseg.train.common.run_folder import load_networks


def evaluate_run(
    run: Path, source: Path, domain_name: str | None = None, progress: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """The evaluation (core/scoring) of a finished run on a labelled domain. Raises InputError."""
    record, summary = read_run(run)
    networks = load_networks(run, record, summary)
    return evaluate_networks(networks, record, record.domain_called(domain_name), source, progress)


def evaluate_networks(
    networks: Sequence[Network],
    record: RunRecord,
    entry: DomainEntry,
    source: Path,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """The same for the networks of a run's folds, wherever they come from, prepared as `entry` says."""
    domain = load_domain(source)
    held_out_by = {field.sha256: field.fold for field in record.fields}

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        # A field of the training set is scored by the one fold that held it out (-1: none did), any other field by all.
        fold = held_out_by.get(sha256)
        is_held_out = fold is not None and fold >= 0
        used = [fold] if fold is not None and is_held_out else list(range(record.folds))
        image = prepared.whole()
        chosen = [networks[k] for k in used] if is_held_out else networks
        probability, _ = predict_field(chosen, image, record.stride, record.halo_px)
        votes = {k: soft.argmax(0).astype(np.uint8) for k, soft in zip(used, probability, strict=True)}
        return Prediction(probability.mean(0).argmax(0).astype(np.uint8), votes, seen=fold == -1)

    scores = score_fields(domain, entry, record.grid, record.phases, predict, progress)
    return evaluation(scores, record.phases)


def run_labels(run: Path, phases: list[str]) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """What the bag of a run says: labels uint8 (h, w) of a prepared field uint8 (h, w), by all its folds.

    Raises InputError: no finished run, or one that tells other phases apart.
    """
    record, summary = read_run(run)
    known = [phase.name for phase in record.phases]
    if known != phases:
        raise InputError(
            f"{run}: tells {', '.join(known)} apart, the engine {', '.join(phases)}. Remedy: the run it was exported from."
        )
    networks = load_networks(run, record, summary)

    def labels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        probability, _ = predict_field(networks, image, record.stride, record.halo_px)
        return np.asarray(probability.mean(0).argmax(0), np.uint8)

    return labels
