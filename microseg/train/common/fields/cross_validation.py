"""What a run keeps of its folds' held-out fields: the evidence that `export` hands on to the station."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.evaluation.validating import cross_validation_of
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.run import RunRecord, RunSummary
from microseg.core.schemas.validation import CROSS_VALIDATION_FILE, read_validation, write_validation
from microseg.core.system.files import writing
from microseg.models.network import Network
from microseg.train.common.prediction import predict_field


def write_cross_validation(
    out: Path, record: RunRecord, summary: RunSummary, networks: Sequence[Network], source: Path
) -> None:
    """Write the pixel confusion of every held-out field, by the fold that did not see it, on the native grid.

    Nothing is written where no fold held out whole fields, or where a field can no longer be read: training is done, and an
    engine without cross-validation claims less.

    Args:
        out: The run folder.
        record: The run's record.
        summary: Its scores, with the hashes of the weights.
        networks: One for each fold, in evaluation mode.
        source: The labelled domain.

    Raises:
        InputError: The file cannot be written.
    """

    def label(prepared: PreparedField, fold: int) -> NDArray[np.uint8]:
        probability, _ = predict_field([networks[fold]], prepared.whole(), record.stride, record.halo_px)
        return np.asarray(probability[0].argmax(0), np.uint8)

    weights = [fold.weights_sha256 for fold in summary.folds]
    try:
        found = cross_validation_of(record, source, weights, label)
    except InputError:
        return
    if found is not None:
        with writing(out):
            write_validation(out / CROSS_VALIDATION_FILE, found)


def hand_on_cross_validation(bag: Path, student: Path, domains: Sequence[str]) -> None:
    """Copy a bag's cross-validation to its student's run, where the student learned on the domain that it is of.

    Args:
        bag: The bag's run folder.
        student: The student's run folder.
        domains: The bag's domains whose fields the student learned on.

    Raises:
        InputError: The bag's file is damaged, or the student's cannot be written.
    """
    if not (bag / CROSS_VALIDATION_FILE).is_file():
        return
    found = read_validation(bag / CROSS_VALIDATION_FILE, "copy the run again")
    if found.domain in domains:
        with writing(student):
            write_validation(student / CROSS_VALIDATION_FILE, found)
