"""The schema of `domain.yaml`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from microseg.core.content_problems import problems
from microseg.core.domains import layout
from microseg.core.domains.phases import GREY, MAX_PHASES, OTHER, TRANSPARENT, PhaseSpec
from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel, PositiveFloat
from microseg.core.schemas.preparation import ARTEFACTS, CHANNEL, KEEP_DATA_BAR, KEEP_PADDING, PAGE, Crop, Intensity
from microseg.core.system.listing import entries_of
from microseg.core.system.yaml_file import parse_yaml, read_text

# Colours that people with colour-vision deficiency distinguish (Okabe & Ito 2008).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#000000")
_VALUES = 'a whole number 0 to 65535, "#rrggbb", "grey", "transparent" or "other" (in quotes)'
_HEX = re.compile(r"#[0-9a-f]{6}")
_COLOUR_AS_COMMENT = re.compile(r"\b(value|values|color|unlabelled):\s+(#[0-9a-fA-F]{6})\b")
_SIZE = re.compile(r"((?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:e[+-]?[0-9]+)?)\s*(pm|nm|um|µm|μm|mm)?", re.IGNORECASE)
_PER_UM = {"pm": 1e6, "nm": 1e3, "um": 1, "µm": 1, "μm": 1, "mm": 1e-3}
DOMAIN_FILES = ("domain.yaml", "domain.yml")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def _mask_value(value: Any) -> Any:
    """0..65535, "#rrggbb" in lower case, "grey", "transparent", "other", or the name of a label."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value
    text = value.lower() if isinstance(value, str) else ""
    if text == "gray":
        return GREY
    if text in (GREY, TRANSPARENT, OTHER) or _HEX.fullmatch(text):
        return text
    if text:
        return value
    raise ValueError(f"{value!r} is no mask value: {_VALUES}")


def _is_mask_value(value: str) -> bool:
    return value in (GREY, TRANSPARENT, OTHER) or _HEX.fullmatch(value) is not None


def _tool(value: Any) -> Any:
    text = value.lower() if isinstance(value, str) else value
    return "qupath" if text == "geojson" else text


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else [value]


def micrometres(value: Any) -> Any:
    """A pixel size as people write it, in um: with decimal comma, as 277e-4, or with a unit.

    Args:
        value: a text; anything else is returned unchanged.

    Raises:
        ValueError: a text that is no size.
    """
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        if isinstance(value, str):
            raise ValueError(
                f"{value!r} is no size: a number of micrometres such as 0.0277, or with a unit such as 27.7 nm"
            )
        return value
    return float(found[1].replace(",", ".")) / _PER_UM[(found[2] or "um").lower()]


Micrometres = Annotated[PositiveFloat, BeforeValidator(micrometres)]
LabelFormat = Literal["masks", "labelme", "coco", "cvat", "qupath"]
MaskValue = Annotated[int | str, BeforeValidator(_mask_value)]
Folders = Annotated[list[str], BeforeValidator(_as_list)]


class PhaseEntry(FrozenModel):
    """One phase of `phases`. A text alone is its name."""

    name: str = Field(min_length=1, description="Name of the phase.")
    value: MaskValue | None = Field(
        None,
        description='Its mask value: an index or grey value from 0 to 65535, an overlay colour "#rrggbb", "grey" (any grey '
        'that no other phase names), "transparent" (hidden by the alpha channel) or "other" (anything else). By default its '
        "place in the list, from 0, or from 1 where `unlabelled` is 0.",
    )
    values: Annotated[list[MaskValue], BeforeValidator(_as_list)] | None = Field(
        None, description="Several mask values in place of `value`."
    )
    color: str | None = Field(None, description='Colour in overlays and reports, "#rrggbb"; by default one of eight.')

    @model_validator(mode="before")
    @classmethod
    def _named(cls, entry: object) -> object:
        """`phases: [ferrite, martensite]` names the phases in the order of their indices."""
        if isinstance(entry, dict | PhaseEntry):
            return entry
        if isinstance(entry, str):
            return {"name": entry}
        raise ValueError("a phase is a name, or keys such as `name` and `value`")

    @model_validator(mode="after")
    def _check(self) -> PhaseEntry:
        if self.value is not None and self.values is not None:
            raise ValueError(f"phase {self.name!r} has both `value` and `values`: give one")
        if self.values is not None and not self.values:
            raise ValueError(f"phase {self.name!r}: `values` is empty")
        if self.color is not None and not _HEX.fullmatch(self.color.lower()):
            raise ValueError(f'phase {self.name!r}: color {self.color!r} is not "#rrggbb"')
        return self


class DomainFile(FrozenModel):
    """The content of a domain.yaml. Every key may be absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str | None = Field(None, description="Name of the domain; by default that of its folder or file.")
    images: Folders | None = Field(
        None,
        description="Image folder or folders; by default `images` or alike where it exists, else the folder itself.",
    )
    masks: Folders | None = Field(
        None,
        description="Mask folder, one for each image folder, or where the label files are; null: no masks. By default `masks`, "
        "`labels`, `GT` or alike, else beside the images.",
    )
    labels: Annotated[LabelFormat, BeforeValidator(_tool)] | None = Field(
        None,
        description="What the labels are: `masks`, or files of `labelme`, `coco`, `cvat` (for images) or `qupath` (GeoJSON): "
        "their phases have names of labels as values. By default found out.",
    )
    mask_suffix: str | None = Field(
        None, description="What a mask's name has after the image's, such as `_mask`; by default found out."
    )
    phases: list[PhaseEntry] | None = Field(
        None,
        description="The phases in the order of their indices, each a name or keys; by default the indices in the masks, "
        "unnamed.",
    )
    unlabelled: MaskValue | None = Field(
        None, description="Mask value of pixels without label, which losses and scores leave out."
    )
    pixel_size_um: Micrometres | None = Field(
        None,
        description="Edge of a native pixel in micrometres, or with its unit (27.7 nm); by default what the files state.",
    )
    pixel_sizes: dict[str, PositiveFloat] | None = Field(
        None,
        description="Edge of a native pixel in micrometres of single fields, by the name of their file with or without suffix. "
        "It wins over `pixel_size_um`.",
    )
    invert: bool = Field(False, description="Whether dark and bright are exchanged (bright-field light micrographs).")
    crop: Crop = Field(Crop(), description="Native pixels that are cut off each side, such as the data bar.")
    intensity: Intensity = Field(Intensity(), description="How grey values become 8 bit.")
    artefacts: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field((), description=ARTEFACTS)
    page: int | None = Field(None, ge=1, description=PAGE)
    channel: int | None = Field(None, ge=1, description=CHANNEL)
    keep_data_bar: bool = Field(False, description=KEEP_DATA_BAR)
    keep_padding: bool = Field(False, description=KEEP_PADDING)
    groups: str | dict[str, list[str]] | None = Field(
        None,
        description="Specimen or spot of each field, which folds keep together: a regular expression with one group for the "
        "file's stem, a table of stems by group, or `folder`. By default each field is a group of its own.",
    )
    test: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(
        (), description="Stems or groups that are left out of training."
    )

    @model_validator(mode="after")
    def _check(self) -> DomainFile:
        phases = self.phase_specs()
        if self.phases is not None and not 2 <= len(phases) <= MAX_PHASES:
            raise ValueError(f"phases: {len(phases)} given, 2 to {MAX_PHASES} needed")
        names = [phase.name for phase in phases]
        values: list[int | str] = [value for phase in phases for value in phase.values]
        if self.unlabelled is not None:
            values.append(self.unlabelled)
        names_of_labels = [value for value in values if isinstance(value, str) and not _is_mask_value(value)]
        if names_of_labels and self.labels in (None, "masks"):
            raise ValueError(
                f"{names_of_labels[0]!r} is no mask value: {_VALUES}. The name of a label needs `labels`: labelme, coco, cvat "
                "or qupath"
            )
        for what, items in (("name", names), ("mask value", [str(value) for value in values])):
            twice = sorted({item for item in items if items.count(item) > 1})
            if twice:
                raise ValueError(f"phases: {what} {', '.join(twice)} is used twice")
        unknown = [name for name in self.artefacts if self.phases is not None and name not in names]
        if unknown:
            raise ValueError(f"artefacts: {unknown[0]!r} is no phase; phases: {', '.join(names)}")
        return self

    def phase_specs(self, *, by_name: bool = False) -> tuple[PhaseSpec, ...]:
        """The phases with their colours and mask values filled in.

        Args:
            by_name: whether a phase without value has its name as one, as in files that name their labels.
        """
        first = 1 if self.unlabelled == 0 else 0
        usual: list[int | str] = [
            phase.name if by_name else first + index for index, phase in enumerate(self.phases or ())
        ]
        return tuple(
            PhaseSpec(
                phase.name,
                (phase.color or COLORS[index % len(COLORS)]).lower(),
                tuple(phase.values) if phase.values else (usual[index] if phase.value is None else phase.value,),
            )
            for index, phase in enumerate(self.phases or ())
        )

    def image_folders(self, base: Path) -> list[str]:
        """The image folders as stated, else as their names tell, else the folder itself.

        Args:
            base: the folder of the domain.yaml.

        Raises:
            InputError: several folders have such names.
        """
        if self.images is not None:
            return self.images
        return layout.image_folders(base)

    def mask_folders(self, base: Path) -> list[str]:
        """The mask folders as stated (null: none), else as their names tell.

        Args:
            base: the folder of the domain.yaml.

        Raises:
            InputError: several folders have such names.
        """
        if "masks" in self.model_fields_set:
            return self.masks or []
        return layout.mask_folders(base)


def read_domain_file(path: Path) -> DomainFile:
    """Read and check a domain.yaml.

    Args:
        path: the file.

    Raises:
        InputError: the file cannot be read, or holds problems; the message lists all of them, one a line.
    """
    text = read_text(path)
    _refuse_colours_as_comments(text, path)
    content = parse_yaml(text, path)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: holds no `key: value` pairs. Remedy: use these keys: {', '.join(DomainFile.model_fields)}."
        )
    try:
        return DomainFile.model_validate(content)
    except ValidationError as error:
        found = problems(error, content, DomainFile)
        raise InputError(f"{path}:\n" + "\n".join(f"  {problem.text}" for problem in found)) from error


def domain_file_in(folder: Path) -> Path | None:
    """The file that describes a domain folder: domain.yaml or domain.yml, in any case; None without one.

    Args:
        folder: the domain folder.

    Raises:
        InputError: there are two of them.
    """
    try:
        found = sorted(
            entry.name for entry in entries_of(folder) if entry.name.lower() in DOMAIN_FILES and entry.is_file
        )
    except OSError:  # whoever lists its images says why
        return None
    if len(found) > 1:
        raise InputError(f"{folder}: has {' and '.join(found)}. Remedy: keep the one that describes it.")
    return folder / found[0] if found else None


def _refuse_colours_as_comments(text: str, path: Path) -> None:
    """`value: #0000ff` is valid YAML without a value."""
    for number, line in enumerate(text.splitlines(), 1):
        found = _COLOUR_AS_COMMENT.search(line)
        if found and "#" not in line[: found.start()]:
            raise InputError(
                f"{path}: line {number} has {found[0]!r}, where # begins a comment. Remedy: write the colour in quotes, as in "
                f'{found[1]}: "{found[2]}".'
            )


def expanded_path(text: str, base: Path, source: Path) -> Path:
    """A path with `${NAME}` and `${NAME:-default}` replaced by environment variables.

    A relative value of a variable is relative to the working directory, as in a shell.

    Args:
        text: the path as the file has it.
        base: the folder that it is relative to.
        source: the file, for messages.

    Raises:
        InputError: a variable is not set and has no default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if os.environ.get(name):
            return str(Path(os.environ[name]).absolute())
        if default is None:
            raise InputError(f"{source}: the environment variable {name} in {text!r} is not set. Remedy: set it.")
        return default

    return base / Path(_VARIABLE.sub(value, text)).expanduser()
