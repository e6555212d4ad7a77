# SPDX-License-Identifier: Apache-2.0
"""Where the sea is: masks of either polarity, flagged or not, found in a dataset and matched to a
field's grid.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from sstfill.errors import InputError
from sstfill.fields.grid import Axes, axes

log = logging.getLogger(__name__)

SEA = ("sea_mask", "seamask", "ocean_mask", "sea_binary_mask", "mask", "sea")
LAND = ("land_sea_mask", "land_binary_mask", "landmask", "land_mask", "lsm", "land")
VAGUE = (
    "mask",
    "sea",
    "land",
)  # may mean anything: what varies in time is no sea, but perhaps cloud


def sea_mask(field: xr.DataArray, sea: xr.DataArray | None = None) -> xr.DataArray:
    """Boolean sea over the two spatial dims of a standardised field; by default what is observed at
    least once.

    `sea` is bool, 0 to 1 (0 or NaN is land), or carries CF ``flag_meanings`` in which sea or water
    is told from land (a cell flagged both is land; lakes, which OSTIA flags as water, are kept).
    Dims come in any order; with time, sea at any step counts. Cells are matched by latitude and
    longitude where both have them (any orientation, longitudes modulo 360, `sea` may be larger),
    else by shape; `InputError` tells both shapes.
    """
    spatial = field.dims[-2:]
    if sea is None:
        seen = field.notnull().any([d for d in field.dims if d not in spatial])
        return seen.drop_attrs().rename("sea")
    wet = _as_sea(sea)
    found = axes(wet, time=False)
    wet = wet.any([d for d in wet.dims if d not in found.dims]).transpose(*found.dims)
    values = _matched(wet, found, field)
    if values.shape != field.shape[-2:]:
        raise InputError(
            f"sea mask of shape {wet.shape} does not lie on the field's grid of shape {field.shape[-2:]}; "
            "regrid it: sea.interp_like(field, method='nearest')"
        )
    coords = {n: c for n, c in field.coords.items() if set(c.dims) <= set(spatial)}
    return xr.DataArray(values, coords=coords, dims=spatial, name="sea")


def _as_sea(mask: xr.DataArray, *, land: bool = False) -> xr.DataArray:
    """Read a mask of either polarity (`land`: nonzero is land) as True at sea."""
    if mask.dtype == bool:
        return ~mask if land else mask
    if str(mask.attrs.get("flag_meanings", "")).strip():
        return _flagged_sea(mask)
    values = mask.fillna(0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise InputError(
            f"mask {str(mask.name)!r} holds {low:g} to {high:g}; give 1 at sea and 0 on land, "
            "or flag_meanings"
        )
    return values < 0.5 if land else values != 0


def _flagged_sea(mask: xr.DataArray) -> xr.DataArray:
    words = [set(w.split("_")) for w in str(mask.attrs["flag_meanings"]).lower().split()]
    bits = "flag_masks" in mask.attrs
    flags = mask.attrs.get("flag_masks", mask.attrs.get("flag_values", ""))
    numbers = np.array(
        re.findall(r"-?\d+", flags) if isinstance(flags, str) else np.atleast_1d(flags)
    ).astype(np.int64)
    wet = [
        n
        for n, w in zip(numbers, words, strict=False)
        if w & {"sea", "water", "ocean"} and "land" not in w
    ]
    dry = [n for n, w in zip(numbers, words, strict=False) if "land" in w]
    if not wet and not dry:
        raise InputError(
            f"mask {str(mask.name)!r} flags neither sea nor land but "
            f"{mask.attrs['flag_meanings']!r}; give sea=... as 1 at sea, 0 on land"
        )
    values = mask.fillna(0).astype(np.int64)
    is_wet, is_dry = (_any_flag(values, n) if bits else values.isin(n) for n in (wet, dry))
    return (is_wet if wet else mask.notnull()) & ~is_dry


def _any_flag(values: xr.DataArray, flags: list[np.int64]) -> xr.DataArray:
    return (values & int(np.bitwise_or.reduce(flags) if flags else 0)) != 0


def _matched(wet: xr.DataArray, found: Axes, field: xr.DataArray) -> Any:
    """Cells of `wet` at those of `field`: by coordinates if both are rectilinear, else as they lie."""
    flat = found.lat is not None and (*wet[found.lat].dims, *wet[found.lon].dims) == found.dims
    if not flat or field.dims[-2:] != ("lat", "lon"):
        return wet.data
    rows = _nearest(field["lat"].values, wet[found.lat].values, 0.0)
    columns = _nearest(field["lon"].values, wet[found.lon].values, 360.0)
    if rows is None or columns is None:
        here, there = (
            f"{_range(a, y)}, {_range(a, x)}"
            for a, y, x in ((wet, *found[2:]), (field, "lat", "lon"))
        )
        raise InputError(
            f"sea mask {wet.shape} over {here} does not cover the field {field.shape[-2:]} over {there}; "
            "regrid it: sea.interp_like(field, method='nearest')"
        )
    return wet.isel({found.dims[0]: rows, found.dims[1]: columns}).data


def _range(da: xr.DataArray, name: Hashable) -> str:
    return f"{name} {float(da[name].min()):g}..{float(da[name].max()):g}"


def _nearest(want: np.ndarray, have: np.ndarray, period: float) -> np.ndarray | None:
    """Index into `have` of each of `want`; None if one lies further off than a quarter of a cell."""
    want, have = (
        v.astype(np.float64) % period if period else v.astype(np.float64) for v in (want, have)
    )
    order = np.argsort(have)
    right = np.searchsorted(have[order], want)
    near = order[
        np.stack([right - 1, right % have.size])
    ]  # the neighbours below and above, round the circle
    gap = np.abs(want - have[near])
    gap = np.minimum(gap, period - gap) if period else gap
    step = float(np.median(np.diff(have[order]))) if have.size > 1 else 1.0
    return (
        near[gap.argmin(axis=0), np.arange(want.size)]
        if gap.min(axis=0).max() <= step / 4
        else None
    )


def find_sea(ds: xr.Dataset) -> xr.DataArray | None:
    """Sea mask that a dataset brings along, True at sea; None if there is none.

    Looked for by standard name (``sea_binary_mask``, ``land_binary_mask``), then by the names of
    `SEA` (nonzero is sea) and `LAND`: in ``land_sea_mask``, ``lsm`` and the like **1 is land**, as
    in ECMWF's; a share of land of one half or more is land. ``flag_meanings`` overrule the name.
    Masks that flag something else, such as clouds, are passed over; so is what is called no more
    than ``mask``, ``sea`` or ``land``, flags nothing, and varies in time.

    >>> ds = xr.Dataset({"lsm": (("y", "x"), np.array([[0, 1]]))})
    >>> find_sea(ds).values.tolist()
    [[True, False]]
    """
    roles = {"sea_binary_mask": False, "land_binary_mask": True}
    ranks = [*roles, *SEA, *LAND]
    named = [
        (str(ds[n].attrs.get("standard_name", n)).lower(), n)
        for n in ds.variables
        if ds[n].ndim >= 2
    ]
    keyed = [(k if k in roles else str(n).lower(), n) for k, n in named]
    for key, name in sorted((k for k in keyed if k[0] in ranks), key=lambda k: ranks.index(k[0])):
        meanings = str(ds[name].attrs.get("flag_meanings", "")).lower()
        if key in VAGUE and not meanings and _varies(ds[name]):
            log.info(
                "%s varies in time and flags nothing; not taken for the sea: pass sea=... if it is",
                name,
            )
        elif not meanings or re.search("sea|water|ocean|land", meanings):
            log.info("sea taken from %s of the data", name)
            return _as_sea(ds[name], land=roles.get(key, key in LAND))
    return None


def _varies(mask: xr.DataArray) -> bool:
    """Whether a mask differs along any but its two spatial dims."""
    if mask.ndim < 3 or not mask.size:
        return False
    first = {d: 0 for d in mask.dims if d not in axes(mask, time=False).dims}
    values = mask.fillna(0)
    return bool((values != values.isel(first, drop=True)).any())
