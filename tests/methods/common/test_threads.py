# SPDX-License-Identifier: Apache-2.0
"""BLAS is held to one thread inside the context, and let go after it."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from sstfill.methods.common.threads import one_blas_thread


def blas() -> list[int]:
    return [
        library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    ]


def test_one_thread_inside_and_as_before_after():
    np.ones((2, 2)) @ np.ones((2, 2))
    before = blas()
    with one_blas_thread():
        assert set(blas()) == {1}
    assert blas() == before
