"""A domain as training reads it, and everything that stops training on it."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from microseg.core.domains.domain import Domain, measured_labels
from microseg.core.domains.fingerprint.field_source import FieldSource
from microseg.core.domains.fingerprint.fingerprint import FingerprintMaker, are_groups_stated
from microseg.core.domains.fingerprint.notices import fingerprint_notices
from microseg.core.domains.folds import FOLDS, SplitPlan, held_out_by, planned_split, split_notices
from microseg.core.domains.pairing import DomainField
from microseg.core.domains.phases import UNLABELLED
from microseg.core.domains.pixel_sizes import open_field, size_conflict
from microseg.core.errors import InputError, MicrosegError
from microseg.core.images.exclusion import not_measured_notices
from microseg.core.images.folders import look_through
from microseg.core.preparation.bit_depth import other_bits
from microseg.core.preparation.intensity import combined_rule
from microseg.core.preparation.prepared_field import labels_to_grid, read_through, read_whole
from microseg.core.schemas.fingerprint import DatasetFingerprint
from microseg.core.schemas.preparation import Grid, Intensity


@dataclass(frozen=True)
class FieldCheck:
    """One field.

    Attributes:
        name: path below the domain folder.
        group: specimen or spot.
        fold: the fold that holds the field out, or None.
        is_test: whether the field is left out of training.
        height_px, width_px: size in native pixels before the crop, or None where the file cannot be read.
        dtype: data type of the grey values.
        pixel_size_um: edge of a native pixel in micrometres, or None.
        pixel_size_source: where it is stated, or None.
        pixels: native pixels of each phase after the crop, then those without label.
        notices: what the user should know.
        problems: what stops training.
        intensity: the rule to 8 bit, as the field resolves it.
    """

    name: str
    group: str
    fold: int | None
    is_test: bool
    height_px: int | None = None
    width_px: int | None = None
    dtype: str | None = None
    pixel_size_um: float | None = None
    pixel_size_source: str | None = None
    pixels: tuple[int, ...] | None = None
    notices: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    intensity: Intensity | None = field(default=None, repr=False)


@dataclass(frozen=True)
class DomainCheck:
    """The domain as a whole.

    Attributes:
        domain: the domain.
        fields: its fields.
        resolved: the rule to 8 bit in use.
        problems: what stops training.
        notices: what the user should know.
        fingerprint: what the labelled fields are like; None without a training field that can be read.
    """

    domain: Domain
    fields: tuple[FieldCheck, ...]
    resolved: Intensity
    problems: tuple[str, ...]
    notices: tuple[str, ...]
    fingerprint: DatasetFingerprint | None = None

    @property
    def pixels(self) -> tuple[int, ...]:
        """Pixels of each phase over all fields, then those without label."""
        counted = [item.pixels for item in self.fields if item.pixels is not None]
        return tuple(sum(column) for column in zip(*counted, strict=True)) or (0,) * (len(self.domain.phases) + 1)

    @property
    def groups(self) -> dict[str, int]:
        """Number of fields of each group, in order."""
        return dict(sorted(Counter(item.group for item in self.fields).items()))

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for JSON. Shares are 0-1 of the labelled area; the unlabelled share is that of the whole."""
        domain, pixels = self.domain, self.pixels
        return {
            "name": domain.name,
            "source": str(domain.source),
            "can_train": not self.problems,
            "problems": list(self.problems),
            "notices": list(self.notices),
            "preparation": domain.preparation.model_dump(),
            "intensity_resolved": self.resolved.model_dump(),
            "phases_inferred": domain.phases_inferred,
            "phases": [
                {"name": phase.name, "color": phase.color, "values": list(phase.values), "area_share": share}
                for phase, share in zip(domain.phases, area_shares(pixels), strict=False)
            ],
            "unlabelled": domain.unlabelled,
            "unlabelled_share": pixels[-1] / sum(pixels) if sum(pixels) else None,
            "groups": self.groups,
            "fields": [self._field_json(item) for item in self.fields],
            "labels": domain.labels,
            "fingerprint": None if self.fingerprint is None else self.fingerprint.model_dump(mode="json"),
        }

    def _field_json(self, item: FieldCheck) -> dict[str, Any]:
        names = [phase.name for phase in self.domain.phases]
        shares = area_shares(item.pixels) if item.pixels is not None else []
        values = {key: value for key, value in asdict(item).items() if key not in ("pixels", "intensity")}
        return values | {"area_shares": dict(zip(names, shares, strict=False)) or None}


def area_shares(pixels: tuple[int, ...]) -> list[float | None]:
    """Share of each phase in the labelled area, 0-1; None where nothing is labelled.

    Args:
        pixels: pixels of each phase, then those without label.
    """
    labelled = sum(pixels[:-1])
    return [count / labelled if labelled else None for count in pixels[:-1]]


def check_domain(domain: Domain, folds: int | None = None) -> DomainCheck:
    """Read every field and every mask of a domain once, and collect all problems.

    Args:
        domain: the domain.
        folds: number of folds of the training; None: as many as the groups allow, up to 5, or fields or blocks as folds.
    """
    training = domain.training_fields
    fold_of: dict[str, int] = {}
    problems: list[str] = []
    split: tuple[str, ...] = ()
    if domain.phases:
        try:
            groups = [item.group for item in training]
            plan = planned_split(groups, FOLDS) if folds is None else SplitPlan("groups", folds)
            assigned = held_out_by(plan.split, groups, plan.folds)
            split = (*plan.notices, *split_notices(plan.split, groups))
            fold_of = {item.name: fold for item, fold in zip(training, assigned, strict=True) if fold >= 0}
        except InputError as error:
            problems.append(f"{domain.source}: {error}")
    else:
        problems.append(f"{domain.source}: has no masks, so training is impossible; an engine can measure it.")
    maker = FingerprintMaker([phase.name for phase in domain.phases])
    fields = tuple(_check_field(item, domain, fold_of.get(item.name), maker) for item in domain.fields)
    problems += [text for item in fields for text in item.problems]
    problems += _missing_phases(domain, fields)
    sizes = {item.name: item.pixel_size_um for item in fields if item.dtype is not None and not item.is_test}
    if domain.phases and (conflict := size_conflict(sizes)):
        problems.append(f"{domain.source}: {conflict}")
    resolved = combined_rule(domain.preparation.intensity, [item.intensity for item in fields if item.intensity])
    bits = other_bits([(item.name, item.intensity) for item in fields if item.intensity], resolved)
    notices = _notices(domain, fields) + split + bits
    fingerprint = maker.result(groups_stated=are_groups_stated(domain))
    if fingerprint is not None:
        notices += fingerprint_notices(fingerprint)
    return DomainCheck(domain, fields, resolved, tuple(problems), notices, fingerprint)


def _check_field(item: DomainField, domain: Domain, fold: int | None, maker: FingerprintMaker) -> FieldCheck:
    values: dict[str, Any] = {}
    problems: list[str] = []
    with ExitStack() as stack:
        prepared = image = None
        try:
            prepared = stack.enter_context(open_field(item, domain.preparation, Grid()))
            values = {
                "height_px": prepared.full_shape[0],
                "width_px": prepared.full_shape[1],
                "dtype": prepared.dtype.name,
                "pixel_size_um": prepared.pixel_size_um,
                "pixel_size_source": None if prepared.pixel_size is None else prepared.pixel_size.source,
                "notices": prepared.notices,
                "intensity": prepared.intensity,
            }
            height, width = prepared.native_shape
            if item.mask is None:
                left_out = read_through(prepared)
            else:
                image, left_out = read_whole(prepared)
            values["notices"] += not_measured_notices(left_out, height * width)
        except MicrosegError as error:
            problems.append(str(error))
        if item.mask is not None:
            try:
                labels, notices = measured_labels(item, domain, prepared)
                counts = np.bincount(labels.ravel(), minlength=UNLABELLED + 1)
                values["pixels"] = (*counts[: len(domain.phases)].tolist(), int(counts[UNLABELLED]))
                values["notices"] = (*values.get("notices", ()), *notices)
                if not item.is_test and not sum(values["pixels"][:-1]):
                    problems.append(nothing_labelled(item))
                if image is not None:
                    source = FieldSource(item.name, item.group, values["pixel_size_um"], item.is_test)
                    maker.add(source, image, labels_to_grid(labels, image.shape))
            except MicrosegError as error:
                if str(error) not in problems:
                    problems.append(str(error))
    base = FieldCheck(item.name, item.group, fold, item.is_test)
    return replace(base, **values, problems=tuple(problems))


def nothing_labelled(item: DomainField) -> str:
    """What stops training on a field without a labelled pixel: it teaches nothing, and has no score as a held-out field.

    Args:
        item: the field.
    """
    return f"{item.mask}: every pixel is unlabelled. Remedy: label some, or list the field under `test` in domain.yaml."


def _missing_phases(domain: Domain, fields: tuple[FieldCheck, ...]) -> list[str]:
    """Phases that no readable training mask holds."""
    counted = [item.pixels for item in fields if item.pixels is not None and not item.is_test]
    if not counted:
        return []
    totals = np.sum(counted, axis=0)
    return [
        f"{domain.source}: phase {phase.name!r} (mask value {', '.join(str(value) for value in phase.values)}) never "
        "occurs in the masks. Remedy: correct its `values`, or remove it from `phases`."
        for phase, total in zip(domain.phases, totals, strict=False)
        if total == 0
    ]


def _notices(domain: Domain, fields: tuple[FieldCheck, ...]) -> tuple[str, ...]:
    """What a user should know although training runs."""
    notices = [*domain.notices, *_left_out(domain), *_by_text(fields)]
    sizes = {item.pixel_size_um for item in fields if item.dtype is not None}
    if None in sizes and len(sizes) > 1:
        nameless = sum(item.pixel_size_um is None for item in fields)
        notices.append(
            f"pixel size unknown for {nameless} of {len(fields)} fields: state `pixel_size_um` or `pixel_sizes` in domain.yaml"
        )
    for index, phase in enumerate(domain.phases):
        groups = {item.group for item in fields if item.pixels is not None and not item.is_test and item.pixels[index]}
        if len(groups) == 1 and len({item.group for item in fields}) > 1:
            notices.append(
                f"phase {phase.name!r} occurs in group {min(groups)!r} alone: the fold that holds it out cannot learn it"
            )
    return tuple(notices)


def _left_out(domain: Domain) -> tuple[str, ...]:
    """What lies in the image folders and is no field. Masks are told where nothing takes them for labels."""
    found = [look_through(folder, stated=True) for folder in domain.folders]
    is_labelled = any(item.mask is not None for item in domain.fields)
    return tuple(dict.fromkeys(text for each in found for text in (each.others if is_labelled else each.left_out)))


def _by_text(fields: tuple[FieldCheck, ...]) -> list[str]:
    """The notices of the fields. One that several fields share is told once."""
    names: dict[str, list[str]] = {}
    for item in fields:
        for text in item.notices:
            names.setdefault(text, []).append(item.name)
    return [
        f"{found[0]}: {text}" if len(found) == 1 else f"{len(found)} fields ({found[0]} ...): {text}"
        for text, found in names.items()
    ]
