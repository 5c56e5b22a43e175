"""The fingerprint of a labelled domain, from its fields one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import Domain, native_labels
from microseg.core.domains.fingerprint.chords import Chords
from microseg.core.domains.fingerprint.layers import orientation_of
from microseg.core.domains.fingerprint.measure import FieldMeasures, FieldSource, measured
from microseg.core.domains.fingerprint.names import suspected_groups
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.prepared_field import labels_to_grid
from microseg.core.schemas.fingerprint import DatasetFingerprint, PhaseFingerprint, Spread
from microseg.core.schemas.preparation import Grid

_LOW, _HIGH = 0.01, 0.99


@dataclass
class FingerprintMaker:
    """Takes the fields of a domain one by one and keeps what the fingerprint needs of each.

    Attributes:
        phases: names of the phases, in the order of their indices.
    """

    phases: Sequence[str]
    _fields: list[FieldMeasures] = field(default_factory=list)

    def add(self, source: FieldSource, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Measure one more field.

        Args:
            source: the field.
            image: grey values as the network sees them, uint8 (h, w).
            labels: phase indices, uint8 (h, w), 255 where unlabelled.
        """
        self._fields.append(measured(source, image, labels, len(self.phases)))

    def result(self, *, groups_stated: bool) -> DatasetFingerprint | None:
        """The fingerprint of the fields so far; None without a training field.

        Args:
            groups_stated: whether the domain states groups.
        """
        fields = [item for item in self._fields if not item.source.is_test]
        if not fields:
            return None
        names = [item.source.name for item in self._fields]
        labelled = int(sum(item.pixels.sum() for item in fields))
        total = sum(item.shape[0] * item.shape[1] for item in fields)
        grey = np.sum([item.grey for item in fields], axis=0)
        mean, std = _moments(grey)
        below = np.cumsum(grey) / grey.sum()
        sizes = [item.source.pixel_size_um for item in fields if item.source.pixel_size_um is not None]
        focus = [item.focus_px for item in fields if item.focus_px is not None]
        return DatasetFingerprint(
            fields=len(fields),
            test_fields=len(self._fields) - len(fields),
            groups=len({item.source.group for item in fields}),
            groups_stated=groups_stated,
            height_px=_spread([item.shape[0] for item in fields]),
            width_px=_spread([item.shape[1] for item in fields]),
            pixel_size_um=_spread(sizes) if sizes else None,
            labelled_px=labelled,
            unlabelled_share=1 - labelled / total,
            phases=[_phase(name, index, fields, labelled) for index, name in enumerate(self.phases)],
            grey_mean=mean,
            grey_std=std,
            grey_low=float(np.searchsorted(below, _LOW)),
            grey_high=float(np.searchsorted(below, _HIGH)),
            noise_grey=float(np.median([item.noise for item in fields])),
            focus_px=float(np.median(focus)) if focus else None,
            orientation=orientation_of([item.directions for item in fields]),
            copies=[],
            shifted_masks=[],
            suspected_groups=None if groups_stated else suspected_groups(names),
        )


def fingerprint_of_fields(
    fields: Iterable[tuple[FieldSource, NDArray[np.uint8], NDArray[np.uint8]]],
    phases: Sequence[str],
    *,
    groups_stated: bool,
) -> DatasetFingerprint:
    """The fingerprint of fields that are read already. One is taken at a time, and no picture is kept.

    Args:
        fields: source, grey values uint8 (h, w) as the network sees them, and phase indices uint8 (h, w), 255 where unlabelled.
        phases: names of the phases, in the order of their indices.
        groups_stated: whether the domain states groups.

    Raises:
        InputError: no training field.
    """
    maker = FingerprintMaker(phases)
    for source, image, labels in fields:
        maker.add(source, image, labels)
    found = maker.result(groups_stated=groups_stated)
    if found is None:
        raise InputError("there is no labelled training field. Remedy: label some, or list fewer under `test`.")
    return found


def fingerprint_of_domain(domain: Domain) -> DatasetFingerprint:
    """The fingerprint of a labelled domain in native pixels. Every field is read once.

    Args:
        domain: the domain.

    Raises:
        InputError: no labelled training field, or a field or mask that cannot be read.
    """
    names = [phase.name for phase in domain.phases]
    return fingerprint_of_fields(_read(domain), names, groups_stated=are_groups_stated(domain))


def are_groups_stated(domain: Domain) -> bool:
    """Whether a domain.yaml states groups. Without, every field is a group of its own that has its name."""
    return any(item.group != item.name for item in domain.fields)


def _read(domain: Domain) -> Iterable[tuple[FieldSource, NDArray[np.uint8], NDArray[np.uint8]]]:
    for item in domain.fields:
        if item.mask is None:
            continue
        try:
            with open_field(item, domain.preparation, Grid()) as prepared:
                labels = labels_to_grid(native_labels(item, domain, prepared), prepared.shape)
                source = FieldSource(item.name, item.group, prepared.pixel_size_um, item.is_test)
                yield source, prepared.whole(), labels
        except FieldError as error:
            raise InputError(str(error)) from error


def _phase(name: str, index: int, fields: Sequence[FieldMeasures], labelled: int) -> PhaseFingerprint:
    count = int(sum(item.pixels[index] for item in fields))
    here = [item for item in fields if item.pixels[index]]
    # One rule for all fields: cut intercepts are shorter than whole ones of the same phase.
    is_whole = any(item.whole.number[index] for item in here)
    native, micrometres = Chords.none(len(fields[0].pixels)), Chords.none(len(fields[0].pixels))
    for item in here:
        chords = item.whole if is_whole else item.cut
        native += chords
        if item.source.pixel_size_um is not None:
            micrometres += chords.in_units(item.source.pixel_size_um)
    grey_mean, grey_std = _moments(np.sum([item.phase_grey[index] for item in here], axis=0)) if here else (None, None)
    return PhaseFingerprint(
        name=name,
        area_share=count / labelled if labelled else 0.0,
        labelled_px=count,
        chord_px=native.mean(index),
        chord_std_px=native.std(index),
        chord_um=micrometres.mean(index),
        chord_std_um=micrometres.std(index),
        regions=int(sum(item.regions[index] for item in here)),
        fields=len(here),
        groups=len({item.source.group for item in here}),
        grey_mean=grey_mean,
        grey_std=grey_std,
    )


def _moments(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation of grey values."""
    levels = np.arange(histogram.size)
    mean = float(np.average(levels, weights=histogram))
    return mean, float(np.sqrt(np.average((levels - mean) ** 2, weights=histogram)))


def _spread(values: Sequence[float]) -> Spread:
    return Spread(smallest=min(values), median=float(np.median(values)), largest=max(values))
