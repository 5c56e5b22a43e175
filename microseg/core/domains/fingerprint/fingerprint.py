"""The fingerprint of a labelled domain, from its fields one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import Domain, native_labels
from microseg.core.domains.fingerprint.copies import Look, copies_among
from microseg.core.domains.fingerprint.field_source import FieldSource
from microseg.core.domains.fingerprint.grey import centre_of, focus_of, noise_of
from microseg.core.domains.fingerprint.layers import Direction, orientation_of
from microseg.core.domains.fingerprint.measure import LabelSums, moments
from microseg.core.domains.fingerprint.names import suspected_groups
from microseg.core.domains.fingerprint.shifts import shift_of
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.prepared_field import labels_to_grid
from microseg.core.schemas.fingerprint import DatasetFingerprint, ShiftedMask, Spread
from microseg.core.schemas.preparation import Grid

_LOW, _HIGH = 0.01, 0.99


class FingerprintMaker:
    """Takes the fields of a domain one by one and keeps what the fingerprint needs: about 30 kB of each."""

    def __init__(self, phases: Sequence[str]) -> None:
        """Begin without fields.

        Args:
            phases: names of the phases, in the order of their indices.
        """
        self._phases = phases
        self._sums = LabelSums(len(phases))
        self._looks: list[Look] = []
        self._shifted: list[ShiftedMask] = []
        self._directions: list[tuple[Direction, Direction]] = []
        self._noise: list[float] = []
        self._focus: list[float] = []

    def add(self, source: FieldSource, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Measure one more field. Of one for a test, its look and the place of its labels count alone.

        Args:
            source: the field.
            image: grey values as the network sees them, uint8 (h, w).
            labels: phase indices, uint8 (h, w), 255 where unlabelled.
        """
        self._looks.append(Look.at(source, image))
        shift = shift_of(image, labels)
        if shift is not None:
            self._shifted.append(
                ShiftedMask(
                    field=source.name,
                    dy_px=shift.dy_px,
                    dx_px=shift.dx_px,
                    edges_here=shift.edges_here,
                    edges_moved=shift.edges_moved,
                )
            )
        if source.is_test:
            return
        self._directions.append(self._sums.add(source, image, labels))
        centre = centre_of(image)
        self._noise.append(noise_of(centre))
        focus = focus_of(centre, self._noise[-1])
        if focus is not None:
            self._focus.append(focus)

    def result(self, *, groups_stated: bool) -> DatasetFingerprint | None:
        """The fingerprint of the fields so far; None without a training field.

        Args:
            groups_stated: whether the domain states groups.
        """
        looks = [look for look in self._looks if not look.source.is_test]
        if not looks:
            return None
        sums = self._sums
        mean, std = moments(sums.grey)
        below = np.cumsum(sums.grey) / sums.grey.sum()
        sizes = [look.source.pixel_size_um for look in looks if look.source.pixel_size_um is not None]
        return DatasetFingerprint(
            fields=len(looks),
            test_fields=len(self._looks) - len(looks),
            groups=len({look.source.group for look in looks}),
            groups_stated=groups_stated,
            height_px=_spread([look.shape[0] for look in looks]),
            width_px=_spread([look.shape[1] for look in looks]),
            pixel_size_um=_spread(sizes) if sizes else None,
            labelled_px=sums.labelled_px,
            unlabelled_share=1 - sums.labelled_px / sums.total_px,
            phases=[sums.phase(index, name) for index, name in enumerate(self._phases)],
            grey_mean=mean,
            grey_std=std,
            grey_low=float(np.searchsorted(below, _LOW)),
            grey_high=float(np.searchsorted(below, _HIGH)),
            noise_grey=float(np.median(self._noise)),
            focus_px=float(np.median(self._focus)) if self._focus else None,
            orientation=orientation_of(self._directions),
            copies=copies_among(self._looks),
            shifted_masks=self._shifted,
            suspected_groups=None if groups_stated else suspected_groups([look.source.name for look in self._looks]),
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


def _read(domain: Domain) -> Iterator[tuple[FieldSource, NDArray[np.uint8], NDArray[np.uint8]]]:
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


def _spread(values: Sequence[float]) -> Spread:
    return Spread(smallest=min(values), median=float(np.median(values)), largest=max(values))
