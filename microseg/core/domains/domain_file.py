"""`domain.yaml`: its schema, with messages that name the key, what was given and what is allowed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from microseg.core.domains.phases import GREY, MAX_PHASES, OTHER, PhaseSpec
from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel, PositiveFloat
from microseg.core.schemas.preparation import Crop, Intensity
from microseg.core.schemas.validation import problems
from microseg.core.system.files import read_yaml

# Told apart by people with colour-vision deficiency too (Okabe & Ito 2008).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#000000")
_HEX = re.compile(r"#[0-9a-f]{6}")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def _mask_value(value: Any) -> Any:
    """0..65535, "#rrggbb" in lower case, "grey" or "other"."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value
    text = value.lower() if isinstance(value, str) else ""
    if text == "gray":
        return GREY
    if text in (GREY, OTHER) or _HEX.fullmatch(text):
        return text
    raise ValueError(f'{value!r} is no mask value: a whole number 0 to 65535, "#rrggbb", "grey" or "other" (in quotes)')


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else [value]


MaskValue = Annotated[int | str, BeforeValidator(_mask_value)]
Folders = Annotated[list[str], BeforeValidator(_as_list)]


class PhaseEntry(FrozenModel):
    """One phase of `phases`; `value` or `values`, by default its place in the list."""

    name: str = Field(min_length=1)
    value: MaskValue | None = None
    values: Annotated[list[MaskValue], BeforeValidator(_as_list)] | None = None
    color: str | None = None

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
    """The content of a domain.yaml; every key may be absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str | None = None
    images: Folders | None = None
    masks: Folders | None = None
    mask_suffix: str | None = None
    phases: list[PhaseEntry] | None = None
    unlabelled: MaskValue | None = None
    pixel_size_um: PositiveFloat | None = None
    invert: bool = False
    crop: Crop = Crop()
    intensity: Intensity = Intensity()
    groups: str | dict[str, list[str]] | None = None
    test: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()

    @model_validator(mode="after")
    def _check(self) -> DomainFile:
        phases = self.phase_specs()
        if self.phases is not None and not 2 <= len(phases) <= MAX_PHASES:
            raise ValueError(f"phases: {len(phases)} given, 2 to {MAX_PHASES} needed")
        names = [phase.name for phase in phases]
        values: list[int | str] = [value for phase in phases for value in phase.values]
        if self.unlabelled is not None:
            values.append(self.unlabelled)
        for what, items in (("name", names), ("mask value", [str(value) for value in values])):
            twice = sorted({item for item in items if items.count(item) > 1})
            if twice:
                raise ValueError(f"phases: {what} {', '.join(twice)} is used twice")
        return self

    def phase_specs(self) -> tuple[PhaseSpec, ...]:
        """The phases with colours and values filled in."""
        return tuple(
            PhaseSpec(
                phase.name,
                (phase.color or COLORS[index % len(COLORS)]).lower(),
                tuple(phase.values) if phase.values else (index if phase.value is None else phase.value,),
            )
            for index, phase in enumerate(self.phases or ())
        )

    def image_folders(self, base: Path) -> list[str]:
        """As stated, else `images` where that folder exists, else the folder itself."""
        if self.images is not None:
            return self.images
        return ["images"] if (base / "images").is_dir() else ["."]

    def mask_folders(self, base: Path) -> list[str]:
        """As stated (null: none), else `masks` where that folder exists."""
        if "masks" in self.model_fields_set:
            return self.masks or []
        return ["masks"] if (base / "masks").is_dir() else []


def read_domain_file(path: Path) -> DomainFile:
    """Parse and check a domain.yaml. Raises InputError with every problem, one a line."""
    content = read_yaml(path)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: is no list of `key: value` lines. Allowed keys: {', '.join(DomainFile.model_fields)}."
        )
    try:
        return DomainFile.model_validate(content)
    except ValidationError as error:
        found = problems(error, content, DomainFile)
        raise InputError(f"{path}:\n" + "\n".join(f"  {problem.text}" for problem in found)) from error


def expanded_path(text: str, base: Path, source: Path) -> Path:
    """`text` with `${NAME}` and `${NAME:-default}` replaced, relative to `base`.

    A relative value from the environment is relative to the working directory, as people set it in a shell.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if os.environ.get(name):
            return str(Path(os.environ[name]).absolute())
        if default is None:
            raise InputError(f"{source}: the environment variable {name} in {text!r} is not set.")
        return default

    return base / Path(_VARIABLE.sub(value, text)).expanduser()
