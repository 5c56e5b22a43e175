"""The unlabelled target of `microseg train uda`: read without its masks, onto the source run's grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import skew

from microseg.core.domains.domain import Domain, load_domain, resolve_intensity
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.images.pixel_size import ASSUMED, FOUND_BY_UDA, PixelSize
from microseg.core.preparation.field_scale import COMMAND_LINE, DOMAIN_FILE, ScaleRules
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.core.schemas.run import RunRecord
from microseg.core.system.files import sha256_of
from microseg.train.common.data import CommonPixelSize, common_pixel_size, refuse_unknown_phases
from microseg.train.common.datasets import ImagesOf, LabelledField, unlabelled_field
from microseg.train.common.fields.stored import PlaneStore
from microseg.train.uda.criteria import Predict, observe, views

_SAME_SIZE = 0.01
# A quarter of the grey scale.
_MUCH_BRIGHTER = 64
# Standard deviations of the Gaussians whose differences show details, px. Details are bright where the skewness is positive.
# Below the first limit a skewness has no sign. Above the second one it alone decides: that limit lies between films of
# opposite polarity (synthetic S and T3) and superalloys, whose signs change with the fraction of precipitates.
_BANDS_PX = ((1.0, 4.0), (2.0, 8.0), (4.0, 16.0))
_SKEWED, _SURELY_SKEWED = 0.15, 0.6


@dataclass(frozen=True)
class Target:
    """An unlabelled domain as it is adapted to.

    fields: The fields on the network's grid. All labels are 255.
    entry: The domain as the run records it.
    notices: Sentences for the user.
    edges_um: Edges of the fields' native pixels, um; None where they have no pixel size.
    """

    fields: list[LabelledField]
    entry: DomainEntry
    notices: list[str]
    edges_um: tuple[float, ...] | None = None


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
    """Read the images of a target. No mask is opened.

    Options and domain.yaml take precedence. Two properties are found in the files where neither states them: a pixel size
    that differs from the source's, and inverted grey values.

    Args:
        path: A folder, or a YAML file that describes one.
        record: The source run's record.
        invert: Whether grey values are inverted, if the user says so.
        pixel_size_um: Native pixel size in um, if the user states it.
        apply_findings: Apply what is found in the files, with a notice that shows the option. Otherwise it is an error.
        source_images: The source's fields, uint8 (h, w).
        predict: Gives the source network's probabilities float32 (P, h, w) of a view, to compare both polarities.

    Raises:
        InputError: No images, only fields of the source, other phases, several pixel sizes, or a finding that is not
            applied.
    """
    domain = load_domain(path, masks=False)
    refuse_unknown_phases(domain, record.phases)
    stated = domain.preparation if invert is None else domain.preparation.model_copy(update={"invert": invert})
    notices: list[str] = []

    def finding(text: str, option: str) -> None:
        if not apply_findings:
            against = " (--no-invert if they are not)" if option == "--invert" else ""
            raise InputError(f"{path}: {text}, and no option says so. Remedy: {option}{against}, or --method auto.")
        notices.append(f"{text}: {option} is applied")

    size = _pixel_size(domain, record, pixel_size_um, finding, notices)
    # Of the domain's preparation, not of one size for all: pixels that are not square have two edges.
    rules = ScaleRules(
        command_line_um=pixel_size_um,
        assumed=None if size is None else PixelSize.square(size.width_um, ASSUMED),
        trained=record.known_pixel_sizes,
    )
    recorded = {"pixel_size_um": None if size is None else size.width_um}
    resolved = resolve_intensity(replace(domain, preparation=stated.model_copy(update=recorded)))
    stated = stated.model_copy(update={"intensity": resolved})
    store = PlaneStore()
    fields = _fields(domain, stated, record.grid, rules, notices, store)
    _refuse_source_fields(path, fields, record, notices)
    if (
        invert is None
        and "invert" not in domain.explicit
        and _looks_inverted(source_images, fields, predict, record, record.stride)
    ):
        finding("its grey values look inverted compared with the source's", "--invert")
        stated = stated.model_copy(update={"invert": True})
        fields = [field.with_image(store.keep(255 - field.image)) for field in fields]
    greys = [float(np.mean([image.mean() for image in images])) for images in (ImagesOf(fields), source_images)]
    if abs(greys[0] - greys[1]) > _MUCH_BRIGHTER:
        notices.append(
            f"its mean grey value is {greys[0]:.0f}, the source's {greys[1]:.0f}: `auto` and `--method normalise` correct that"
        )
    if pixel_size_um is not None and record.grid.pixel_size_um is None:
        notices.append(
            f"--pixel-size-um {pixel_size_um:g} is recorded, but no field is rescaled: the source run has no pixel size"
        )
    if len(fields) == 1:
        notices.append("one target image: adaptation and verdict depend on it alone; use more images if you can")
    entry = DomainEntry(
        name=_name(domain, record),
        role="target",
        preparation=stated.model_copy(update=recorded),
        pixel_size_source=None if size is None else size.source,
    )
    return Target(fields, entry, notices, None if size is None else size.edges_um)


def _pixel_size(
    domain: Domain,
    record: RunRecord,
    pixel_size_um: float | None,
    finding: Callable[[str, str], None],
    notices: list[str],
) -> CommonPixelSize | None:
    """The pixel size that the user or the files state, or the source's where they state none. Raises InputError."""
    if pixel_size_um is not None:
        return CommonPixelSize(pixel_size_um, COMMAND_LINE, (pixel_size_um,))
    if record.grid.pixel_size_um is None and "pixel_size_um" not in domain.explicit:
        return None  # native pixels: nothing is rescaled
    own_um = record.domain.preparation.pixel_size_um
    try:
        read = common_pixel_size(domain)
    except FieldError as error:
        raise InputError(str(error)) from error
    if read is None:
        if own_um is None:
            return None
        notices.append("the files state no pixel size: the source's is assumed (--pixel-size-um)")
        return CommonPixelSize(own_um, ASSUMED, (own_um,))
    if read.source != DOMAIN_FILE and own_um and abs(read.width_um / own_um - 1) > _SAME_SIZE:
        text = f"its pixel size is {read.width_um:g} um ({read.source}), the source's {own_um:g} um"
        finding(text, f"--pixel-size-um {read.width_um:g}")
        return replace(read, source=FOUND_BY_UDA)
    return read


def _refuse_source_fields(path: Path, fields: Sequence[LabelledField], record: RunRecord, notices: list[str]) -> None:
    """Raise InputError for a target without a field of its own, and note how many fields it shares with the source."""
    if not fields:
        raise InputError(f"{path}: its `test` sets aside every field. Remedy: fewer fields under `test`.")
    known = {field.sha256 for field in record.fields}
    shared = sum(field.sha256 in known for field in fields)
    if shared == len(fields):
        raise InputError(
            f"{path}: holds only fields that the source run was trained on (same content). "
            "Remedy: the folder of the new micrographs."
        )
    if shared:
        notices.append(f"{shared} of {len(fields)} target fields are fields that the source run was trained on")


def skewness_of_details(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Mean skewness of fields uint8 (h, w) in three bands and of the grey values, float64 (4,): positive for bright details."""
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
    """Whether details have the opposite sign in every band, and are very skewed or better predicted when inverted.

    All bands must agree: the sign of a single one changes with the phase fractions and with the size of particles.
    """
    ours, theirs = skewness_of_details(source), skewness_of_details(ImagesOf(target))
    if (ours * theirs >= 0).any() or np.minimum(np.abs(ours), np.abs(theirs)).min() < _SKEWED:
        return False
    if np.sqrt(np.abs(ours * theirs)).mean() >= _SURELY_SKEWED:
        return True
    cuts = views(ImagesOf(target), stride)
    as_is, inverted = (
        observe(predict, shown, len(record.phases)) for shown in (cuts, [np.asarray(255 - cut) for cut in cuts])
    )
    return inverted.flips + inverted.photometric > as_is.flips + as_is.photometric


def _name(domain: Domain, record: RunRecord) -> str:
    name = domain.name
    while name in {entry.name for entry in record.domains}:
        name += "-target"
    return name


def _fields(
    domain: Domain, preparation: Preparation, grid: Grid, rules: ScaleRules, notices: list[str], store: PlaneStore
) -> list[LabelledField]:
    """The fields on the network's grid, with a notice on their scale where there is one. Raises InputError."""
    fields = []
    on_scale: list[str] = []
    for field in domain.training_fields:
        try:
            with open_field(field, preparation, grid, rules) as prepared:
                image = prepared.whole()
        except FieldError as error:
            raise InputError(str(error)) from error
        # That the source's size applies to files without one is told once.
        if prepared.pixel_size is not None and not prepared.pixel_size.is_assumed:
            on_scale += [f"{field.name}: {notice}" for notice in prepared.notices if notice.kind == "pixel size"]
        fields.append(unlabelled_field(field, sha256_of(field.image), image, store))
    if on_scale:
        notices.append(on_scale[0] + (f" (and {len(on_scale) - 1} more such notices)" if on_scale[1:] else ""))
    return fields
