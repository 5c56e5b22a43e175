"""The section of each field: fields of one section together give a fraction (ASTM E562 reports per section)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
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
        folders = {name: folder_of(name) for name in names}
        top = top_section(title, set(folders.values()))
        return {name: top if folder == "." else folder for name, folder in folders.items()}
    section_of = section_rule(rule)
    found = {name: section_of(name) for name in names}
    require_sections(rule, [name for name, section in found.items() if section is None])
    return {name: section for name, section in found.items() if section is not None}


def folder_of(name: str) -> str:
    """The folder of a field, "." for none: its section where no rule gives one."""
    return PurePosixPath(name).parent.as_posix()


def top_section(title: str, folders: Collection[str]) -> str:
    """The section of fields that lie in no folder.

    Args:
        title: the input's name.
        folders: the folders of all fields.
    """
    # A folder may have the input's name.
    return title if title and title not in folders else "."


def section_rule(rule: str) -> Callable[[str], str | None]:
    """What gives a field its section by its name; None where the rule gives none.

    Args:
        rule: as in `sections_of`.

    Raises:
        InputError: it cannot be used.
    """
    if rule.lower().endswith(".csv"):
        table = read_sections(Path(rule))

        def by_table(name: str) -> str | None:
            key = by_name_or_stem(table, name)
            return None if key is None else table[key]

        return by_table
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InputError(f"--sections {rule}: is no regular expression ({error}). Remedy: such as '^(.+)_'.") from error
    if pattern.groups != 1:
        raise InputError(
            f"--sections {rule}: has {pattern.groups} groups. Remedy: a regular expression with one group in brackets, the "
            "section, such as '^(.+)_'."
        )

    def by_pattern(name: str) -> str | None:
        match = pattern.search(PurePosixPath(name).with_suffix("").as_posix()[-_MOST_NAME:])
        return match[1] or None if match is not None else None

    return by_pattern


def require_sections(rule: str, missing: Sequence[str], count: int | None = None) -> None:
    """Raise InputError where a rule gives no section to fields.

    Args:
        rule: the rule.
        missing: names of such fields, or the first of them.
        count: number of such fields; None for that of `missing`.
    """
    if missing:
        total = count or len(missing)
        more = f" and {total - _LISTED} more" if total > _LISTED else ""
        is_table = rule.lower().endswith(".csv")
        remedy = "a row for each field" if is_table else "a regular expression that finds a section in each path"
        raise InputError(
            f"--sections {rule}: gives no section to {', '.join(missing[:_LISTED])}{more}. Remedy: {remedy}."
        )


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
