"""Fields that show one place: they are named, and counted once. ASTM E562 asks for fields that do not overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from microseg.deploy.report.records import FieldRecord


def repeated_files(records: Sequence[FieldRecord]) -> Mapping[str, str]:
    """Fields whose file is one of a field before them, with the reason, by their names.

    Args:
        records: the measured fields, in their order.
    """
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for record in records:
        known = first.setdefault(record.sha256, record.name)
        if known != record.name:
            found[record.name] = f"same file as {known}"
    return MappingProxyType(found)
