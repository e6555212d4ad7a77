# SPDX-License-Identifier: Apache-2.0
"""BLAS is held to one thread inside the context, and let go after it; so are threads of our own."""

from __future__ import annotations

import threading

import numpy as np
from threadpoolctl import threadpool_info

from sstfill.methods.common.threads import available_cores, cores, in_threads, one_blas_thread


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


def test_cores_are_limited_inside_and_as_before_after():
    before = available_cores()
    with cores(before + 1):
        assert available_cores() == before + 1
        with cores(1):
            assert available_cores() == 1
            assert len(set(in_threads(lambda _: threading.get_ident(), range(20)))) == 1
        assert available_cores() == before + 1
    assert available_cores() == before
