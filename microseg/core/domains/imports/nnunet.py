"""nnU-Net's dataset.json: names of labels (https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md)."""

from __future__ import annotations

from pathlib import Path

from microseg.core.domains.imports.files import read_json
from microseg.core.errors import InputError


def read(path: Path) -> tuple[dict[str, int], int | None]:
    """Values by name of label, and the value of what is ignored.

    Args:
        path: the dataset.json, of version 1 (names by value) or 2 (values by name).

    Returns:
        Nothing where the file is missing, states no labels, or joins several values in one region.

    Raises:
        InputError: the file is no JSON.
    """
    if not path.is_file():
        return {}, None
    content = read_json(path)
    stated = content.get("labels") if isinstance(content, dict) else None
    values: dict[str, int] = {}
    for key, value in stated.items() if isinstance(stated, dict) else ():
        name, number = (value, int(key)) if isinstance(value, str) and key.isdecimal() else (key, value)
        if type(number) is not int or not 0 <= number <= 65535:
            return {}, None
        values[name] = number
    ignored = values.pop("ignore", None)
    if len(set(values.values()) - {ignored}) != len(values):
        raise InputError(
            f"{path}: two of its labels have one value. Remedy: correct it, or state `phases` in domain.yaml."
        )
    return values, ignored
