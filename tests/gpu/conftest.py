"""Everything here needs an NVIDIA GPU and is skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest

from microseg.core.errors import MissingExtraError
from microseg.runtime.tensorrt.device import GpuInfo, find_gpu


@pytest.fixture(scope="session")
def gpu() -> GpuInfo:
    """The first device; skips the test where there is none."""
    try:
        found = find_gpu("tensorrt-rtx")
    except MissingExtraError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error}")
    if found is None:
        pytest.skip("needs an NVIDIA GPU, and there is none here")
    return found
