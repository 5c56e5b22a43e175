"""The allocator keeps freed memory where it is told to."""

import subprocess
import sys

import pytest

_SCRIPT = """
import resource
import numpy as np
from microseg.core.system.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.full(50_000_000, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
usual = faults()
is_kept = keep_freed_memory()
faults()
print(is_kept, usual, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator is glibc's")
def test_freed_blocks_are_taken_again_without_new_pages() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True)
    is_kept, usual, kept = done.stdout.split()
    if is_kept == "False":
        pytest.skip("this C library has no such settings")
    # 50 MB are 12,207 pages of 4 KiB, or 24 huge ones.
    assert int(usual) >= 4 * 24
    assert int(kept) < 20
