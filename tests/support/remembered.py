# SPDX-License-Identifier: Apache-2.0
"""Costly functions: called once for each content of their arguments, or made cheap."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what `function` returned before for arguments of the same bytes.

    Arguments that differ in any bit, and no others, are computed anew; ``__wrapped__`` computes
    each time.
    """
    results: dict[bytes, Any] = {}

    @wraps(function)
    def lookup(*args: Any, **kwargs: Any) -> Any:
        key = hashlib.sha256(pickle.dumps((args, kwargs))).digest()
        if key not in results:
            results[key] = function(*args, **kwargs)
        return results[key]

    return lookup


@contextmanager
def fits_with(**effort: int) -> Iterator[None]:
    """Fit covariances with another effort than `sstfill.methods.oi.covariance_fit.FitEffort`'s."""
    from sstfill.methods.oi import covariance_fit

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(covariance_fit, "EFFORT", covariance_fit.FitEffort(**effort))
        yield


@contextmanager
def clouds_among(candidates: int) -> Iterator[None]:
    """Choose each withheld cloud among so many, see `sstfill.validation.withholding.runs`."""
    from sstfill.validation.withholding import runs

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "CANDIDATES", candidates)
        yield
