"""`microseg check DOMAIN --run RUN`: labels against the folds of a run that did not learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import Domain
from microseg.core.labelling.label_check import LabelCheck, check_labels
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.run import Block, read_run
from microseg.train.analysis.evaluate import are_scored, fold_of_each
from microseg.train.common.fields.splitting import region_of
from microseg.train.common.prediction import predict_field
from microseg.train.common.run_folder import load_networks


def check_labels_with_run(
    run: Path, domain: Domain, domain_name: str | None = None, progress: Callable[[str], None] = lambda name: None
) -> tuple[LabelCheck, Sequence[PhaseInfo]]:
    """Compare labels with the folds that did not learn from them.

    Of a field of the training it is the fold that held it out, or of each block the one that held out the block; all folds
    check other fields.

    Args:
        run: a finished run.
        domain: a labelled domain.
        domain_name: the run's domain that the fields are prepared as; the last one by default.
        progress: gets the name of each field before it is read.

    Returns:
        What the folds say of the labels, and the phases of the run.

    Raises:
        InputError: no finished run, no labels, or phases that the run does not know.
    """
    record, summary = read_run(run)
    networks = load_networks(run, record, summary)
    held_out_by = fold_of_each(record)

    def unseen(prepared: PreparedField, sha256: str) -> NDArray[np.float32] | None:
        blocks = [block for block in record.blocks if block.sha256 == sha256]
        if are_scored(blocks, prepared.shape, record.folds):
            return _by_blocks(predict_field(networks, prepared.whole(), record.stride, record.halo_px)[0], blocks)
        fold = held_out_by.get(sha256)
        if fold is not None and fold < 0:
            return None
        chosen = networks if fold is None else [networks[fold]]
        return predict_field(chosen, prepared.whole(), record.stride, record.halo_px)[0]

    entry = record.domain_called(domain_name)
    return check_labels(domain, entry, record.grid, record.phases, unseen, progress), record.phases


def _by_blocks(probability: NDArray[np.float32], blocks: Sequence[Block]) -> NDArray[np.float32]:
    """Of each fold's probabilities float32 (F, P, h, w) those of the fold that did not learn a block: float32 (1, P, h, w)."""
    found = np.zeros_like(probability[:1])
    for block in blocks:
        region = region_of(block)
        found[(0, slice(None), *region)] = probability[(block.fold, slice(None), *region)]
    return found
