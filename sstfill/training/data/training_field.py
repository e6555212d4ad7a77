# SPDX-License-Identifier: Apache-2.0
"""The field of a Dataset that a network is trained on, its sea mask, and its truth if known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from sstfill.errors import InputError, unknown
from sstfill.fields import gaps, grid
from sstfill.fields.ancillary import unfilled
from sstfill.fields.reading.missing import mask_missing
from sstfill.fields.reading.rules import located
from sstfill.fields.reading.sea import find_sea, sea_mask
from sstfill.fields.reading.variables import pick_field
from sstfill.fields.transform import Transform, by_name, choose, is_skewed, note_skewness
from sstfill.training.data.windows import MemoryLimits


@dataclass(frozen=True, kw_only=True)
class TrainingField:
    """The field to train on, ready to be cut into windows.

    Attributes
    ----------
    obs, sea, truth
        The field ``(time, y, x)``, lazy or not, NaN on land; True at sea; the field without gaps
        if it is known.
    fingerprint
        Of the observations, of the truth, and of the transform if there is one.
    transform
        Of the values in `obs` and `truth`.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    truth: xr.DataArray | None
    fingerprint: str
    transform: Transform

    @classmethod
    def of(
        cls,
        data: xr.Dataset | xr.DataArray,
        variable: str | None,
        sea: xr.DataArray | None,
        truth: xr.DataArray | str | None,
        transform: str = "auto",
    ) -> TrainingField:
        """Pick and check the field of a Dataset; errors as for `sstfill.train`."""
        if isinstance(data, xr.DataArray):
            ds = data.to_dataset(name=data.name or "field")
        elif isinstance(data, xr.Dataset):
            ds = data
        else:
            raise InputError(
                f"cannot train on a {type(data).__name__}; give an xarray Dataset or DataArray"
            )
        if isinstance(truth, str):
            if truth not in ds:
                raise unknown("variable", truth, map(str, ds.data_vars))
            # Taken out, or it would count as a second field that could be trained on.
            truth, ds = ds[truth], ds.drop_vars(truth)
        ds = located(ds)
        name = pick_field(ds, variable)
        ds = mask_missing(ds, [name])
        # what an earlier fill estimated is no observation to learn from
        field = grid.standardise(unfilled(ds, name)[name])
        survey = gaps.survey(field)
        # Without the field itself, which is no mask.
        given = sea if sea is not None else find_sea(ds.drop_vars(name))
        if given is not None:
            mask = sea_mask(field, given).compute()
        else:
            # What is ever observed is taken for sea.
            dims = field.dims[1:]
            in_space = [n for n, coord in field.coords.items() if set(coord.dims) <= set(dims)]
            coords = {name: field.coords[name] for name in in_space}
            seen = survey.pixel_count.values > 0
            mask = xr.DataArray(seen, dims=dims, coords=coords, name="sea")
        _check(name, survey, mask)
        fingerprint = survey.attrs["fingerprint"]
        known = None
        if truth is not None:
            known = _matching(truth, field, mask)
            fingerprint += f"-{known.attrs['fingerprint']}"
        obs = field.where(mask).rename(name)
        chosen = choose(transform, ds[name], obs)
        if chosen.kind != "none":
            fingerprint += f"-{chosen.kind}{chosen.floor:g}"
            obs, known = chosen.apply(obs), None if known is None else chosen.apply(known)
        elif transform == "auto" and not by_name(ds[name])[1]:
            least, most = survey["least"].where(mask), survey["most"].where(mask)
            if is_skewed(least.values, most.values):
                note_skewness([name])
        return cls(obs=obs, sea=mask, truth=known, fingerprint=fingerprint, transform=chosen)

    def loaded(self, limits: MemoryLimits) -> TrainingField:
        """Return it in memory, if `limits` allow that."""
        if not limits.allow(self.obs):
            return self
        truth = None
        if self.truth is not None:
            truth = self.truth.compute()
        return replace(self, obs=self.obs.compute(), truth=truth)


def _check(name: str, survey: xr.Dataset, sea: xr.DataArray) -> None:
    # An infinite value would make the scale of all others 0, and no error says so.
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
            f"the truth, {known.shape}, is not on the dates and the grid of the field, "
            f"{field.shape}; bring it there: truth.reindex_like(field)"
        )
    of_truth = str(known.attrs.get("units", ""))
    of_field = str(field.attrs.get("units", ""))
    if of_truth and of_field and of_truth != of_field:
        raise InputError(
            f"the truth is in {of_truth}, the field in {of_field}; convert one of them"
        )
    survey = gaps.survey(known, sea)
    _check(str(known.name or "truth"), survey, sea)
    return field.copy(data=known.data).assign_attrs(fingerprint=survey.attrs["fingerprint"])


def _alike(a: xr.DataArray, b: xr.DataArray) -> bool:
    if a.dtype.kind == b.dtype.kind == "f":
        return bool(np.allclose(a.values, b.values, atol=1e-4))
    return bool(np.array_equal(a.values, b.values))
