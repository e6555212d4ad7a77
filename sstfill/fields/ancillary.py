# SPDX-License-Identifier: Apache-2.0
"""What goes with a filled variable, its error, source or modes: laid out like it, put beside it,
taken away again.
"""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr

from sstfill.errors import InputError
from sstfill.fields import gaps, grid

log = logging.getLogger(__name__)


def placed(field: xr.DataArray, like: xr.DataArray, obs: xr.DataArray) -> xr.DataArray:
    """Lay a field out like the user's: `field` has some or all dims of `obs`, which are those of
    `like` renamed.
    """
    names = dict(zip(obs.dims, grid.axes(like).dims, strict=True))
    bare = xr.DataArray(xr.Variable([names.get(d, d) for d in field.dims], field.data, field.attrs))
    other = [d for d in field.dims if d not in names]
    if set(obs.dims) <= set(field.dims):
        bare = bare.expand_dims([d for d in like.dims if d not in bare.dims])
    bare = bare.transpose(*other, *(d for d in like.dims if d in bare.dims))
    coords = {d: field[d].variable for d in other if d in field.coords}
    return bare.assign_coords(
        coords | {n: c for n, c in like.coords.items() if set(c.dims) <= set(bare.dims)}
    )


def error_attrs(name: str, like: xr.DataArray) -> dict[str, str]:
    """Attributes of the error of `like`, which is called `name`."""
    standard = like.attrs.get("standard_name")
    return {
        "long_name": f"expected error (one standard deviation) of filled {like.attrs.get('long_name', name)}",
        **({"standard_name": f"{standard} standard_error"} if standard else {}),
        **({"units": like.attrs["units"]} if "units" in like.attrs else {}),
    }


def joined(ds: xr.Dataset, new: xr.DataArray, extra: dict[str, xr.DataArray]) -> xr.Dataset:
    """Put a filled variable in the place of the old one, and its companions beside it."""
    if own := [name for name in extra if name in ds]:
        log.warning(
            "%s of the data gives way to what sstfill says of %s; rename it first",
            ", ".join(own),
            new.name,
        )
    return _grown(ds, extra, new).assign({new.name: new} | extra)


def _grown(ds: xr.Dataset, extra: dict[str, xr.DataArray], like: xr.DataArray) -> xr.Dataset:
    """Lengthen a dim that a method brings, such as ``mode``, to the longest: assigning would cut
    the new one short.
    """
    longer = {}
    for d, new in {
        d: v[d] for v in extra.values() for d in v.dims if d in ds.dims and d not in like.dims
    }.items():
        common = min(new.size, ds.sizes[d])
        if d not in new.coords or not np.array_equal(ds[d].values[:common], new.values[:common]):
            raise InputError(
                f"the data have a dimension {d!r} of their own; rename it: ds.rename({d}='my_{d}')"
            )
        if new.size > ds.sizes[d]:
            longer[d] = new
    return ds.reindex(longer, copy=False) if longer else ds


def unfilled(ds: xr.Dataset, name: str) -> xr.Dataset:
    """Undo an earlier fill of a variable: only what was observed, without the companions and
    attributes of then.
    """
    source, words = (
        ds.get(f"{name}_source"),
        str(ds[name].attrs.get("ancillary_variables", "")).split(),
    )
    if source is None or source.name not in words or "sstfill_method" not in ds[name].attrs:
        return ds
    first = words.index(str(source.name))  # the user's own companions are named before
    ours = [w for w in words[first:] if w.startswith(f"{name}_")]
    bare = ds[name].where(source == gaps.SOURCE_FLAGS["observed"])
    bare.attrs = {
        k: v
        for k, v in ds[name].attrs.items()
        if k != "ancillary_variables" and not k.startswith("sstfill_")
    }
    if kept := [w for w in words if w not in ours]:
        bare.attrs["ancillary_variables"] = " ".join(kept)
    bare.encoding = ds[name].encoding
    return ds.drop_vars(ours, errors="ignore").assign({name: bare})
