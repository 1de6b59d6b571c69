"""Process-level switches for CPUs. Commands set them when they start; MM_MHMOE_NO_SWITCHES leaves them alone."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

OFF = "MM_MHMOE_NO_SWITCHES"
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h
_set: list[str] = []


def keep_large_buffers() -> bool:
    """Tells glibc to keep freed memory instead of giving it back after every large tensor. True if it was done.

    A CPU training step allocates the same buffers again and again; without this each one is faulted in page by page.
    Must come before the first tensor. Nothing changes where the C library is not glibc.
    """
    if os.environ.get(OFF) or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    done = bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_TOP_PAD, 64 << 20))
    if done:
        _note("malloc keeps large buffers")
    return done


def fast_fp32_products() -> bool:
    """Lets torch hand fp32 matrix products to oneDNN, where they then stay fp32. True if it was done.

    The setting allows bf16 inside fp32 products. oneDNN uses that on processors with AMX only; on others it just has
    the faster kernels. So it is tried, and taken back where the products lose precision.
    """
    import torch

    if os.environ.get(OFF) or not torch.backends.mkldnn.is_available():
        return False
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if not hasattr(matmul, "fp32_precision"):  # an older torch
        return False
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    seed = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=seed, dtype=torch.float64).float() for _ in range(2))
    true = a.double() @ b.double()
    if (a @ b - true).norm() > 1e-6 * true.norm():  # fp32: 3e-7; bf16: 2e-3
        matmul.fp32_precision = before
        return False
    _note("fp32 products by oneDNN")
    return True


def _note(switch: str) -> None:
    if switch not in _set:
        _set.append(switch)


def switches() -> str:
    """The switches that are set in this process, for logs."""
    return ", ".join(_set) or "no process switches"
