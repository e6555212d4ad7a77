# SPDX-License-Identifier: Apache-2.0
"""Compile a kernel with Numba, and keep the machine code where there is a folder to write to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate: compile without the interpreter's lock, with more `options` of ``numba.njit``.

    Kernels that call each other become one. Else the process that compiles them would link those
    that it has compiled already, and a later one the copies that are kept: each optimised, and
    rounding, in its own way.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(nogil=True, cache=True, forceinline=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written to
            return numba.njit(nogil=True, forceinline=True, **options)(function)

    return decorate
