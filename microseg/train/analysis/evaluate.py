"""`microseg evaluate RUN DOMAIN`: the scores of a run on whole fields. No fold is scored on labels that it was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import load_domain
from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import InputError
from microseg.core.evaluation.scoring import Prediction, evaluation, score_fields
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.run import Block, RunRecord, read_run
from microseg.models.network import Network
from microseg.train.common.fields.splitting import region_of
from microseg.train.common.prediction import predict_field
from microseg.train.common.run_folder import load_networks

_BLOCKS = "each block is scored by the fold that did not learn it, but learned the rest of the field: this flatters"


def evaluate_run(
    run: Path,
    source: Path,
    domain_name: str | None = None,
    progress: Callable[[str], None] = lambda name: None,
    *,
    training_only: bool = False,
) -> dict[str, Any]:
    """Score a finished run on a labelled domain.

    Args:
        run: The run folder.
        source: The labelled domain.
        domain_name: The run's domain that the fields are prepared as; the last one by default.
        progress: Receives the name of each field.
        training_only: Leave out what the domain lists under `test`.

    Returns:
        Scores as of `core.evaluation.scoring.evaluation`.

    Raises:
        InputError: No finished run, or a domain that cannot be used.
    """
    record, summary = read_run(run)
    networks = load_networks(run, record, summary)
    entry = record.domain_called(domain_name)
    return evaluate_networks(networks, record, entry, source, progress, training_only=training_only)


def evaluate_networks(
    networks: Sequence[Network],
    record: RunRecord,
    entry: DomainEntry,
    source: Path,
    progress: Callable[[str], None] = lambda name: None,
    *,
    training_only: bool = False,
) -> dict[str, Any]:
    """Score networks of a run's folds, wherever they come from.

    Args:
        networks: One for each fold, in evaluation mode.
        record: The run's record. It says which fold held out which field.
        entry: The domain that the fields are prepared as.
        source: The labelled domain.
        progress: Receives the name of each field.
        training_only: Leave out what the domain lists under `test`.

    Returns:
        Scores as of `core.evaluation.scoring.evaluation`.
    """
    domain = load_domain(source)
    if training_only:
        domain = replace(domain, fields=domain.training_fields)
    held_out_by = fold_of_each(record)
    blocks_of: dict[str, list[Block]] = defaultdict(list)
    for block in record.blocks:
        blocks_of[block.sha256].append(block)

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        # The fold that held out a training field scores it (-1: none did), or each block of it. All folds score others.
        blocks = blocks_of.get(sha256, [])
        if are_scored(blocks, prepared.shape, record.folds):
            return _by_blocks(networks, prepared.whole(), blocks, record)
        fold = held_out_by.get(sha256)
        is_held_out = fold is not None and fold >= 0
        used = [fold] if fold is not None and is_held_out else list(range(record.folds))
        image = prepared.whole()
        chosen = [networks[k] for k in used] if is_held_out else networks
        probability, _ = predict_field(chosen, image, record.stride, record.halo_px)
        votes = {k: soft.argmax(0).astype(np.uint8) for k, soft in zip(used, probability, strict=True)}
        return Prediction(probability.mean(0).argmax(0).astype(np.uint8), votes, seen=fold == -1)

    scores = score_fields(
        domain, entry, record.grid, record.phases, predict, progress, trained=record.known_pixel_sizes
    )
    return evaluation(scores, record.phases)


def fold_of_each(record: RunRecord) -> dict[str, int]:
    """The fold that held out each field of a run, by the SHA-256 of its file; -1 where none did.

    Of one file under two names, in two folds, none did: each of the folds learned from the other copy.

    Args:
        record: The run's record.
    """
    folds: dict[str, set[int]] = {}
    for field in record.fields:
        folds.setdefault(field.sha256, set()).add(field.fold)
    return {sha256: min(found) if len(found) == 1 else -1 for sha256, found in folds.items()}


def are_scored(blocks: Sequence[Block], shape: tuple[int, int], folds: int) -> bool:
    """Whether blocks cover a field, and each has a fold that did not learn from it.

    Args:
        blocks: The blocks of the field that a run records.
        shape: Height and width of the field on the network's grid.
        folds: Number of folds.
    """
    covered = sum(block.height_px * block.width_px for block in blocks)
    ends = [(block.top_px + block.height_px, block.left_px + block.width_px) for block in blocks]
    fits = bool(ends) and (max(y for y, _ in ends), max(x for _, x in ends)) == tuple(shape)
    return fits and covered == shape[0] * shape[1] and all(block.fold < folds for block in blocks)


def _by_blocks(
    networks: Sequence[Network], image: NDArray[np.uint8], blocks: Sequence[Block], record: RunRecord
) -> Prediction:
    """The labels of a field uint8 (h, w) of which each fold held out a block: each block by its fold alone."""
    probability, _ = predict_field(networks, image, record.stride, record.halo_px)
    labels = np.full(image.shape, UNLABELLED, np.uint8)
    votes: dict[int, NDArray[np.uint8]] = {}
    for block in blocks:
        region = region_of(block)
        labels[region] = probability[(block.fold, slice(None), *region)].argmax(0)
        vote = votes.setdefault(block.fold, np.full(image.shape, UNLABELLED, np.uint8))
        vote[region] = labels[region]
    return Prediction(labels, votes, seen=False, notices=(_BLOCKS,))


def run_labels(run: Path, phases: list[str]) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The labels of a run's bag, as a function.

    Args:
        run: The run folder.
        phases: Names of the phases that the run must have.

    Returns:
        A function from a prepared field uint8 (h, w) to labels uint8 (h, w), by all folds.

    Raises:
        InputError: No finished run, or one with other phases.
    """
    record, summary = read_run(run)
    known = [phase.name for phase in record.phases]
    if known != phases:
        raise InputError(
            f"{run}: has the phases {', '.join(known)}, the engine {', '.join(phases)}. Remedy: the run it was exported from."
        )
    networks = load_networks(run, record, summary)

    def labels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        probability, _ = predict_field(networks, image, record.stride, record.halo_px)
        return np.asarray(probability.mean(0).argmax(0), np.uint8)

    return labels
