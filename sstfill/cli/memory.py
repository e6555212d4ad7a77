# SPDX-License-Identifier: Apache-2.0
"""Give large arrays back to the system as soon as they are freed."""

from __future__ import annotations

import ctypes
import sys

M_MMAP_THRESHOLD = -3  # malloc.h of the GNU C library
LARGE = 1 << 22  # bytes


def return_large_blocks() -> None:
    """Have the GNU C library map blocks from 4 MB on one by one, so that freeing one returns it;
    elsewhere do nothing.

    By default the library raises that limit to 32 MB as a program goes, and keeps what lies below:
    100 MB more at the peak of filling 700 images of 100,000 pixels.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, LARGE)
