# SPDX-License-Identifier: Apache-2.0
"""The one door through which every gap is filled; it owns the invariants, so that no method can
break one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from datetime import UTC, datetime

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.errors import InputError, OptionError
from sstfill.fields import gaps, grid
from sstfill.fields.ancillary import error_attrs, lay_out, unfilled, with_ancillary
from sstfill.fields.magnitude import Magnitude, Rescaling
from sstfill.fields.sea import find_sea, sea_mask
from sstfill.fields.strays import warn_of_strays
from sstfill.methods import Method, method_class
from sstfill.methods.auto.method import Auto
from sstfill.methods.registry import seeded
from sstfill.validation.withheld import WithheldScore, withheld_score
from sstfill.version import __version__

OFF_SEA = 0.5
"""A mask found in the data that leaves more than this share of the observations on land is not
believed.
"""


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
        A Dataset or DataArray with time and two spatial dimensions in any order, NaN in the gaps.
        See `sstfill.fields.grid.standardise` for what is understood. Dask-backed data stay so. What
        an earlier fill put into the gaps (its ``v_source`` tells) is no observation: it is filled
        anew.
    method
        A method (``Dineof(modes=12)``), its name with default options, or None, which is
        `sstfill.Auto`: every method is tried on withheld clouds, and the best one fills, or a blend
        of several.
    variables
        Which variables of a Dataset to fill; by default each one that can be.
    together
        Fill the variables as one multivariate field, by a method that can (all but interpolation).
    sea
        True (or 1) at sea, over the spatial dims. By default a sea mask in the Dataset, else the
        pixels that are observed at least once.
    withheld
        True at observed pixels to hide from the method; at sea they come back estimated, with
        source ``withheld``.
    score
        Hide a tenth of the observed pixels under clouds of other dates, fill them, and record the
        score in the attribute ``sstfill_score``; the stated error is scaled to fit. Costs a second
        fill. (`sstfill.Auto` needs a score to choose by, hides a fifth, and always records it.)
    seed
        Seed of the withheld clouds, and of a method given by its name.

    Returns
    -------
    Dataset
        `data` with each variable ``v`` filled (observed values bit-identical, land NaN; dims,
        order, dtype, attributes and encoding kept), ``v_error`` (one sigma of the filled pixels,
        units of ``v``) and ``v_source`` (CF flags: 0 observed, 1 filled, 2 not filled, 3 withheld,
        4 land).

    Raises
    ------
    InputError
        If there is no time dimension, nothing observed, only land, no gap, an infinite value, one
        beyond 1e30 or too far from all others, too few images, duplicate or descending times, an
        ambiguous field, or a mask that does not fit.
    OptionError
        For an unknown method or variable, or a negative seed.

    Examples
    --------
    >>> import sstfill, sstfill.synthetic
    >>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
    >>> filled = sstfill.fill(ocean, "interpolate", variables="sst")
    >>> filled.sst_source.attrs["flag_meanings"]
    'observed filled not_filled withheld land'
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"seed={seed!r} is no seed; give a whole number, 0 or more")
    chosen = chosen_method(method, seed)
    for label, mask in (("sea", sea), ("withheld", withheld)):
        if mask is not None and not isinstance(mask, xr.DataArray):
            raise InputError(
                f"{label} is a {type(mask).__name__}; give an xarray DataArray with the dims of the field"
            )
    ds = _as_dataset(data)
    whole = isinstance(data, xr.DataArray) and variables is None
    names = grid.pick(ds, list(map(str, ds.data_vars)) if whole else variables)
    for name in names:
        ds = unfilled(ds, name)
        if "sstfill_method" in ds[name].attrs:
            raise InputError(
                f"{name!r} was filled by sstfill and says not which pixels; pass the Dataset that fill() "
                "returned, which does"
            )
    jobs = [
        _Field.of(ds, group, sea, withheld)
        for group in ([names] if together else [[n] for n in names])
    ]
    todo = [job for job in jobs if job.missing > 0 or withheld is not None]
    if not todo:
        raise InputError(
            f"{', '.join(names)}: no gaps at sea, nothing to fill; is the fill value decoded to NaN? "
            "Pixels that are never observed count as land unless sea=... says otherwise"
        )
    result = ds
    for job in todo:
        result = job.run(result, chosen, score=score, seed=seed)
    return result


@dataclass(frozen=True)
class _Field:
    """One field to fill: a variable, or several stacked along ``variable``."""

    names: list[str]
    obs: xr.DataArray
    sea: xr.DataArray
    withheld: xr.DataArray | None
    fingerprint: str
    missing: int
    rescaling: Rescaling

    @classmethod
    def of(
        cls,
        ds: xr.Dataset,
        names: list[str],
        sea: xr.DataArray | None,
        withheld: xr.DataArray | None,
    ) -> _Field:
        fields = [grid.standardise(ds[n]) for n in names]
        obs = fields[0] if len(fields) == 1 else _stack(fields, names)
        surveys = [gaps.survey(f) for f in fields]
        given = sea if sea is not None else find_sea(ds.drop_vars(names))
        wet = _locked(_sea(fields[0], given, surveys).compute())
        for name, field, found in zip(names, fields, surveys, strict=True):
            _check(name, field, found, wet, own=sea is None)
        n_sea = int(wet.sum()) * fields[0].sizes["time"]
        missing = sum(n_sea - int(s.pixel_count.where(wet, 0).sum()) for s in surveys)
        fingerprint = "-".join(s.attrs["fingerprint"] for s in surveys)
        hidden = _hidden(withheld, fields[0], obs)
        if hidden is not None:  # what is withheld must not even tell of the magnitude
            surveys = [gaps.survey(f) for f in _parts(obs.where(~hidden), names)]
        magnitudes = {}
        for name, field, found in zip(names, fields, surveys, strict=True):
            warn_of_strays(name, found, wet)
            least, most = float(found.least.where(wet).min()), float(found.most.where(wet).max())
            magnitudes[name] = Magnitude.of(name, least, most, field.dtype)
        return cls(names, obs, wet, hidden, fingerprint, missing, Rescaling(magnitudes, obs))

    def run(self, ds: xr.Dataset, method: Method, *, score: bool, seed: int) -> xr.Dataset:
        seen = _locked(self.obs if self.withheld is None else self.obs.where(~self.withheld))
        if self.withheld is not None and not bool(seen.notnull().any()):
            raise InputError(
                f"withheld hides all that is observed in {', '.join(self.names)}; leave something to see"
            )
        _suits(method, self.obs)
        shown = _locked(self.rescaling.apply(seen))
        if isinstance(method, Auto):
            plan = method.plan(shown, self.sea)
            scores, estimate = plan.scores, plan.reconstruct(shown, self.sea)
        else:
            scores = withheld_score(method, shown, self.sea, seed) if score else {}
            estimate = method.reconstruct(shown, self.sea)
        if not self.rescaling.usual:
            scores = {
                n: replace(s, summary=self.rescaling.score(n, s.summary)) for n, s in scores.items()
            }
            estimate = self.rescaling.invert(
                estimate, normalised=getattr(method, "normalise", False)
            )
        filled = _merged(seen, estimate["mean"].transpose(*seen.dims), self.sea)
        estimate = estimate.drop_vars("mean")
        for name in self.names:
            ds = self._insert(ds, name, filled, estimate, method, scores.get(name))
        return ds

    def _insert(
        self,
        ds: xr.Dataset,
        name: str,
        filled: xr.DataArray,
        estimate: xr.Dataset,
        method: Method,
        score: WithheldScore | None,
    ) -> xr.Dataset:
        like = ds[name]
        here = {"variable": name} if "variable" in self.obs.dims else {}
        obs, values = self.obs.sel(here, drop=True), filled.sel(here, drop=True)
        hidden = None if self.withheld is None else self.withheld.sel(here, drop=True)
        source = gaps.source_flags(obs, values, values.notnull() | self.sea, hidden)
        extra = {f"{name}_source": lay_out(source, like, obs)}
        for key in estimate.data_vars:
            part = (
                estimate[key].sel(here, drop=True)
                if "variable" in estimate[key].dims
                else estimate[key]
            )
            if key == "error":
                part = _scaled(
                    part.transpose(*obs.dims), source, score.sigma_scale if score else 1.0
                )
                part = part.assign_attrs(error_attrs(name, like))
            extra[f"{name}_{key}"] = lay_out(part, like, obs)
        new = grid.restore(values, like)
        new.attrs = like.attrs | self._provenance(like, list(extra), method, estimate, score)
        by = " ".join(
            [method.name, *(f"({' + '.join(c)})" for c in [estimate.attrs.get("chosen", [])] if c)]
        )
        line = (
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} sstfill {__version__}: {name} filled by {by}"
        )
        history = "\n".join(filter(None, [line, str(ds.attrs.get("history", ""))]))
        return with_ancillary(ds, new, extra).assign_attrs(history=history)

    def _provenance(
        self,
        like: xr.DataArray,
        extra: list[str],
        method: Method,
        estimate: xr.Dataset,
        score: WithheldScore | None,
    ) -> dict[str, str]:
        said = {
            "name": method.name,
            "options": config.options(method),
            "diagnostics": config.plain(estimate.attrs),
        }
        linked = [*str(like.attrs.get("ancillary_variables", "")).split(), *extra]
        return {
            "ancillary_variables": " ".join(dict.fromkeys(linked)),
            "sstfill_version": __version__,
            "sstfill_method": json.dumps(said, allow_nan=False),
            "sstfill_fingerprint": self.fingerprint,
        } | (
            {"sstfill_score": json.dumps(config.plain(score.summary), allow_nan=False)}
            if score
            else {}
        )


def _merged(seen: xr.DataArray, mean: xr.DataArray, sea: xr.DataArray) -> xr.DataArray:
    """What was seen, and the estimate in the gaps at sea; eager arrays image by image, to spare
    memory.
    """
    if seen.chunks or mean.chunks:
        mean = mean.astype(seen.dtype)
        return xr.where(seen.notnull(), seen, mean.where(sea & np.isfinite(mean))).transpose(
            *seen.dims
        )
    out = np.array(seen.values)
    wet = np.broadcast_to(sea.transpose(*seen.dims[-2:]).values, out.shape)
    for at in np.ndindex(out.shape[:-2]):
        image = mean.values[at]
        np.copyto(
            out[at],
            image,
            where=np.isnan(out[at]) & wet[at] & np.isfinite(image),
            casting="same_kind",
        )
    return seen.copy(data=out)


def _scaled(error: xr.DataArray, source: xr.DataArray, scale: float) -> xr.DataArray:
    """The error times `scale` in single precision where a pixel is filled or withheld, else NaN."""
    if error.chunks or source.chunks:
        return (error.astype(np.float32) * np.float32(scale)).where((source == 1) | (source == 3))
    out = np.full(error.shape, np.nan, np.float32)
    for at in np.ndindex(out.shape[:-2]):
        made = (source.values[at] == 1) | (source.values[at] == 3)
        out[at][made] = error.values[at][made] * np.float32(scale)
    return error.copy(data=out)


def chosen_method(method: Method | str | None, seed: int) -> Method:
    """Return the method meant: itself, by its name with default options, or `sstfill.Auto` for
    None.
    """
    if method is None:
        return Auto(seed=int(seed))
    if isinstance(method, str):
        return seeded(method_class(method), seed)
    if isinstance(method, type):
        raise OptionError(f"{method.__name__} is a class; call it: {method.__name__}()")
    if not (isinstance(method, Method) and is_dataclass(method)):
        raise OptionError(
            f"{method!r} is not a method; give a name such as 'dineof' or a Method such as Dineof()"
        )
    return method


def _as_dataset(data: xr.Dataset | xr.DataArray) -> xr.Dataset:
    if isinstance(data, xr.DataArray):
        if data.name in data.coords:
            raise InputError(
                f"the field {data.name!r} is called as one of its coordinates; rename it: .rename('sst')"
            )
        return data.to_dataset(
            name=data.name if data.name is not None else "field", promote_attrs=False
        )
    if isinstance(data, xr.Dataset):
        return data
    raise InputError(f"cannot fill a {type(data).__name__}; give an xarray Dataset or DataArray")


def _locked(array: xr.DataArray) -> xr.DataArray:
    """Return a view that a method cannot write to."""
    if array.chunks is not None:
        return array
    view = np.asarray(array.data).view()
    view.flags.writeable = False
    return array.copy(deep=False, data=view)


def _sea(
    field: xr.DataArray, given: xr.DataArray | None, surveys: list[xr.Dataset]
) -> xr.DataArray:
    if given is not None:
        return sea_mask(field, given)
    seen = sum(s.pixel_count for s in surveys) > 0
    coords = {n: c for n, c in field.coords.items() if set(c.dims) <= set(field.dims[1:])}
    return xr.DataArray(seen.values, dims=field.dims[1:], coords=coords, name="sea")


def _check(
    name: str, field: xr.DataArray, found: xr.Dataset, sea: xr.DataArray, *, own: bool
) -> None:
    """Refuse what cannot be filled; `own`: the sea mask was found in the data, not given."""
    if (n := int(found.infinite)) > 0:
        raise InputError(
            f"{name!r} holds {n} infinite values; make them missing: ds.where(np.isfinite(ds[{name!r}]))"
        )
    if not bool(sea.any()) and bool(found.pixel_count.any()):
        raise InputError(
            f"the sea mask is land everywhere ({sea.shape}); give 1 at sea and 0 on land"
        )
    total, at_sea = int(found.pixel_count.sum()), int(found.pixel_count.where(sea, 0).sum())
    if own and at_sea and total - at_sea > OFF_SEA * total:
        raise InputError(
            f"{1 - at_sea / total:.1%} of what is observed in {name!r} lies on land by the sea mask of "
            "the data; give one as sea=, 1 at sea and 0 on land"
        )
    if not at_sea:
        raise InputError(
            f"{name!r}: nothing observed at sea in {field.sizes['time']} images; "
            "check the fill value, the quality threshold and the sea mask"
        )


def _suits(method: Method, obs: xr.DataArray) -> None:
    needed = getattr(method, "min_times", 1)
    if obs.sizes["time"] < needed:
        raise InputError(
            f"{method.name} needs at least {needed} time steps, the data have {obs.sizes['time']}; "
            "give a longer series, or use method 'interpolate'"
        )
    if "variable" in obs.dims and not method.multivariate:
        raise OptionError(f"{method.name} fills one variable at a time; leave out together=True")


def _hidden(
    withheld: xr.DataArray | None, field: xr.DataArray, obs: xr.DataArray
) -> xr.DataArray | None:
    """Where `obs` (`field`, or several such) is withheld; the mask's dims may be the user's, in any
    order.
    """
    if withheld is None:
        return None
    found = grid.axes(withheld)
    mask = withheld.transpose(*found.dims, ...)
    if tuple(mask.sizes[d] for d in found.dims) != field.shape:
        raise InputError(
            f"withheld of shape {withheld.shape} does not fit the field of shape {field.shape}"
        )
    for name, theirs in zip(("time", "lat", "lon"), found[1:], strict=True):
        if theirs is not None and name in field.coords and not _alike(mask[theirs], field[name]):
            raise InputError(
                f"withheld lies on another {name} than the field; bring it there: .reindex_like(field)"
            )
    there = mask.fillna(0).astype(bool).data.reshape(field.shape)
    return field.copy(data=there) & obs.notnull()


def _alike(a: xr.DataArray, b: xr.DataArray) -> bool:
    if a.dtype.kind == b.dtype.kind == "f":
        return (
            a.ndim != b.ndim
            or a.ndim > 1
            or bool(np.allclose(a.values, b.values, atol=1e-4, equal_nan=True))
        )
    return bool(np.array_equal(a.values, b.values))


def _parts(obs: xr.DataArray, names: list[str]) -> list[xr.DataArray]:
    """Undo `_stack`."""
    if "variable" not in obs.dims:
        return [obs]
    return [obs.sel(variable=name, drop=True) for name in names]


def _stack(fields: list[xr.DataArray], names: list[str]) -> xr.DataArray:
    first = fields[0]
    for name, field in zip(names, fields, strict=True):
        here = [c for c in first.coords if c not in field.coords or not first[c].equals(field[c])]
        if first.sizes != field.sizes or here:
            raise InputError(
                f"variables filled together need one grid; {name} {dict(field.sizes)} is not on that of "
                f"{names[0]} {dict(first.sizes)}; regrid it: .interp_like()"
            )
    return xr.concat(
        [f.drop_attrs() for f in fields], xr.Variable("variable", names), join="override"
    )
