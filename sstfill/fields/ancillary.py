# SPDX-License-Identifier: Apache-2.0
"""The ancillary variables of a filled one (CF): its error, source, modes and members."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import gaps, grid
from sstfill.fields.error_distribution import GAUSSIAN, ErrorDistribution
from sstfill.fields.reading.variables import names_in

log = logging.getLogger(__name__)

OF_THE_VALUES = (
    *("valid_min", "valid_max", "valid_range", "actual_range", "missing_value", "_FillValue"),
    *("scale_factor", "add_offset", "_Unsigned", "comment"),
)
"""Attributes of a variable that say nothing of its error, source or modes."""
MEMBER = "member"
"""Dim of draws, and its coordinate."""


def lay_out(field: xr.DataArray, like: xr.DataArray, obs: xr.DataArray) -> xr.DataArray:
    """Give a field of a method the dims and coordinates of the user's variable.

    Parameters
    ----------
    field
        An ancillary field: some or all dims of `obs`, and dims of its own such as ``mode``.
    like
        The user's variable.
    obs
        The same variable, standardised.
    """
    user_dims = dict(zip(obs.dims, grid.axes(like).dims, strict=True))
    own_dims = [d for d in field.dims if d not in user_dims]
    renamed = [user_dims.get(d, d) for d in field.dims]
    own = {}
    for key, value in field.attrs.items():
        says_its_own = key == "comment" and value != like.attrs.get("comment")
        if says_its_own or key not in OF_THE_VALUES:
            own[key] = value
    laid_out = xr.DataArray(xr.Variable(renamed, field.data, own))
    if set(obs.dims) <= set(field.dims):
        # Size-1 dims that standardising squeezed come back.
        laid_out = laid_out.expand_dims([d for d in like.dims if d not in laid_out.dims])
    shared_dims = [d for d in like.dims if d in laid_out.dims]
    laid_out = laid_out.transpose(*own_dims, *shared_dims)
    coords = {d: field[d].variable for d in own_dims if d in field.coords}
    for name, coord in like.coords.items():
        if set(coord.dims) <= set(laid_out.dims):
            coords[name] = coord
    return laid_out.assign_coords(coords)


def error_attrs(
    name: str, like: xr.DataArray, distribution: ErrorDistribution = GAUSSIAN
) -> dict[str, Any]:
    """Attributes of the error of `like`, which is called `name`."""
    quantity = like.attrs.get("long_name", name)
    attrs = {"long_name": f"expected error (one standard deviation) of filled {quantity}"}
    if standard := like.attrs.get("standard_name"):
        attrs["standard_name"] = f"{standard} standard_error"
    if "units" in like.attrs:
        attrs["units"] = like.attrs["units"]
    return attrs | distribution.attrs()


def limit_attrs(name: str, like: xr.DataArray, limit: str) -> dict[str, str]:
    """Attributes of the ``lower`` or ``upper`` limit of `like`, which is called `name`."""
    quantity = like.attrs.get("long_name", name)
    percentile = "16th" if limit == "lower" else "84th"
    attrs = {
        "long_name": f"{limit} 68 % limit of filled {quantity}",
        "comment": f"{percentile} percentile of the estimate",
    }
    if "units" in like.attrs:
        attrs["units"] = like.attrs["units"]
    return attrs


def members_attrs(name: str, like: xr.DataArray) -> dict[str, str]:
    """Attributes of the members of `like`, which is called `name`."""
    quantity = like.attrs.get("long_name", name)
    attrs = {"long_name": f"draws (plausible fields) of {quantity}"}
    for key in ("standard_name", "units"):
        if key in like.attrs:
            attrs[key] = like.attrs[key]
    return attrs


def in_gaps(draws: NDArray, values: NDArray, estimated: NDArray[np.bool_]) -> NDArray:
    """Put draws where a field is an estimate; elsewhere each member has the value of the field.

    Parameters
    ----------
    draws
        Of the shape of `values`, with a leading axis.
    values, estimated
        The filled field, and where it is an estimate.

    Raises
    ------
    InputError
        A draw is missing or infinite where the field has an estimate.
    """
    lost = int(np.count_nonzero(~np.isfinite(draws) & estimated))
    if lost:
        raise InputError(
            f"{lost} values of the members are not finite where the field is filled; fill without "
            "members, or by another method"
        )
    return np.where(estimated, draws.astype(values.dtype, copy=False), values)


def member_coordinate(members: int) -> xr.Variable:
    """Return the coordinate of so many members, by the conventions of CF."""
    attrs = {"standard_name": "realization", "long_name": "number of the draw", "units": "1"}
    return xr.Variable(MEMBER, np.arange(members, dtype=np.int32), attrs)


def check_member_dim(ds: xr.Dataset, members: int) -> None:
    """Refuse to put members beside what has the dim ``member`` already, and means something else.

    Raises
    ------
    InputError
        The dataset is an ensemble, or members of another number were drawn of another variable.
    """
    if MEMBER not in ds.variables and MEMBER not in ds.dims:
        return
    holders, drawn = set(), set()
    for name, variable in ds.variables.items():
        if MEMBER in variable.dims and name != MEMBER:
            holders.add(name)
        if "sstfill_method" in variable.attrs:
            drawn.add(f"{name}_members")
    if not holders or not holders <= drawn or not ds.sizes.get(MEMBER):
        raise InputError(
            f"the data have a dimension or coordinate {MEMBER!r} of their own; rename it: "
            f"ds.rename({MEMBER}='my_{MEMBER}')"
        )
    if ds.sizes[MEMBER] != members:
        held = ", ".join(sorted(map(str, holders)))
        raise InputError(
            f"the data hold {ds.sizes[MEMBER]} members of another variable ({held}), and "
            f"{members} are asked for; give members={ds.sizes[MEMBER]}, or drop them: "
            f"ds.drop_dims({MEMBER!r})"
        )


def with_ancillary(
    ds: xr.Dataset, filled: xr.DataArray, ancillary: dict[str, xr.DataArray]
) -> xr.Dataset:
    """Put a filled variable in the place of the old one, and its ancillary variables beside it.

    Raises
    ------
    InputError
        The dataset has a dim of its own of the name of one that the method brings, such as
        ``mode``.
    """
    if replaced := [name for name in ancillary if name in ds]:
        log.warning(
            "%s in the data is replaced by that of the filled %s; rename it to keep it",
            ", ".join(replaced),
            filled.name,
        )
    own_dims = {}
    for variable in ancillary.values():
        for dim in variable.dims:
            if dim in ds.dims and dim not in filled.dims:
                # two fields of one dataset may both have modes: of different numbers, but numbered
                # alike
                own_dims[dim] = variable[dim]
    longer = {}
    for dim, new in own_dims.items():
        common = min(new.size, ds.sizes[dim])
        same = np.array_equal(ds[dim].values[:common], new.values[:common])
        if dim not in new.coords or not same:
            raise InputError(
                f"the data have a dimension {dim!r} of their own; "
                f"rename it: ds.rename({dim}='my_{dim}')"
            )
        if new.size > ds.sizes[dim]:
            longer[dim] = new
    if longer:
        # Assigning alone would cut the modes of this variable to the number of another's.
        ds = ds.reindex(longer, copy=False)
    bare = {}
    for name, variable in ({filled.name: filled} | ancillary).items():
        # The levels of a MultiIndex cannot be assigned again.
        held = ds.coords.keys() & variable.coords.keys()
        bare[name] = variable.drop_vars([c for c in held if set(ds[c].dims) <= set(filled.dims)])
    return ds.assign(bare)


def unfilled(ds: xr.Dataset, name: str) -> xr.Dataset:
    """Undo an earlier fill of a variable: keep its observations, drop what that fill added."""
    variable, source = ds[name], ds.get(f"{name}_source")
    ancillary = names_in(str(variable.attrs.get("ancillary_variables", "")), ds)
    if source is None or source.name not in ancillary or "sstfill_method" not in variable.attrs:
        return ds
    first = ancillary.index(str(source.name))  # the user's own are named before
    ours = [a for a in ancillary[first:] if a.startswith(f"{name}_")]
    observed = variable.where(source == gaps.SOURCE_FLAGS["observed"])
    observed.attrs = {k: v for k, v in variable.attrs.items() if not k.startswith("sstfill_")}
    del observed.attrs["ancillary_variables"]
    if kept := [a for a in ancillary if a not in ours]:
        observed.attrs["ancillary_variables"] = " ".join(kept)
    observed.encoding = variable.encoding
    bare = ds.drop_vars(ours, errors="ignore")
    held = {dim for other in bare.data_vars.values() for dim in other.dims}
    if f"{name}_members" in ours and MEMBER not in held:
        # Else another number of members would be cut, or filled up, to the numbers of the last.
        bare = bare.drop_vars(MEMBER, errors="ignore")
    return bare.assign({name: observed.variable})
