# SPDX-License-Identifier: Apache-2.0
"""A call in a process of its own, forked from one that has imported what most of them need.

The fixture ``quick_workers`` says what that is; a Python that begins anew takes seconds to import.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


@contextmanager
def talking(target: Callable[..., Any], *args: Any) -> Iterator[tuple[Any, Connection]]:
    """Begin a call that is given one end of a pipe besides; yield the process and the other end.

    At the end of the context nothing more comes through the pipe, and the process is waited for.
    """
    context = multiprocessing.get_context("forkserver")
    ours, its = context.Pipe()
    process = context.Process(target=target, args=(*args, its))
    process.start()
    # else the end of the process would not close the pipe
    its.close()
    try:
        with ours:
            yield process, ours
    finally:
        process.join(120)


def forked(target: Callable[..., Any], *args: Any, seconds: float = 120) -> int | None:
    """Return the exit status of the process, 0 if the call raised nothing."""
    process = multiprocessing.get_context("forkserver").Process(target=target, args=args)
    process.start()
    process.join(seconds)
    return process.exitcode
