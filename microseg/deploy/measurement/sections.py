"""The section of each field: fields of one section together give a fraction (ASTM E562 reports per section)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from microseg.core.errors import InputError
from microseg.core.system.files import unreadable

COLUMNS = ("field", "section")
_MOST_BYTES = 16 << 20
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


def read_table(path: Path, columns: Sequence[str], option: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a small CSV file in UTF-8, by column, with their line numbers. Other columns are left out.

    Args:
        path: the file.
        columns: the columns that it must have.
        option: the option that names it, for messages.

    Raises:
        InputError: it cannot be read, is too large, lacks a column, or holds no row.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) > _MOST_BYTES:
        raise InputError(
            f"{option} {path}: is larger than {_MOST_BYTES >> 20} MB. Remedy: a table of the fields alone."
        )
    try:
        text = data.decode("utf-8-sig")
        first = text.partition("\n")[0]
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
        heads = [head.strip() for head in rows.fieldnames or []]
        missing = [column for column in columns if column not in heads]
        if missing:
            raise InputError(
                f"{option} {path}: has no column {missing[0]!r} (its first line is {first.strip()[:80]!r}). Remedy: a first "
                f"line `{','.join(columns)}`."
            )
        rows.fieldnames = heads
        found = [(rows.line_num, {column: (row[column] or "").strip() for column in columns}) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{option} {path}: is no table in UTF-8 ({error}). Remedy: save it as CSV, UTF-8.") from error
    if not found:
        raise InputError(f"{option} {path}: holds no row. Remedy: one row for each field.")
    return found


def by_name_or_stem(table: Mapping[str, object], name: str) -> str | None:
    """The key of a table that means a field: its path, its file name, or either without suffix; None where none does.

    Args:
        table: what a user wrote, by field.
        name: the field's path below the input.
    """
    path = PurePosixPath(name)
    keys = (name, path.with_suffix("").as_posix(), path.name, path.stem)
    return next((key for key in keys if key in table), None)


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
