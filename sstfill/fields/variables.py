# SPDX-License-Identifier: Apache-2.0
"""Which variables of a dataset are fields to fill."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

import xarray as xr

from sstfill.errors import InputError, OptionError, unknown
from sstfill.fields.grid import axes, sizes

ANCILLARY = {
    *("quality", "flag", "flags", "mask", "masks", "lsm", "bounds", "bnds", "dtime", "source"),
    *("sources", "error", "errors", "err", "uncertainty", "sses", "std", "stdev"),
    *("count", "counts", "nobs"),
}
ANCILLARY_PHRASE = re.compile(r"standard_(error|deviation)|num(ber)?_(of_)?obs|mask")


def _is_ancillary(name: Hashable, da: xr.DataArray) -> bool:
    names = f"{name} {da.attrs.get('standard_name', '')}".lower()
    if {"flag_meanings", "flag_values", "flag_masks"} & set(da.attrs):
        return True
    if ANCILLARY & set(re.split(r"[^a-z]+", names)):
        return True
    return ANCILLARY_PHRASE.search(names) is not None


def _trouble(da: xr.DataArray) -> str | None:
    try:
        axes(da)
    except InputError as error:
        return str(error)
    return None


def find_fields(ds: xr.Dataset) -> list[str]:
    """Names of the fields to fill: floating, on time and two spatial dims, not ancillary.

    >>> ds = xr.Dataset({"sst": (("time", "y", "x"), [[[280.0]]])})
    >>> find_fields(ds.assign(sst_error=ds.sst))
    ['sst']
    """
    linked: set[str] = set()
    for variable in ds.variables.values():
        for link in ("ancillary_variables", "bounds"):
            linked.update(str(variable.attrs.get(link, "")).split())
    found = []
    for name, da in ds.data_vars.items():
        if da.dtype.kind != "f" or name in linked or _is_ancillary(name, da):
            continue
        if _trouble(da) is None:
            found.append(str(name))
    return found


def pick_fields(ds: xr.Dataset, variables: str | Sequence[str] | None = None) -> list[str]:
    """Names to fill: those given, or every candidate.

    Raises
    ------
    OptionError
        A name that is not in the dataset, or an empty list.
    InputError
        Nothing given, and no candidate.
    """
    if variables is not None:
        names = [variables] if isinstance(variables, str) else list(dict.fromkeys(variables))
        if not names:
            raise OptionError(
                "variables=[] names nothing to fill; leave it out to fill every field"
            )
        for name in names:
            if name not in ds.data_vars:
                raise unknown("variable", name, find_fields(ds) or map(str, ds.data_vars))
        return names
    if found := find_fields(ds):
        return found
    variables_held = [f"{n} {da.dtype}{sizes(da)}" for n, da in ds.data_vars.items()]
    held = ", ".join(variables_held) or "no variables"
    reason = "a field needs floating values on time and two spatial dims"
    for key, da in ds.data_vars.items():
        if da.dtype.kind == "f" and not _is_ancillary(key, da) and (trouble := _trouble(da)):
            reason = trouble
            break
    raise InputError(f"nothing to fill: the dataset holds {held}; {reason}")


def pick_field(ds: xr.Dataset, variable: str | None = None) -> str:
    """Name of the one field to work on; `InputError` lists them where there are several."""
    names = pick_fields(ds, variable)
    if len(names) > 1:
        raise InputError(
            f"the dataset holds {len(names)} fields, {', '.join(names)}; "
            f"name one: variable={names[0]!r}"
        )
    return names[0]
