"""Small tables that users write: CSV files with named columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from microseg.core.errors import InputError
from microseg.core.system.files import read_at_most

_MOST_BYTES = 16 << 20


def read_table(path: Path, columns: Sequence[str], option: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a small CSV file in UTF-8, by column, with their line numbers. Other columns are left out.

    Args:
        path: the file.
        columns: the columns that it must have.
        option: the option that names it, for messages.

    Raises:
        InputError: it cannot be read, is too large, lacks a column, or holds no row.
    """
    data = read_at_most(path, _MOST_BYTES, "a table of the fields alone", option)
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
