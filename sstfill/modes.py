# SPDX-License-Identifier: Apache-2.0
"""The EOF modes that DINEOF finds in a gappy series, without the filled field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import xarray as xr

from sstfill.fields.transform import Asked
from sstfill.fill import fill
from sstfill.methods import Dineof

PARTS = ("spatial_mode", "temporal_mode", "singular_value", "explained_variance")


def dineof_modes(
    data: xr.Dataset | xr.DataArray,
    method: Dineof | None = None,
    *,
    variables: str | Sequence[str] | None = None,
    together: bool = False,
    sea: xr.DataArray | None = None,
    transform: Asked = "none",
) -> xr.Dataset:
    """Decompose a gappy series into EOF modes.

    Parameters
    ----------
    data
        A gridded series, as for `sstfill.fill.fill`.
    method
        Options of the decomposition; `sstfill.methods.Dineof` with its defaults if left out.
    variables, together, sea
        As for `sstfill.fill.fill`.
    transform
        What is decomposed, as for `sstfill.fill.fill`; by default the values as they are.

    Returns
    -------
    Dataset
        For each variable ``v``: ``v_spatial_mode`` (mode and the spatial dims; unit norm),
        ``v_temporal_mode`` (mode, time; unit norm), ``v_singular_value`` (mode; units of the field)
        and ``v_explained_variance`` (mode; percent). NaN on land, and in modes beyond a variable's
        own count.

    Raises
    ------
    InputError, OptionError
        As `sstfill.fill.fill`.

    Examples
    --------
    >>> from sstfill.synthetic import ocean
    >>> found = dineof_modes(ocean(shape=(8, 12, 12), seed=1), Dineof(modes=3), variables="sst")
    >>> dict(found.sst_temporal_mode.sizes)
    {'mode': 3, 'time': 8}
    """
    wanted = replace(method or Dineof(), return_modes=True, outliers=False)
    filled = fill(
        data,
        wanted,
        variables=variables,
        together=together,
        sea=sea,
        score=False,
        transform=transform,
    )
    fields = [str(n) for n in filled.data_vars if f"{n}_{PARTS[0]}" in filled]
    kept = []
    for name in fields:
        kept += [f"{name}_{part}" for part in PARTS]
    modes = filled[kept]
    for name in fields:
        first = f"{name}_{PARTS[0]}"
        provenance = filled[name].attrs["sstfill_method"]
        modes[first] = modes[first].assign_attrs(sstfill_method=provenance)
    return modes
