# SPDX-License-Identifier: Apache-2.0
"""Progress bars for long work, shown only where a caller asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
_SHOWN: ContextVar[bool] = ContextVar("sstfill_progress", default=False)


@contextmanager
def shown(on: bool = True) -> Iterator[None]:
    """Show progress bars on standard error inside this context."""
    token = _SHOWN.set(on)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    so_far: Callable[[], str] | None = None,
) -> Iterator[T]:
    """Iterate over `items` behind a progress bar, if bars are `shown`.

    `so_far` tells, before each item, what the work has found: it stands at the end of the bar.
    """
    if not _SHOWN.get():
        yield from items
        return
    from tqdm.auto import tqdm

    bar = tqdm(items, desc=description, total=total, leave=False)
    for item in bar:
        if so_far is not None:
            bar.set_postfix_str(so_far())
        yield item
