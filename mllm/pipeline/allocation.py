"""Memory of a process that computes on the CPU: what tensors leave free is used again, not given back to the kernel.

glibc gives large blocks back as soon as they are free, and the kernel clears each page of the next one: in training, a
tenth of the time of a step (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Source: mallopt(3), <malloc.h>."""
INT_MAX = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have this process, and those it forks, keep what it frees; False where the C library is not glibc.

    The process then stays as large as it ever was.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # no block is mapped by itself, and the heap is never cut
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, INT_MAX))
