# SPDX-License-Identifier: Apache-2.0
"""Progress bars for long work, shown only where a caller asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate over `items` behind a progress bar, if bars are `shown`."""
    if not _SHOWN.get():
        yield from items
        return
    from tqdm.auto import tqdm

    yield from tqdm(items, desc=description, total=total, leave=False)
