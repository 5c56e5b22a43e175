"""The C library's memory allocator: keep what is freed, instead of handing it back to the system after every step."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Let this process take freed memory again, for blocks of up to 1 GiB.

    glibc returns large blocks to the system as soon as they are free. The network's activations are such blocks: each step of
    training gets their pages anew, and the system fills every one with zeros first. Other
    C libraries stay as they are.

    Returns:
        Whether the C library has taken both settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all([mallopt(_M_MMAP_THRESHOLD, _LARGE), mallopt(_M_TRIM_THRESHOLD, _LARGE)])
