"""The extra `archive`: Parquet through pyarrow, imported where an archive is asked for and nowhere else."""

from __future__ import annotations

from types import ModuleType

from microseg.core.errors import MissingExtraError


def arrow() -> tuple[ModuleType, ModuleType]:
    """Pyarrow and pyarrow.parquet. Raises MissingExtraError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("A field list", "archive") from error
    return pyarrow, pyarrow.parquet
