"""Environment variables that hold while a library is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def variable_if_unset(name: str, value: str) -> Iterator[None]:
    """Set an environment variable within a block, unless the user has set it. Afterwards it is unset again.

    Args:
        name: The variable.
        value: Its value within the block.
    """
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
