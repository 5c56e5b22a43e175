"""The bag as a teacher: which of its domains a folder belongs to, and its predictions of the fields there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microseg.core.domains.domain import Domain, load_domain, preparation_as
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.run import RunRecord
from microseg.core.system.files import sha256_of
from microseg.models.network import Network
from microseg.train.common.data import refuse_unknown_phases
from microseg.train.common.datasets import LabelledField, unlabelled_field
from microseg.train.common.fields.stored import PlaneStore
from microseg.train.common.prediction import predict_field
from microseg.train.common.progress import NoticeCallback, no_notice


@dataclass(frozen=True)
class DistillationSet:
    """The fields of one domain.

    source: The folder or file of the domain.
    entry: The bag's domain that the fields are prepared as.
    learned: Fields to learn from.
    compared: Fields to compare on.
    edges_um: Edges of their native pixels, um; none where the fields have no pixel size.
    """

    source: Path
    entry: DomainEntry
    learned: list[LabelledField]
    compared: list[LabelledField]
    edges_um: tuple[float, ...]


@dataclass(frozen=True)
class TeacherPrediction:
    """The bag's prediction of a field.

    field: The field with the bag's labels.
    votes: The labels of each fold, uint8 (F, h, w).
    """

    field: LabelledField
    votes: NDArray[np.uint8]


def read_distillation_set(
    path: Path, record: RunRecord, name: str | None, *, compared: int, most: int, seed: int
) -> tuple[DistillationSet, str]:
    """Read the fields of a domain. No mask is opened; all labels are 255.

    Args:
        path: A folder, or a YAML file that describes one.
        record: The bag's record.
        name: The bag's domain that the fields belong to, if the user names it.
        compared: Fields to keep for the comparison, a third at most.
        most: Fields in all, drawn by seed.
        seed: Seed of the draws.

    Returns:
        The fields, and why they are prepared as that domain of the bag.

    Raises:
        InputError: No domain, no field, other phases, or several domains that the fields could belong to.
    """
    domain = load_domain(path, masks=False)
    refuse_unknown_phases(domain, record.phases)
    items = list(domain.training_fields)
    if not items:
        raise InputError(f"{path}: `test` sets every field aside. Remedy: fields to learn from, or a shorter `test`.")
    order = np.random.default_rng((seed, len(items))).permutation(len(items))
    chosen = [items[index] for index in sorted(order[:most].tolist())]
    hashes = {item.image: sha256_of(item.image) for item in chosen}
    entry, why = _entry_of(domain, set(hashes.values()), record, name)
    preparation = preparation_as(domain, entry)
    rules = ScaleRules(assumed=assumed_size(entry, record.grid))
    edges: set[float] = set()
    fields, store = [], PlaneStore()
    for item in chosen:
        try:
            with open_field(item, preparation, record.grid, rules) as prepared:
                image = prepared.whole()
        except FieldError as error:
            raise InputError(str(error)) from error
        if prepared.pixel_size is not None:
            edges |= {prepared.pixel_size.width_um, prepared.pixel_size.height_um}
        fields.append(unlabelled_field(item, hashes[item.image], image, store))
    order = np.random.default_rng((seed, len(fields), 1)).permutation(len(fields))
    kept = set(order[: min(compared, len(fields) // 3)].tolist())
    return DistillationSet(
        path,
        entry,
        [field for index, field in enumerate(fields) if index not in kept],
        [fields[index] for index in sorted(kept)],
        tuple(sorted(edges)),
    ), why


def _entry_of(domain: Domain, hashes: set[str], record: RunRecord, name: str | None) -> tuple[DomainEntry, str]:
    """The bag's domain: the one named, else the one with these fields, else the one of the same name, else the only one."""
    if name is not None:
        return record.domain_called(name), "--as"
    # A run that continues another one lists the fields of both together.
    known = [] if record.earlier_domains else [({field.sha256 for field in record.fields}, record.domain)]
    if record.adaptation is not None:
        known.append(({field.sha256 for field in record.adaptation.fields}, record.adaptation.target))
    shared = [(len(hashes & theirs), entry) for theirs, entry in known if hashes & theirs]
    if shared:
        return max(shared, key=lambda item: item[0])[1], "the bag was trained on its fields"
    for entry in record.domains:
        if entry.name == domain.name:
            return entry, "the same name"
    if len(record.domains) == 1:
        return record.domain, "the bag's only domain"
    names = ", ".join(repr(entry.name) for entry in record.domains)
    raise InputError(
        f"{domain.source}: matches none of the bag's domains ({names}) by name or content, and their preparations "
        "differ. Remedy: --as NAME, once for each DOMAIN."
    )


def predict_fields(
    bag: Sequence[Network],
    fields: Sequence[LabelledField],
    record: RunRecord,
    progress: NoticeCallback = no_notice,
) -> list[TeacherPrediction]:
    """Predict whole fields with the bag.

    Args:
        bag: Networks in evaluation mode.
        fields: The fields.
        record: The bag's record.
        progress: Receives the name of each field.
    """
    found = []
    for field in fields:
        progress(field.field.name)
        soft, _ = predict_field(bag, field.image, record.stride, record.halo_px)
        labels = soft.mean(0).argmax(0).astype(np.uint8)
        found.append(TeacherPrediction(field.relabelled(labels), soft.argmax(1).astype(np.uint8)))
    return found


def soft_labels(bag: Sequence[Network], tiles: Tensor) -> Tensor:
    """The folds' probabilities float32 (N, F, P, S, S) of tiles (N, 1, S, S)."""
    with torch.no_grad():
        outs = [network.forward_any_size(tiles).logits.float().softmax(1) for network in bag]
    return torch.stack(outs, 1)


def balanced(domains: Sequence[Sequence[LabelledField]]) -> list[LabelledField]:
    """The fields of all domains. Those of small domains are repeated, so that every domain has about the same area."""
    areas = [sum(field.area_px for field in fields) for fields in domains]
    return [
        field for fields, area in zip(domains, areas, strict=True) for field in [*fields] * round(max(areas) / area)
    ]
