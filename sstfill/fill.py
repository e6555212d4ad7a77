# SPDX-License-Identifier: Apache-2.0
"""The one door through which every gap is filled; it owns the invariants, so that no method can break one."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config, gaps, grid
from sstfill.errors import InputError, OptionError
from sstfill.hindcast import Hindcast, choose, hindcast
from sstfill.methods import Method, method_class
from sstfill.version import __version__

log = logging.getLogger(__name__)


def fill(
    data: xr.Dataset | xr.DataArray,
    method: Method | str | None = None,
    *,
    variables: str | Sequence[str] | None = None,
    together: bool = False,
    sea: xr.DataArray | None = None,
    withheld: xr.DataArray | None = None,
    score: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Fill the gaps of a gridded time series.

    Parameters
    ----------
    data
        A Dataset or DataArray with time and two spatial dimensions in any order, NaN in the gaps. See
        `sstfill.grid.standardise` for what is understood. Dask-backed data stay so.
    method
        A method (``Dineof(modes=12)``), its name with default options, or None: then every method is tried
        on withheld clouds and the one with the lowest RMSE fills.
    variables
        Which variables of a Dataset to fill; by default each one that can be.
    together
        Fill the variables as one multivariate field, by a method that can (DINEOF, Bayesian EOFs).
    sea
        True (or 1) at sea, over the spatial dims. By default a sea mask in the Dataset, else the pixels that
        are observed at least once.
    withheld
        True at observed pixels to hide from the method; they come back estimated, with source ``withheld``.
    score
        Hide a tenth of the observed pixels under clouds of other dates, fill them, and record the score in the
        attribute ``sstfill_score``; the stated error is scaled to fit. Costs a second fill.
    seed
        Seed of the withheld clouds.

    Returns
    -------
    Dataset
        `data` with each variable ``v`` filled (observed values bit-identical, land NaN; dims, order, dtype, attributes
        and encoding kept), ``v_error`` (one sigma of the filled pixels, units of ``v``) and ``v_source`` (CF flags:
        0 observed, 1 filled, 2 not filled, 3 withheld, 4 land).

    Raises
    ------
    InputError
        If there is no time dimension, nothing observed, only land, no gap, an infinite value, too few images,
        duplicate or descending times, or an ambiguous field.
    OptionError
        For an unknown method or variable.

    Examples
    --------
    >>> import sstfill, sstfill.synthetic
    >>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
    >>> filled = sstfill.fill(ocean, "interpolate", variables="sst")
    >>> filled.sst_source.attrs["flag_meanings"]
    'observed filled not_filled withheld land'
    """
    ds = _as_dataset(data)
    chosen = method_class(method)() if isinstance(method, str) else method
    names = grid.pick(ds, variables if not isinstance(data, xr.DataArray) else list(ds.data_vars))
    jobs = [_Job.of(ds, group, sea, withheld) for group in ([names] if together else [[n] for n in names])]
    todo = [job for job in jobs if job.missing > 0 or withheld is not None]
    if not todo:
        raise InputError(f"{', '.join(names)}: no gaps at sea, nothing to fill; is the fill value decoded to NaN?")
    result = ds
    for job in todo:
        result = job.run(result, chosen, score=score, seed=seed)
    return result


@dataclass(frozen=True)
class _Job:
    """One field to fill: a variable, or several stacked along ``variable``."""

    names: list[str]
    obs: xr.DataArray
    sea: xr.DataArray
    withheld: xr.DataArray | None
    fingerprint: str
    missing: int

    @classmethod
    def of(cls, ds: xr.Dataset, names: list[str], sea: xr.DataArray | None, withheld: xr.DataArray | None) -> _Job:
        fields = [grid.standardise(ds[n]) for n in names]
        given = sea if sea is not None else grid.find_sea(ds)
        surveys = [gaps.survey(f) for f in fields]
        wet = _sea(fields[0], given, surveys)
        for name, field, found in zip(names, fields, surveys, strict=True):
            _check(name, field, found, wet)
        n_sea = int(wet.sum()) * fields[0].sizes["time"]
        missing = sum(n_sea - int(s.pixel_count.where(wet, 0).sum()) for s in surveys)
        obs = fields[0] if len(fields) == 1 else _stack(fields, names)
        fingerprint = "-".join(s.attrs["fingerprint"] for s in surveys)
        return cls(names, obs, wet, _hidden(withheld, fields[0]), fingerprint, missing)

    def run(self, ds: xr.Dataset, method: Method | None, *, score: bool, seed: int) -> xr.Dataset:
        seen = self.obs if self.withheld is None else self.obs.where(~self.withheld)
        tried: Hindcast | None = None
        if method is None:
            method, tried = choose(seen, self.sea, seed)
        _suits(method, self.obs)
        if score and tried is None:
            tried = hindcast(method, seen, self.sea, seed)
        estimate = method.reconstruct(seen, self.sea)
        filled = xr.where(seen.notnull(), seen, estimate["mean"].astype(seen.dtype)).transpose(*seen.dims)
        for name in self.names:
            ds = self._insert(ds, name, filled, estimate, method, tried)
        return ds

    def _insert(
        self, ds: xr.Dataset, name: str, filled: xr.DataArray, estimate: xr.Dataset, method: Method, tried: Any
    ) -> xr.Dataset:
        here = {"variable": name} if "variable" in self.obs.dims else {}
        obs, values = self.obs.sel(here, drop=True), filled.sel(here, drop=True)
        wet = self.sea | obs.notnull().any("time")
        source = gaps.source_flags(obs, values, wet, self.withheld)
        extra: dict[str, xr.DataArray] = {f"{name}_source": source}
        scale = tried.sigma_scale if tried else 1.0
        for key in estimate.data_vars:
            part = estimate[key].sel(here, drop=True) if "variable" in estimate[key].dims else estimate[key]
            if key == "error":
                part = (part * scale).where((source == 1) | (source == 3)).astype(np.float32)
            if key != "mean":
                extra[f"{name}_{key}"] = part.assign_attrs(estimate[key].attrs)
        like = ds[name]
        out = {name: grid.restore(values, like)} | {k: _placed(v, like, obs) for k, v in extra.items()}
        out[name].attrs = like.attrs | self._provenance(like, list(extra), method, estimate, tried)
        if f"{name}_error" in out:
            out[f"{name}_error"].attrs = _error_attrs(name, like)
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} sstfill {__version__}: {name} filled by {method.name}"
        history = "\n".join(filter(None, [line, str(ds.attrs.get("history", ""))]))
        return ds.assign(out).assign_attrs(history=history)

    def _provenance(
        self, like: xr.DataArray, extra: list[str], method: Method, estimate: xr.Dataset, tried: Hindcast | None
    ) -> dict[str, str]:
        said = {"name": method.name, "options": config.options(method), "diagnostics": config.plain(estimate.attrs)}
        linked = [*str(like.attrs.get("ancillary_variables", "")).split(), *extra]
        return {
            "ancillary_variables": " ".join(dict.fromkeys(linked)),
            "sstfill_version": __version__,
            "sstfill_method": json.dumps(said),
            "sstfill_fingerprint": self.fingerprint,
        } | ({"sstfill_score": json.dumps(config.plain(tried.summary))} if tried else {})


def _as_dataset(data: xr.Dataset | xr.DataArray) -> xr.Dataset:
    if isinstance(data, xr.DataArray):
        return data.to_dataset(name=data.name if data.name is not None else "field", promote_attrs=False)
    if isinstance(data, xr.Dataset):
        return data
    raise InputError(f"cannot fill a {type(data).__name__}; give an xarray Dataset or DataArray")


def _sea(field: xr.DataArray, given: xr.DataArray | None, surveys: list[xr.Dataset]) -> xr.DataArray:
    if given is not None:
        return grid.sea_mask(field, given)
    seen = sum(s.pixel_count for s in surveys) > 0
    coords = {n: c for n, c in field.coords.items() if set(c.dims) <= set(field.dims[1:])}
    return xr.DataArray(seen.values, dims=field.dims[1:], coords=coords, name="sea")


def _check(name: str, field: xr.DataArray, found: xr.Dataset, sea: xr.DataArray) -> None:
    if (n := int(found.infinite)) > 0:
        raise InputError(f"{name!r} holds {n} infinite values; make them missing: ds.where(np.isfinite(ds[{name!r}]))")
    if not bool(sea.any()) and bool(found.pixel_count.any()):
        raise InputError(f"the sea mask is land everywhere ({sea.shape}); give 1 at sea and 0 on land")
    if not int(found.pixel_count.where(sea, 0).sum()):
        raise InputError(f"{name!r}: nothing observed at sea in {field.sizes['time']} images; "
                         "check the fill value, the quality threshold and the sea mask")  # fmt: skip


def _suits(method: Method, obs: xr.DataArray) -> None:
    if not isinstance(method, Method):
        raise OptionError(f"{method!r} is not a method; give a name such as 'dineof' or a Method such as Dineof()")
    needed = getattr(method, "min_times", 1)
    if obs.sizes["time"] < needed:
        raise InputError(f"{method.name} needs at least {needed} time steps, the data have {obs.sizes['time']}; "
                         "give a longer series, or use method 'interpolate'")  # fmt: skip
    if "variable" in obs.dims and not method.multivariate:
        raise OptionError(f"{method.name} fills one variable at a time; leave out together=True")


def _hidden(withheld: xr.DataArray | None, field: xr.DataArray) -> xr.DataArray | None:
    if withheld is None:
        return None
    mask = withheld if withheld.dims == field.dims else withheld.transpose(*field.dims, missing_dims="ignore")
    if mask.shape != field.shape:
        raise InputError(f"withheld of shape {mask.shape} does not fit the field of shape {field.shape}")
    return field.copy(data=mask.data.astype(bool)) & field.notnull()


def _stack(fields: list[xr.DataArray], names: list[str]) -> xr.DataArray:
    shapes = {f.shape for f in fields}
    if len(shapes) > 1:
        raise InputError(f"variables filled together need one grid; {', '.join(names)} have {sorted(shapes)}")
    return xr.concat([f.drop_attrs() for f in fields], xr.Variable("variable", names), join="override")


def _placed(field: xr.DataArray, like: xr.DataArray, obs: xr.DataArray) -> xr.DataArray:
    """Give a canonical field the layout of the user's: dims of `like`, coordinates where they apply."""
    if field.dims == obs.dims:
        back = grid.restore(field.astype(np.float64) if field.dtype.kind != "f" else field, like)
        placed = back.astype(field.dtype).drop_encoding()
        placed.attrs = dict(field.attrs)
        return placed
    names = dict(zip(obs.dims, grid.axes(like).dims, strict=True))
    bare = field.drop_vars([c for c in field.coords if c not in field.dims or c in obs.dims])
    return bare.rename({d: str(names[d]) for d in bare.dims if d in names and d != names[d]})


def _error_attrs(name: str, like: xr.DataArray) -> dict[str, str]:
    standard = like.attrs.get("standard_name")
    return {
        "long_name": f"expected error (one standard deviation) of filled {like.attrs.get('long_name', name)}",
        **({"standard_name": f"{standard} standard_error"} if standard else {}),
        **({"units": like.attrs["units"]} if "units" in like.attrs else {}),
    }
