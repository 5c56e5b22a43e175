"""The section of each field: fields of one section together give a fraction (ASTM E562 reports per section)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from microseg.core.errors import InputError
from microseg.core.system.csv_table import by_name_or_stem, read_table

COLUMNS = ("field", "section")
_LISTED = 3
_MOST_NAME = 200


def sections_of(names: Sequence[str], title: str, rule: str | None = None) -> dict[str, str]:
    """The section of each field, by the field's name.

    Args:
        names: the fields' paths below the input, posix.
        title: the input's name: the section of fields that lie in no folder.
        rule: a CSV file with the columns field and section, or a regular expression with one group that is the section, which
            is searched in the field's path without suffix. None: the folder of each field is its section.

    Raises:
        InputError: a rule that cannot be used, or that gives a field no section.
    """
    if rule is None:
        folders = {name: PurePosixPath(name).parent.as_posix() for name in names}
        # A folder may have the input's name.
        top = title if title and title not in folders.values() else "."
        return {name: top if folder == "." else folder for name, folder in folders.items()}
    if rule.lower().endswith(".csv"):
        return _by_table(names, read_sections(Path(rule)), rule)
    return _by_pattern(names, rule)


def read_sections(path: Path) -> dict[str, str]:
    """The table of a CSV file with the columns field and section. Semicolons may separate them. Raises InputError."""
    rows = read_table(path, COLUMNS, "--sections")
    found: dict[str, str] = {}
    for number, row in rows:
        field, section = row["field"], row["section"]
        if not field or not section:
            raise InputError(f"{path}: line {number} has no {'field' if not field else 'section'}. Remedy: fill it in.")
        if found.setdefault(field, section) != section:
            raise InputError(
                f"{path}: {field!r} is in the sections {found[field]!r} and {section!r} (line {number}). Remedy: keep one."
            )
    return found


def _by_table(names: Sequence[str], table: Mapping[str, str], rule: str) -> dict[str, str]:
    keys = {name: by_name_or_stem(table, name) for name in names}
    _require_all(f"--sections {rule}", [name for name, key in keys.items() if key is None], "a row for each field")
    return {name: table[key] for name, key in keys.items() if key is not None}


def _by_pattern(names: Sequence[str], rule: str) -> dict[str, str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InputError(f"--sections {rule}: is no regular expression ({error}). Remedy: such as '^(.+)_'.") from error
    if pattern.groups != 1:
        raise InputError(
            f"--sections {rule}: has {pattern.groups} groups. Remedy: a regular expression with one group in brackets, the "
            "section, such as '^(.+)_'."
        )
    found: dict[str, str] = {}
    for name in names:
        match = pattern.search(PurePosixPath(name).with_suffix("").as_posix()[-_MOST_NAME:])
        if match is not None and match[1]:
            found[name] = match[1]
    missing = [name for name in names if name not in found]
    _require_all(f"--sections {rule}", missing, "a regular expression that finds a section in each path")
    return found


def _require_all(option: str, missing: Sequence[str], remedy: str) -> None:
    if missing:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise InputError(f"{option}: gives no section to {', '.join(missing[:_LISTED])}{more}. Remedy: {remedy}.")
