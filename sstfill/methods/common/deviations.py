# SPDX-License-Identifier: Apache-2.0
"""Members about the estimate of one or several methods, from the draws of one of them.

A blend has a mean and an error, but no distribution to draw from. Its members are its mean, and the
deviations of a method that draws, scaled pixel by pixel to the error of the blend: they have the
spread that the blend states, and are correlated as the errors of that method are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import OptionError
from sstfill.fields.ancillary import MEMBER
from sstfill.methods.common.keyed import keyed_normals

COMMON = 731
"""What is drawn where a method has no draw: a key of its numbers."""


def check_error(estimate: xr.Dataset, names: Sequence[str]) -> None:
    """Raise `OptionError` where none of the methods that fill states an error to draw by."""
    if "error" not in estimate:
        raise OptionError(
            f"members are drawn by the error of a fill, and {' and '.join(names)}, which was "
            "chosen, states none; fill without members, or name other methods to try"
        )


def about(estimate: xr.Dataset, drawn: xr.Dataset, obs: xr.DataArray, seed: int) -> xr.Variable:
    """Draw members about an estimate, dims ``("member", *obs.dims)``; lazy where `obs` is.

    Where the method that draws has no estimate, as at pixels never observed, nothing tells how
    errors are correlated: all such pixels and times share one number in each member, so that the
    error of a mean over them is rather too large than too small.

    Parameters
    ----------
    estimate
        ``mean`` and ``error`` of what fills.
    drawn
        ``mean``, ``error`` and ``members`` of the method that draws.
    obs
        What both were made from.
    seed
        Of the shared numbers.
    """
    # By position, so all need their dims in one order.
    own = drawn["members"].transpose(MEMBER, *obs.dims)
    members = own.sizes[MEMBER]
    fields = (estimate["mean"], estimate["error"], drawn["mean"], drawn["error"])
    parts = [field.transpose(*obs.dims) for field in fields]
    if obs.chunks:
        own = own.chunk(obs.chunksizes)
        parts = [part.chunk(obs.chunksizes) for part in parts]
    # Keyed by the member alone: more members do not change those before.
    shared = [keyed_normals((seed, COMMON), [k], [0])[0, 0] for k in range(members)]
    common = xr.DataArray(np.array(shared), dims=MEMBER)
    found = xr.apply_ufunc(
        _about,
        own,
        common,
        *parts,
        join="override",
        dask="parallelized",
        output_dtypes=[estimate["mean"].dtype],
        keep_attrs=False,
    )
    laid_out = found.variable.transpose(MEMBER, *obs.dims)
    # How far the deviations are correlated.
    laid_out.attrs = dict(own.attrs)
    return laid_out


def _about(
    draws: NDArray,
    common: NDArray,
    mean: NDArray,
    error: NDArray,
    own_mean: NDArray,
    own_error: NDArray,
) -> NDArray:
    """Scale deviations of draws ``(member, ...)`` to another error, about another mean."""
    out = np.empty(draws.shape, mean.dtype)
    # A blend states no error where only methods without one have an estimate.
    size = np.where(np.isfinite(error), error, own_error)
    # Where the method that draws has an error of 0 or none, the quotient is replaced below.
    with np.errstate(divide="ignore", invalid="ignore"):
        for member, draw in enumerate(draws):
            standard = (draw - own_mean) / own_error
            standard = np.where(np.isfinite(standard), standard, common[member])
            out[member] = mean + standard * size
    return out
