"""The unlabelled target of `train uda`: read without its masks, onto the source run's grid, with what it needs said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import skew

from microseg.core.domains.domain import Domain, load_domain, resolve_intensity
from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.core.schemas.run import RunRecord
from microseg.core.system.files import sha256_of
from microseg.train.common.data import common_pixel_size
from microseg.train.common.datasets import LabelledField
from microseg.train.uda.criteria import Predict, observe, views

_SAME_SIZE = 0.01
# A quarter of the grey scale.
_MUCH_BRIGHTER = 64
# Scales of the differences of Gaussians whose skewness tells bright details from dark ones, px. Skewness that counts as
# such; and as so much that a network which was never shown such fields is not asked: that lies between films of the other
# polarity (synthetic S and T3) and superalloys, whose signs turn with the fraction of precipitates.
_BANDS_PX = ((1.0, 4.0), (2.0, 8.0), (4.0, 16.0))
_SKEWED, _SURELY_SKEWED = 0.15, 0.6


@dataclass(frozen=True)
class Target:
    """Target fields (labels all 255) on the network's grid, the domain as the run records it, notices for the user."""

    fields: list[LabelledField]
    entry: DomainEntry
    notices: list[str]


def read_target(
    path: Path,
    record: RunRecord,
    *,
    invert: bool | None,
    pixel_size_um: float | None,
    apply_findings: bool,
    source_images: Sequence[NDArray[np.uint8]],
    predict: Predict,
) -> Target:
    """Read the images of a target; no mask is opened. `predict`: the source's map of a view, to judge polarity by.

    What is said (option, domain.yaml) is taken. A pixel size that the files state and that differs from the source's, or
    grey values that look inverted, are applied with `apply_findings`, with a notice that shows the option; otherwise they
    are an InputError that shows it. InputError also: no images, only fields of the source, other phases, fields of several
    pixel sizes.
    """
    domain = load_domain(path, masks=False)
    refuse_unknown_phases(domain, record.phases)
    stated = domain.preparation
    given = {"invert": invert, "pixel_size_um": pixel_size_um}
    stated = stated.model_copy(update={key: value for key, value in given.items() if value is not None})
    explicit = set(domain.explicit) | {key for key, value in given.items() if value is not None}
    notices: list[str] = []

    def finding(text: str, option: str) -> None:
        if not apply_findings:
            against = " (--no-invert if they are not)" if option == "--invert" else ""
            raise InputError(f"{path}: {text}, and nobody said so. Remedy: {option}{against}, or --method auto.")
        notices.append(f"{text}: taken as {option}")

    own_um = record.domain.preparation.pixel_size_um
    if "pixel_size_um" not in explicit and record.grid.pixel_size_um is not None:
        try:
            read = common_pixel_size(domain)
        except FieldError as error:
            raise InputError(str(error)) from error
        if read is None:
            notices.append(f"the files state no pixel size: the source's, {own_um:g} um, is taken (--pixel-size-um)")
            read = own_um
        elif own_um and abs(read / own_um - 1) > _SAME_SIZE:
            finding(f"its pixels are {read:g} um wide, the source's {own_um:g} um", f"--pixel-size-um {read:g}")
        stated = stated.model_copy(update={"pixel_size_um": read})
    stated = stated.model_copy(update={"intensity": resolve_intensity(replace(domain, preparation=stated))})
    fields = _fields(domain, stated, record.grid)
    known = {field.sha256 for field in record.fields}
    if not fields:
        raise InputError(f"{path}: holds no field but those that its `test` sets aside. Remedy: fewer of them.")
    shared = sum(field.sha256 in known for field in fields)
    if shared == len(fields):
        raise InputError(
            f"{path}: holds nothing but fields that the source run was trained on (same content). "
            "Remedy: the folder of the new micrographs."
        )
    if "invert" not in explicit and _looks_inverted(source_images, fields, predict, record, record.stride):
        finding("its grey values look inverted against the source's", "--invert")
        stated = stated.model_copy(update={"invert": True})
        fields = [replace(field, image=255 - field.image) for field in fields]
    if shared:
        notices.append(f"{shared} of {len(fields)} target fields are fields that the source run was trained on")
    greys = [
        float(np.mean([image.mean() for image in images])) for images in ([f.image for f in fields], source_images)
    ]
    if abs(greys[0] - greys[1]) > _MUCH_BRIGHTER:
        notices.append(
            f"its mean grey value is {greys[0]:.0f}, the source's {greys[1]:.0f}: `auto` and `--method normalise` even that out"
        )
    if pixel_size_um is not None and record.grid.pixel_size_um is None:
        notices.append(
            f"--pixel-size-um {pixel_size_um:g} is recorded, but nothing is rescaled: the source run knows no pixel size"
        )
    if len(fields) == 1:
        notices.append("one target image: adaptation and verdict rest on it alone; more would be better")
    return Target(fields, DomainEntry(name=_name(domain, record), role="target", preparation=stated), notices)


def skewness_of_details(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Mean skewness of fields in three bands and of the grey values themselves (4,): positive for bright on dark."""
    values = []
    for image in images:
        grey = image.astype(np.float32)
        bands = [cv2.GaussianBlur(grey, (0, 0), near) - cv2.GaussianBlur(grey, (0, 0), far) for near, far in _BANDS_PX]
        values.append([float(skew(band, axis=None)) if band.any() else 0.0 for band in (*bands, grey - grey.mean())])
    return np.mean(values, axis=0)  # type: ignore[no-any-return]


def _looks_inverted(
    source: Sequence[NDArray[np.uint8]],
    target: Sequence[LabelledField],
    predict: Predict,
    record: RunRecord,
    stride: int,
) -> bool:
    """Details of the opposite sign in every band: very skewed ones, or a source network that trusts itself more inverted.

    One band alone turns its sign with the phase fractions or the size of particles.
    """
    ours, theirs = skewness_of_details(source), skewness_of_details([field.image for field in target])
    if (ours * theirs >= 0).any() or np.minimum(np.abs(ours), np.abs(theirs)).min() < _SKEWED:
        return False
    if np.sqrt(np.abs(ours * theirs)).mean() >= _SURELY_SKEWED:
        return True
    cuts = views([field.image for field in target], stride)
    as_is, inverted = (
        observe(predict, shown, len(record.phases)) for shown in (cuts, [np.asarray(255 - cut) for cut in cuts])
    )
    return inverted.flips + inverted.photometric > as_is.flips + as_is.photometric


def _name(domain: Domain, record: RunRecord) -> str:
    name = domain.name
    while name in {entry.name for entry in record.domains}:
        name += "-target"
    return name


def _fields(domain: Domain, preparation: Preparation, grid: Grid) -> list[LabelledField]:
    fields = []
    for field in domain.training_fields:
        try:
            with open_prepared(field.image, preparation, grid) as prepared:
                image = prepared.whole()
        except FieldError as error:
            raise InputError(str(error)) from error
        fields.append(LabelledField(field, sha256_of(field.image), image, np.full_like(image, UNLABELLED)))
    return fields


def refuse_unknown_phases(domain: Domain, phases: Sequence[PhaseInfo]) -> None:
    """Raise InputError where a domain.yaml names a phase that the run does not know."""
    names = [phase.name for phase in phases]
    other = [phase.name for phase in domain.phases if phase.name not in names]
    if other:
        raise InputError(
            f"{domain.source}: names the phase {other[0]!r}, but the run tells {', '.join(names)} apart. "
            "Remedy: the run's names under `phases`, or none."
        )


def histogram_curve(source: Sequence[NDArray[np.uint8]], target: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Grey value of the source for each of the target's (256): pooled histogram matching (Gonzalez and Woods)."""
    shares = [
        np.cumsum(np.bincount(np.concatenate([i.ravel() for i in images]), minlength=256)).astype(np.float64)
        for images in (source, target)
    ]
    ranks = [share / share[-1] for share in shares]
    return [int(value) for value in np.clip(np.searchsorted(ranks[0], ranks[1] - 1e-12), 0, 255)]


def standardising_curve(source: Sequence[NDArray[np.uint8]], target: Sequence[NDArray[np.uint8]]) -> list[int]:
    """The line (256) that gives the target's pooled grey values the source's mean and standard deviation."""
    moments = [
        (float(pixels.mean()), max(float(pixels.std()), 1.0))
        for pixels in (np.concatenate([image.ravel() for image in images]) for images in (source, target))
    ]
    (mean, std), (own_mean, own_std) = moments
    curve = (np.arange(256) - own_mean) * (std / own_std) + mean
    return [int(value) for value in np.clip(np.rint(curve), 0, 255)]


CURVES: dict[str, Callable[[Sequence[NDArray[np.uint8]], Sequence[NDArray[np.uint8]]], list[int]]] = {
    "standardise": standardising_curve,
    "histogram": histogram_curve,
}
