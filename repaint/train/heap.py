"""Memory of a process that asks for the same large pieces again and again."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc
NEVER = -1


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed for the next step, and not give it back to the system; whether it can.

    A training step on a CPU frees hundreds of megabytes and asks for them again; glibc hands large pieces back at
    once, and the system clears every page anew (`benchmarks/training.py`). Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return bool(mallopt is not None and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER))
