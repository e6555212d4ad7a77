# SPDX-License-Identifier: Apache-2.0
"""A surface some of whose observations are hidden, for the tests of a module that has a fixture ``surface``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from sstfill import gaps
from sstfill.methods import oi as in_memory
from sstfill.pinned import oi


@pytest.fixture(scope="module")
def sea(surface) -> xr.DataArray:
    return surface.sea.astype(bool)


@pytest.fixture(scope="module")
def hidden(surface, sea) -> NDArray[np.bool_]:
    return gaps.transplant_clouds(surface.sst, sea, share=0.1, seed=5).values


@pytest.fixture(scope="module")
def seen(surface, hidden) -> xr.DataArray:
    return surface.sst.where(~hidden)


@pytest.fixture(scope="module")
def settled(seen, sea) -> Iterator[None]:
    """One fit of the covariance serves all."""
    fitted = in_memory.fit(seen, sea, "auto", ["additive"], in_memory.Oi()._fixed(), 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(in_memory, "fit", lambda *_: fitted)
        patched.setattr(oi, "fit", lambda *_: fitted)
        yield
