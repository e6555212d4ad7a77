# SPDX-License-Identifier: Apache-2.0
"""Where the sea is: masks of either polarity, found in a dataset and matched to a field's grid."""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from sstfill.errors import InputError
from sstfill.fields.grid import Axes, axes, is_rectilinear

log = logging.getLogger(__name__)

SEA = ("sea_mask", "seamask", "ocean_mask", "sea_binary_mask", "mask", "sea")
LAND = ("land_sea_mask", "land_binary_mask", "landmask", "land_mask", "lsm", "land")
# Names that may mean anything: a mask of such a name that varies in time may be one of clouds.
VAGUE = ("mask", "sea", "land")


def sea_mask(field: xr.DataArray, sea: xr.DataArray | None = None) -> xr.DataArray:
    """Boolean sea mask over the two spatial dims of a standardised field, True at sea.

    Parameters
    ----------
    field
        A standardised field, NaN in the gaps.
    sea
        A mask: bool, 0 to 1 (0 or NaN is land), or with CF ``flag_meanings`` that distinguish sea
        or water from land (a cell flagged as both is land; lakes, which OSTIA flags as water, are
        kept). Dims come in any order; with time, sea at any step counts. By default the pixels that
        are observed at least once.

        Cells are matched by latitude and longitude where both have them (any orientation,
        longitudes modulo 360, `sea` may be larger), else by shape.

    Raises
    ------
    InputError
        `sea` holds other values, or does not cover the field.
    """
    spatial = field.dims[-2:]
    if sea is None:
        observed = field.notnull().any([d for d in field.dims if d not in spatial])
        return observed.drop_attrs().rename("sea")
    mask = _as_sea(sea)
    found = axes(mask, time=False)
    mask = mask.any([d for d in mask.dims if d not in found.dims]).transpose(*found.dims)
    values = _matched(mask, found, field)
    if values.shape != field.shape[-2:]:
        raise InputError(
            f"sea mask of shape {mask.shape} does not lie on the field's grid of shape "
            f"{field.shape[-2:]}; regrid it: sea.interp_like(field, method='nearest')"
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
    """Read a mask with CF ``flag_meanings`` as True at sea."""
    flags = mask.attrs.get("flag_masks", mask.attrs.get("flag_values", ""))
    if isinstance(flags, str):
        flags = re.findall(r"-?\d+", flags)
    numbers = np.atleast_1d(np.array(flags)).astype(np.int64)
    meanings = str(mask.attrs["flag_meanings"]).lower().split()
    sea, land = [], []
    for number, meaning in zip(numbers, meanings, strict=False):
        parts = set(meaning.split("_"))
        if "land" in parts:
            land.append(number)
        elif parts & {"sea", "water", "ocean"}:
            sea.append(number)
    if not sea and not land:
        raise InputError(
            f"mask {str(mask.name)!r} flags neither sea nor land but "
            f"{mask.attrs['flag_meanings']!r}; give sea=... as 1 at sea, 0 on land"
        )
    at_sea = _has_flag(mask, sea) if sea else mask.notnull()
    return at_sea & ~_has_flag(mask, land)


def _has_flag(mask: xr.DataArray, flags: list[np.int64]) -> xr.DataArray:
    """Whether any of the flags is set: a bit of ``flag_masks``, or the value itself."""
    values = mask.fillna(0).astype(np.int64)
    if "flag_masks" not in mask.attrs:
        return values.isin(flags)
    bits = int(np.bitwise_or.reduce(flags)) if flags else 0
    return (values & bits) != 0


def _matched(mask: xr.DataArray, found: Axes, field: xr.DataArray) -> Any:
    """Values of `mask` at the cells of `field`, by coordinates if both are rectilinear.

    Else they are taken as they lie.
    """
    if not is_rectilinear(mask, found) or field.dims[-2:] != ("lat", "lon"):
        return mask.data
    rows = _nearest(field["lat"].values, mask[found.lat].values, 0.0)
    columns = _nearest(field["lon"].values, mask[found.lon].values, 360.0)
    if rows is None or columns is None:
        here = f"{_range(mask, found.lat)}, {_range(mask, found.lon)}"
        there = f"{_range(field, 'lat')}, {_range(field, 'lon')}"
        raise InputError(
            f"sea mask {mask.shape} over {here} does not cover the field {field.shape[-2:]} over "
            f"{there}; regrid it: sea.interp_like(field, method='nearest')"
        )
    return mask.isel({found.dims[0]: rows, found.dims[1]: columns}).data


def _range(da: xr.DataArray, name: Hashable) -> str:
    return f"{name} {float(da[name].min()):g}..{float(da[name].max()):g}"


def _nearest(wanted: np.ndarray, given: np.ndarray, period: float) -> np.ndarray | None:
    """Index into `given` of each of `wanted`; None if one is over a quarter of a cell away.

    A `period` of 0 is none.
    """
    wanted, given = wanted.astype(np.float64), given.astype(np.float64)
    if period:
        wanted, given = wanted % period, given % period
    order = np.argsort(given)
    above = np.searchsorted(given[order], wanted)
    # Both neighbours; past the last comes the first, which is right on a circle and harmless else.
    neighbours = order[np.stack([above - 1, above % given.size])]
    distance = np.abs(wanted - given[neighbours])
    if period:
        distance = np.minimum(distance, period - distance)
    cell = float(np.median(np.diff(given[order]))) if given.size > 1 else 1.0
    if distance.min(axis=0).max() > cell / 4:
        return None
    return neighbours[distance.argmin(axis=0), np.arange(wanted.size)]


def find_sea(ds: xr.Dataset) -> xr.DataArray | None:
    """Find the sea mask of a dataset, True at sea; None if there is none.

    Masks are found by standard name (``sea_binary_mask``, ``land_binary_mask``), then by the names
    of `SEA` (nonzero is sea) and `LAND`: in ``land_sea_mask``, ``lsm`` and the like **1 is land**,
    as in ECMWF's; a land fraction of one half or more is land. ``flag_meanings`` overrule the name.
    Masks that flag something else, such as clouds, are skipped; so is a variable called no more
    than ``mask``, ``sea`` or ``land`` that flags nothing and varies in time.

    >>> ds = xr.Dataset({"lsm": (("y", "x"), np.array([[0, 1]]))})
    >>> find_sea(ds).values.tolist()
    [[True, False]]
    """
    roles = {"sea_binary_mask": False, "land_binary_mask": True}
    ranks = [*roles, *SEA, *LAND]
    masks = []
    for name in ds.variables:
        key = str(ds[name].attrs.get("standard_name", name)).lower()
        if key not in roles:
            key = str(name).lower()
        if ds[name].ndim >= 2 and key in ranks:
            masks.append((key, name))
    for key, name in sorted(masks, key=lambda mask: ranks.index(mask[0])):
        meanings = str(ds[name].attrs.get("flag_meanings", "")).lower()
        if key in VAGUE and not meanings and _varies(ds[name]):
            log.info(
                "%s varies in time and flags nothing: not the sea, unless passed as sea=", name
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
