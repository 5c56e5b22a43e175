"""Domain folders (microseg/docs/design.md): the micrographs and masks that a user brings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain_file import (
    DOMAIN_FILES,
    DomainFile,
    domain_file_in,
    expanded_path,
    read_domain_file,
)
from microseg.core.domains.folds import assign_folds
from microseg.core.domains.inference import infer_phases, refuse_mixed_folder
from microseg.core.domains.labels import mask_notices, on_stored_grid, read_mask, to_phases
from microseg.core.domains.pairing import (
    DomainField,
    field_groups,
    named_images,
    pair_fields,
    suffix_beside,
    with_test,
)
from microseg.core.domains.phases import UNLABELLED, PhaseSpec
from microseg.core.errors import FieldError, InputError
from microseg.core.images.image_file import stored_grid
from microseg.core.images.micrograph import find_images
from microseg.core.preparation.intensity import combined_rule
from microseg.core.preparation.prepared_field import PreparedField, cropped_shape, labels_to_grid, open_prepared
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid, Intensity, Preparation

__all__ = [
    "Domain",
    "DomainField",
    "PhaseSpec",
    "assign_folds",
    "load_domain",
    "measured_labels",
    "native_labels",
    "preparation_as",
    "prepared_and_labels",
    "read_labels",
    "resolve_intensity",
]

STATED = ("invert", "crop", "pixel_size_um", "intensity", "keep_padding")


@dataclass(frozen=True)
class Domain:
    """A domain: its fields, phases and preparation.

    Attributes:
        name: name of the domain.
        source: its folder, or the YAML file that describes it.
        phases: its phases; empty without masks.
        fields: its micrographs.
        preparation: how they are prepared.
        unlabelled: mask value of pixels without label, or None.
        explicit: which keys of `STATED` the domain.yaml states; these win over a manifest's.
        phases_inferred: whether the phases are unnamed: the masks hold the indices 0 to P-1, called phase0, phase1 ...
    """

    name: str
    source: Path
    phases: tuple[PhaseSpec, ...]
    fields: tuple[DomainField, ...]
    preparation: Preparation
    unlabelled: int | str | None = None
    explicit: frozenset[str] = frozenset()
    phases_inferred: bool = False

    @property
    def training_fields(self) -> tuple[DomainField, ...]:
        """The fields that `test` does not leave out."""
        return tuple(field for field in self.fields if not field.is_test)

    def preparation_over(self, base: Preparation) -> Preparation:
        """A preparation in which what the domain.yaml states replaces the values of `base`, a manifest's."""
        return base.model_copy(update={key: getattr(self.preparation, key) for key in self.explicit})

    def with_phases(self, phases: Sequence[PhaseInfo]) -> Domain:
        """The domain with an engine's phases in place of inferred ones. An index in the masks is a place in the list.

        Args:
            phases: the engine's phases.

        Raises:
            InputError: the masks hold more phases, or fewer that do not begin at 0, so that their places are unknown.
        """
        values = [value for phase in self.phases for value in phase.values]
        are_places = values == list(range(len(values)))
        if len(values) > len(phases) or (len(values) < len(phases) and not are_places):
            raise InputError(
                f"{self.source}: masks hold {len(values)} values{'' if are_places else f' ({_told(values)})'}, the engine "
                f"knows {len(phases)} phases. Remedy: a domain.yaml with `phases`."
            )
        values += range(len(values), len(phases))
        named = tuple(PhaseSpec(phase.name, phase.color, (value,)) for phase, value in zip(phases, values, strict=True))
        return replace(self, phases=named, phases_inferred=False)


def _told(values: Sequence[int | str]) -> str:
    return ", ".join(str(value) for value in values)


def load_domain(path: Path, *, masks: bool = True) -> Domain:
    """Read a domain from a folder, a folder with domain.yaml, or a YAML file that describes data elsewhere.

    Args:
        path: the folder or file.
        masks: whether to look for masks; without, no mask is opened, as adaptation without labels needs it.

    Raises:
        InputError: missing folders, unknown keys, images without mask, images or masks with the same stem, no images, or masks
            whose phases are unknown. The last message shows the domain.yaml to write.
    """
    if path.is_dir():
        described = domain_file_in(path)
        return _from_file(described, masks) if described else _from_folder(path, masks)
    if path.suffix.lower() in (".yaml", ".yml"):
        if not path.is_file():
            raise InputError(f"{path}: does not exist. Remedy: check the path.")
        return _from_file(path, masks)
    if not path.exists():
        raise InputError(f"{path}: does not exist. Remedy: give a folder of images or a YAML file that describes one.")
    raise InputError(f"{path}: is no domain. Remedy: give a folder of images or a YAML file that describes one.")


def _from_file(path: Path, with_masks: bool) -> Domain:
    content = read_domain_file(path)
    base = path.parent
    folders = _existing([expanded_path(text, base, path) for text in content.image_folders(base)], path)
    masks = [expanded_path(text, base, path) for text in content.mask_folders(base)]
    if with_masks:
        fields = pair_fields(path, folders, _existing(masks, path), content.mask_suffix, content.groups, content.test)
    else:
        fields = _without_masks(path, folders, masks, content)
    stated = frozenset(key for key in STATED if key in content.model_fields_set)
    domain = Domain(
        name=content.name or (base.resolve().name if path.name.lower() in DOMAIN_FILES else path.stem),
        source=path,
        phases=content.phase_specs(),
        fields=fields,
        preparation=Preparation(**{key: getattr(content, key) for key in stated}),
        unlabelled=content.unlabelled,
        explicit=stated,
    )
    return _with_inferred_phases(domain) if with_masks and masks and not domain.phases else domain


def _existing(folders: list[Path], path: Path) -> list[Path]:
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise InputError(
            f"{path}: these folders do not exist: {', '.join(missing)}. Remedy: correct the paths, or the environment "
            "variables that they are built from (MICROSEG_DATA)."
        )
    return folders


def _without_masks(source: Path, images: list[Path], masks: list[Path], content: DomainFile) -> tuple[DomainField, ...]:
    """The fields of a labelled domain without their labels. Masks among the images are known by their names."""
    named = named_images(source, images, masks, content.mask_suffix)
    groups = field_groups(source, [Path(name) for name, _ in named], content.groups)
    fields = [DomainField(name, path, None, group) for (name, path), group in zip(named, groups, strict=True)]
    return with_test(source, fields, content.test)


def _from_folder(path: Path, with_masks: bool) -> Domain:
    layout = DomainFile()
    images = [path / name for name in layout.image_folders(path)]
    masks = [path / name for name in layout.mask_folders(path)]
    suffix = None if masks or images != [path] else suffix_beside(path)
    masks = [path] if suffix else masks
    if not with_masks:
        fields = _without_masks(path, images, masks, DomainFile(mask_suffix=suffix))
        return Domain(path.resolve().name, path, (), fields, Preparation())
    if not masks:
        refuse_mixed_folder(path, find_images(path))
    domain = Domain(path.resolve().name, path, (), pair_fields(path, images, masks, suffix, None, ()), Preparation())
    return _with_inferred_phases(domain) if masks else domain


def _with_inferred_phases(domain: Domain) -> Domain:
    masks = [field.mask for field in domain.fields if field.mask is not None]
    found = infer_phases(domain.source, masks, domain.unlabelled)
    return replace(domain, phases=found.phases, unlabelled=found.unlabelled, phases_inferred=True)


def read_labels(field: DomainField, domain: Domain, phases: Sequence[PhaseSpec] | None = None) -> NDArray[np.uint8]:
    """Phase index of every native pixel before the crop.

    Args:
        field: the field.
        domain: its domain.
        phases: phases that replace the domain's; None: the domain's.

    Returns:
        uint8 (H, W); UNLABELLED (255) where the mask says so.

    Raises:
        InputError: no mask, a mask that cannot be read, values that no phase names, or another size than the image's.
    """
    return _labels_and_notices(field, domain, domain.phases if phases is None else phases)[0]


def _labels_and_notices(
    field: DomainField, domain: Domain, phases: Sequence[PhaseSpec]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """`read_labels`, with what the user should know about the mask."""
    if field.mask is None:
        raise InputError(f"{field.image}: has no mask. Remedy: add one beside the others, or leave the field out.")
    mask = read_mask(field.mask)
    with _as_input_error():
        grid = stored_grid(field.image)
    mask = on_stored_grid(mask, grid, field.image)
    return to_phases(mask, phases, domain.unlabelled), mask_notices(mask, phases)


def native_labels(field: DomainField, domain: Domain, prepared: PreparedField | None = None) -> NDArray[np.uint8]:
    """`read_labels` of the measured part of a field: the grid on which phase fractions and scores are counted.

    Args:
        field: the field.
        domain: its domain.
        prepared: the open field, which knows what is not measured; None: all that the domain's crop leaves is.

    Returns:
        uint8 (h, w) after the crop; UNLABELLED (255) also where nothing is measured.

    Raises:
        InputError: as `read_labels`.
    """
    return measured_labels(field, domain, prepared)[0]


def measured_labels(
    field: DomainField, domain: Domain, prepared: PreparedField | None
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """`native_labels`, with what the user should know about the mask."""
    labels, notices = _labels_and_notices(field, domain, domain.phases)
    crop = domain.preparation.crop if prepared is None else prepared.crop
    with _as_input_error():
        height, width = cropped_shape(labels.shape, crop, field.image)
        labels = labels[crop.top_px : crop.top_px + height, crop.left_px : crop.left_px + width]
        excluded = [] if prepared is None else prepared.excluded_rows(0, height)
    for outside in excluded:
        labels = np.where(outside, np.uint8(UNLABELLED), labels)
    return labels, notices


def prepared_and_labels(field: DomainField, domain: Domain, grid: Grid) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A whole field for training.

    Args:
        field: the field.
        domain: its domain.
        grid: the network's pixel grid.

    Returns:
        Image and labels on the network's grid, both uint8 (h, w).

    Raises:
        InputError: image or mask cannot be read.
    """
    with _as_input_error(), open_prepared(field.image, domain.preparation, grid) as prepared:
        return prepared.whole(), labels_to_grid(native_labels(field, domain, prepared), prepared.shape)


def preparation_as(domain: Domain, entry: DomainEntry) -> Preparation:
    """The preparation of a domain's fields for a run or an engine. What the domain.yaml states wins.

    The entry's pixel size is left out: it is the fallback where neither domain.yaml nor files state one.

    Args:
        domain: the domain.
        entry: the domain of the run or engine that the fields are prepared as.

    Raises:
        InputError: a field cannot be read.
    """
    if "intensity" in domain.explicit:
        # One rule for the whole domain, as in training, where its domain.yaml leaves the bits open.
        resolved = domain.preparation.model_copy(update={"intensity": resolve_intensity(domain)})
        domain = replace(domain, preparation=resolved)
    return domain.preparation_over(entry.preparation.model_copy(update={"pixel_size_um": None}))


def resolve_intensity(domain: Domain) -> Intensity:
    """The domain's rule to 8 bit with nothing left open, for run and manifest; see `combined_rule`.

    Opens every field where the bits are open. Raises InputError for one that cannot be read.
    """
    rule = domain.preparation.intensity
    if rule.rule not in ("bit_depth", "significant_bits") or rule.bits is not None:
        return rule
    resolved = []
    for field in domain.fields:
        with _as_input_error(), open_prepared(field.image, domain.preparation, Grid()) as prepared:
            resolved.append(prepared.intensity)
    return combined_rule(rule, resolved)


@contextmanager
def _as_input_error() -> Iterator[None]:
    """A block in which a FieldError becomes an InputError: a field that cannot be read stops training."""
    try:
        yield
    except FieldError as error:
        raise InputError(str(error)) from error
