# SPDX-License-Identifier: Apache-2.0
"""What a method fitted to an archive makes of all its units."""

from __future__ import annotations

import xarray as xr

from sstfill.fields.patches import PatchGrid, Shape
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.sampling import windows


def filled(fitted: FittedMethod, archive: Archive, core: Shape) -> xr.Dataset:
    """Return mean and error of all units of an archive, side by side."""
    empty = xr.full_like(archive.obs, float("nan")).compute()
    out = xr.Dataset({name: empty.copy(deep=True) for name in ("mean", "error")})
    for window in windows(archive, PatchGrid(core=core, halo=fitted.halo)):
        found = fitted.estimate(window)
        for name in out:
            assert found[name].dims == window.obs.dims and found[name].shape == window.patch.shape
            out[name][window.patch.inside] = found[name].values
    return out
