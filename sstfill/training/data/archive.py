# SPDX-License-Identifier: Apache-2.0
"""What a network is trained on: the field of a Dataset, where the sea is, and the truth if it is
known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from sstfill.errors import InputError, unknown
from sstfill.fields import gaps, grid
from sstfill.fields.ancillary import unfilled
from sstfill.fields.sea import find_sea, sea_mask
from sstfill.training.data.windows import large


@dataclass(frozen=True, kw_only=True)
class TrainingField:
    """What is trained on, ready to be cut into windows.

    Attributes
    ----------
    obs, sea, truth
        The field ``(time, y, x)``, lazy or not, NaN on land; where the sea is; the field without
        gaps if it is known.
    fingerprint
        Of the observations, and of the truth.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    truth: xr.DataArray | None
    fingerprint: str

    @classmethod
    def of(
        cls,
        data: xr.Dataset | xr.DataArray,
        variable: str | None,
        sea: xr.DataArray | None,
        truth: xr.DataArray | str | None,
    ) -> TrainingField:
        """Pick and check the field of a Dataset; errors as for `sstfill.train`."""
        if not isinstance(data, (xr.Dataset, xr.DataArray)):
            raise InputError(
                f"cannot train on a {type(data).__name__}; give an xarray Dataset or DataArray"
            )
        ds = data.to_dataset(name=data.name or "field") if isinstance(data, xr.DataArray) else data
        if isinstance(truth, str):
            if truth not in ds:
                raise unknown("variable", truth, map(str, ds.data_vars))
            truth, ds = ds[truth], ds.drop_vars(truth)
        name = grid.pick_one(ds, variable)
        field = grid.standardise(unfilled(ds, name)[name])
        survey = gaps.survey(field)
        found = sea if sea is not None else find_sea(ds.drop_vars(name))
        wet = (sea_mask(field, found) if found is not None else _ever_seen(field, survey)).compute()
        _check(name, survey, wet)
        known = None if truth is None else _matching(truth, field, wet)
        prints = [
            survey.attrs["fingerprint"],
            *([] if known is None else [known.attrs["fingerprint"]]),
        ]
        return cls(
            obs=field.where(wet).rename(name), sea=wet, truth=known, fingerprint="-".join(prints)
        )

    def loaded(self) -> TrainingField:
        """Return it in memory, unless it is lazy and too large for that."""
        if large(self.obs):
            return self
        return replace(
            self, obs=self.obs.compute(), truth=None if self.truth is None else self.truth.compute()
        )


def _ever_seen(field: xr.DataArray, survey: xr.Dataset) -> xr.DataArray:
    coords = {n: c for n, c in field.coords.items() if set(c.dims) <= set(field.dims[1:])}
    return xr.DataArray(
        survey.pixel_count.values > 0, dims=field.dims[1:], coords=coords, name="sea"
    )


def _check(name: str, survey: xr.Dataset, sea: xr.DataArray) -> None:
    if infinite := int(survey.infinite):
        raise InputError(
            f"{name!r} holds {infinite} infinite values; make them missing: "
            f"ds.where(np.isfinite(ds[{name!r}]))"
        )
    if not int(survey.pixel_count.where(sea, 0).sum()):
        raise InputError(
            f"{name!r}: nothing observed at sea, {int(sea.sum())} of {sea.size} pixels; "
            "check the fill value, the quality threshold and the sea mask"
        )


def _matching(truth: xr.DataArray, field: xr.DataArray, sea: xr.DataArray) -> xr.DataArray:
    """Check the truth, and lay it out like the field."""
    known = grid.standardise(truth)
    if known.shape != field.shape or not all(_alike(known[d], field[d]) for d in field.dims):
        raise InputError(
            f"the truth, {known.shape}, is not on the dates and the grid of the field, {field.shape}; "
            "bring it there: truth.reindex_like(field)"
        )
    units = [str(da.attrs.get("units", "")) for da in (known, field)]
    if all(units) and units[0] != units[1]:
        raise InputError(
            f"the truth is in {units[0]}, the field in {units[1]}; convert one of them"
        )
    survey = gaps.survey(known, sea)
    _check(str(known.name or "truth"), survey, sea)
    return field.copy(data=known.data).assign_attrs(fingerprint=survey.attrs["fingerprint"])


def _alike(a: xr.DataArray, b: xr.DataArray) -> bool:
    if a.dtype.kind == b.dtype.kind == "f":
        return bool(np.allclose(a.values, b.values, atol=1e-4))
    return bool(np.array_equal(a.values, b.values))
