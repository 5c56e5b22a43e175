"""The domain.yaml that a folder needs, written for the user to correct."""

from __future__ import annotations

import os
from pathlib import Path

from microseg.core.domains.domain import load_domain
from microseg.core.domains.domain_file import DomainFile, domain_file_in
from microseg.core.domains.imports.finding import ONE_IMAGE
from microseg.core.domains.inference import ProposalError, phases_text, yaml_text
from microseg.core.domains.label_places import label_places
from microseg.core.errors import InputError
from microseg.core.system.files import write_text

_HEAD = "# Proposed by `microseg check --write-yaml`. Correct the names, and what else is wrong.\n"


def write_domain_file(folder: Path) -> Path:
    """Write the domain.yaml of a folder that has none.

    Args:
        folder: the domain folder.

    Returns:
        The file.

    Raises:
        InputError: the folder has one, is none, or cannot be understood without one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder. Remedy: give --write-yaml the folder of the domain.")
    existing = domain_file_in(folder)
    if existing is not None:
        raise InputError(f"{existing}: is there already. Remedy: correct it, or remove it and repeat the command.")
    text = _HEAD + _places_text(folder) + _phases_of(folder)
    write_text(folder / "domain.yaml", text)
    return folder / "domain.yaml"


def _places_text(folder: Path) -> str:
    """The keys that say where images and labels are."""
    content = DomainFile()
    images = [folder / name for name in content.image_folders(folder)]
    places = label_places(folder, content, images)
    masks = places.masks
    if places.files is not None:
        files = places.files.files
        masks = list(files) if len(files) == 1 and places.files.format not in ONE_IMAGE else [places.files.root]
    lines = [_line("images", folder, images), _line("masks", folder, masks)]
    if places.suffix:
        lines.append(f"mask_suffix: {yaml_text(places.suffix)}\n")
    return "".join(lines)


def _line(key: str, folder: Path, paths: list[Path]) -> str:
    names = [Path(os.path.relpath(path, folder)).as_posix() for path in paths]
    told = ", ".join(map(yaml_text, names))
    return f"{key}: {'null' if not names else told if len(names) == 1 else f'[{told}]'}\n"


def _phases_of(folder: Path) -> str:
    """The keys that say what the labels are; nothing for images without labels."""
    try:
        domain = load_domain(folder)
    except ProposalError as error:
        return error.text
    if not domain.phases:
        return ""
    text = "".join(f"# {notice}\n" for notice in domain.notices)
    text += "" if domain.labels == "masks" else f"labels: {domain.labels}\n"
    text += phases_text([(phase.name, value, None) for phase in domain.phases for value in phase.values])
    return text if domain.unlabelled is None else f"{text}unlabelled: {yaml_text(domain.unlabelled)}\n"
