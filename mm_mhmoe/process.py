"""Process-level switches, set before the first tensor."""

from __future__ import annotations

import ctypes
import os
import sys

OFF = "MM_MHMOE_NO_MALLOC"
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def keep_large_buffers() -> bool:
    """Tells glibc to keep freed memory instead of giving it back after every large tensor.

    A CPU training step allocates the same buffers again and again; without this each one is faulted in page by page.
    Nothing changes where the C library is not glibc, or where MM_MHMOE_NO_MALLOC is set. True if it was done.
    """
    if os.environ.get(OFF) or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_TOP_PAD, 64 << 20))
