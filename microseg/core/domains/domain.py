"""Domain folders (microseg/docs/design.md): the micrographs and masks that a user brings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain_file import (
    COLORS,
    DOMAIN_FILES,
    DomainFile,
    domain_file_in,
    expanded_path,
    read_domain_file,
)
from microseg.core.domains.folds import assign_folds
from microseg.core.domains.imports import nnunet
from microseg.core.domains.imports.drawing import areas, drawn
from microseg.core.domains.imports.finding import MASKS, read_label_file
from microseg.core.domains.inference import infer_phases, named_phases, refuse_mixed_folder
from microseg.core.domains.label_places import LabelPlaces, label_places, mask_places
from microseg.core.domains.labels import mask_notices, on_stored_grid, read_mask, to_phases
from microseg.core.domains.layout import is_test_folder
from microseg.core.domains.pairing import DomainField, field_groups, named_images, pair_fields, with_test
from microseg.core.domains.phases import UNLABELLED, PhaseSpec
from microseg.core.domains.pixel_sizes import open_field, with_pixel_sizes
from microseg.core.errors import FieldError, InputError
from microseg.core.images.folders import find_masks
from microseg.core.images.image_file import stored_grid
from microseg.core.preparation.bit_depth import other_bits
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.intensity import combined_rule
from microseg.core.preparation.prepared_field import PreparedField, cropped_shape, labels_to_grid
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid, Intensity, Preparation
from microseg.core.system.targets import resolved

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

STATED = (
    "invert",
    "crop",
    "pixel_size_um",
    "intensity",
    "artefacts",
    "page",
    "channel",
    "keep_data_bar",
    "keep_padding",
)


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
        labels: what the labels are: masks, or the tool that wrote the label files.
        notices: what of its labels may be meant otherwise.
        phases_inferred: whether the phases are unnamed: the masks hold the indices 0 to P-1, called phase0, phase1 ...
        folders: the folders of its images.
    """

    name: str
    source: Path
    phases: tuple[PhaseSpec, ...]
    fields: tuple[DomainField, ...]
    preparation: Preparation
    unlabelled: int | str | None = None
    explicit: frozenset[str] = frozenset()
    phases_inferred: bool = False
    labels: str = MASKS
    notices: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()

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
        return _loaded(described or path, masks)
    if path.suffix.lower() in (".yaml", ".yml"):
        if not path.is_file():
            raise InputError(f"{path}: does not exist. Remedy: check the path.")
        return _loaded(path, masks)
    if not path.exists():
        raise InputError(f"{path}: does not exist. Remedy: give a folder of images or a YAML file that describes one.")
    raise InputError(f"{path}: is no domain. Remedy: give a folder of images or a YAML file that describes one.")


def _loaded(source: Path, with_masks: bool) -> Domain:
    """A domain from its folder, or from the YAML file that describes it."""
    base, content = (source, DomainFile()) if source.is_dir() else (source.parent, read_domain_file(source))
    images = _existing([expanded_path(text, base, source) for text in content.image_folders(base)], source)
    stated = frozenset(key for key in STATED if key in content.model_fields_set)
    domain = Domain(
        name=content.name or (resolved(base).name if source == base or _describes(source) else source.stem),
        source=source,
        phases=content.phase_specs(),
        fields=(),
        preparation=Preparation(**{key: getattr(content, key) for key in stated}),
        unlabelled=content.unlabelled,
        explicit=stated,
        folders=tuple(images),
    )
    if not with_masks:
        return replace(domain, fields=_without_masks(source, images, mask_places(source, content, images), content))
    places = label_places(source, content, images)
    if source.is_dir() and not places.masks and places.files is None:
        refuse_mixed_folder(source, find_masks(source))
    masks = _existing(places.masks, source)
    found = pair_fields(source, images, masks, places.suffix, content.groups, content.test, files=places.files)
    fields = tuple(replace(item, is_test=item.is_test or _is_test(item)) for item in found)
    fields = with_pixel_sizes(fields, content.pixel_sizes, source)
    if places.files is not None:
        labelled = replace(domain, fields=fields, labels=places.files.format, phases=content.phase_specs(by_name=True))
        return labelled if labelled.phases else _with_named_phases(labelled)
    labelled = replace(domain, fields=fields)
    return _with_inferred_phases(labelled, masks[0]) if masks and not domain.phases else labelled


def _describes(path: Path) -> bool:
    return path.name.lower() in DOMAIN_FILES


def _is_test(field: DomainField) -> bool:
    return any(is_test_folder(part) for part in Path(field.name).parts[:-1])


def _existing(folders: list[Path], path: Path) -> list[Path]:
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise InputError(
            f"{path}: these folders do not exist: {', '.join(missing)}. Remedy: correct the paths, or the environment "
            "variables that they are built from (MICROSEG_DATA)."
        )
    return folders


def _without_masks(
    source: Path, images: list[Path], places: LabelPlaces, content: DomainFile
) -> tuple[DomainField, ...]:
    """The fields of a labelled domain without their labels. Masks among the images are known by their names."""
    named = named_images(source, images, places.masks, places.suffix)
    groups = field_groups(source, [Path(name) for name, _ in named], content.groups)
    fields = [DomainField(name, path, None, group) for (name, path), group in zip(named, groups, strict=True)]
    return with_pixel_sizes(with_test(source, fields, content.test), content.pixel_sizes, source)


def _with_inferred_phases(domain: Domain, masks: Path) -> Domain:
    """The phases that nnU-Net's dataset.json names, else those that the masks show."""
    values, ignored = nnunet.read(masks.parent / "dataset.json")
    if len(values) > 1:
        unlabelled = ignored if domain.unlabelled is None else domain.unlabelled
        phases = tuple(PhaseSpec(name, COLORS[i % len(COLORS)], (v,)) for i, (name, v) in enumerate(values.items()))
        return replace(domain, phases=phases, unlabelled=unlabelled)
    found = infer_phases(domain.source, [item.mask for item in domain.fields if item.mask], domain.unlabelled)
    return replace(
        domain, phases=found.phases, unlabelled=found.unlabelled, notices=found.notices, phases_inferred=True
    )


def _with_named_phases(domain: Domain) -> Domain:
    """The phases that label files name."""
    counts: Counter[str] = Counter()
    for item in domain.fields:
        assert item.mask is not None
        with _as_input_error():
            grid = stored_grid(item.image, domain.preparation.page)
        labels = read_label_file(item.mask, domain.labels)[item.entry]
        counts.update(areas(labels, item.mask, grid, item.image))
    found = named_phases(domain.source, domain.labels, counts, domain.unlabelled)
    return replace(domain, phases=found.phases, notices=found.notices)


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
    with _as_input_error():
        grid = stored_grid(field.image, domain.preparation.page)
    if domain.labels != MASKS:
        labels = read_label_file(field.mask, domain.labels)[field.entry]
        pixels = drawn(labels, field.mask, grid, field.image, phases=phases, unlabelled=domain.unlabelled)
        count = labels.without_area
        return pixels, (f"{count} points, lines or boxes outline no region and are left out",) if count else ()
    mask = on_stored_grid(read_mask(field.mask), grid, field.image)
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


def prepared_and_labels(
    field: DomainField, domain: Domain, grid: Grid, scale: ScaleRules = ScaleRules()
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A whole field for training.

    Args:
        field: the field.
        domain: its domain.
        grid: the network's pixel grid.
        scale: what decides the pixel size beside the domain and the file.

    Returns:
        Image and labels on the network's grid, both uint8 (h, w).

    Raises:
        InputError: image or mask cannot be read.
    """
    with _as_input_error(), open_field(field, domain.preparation, grid, scale) as prepared:
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
    """The rule of `resolved_rule` without its notices."""
    return resolved_rule(domain)[0]


def resolved_rule(domain: Domain) -> tuple[Intensity, tuple[str, ...]]:
    """The domain's rule to 8 bit with nothing left open, for run and manifest (see `combined_rule`), and who differs from it.

    Opens every field where the bits are open. Raises InputError for one that cannot be read.
    """
    rule = domain.preparation.intensity
    if rule.rule not in ("bit_depth", "significant_bits") or rule.bits is not None:
        return rule, ()
    resolved = []
    for field in domain.fields:
        with _as_input_error(), open_field(field, domain.preparation, Grid()) as prepared:
            resolved.append((field.name, prepared.intensity))
    combined = combined_rule(rule, [intensity for _, intensity in resolved])
    return combined, other_bits(resolved, combined)


@contextmanager
def _as_input_error() -> Iterator[None]:
    """A block in which a FieldError becomes an InputError: a field that cannot be read stops training."""
    try:
        yield
    except FieldError as error:
        raise InputError(str(error)) from error
