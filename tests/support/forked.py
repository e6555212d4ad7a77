# SPDX-License-Identifier: Apache-2.0
"""A call in a process of its own, forked from one that has imported what most of them need.

The fixture ``quick_workers`` says what that is; a Python that begins anew takes seconds to import.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any


def forked(target: Callable[..., Any], *args: Any, seconds: float = 120) -> int | None:
    """Return the exit status of the process, 0 if the call raised nothing."""
    process = multiprocessing.get_context("forkserver").Process(target=target, args=args)
    process.start()
    process.join(seconds)
    return process.exitcode
