# SPDX-License-Identifier: Apache-2.0
"""Return memory to the system, where the GNU C library would keep it."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

M_MMAP_THRESHOLD = -3  # malloc.h of the GNU C library
LARGE_BLOCK = 1 << 22  # bytes


def return_large_blocks() -> None:
    """Have the C library return blocks of 4 MB and more to the system when they are freed.

    By default the library raises that limit to 32 MB as a program goes, and keeps what lies below:
    100 MB more at the peak of filling 700 images of 100,000 pixels.
    """
    mallopt = _from_c_library("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def return_freed_blocks() -> None:
    """Return the smaller blocks, too, that are free now: those of threads and between others.

    It takes milliseconds. Before and after a network filled m_20k_200 (18 MB), 100 MB lay so.
    """
    trim = _from_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _from_c_library(name: str) -> Any:
    """Return a function of the C library; None on another system or with another library."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)
