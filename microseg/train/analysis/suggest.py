"""`microseg suggest RUN FOLDER`: the fields whose labels would help a run most, by its torch networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.labelling.committee import Committee, Opinion
from microseg.core.labelling.suggest import Suggested, suggest_fields
from microseg.core.schemas.run import read_run
from microseg.train.common.prediction import predict_field
from microseg.train.common.run_folder import load_networks


def suggest_with_run(
    run: Path,
    folder: Path,
    count: int,
    out: Path,
    domain_name: str | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Suggested:
    """Choose fields to label for a finished run. Arguments and errors beyond these are those of `suggest_fields`.

    Args:
        run: the run folder.
        folder: where the fields are.
        count: the most fields to choose.
        out: the folder to write.
        domain_name: the run's domain that the fields are prepared as; the last one by default.
        progress: gets a line on what is under way.
    """
    committee, labelled = committee_of_run(run, domain_name)
    return suggest_fields(committee, folder, count, out, init=str(run), labelled=labelled, progress=progress)


def committee_of_run(run: Path, domain_name: str | None = None) -> tuple[Committee, Path | None]:
    """The folds of a run as a committee, and its labelled domain where that is at its place. Raises InputError."""
    record, summary = read_run(run)
    networks = load_networks(run, record, summary)

    def ask(image: NDArray[np.uint8]) -> Opinion:
        probability, features = predict_field(networks, image, record.stride, record.halo_px)
        votes = probability.argmax(1).astype(np.uint8)
        return Opinion(probability.mean(0).argmax(0).astype(np.uint8), votes, features)

    committee = Committee(
        name=str(run),
        phases=record.phases,
        entry=record.domain_called(domain_name),
        grid=record.grid,
        halo_px=record.halo_px,
        folds=record.folds,
        trained=record.known_pixel_sizes,
        fields=record.fields,
        fingerprints=summary.fingerprints,
        ask=ask,
    )
    labelled = Path(record.domain_source)
    return committee, labelled if labelled.exists() else None
