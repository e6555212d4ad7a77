# SPDX-License-Identifier: Apache-2.0
"""How many BLAS threads a decomposition is worth: many small products cost more in waiting than they win."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

WORTH_IT = 20_000_000
"""Matrices with fewer values than this are handled by one thread."""


@contextmanager
def blas_threads(values: int) -> Iterator[None]:
    """Use one BLAS thread for a matrix of so many `values` if it is small; else whatever is configured."""
    with threadpool_limits(limits=1 if values < WORTH_IT else None, user_api="blas"):
        yield
