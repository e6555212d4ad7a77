# SPDX-License-Identifier: Apache-2.0
"""`fill`, through which every gap is filled: it enforces what no method may break.

Observed values stay as they are, land stays empty, and each filled pixel gets a source and an
expected error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.checks import check_choice
from sstfill.errors import InputError, OptionError
from sstfill.fields import gaps, grid
from sstfill.fields.ancillary import (
    MEMBER,
    check_member_dim,
    error_attrs,
    in_gaps,
    lay_out,
    limit_attrs,
    member_coordinate,
    members_attrs,
    unfilled,
    with_ancillary,
)
from sstfill.fields.error_distribution import GAUSSIAN
from sstfill.fields.magnitude import Magnitude, Rescaling
from sstfill.fields.reading import dates
from sstfill.fields.reading.missing import mask_missing
from sstfill.fields.reading.rules import located
from sstfill.fields.reading.sea import Sea, is_of_the_sea, locate_sea
from sstfill.fields.reading.variables import named_as, names_in, pick_fields, without_trouble
from sstfill.fields.rounding import Rounding
from sstfill.fields.strays import warn_of_strays
from sstfill.fields.transform import (
    ASKED,
    WORDS,
    Asked,
    FieldTransforms,
    by_name,
    choose,
    is_skewed,
    note_skewness,
)
from sstfill.io.packing import holdable, packed_like
from sstfill.io.untrusted.declared import memory
from sstfill.methods import Method, method_class
from sstfill.methods.auto.method import Auto, FillPlan
from sstfill.methods.base import FitsOnce
from sstfill.methods.registry import check_members, seeded
from sstfill.validation.calibrated import calibrated
from sstfill.validation.tails import tails_seed
from sstfill.validation.withheld import WithheldScore, in_both_spaces, is_better, withheld_score
from sstfill.version import __version__

log = logging.getLogger(__name__)
OFF_SEA = 0.5
"""Greatest fraction of the observations that may lie on land by a sea mask found in the data."""
COPIES = 4
"""Arrays of all members that are in memory at once while they are drawn."""
ESTIMATED = (gaps.SOURCE_FLAGS["filled"], gaps.SOURCE_FLAGS["withheld"])
"""Flags of the pixels that have an estimate of the method."""


def fill(
    data: xr.Dataset | xr.DataArray,
    method: Method | str | None = None,
    *,
    variables: str | Sequence[str] | None = None,
    together: bool = False,
    sea: xr.DataArray | None = None,
    lakes: bool | None = None,
    withheld: xr.DataArray | None = None,
    score: bool = True,
    transform: Asked = "auto",
    members: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Fill the gaps of a gridded time series.

    Parameters
    ----------
    data
        A Dataset or DataArray with time and two spatial dimensions in any order, NaN in the gaps.
        See `sstfill.fields.grid.standardise` for the layouts that are understood. Dask-backed data
        stay so. Values of an earlier fill (by its ``v_source``) are no observations: they are
        filled again.
    method
        A method (``Dineof(modes=12)``), its name with default options, or None, which is
        `sstfill.Auto`: every method is tried on withheld clouds, and the best one fills, or a blend
        of several.
    variables
        Which variables of a Dataset to fill; by default each one that can be filled.
    together
        Fill the variables as one multivariate field, which not every method can do.
    sea
        True (or 1) at sea, over the spatial dims. By default a sea mask in the Dataset, else the
        pixels that are observed at least once; where the extra ``landmask`` is installed and the
        field is one of the sea, its land mask adds sea pixels that are never observed.
    lakes
        True fills lakes, False takes them as land; by default as the mask has it. See
        `sstfill.fields.reading.sea.locate_sea`.
    withheld
        True at observed pixels to hide from the method; at sea they are returned as estimates,
        with source ``withheld``.
    score
        Hide a tenth of the observed pixels in runs of dates, as the gaps lie, fill them, and record
        the score in the attribute ``sstfill_score``; the expected error is scaled to match, by
        distance to data. Costs a second fill. (`sstfill.Auto` needs a score to choose by, hides a
        fifth, and always records it.)
    transform
        What the method fills: ``log``, decimal logarithms, for concentrations; ``logit`` for
        fractions; ``none``, the values as they are. ``auto`` goes by standard_name, names and
        units; of a skewed field that these do not tell, `sstfill.Auto` takes the logarithm where
        that does better on withheld clouds.
    members
        How many plausible fields to draw, as ``v_members``: each equals the observations where
        there are any, and differs from the others in the gaps as the truth may. The spread of a
        mean over a basin, or of a gradient, among the members is its error. Not every method can
        draw. Member 3 of 5 is member 3 of 50.
    seed
        Seed of the withheld clouds, and of a method given by its name.

    Returns
    -------
    Dataset
        `data` with each variable ``v`` filled (observed values bit-identical, land NaN; dims,
        order, dtype, attributes and encoding kept), ``v_error`` (one sigma of the filled pixels,
        units of ``v``) and ``v_source`` (CF flags: 0 observed, 1 filled, 2 not filled, 3 withheld,
        4 land). With a transform ``v`` is the median of the estimate, ``v_lower`` and ``v_upper``
        its 16th and 84th percentile, and ``v_error`` half the distance between them. With
        `members` also ``v_members``, dims ``member`` and those of ``v``. How the errors are
        distributed, attributes of ``v_error`` tell; `sstfill.intervals.interval` reads them.

    Raises
    ------
    InputError
        If there is no time dimension, nothing observed, only land, no gap, an infinite value, one
        beyond 1e30 or too far from all others, too few images, duplicate or descending times, an
        ambiguous field, or a mask that does not fit.
    OptionError
        For an unknown method, variable or transform, a negative seed, a transform that does not fit
        the values, or members of a method that cannot draw, or more than memory holds.

    Examples
    --------
    >>> import sstfill, sstfill.synthetic
    >>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
    >>> filled = sstfill.fill(ocean, "interpolate", variables="sst")
    >>> filled.sst_source.attrs["flag_meanings"]
    'observed filled not_filled withheld land'
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"seed={seed!r} is not a seed; give a whole number, 0 or more")
    check_choice("transform", transform, ASKED)
    chosen = chosen_method(method, seed)
    check_members(chosen, members)
    space = wanted_space(transform, chosen)
    for label, mask in (("sea", sea), ("withheld", withheld)):
        if mask is not None and not isinstance(mask, xr.DataArray):
            raise InputError(
                f"{label} is a {type(mask).__name__}; "
                "give an xarray DataArray with the dims of the field"
            )
    ds = located(_as_dataset(data))
    if isinstance(data, xr.DataArray) and variables is None:
        # A DataArray is one field, whatever its name: it has been chosen.
        variables = list(map(str, ds.data_vars))
    names = pick_fields(ds, variables)
    ds = mask_missing(ds, names)
    for name in names:
        ds = unfilled(ds, name)
        if "sstfill_method" in ds[name].attrs:
            raise InputError(
                f"{name!r} was filled by sstfill, but the source of its pixels is missing; "
                "pass the Dataset that fill() returned"
            )
    if members:
        check_member_dim(ds, members)
    usable: dict[str, _Field] = {}
    if variables is None and len(names) > 1:
        # of several that were not named, those that cannot be filled are left as they are
        usable = without_trouble(names, lambda name: _Field.of(ds, [name], sea, lakes, None, space))
        names = list(usable)
    if together or withheld is not None or not usable:
        groups = [names] if together else [[name] for name in names]
        fields = [_Field.of(ds, group, sea, lakes, withheld, space) for group in groups]
    else:
        fields = list(usable.values())
    with_gaps = [field for field in fields if field.missing > 0 or withheld is not None]
    if not with_gaps:
        raise InputError(
            f"{', '.join(names)}: no gaps at sea, nothing to fill; is the fill value decoded to "
            "NaN? Pixels that are never observed count as land unless sea=... states otherwise"
        )
    if members:
        _check_room(with_gaps, members)
    for field in with_gaps:
        ds = field.fill(ds, chosen, score=score, members=members, seed=seed)
    return named_as(ds, data)


@dataclass(frozen=True)
class _Field:
    """One field to fill: a variable, or several stacked along ``variable``.

    Attributes
    ----------
    names
        Of the variables.
    obs
        Observations, dims (time, lat, lon) or (time, y, x); a leading ``variable`` if several.
    sea
        True at sea, the spatial dims.
    sea_note
        What pixels never observed are taken for, where no mask tells; else empty.
    withheld
        True where an observation is hidden from the method, dims of `obs`; None if none is.
    fingerprint
        Of the observed values.
    missing
        Number of gaps at sea.
    transforms
        Bring skewed and bounded variables to a space without bounds.
    rescaling
        Scales magnitudes there that single precision cannot hold.
    roundings
        Steps in which the values of each variable are recorded.
    skewed
        Whether it looks log-normal, though nothing tells that it is a concentration.
    """

    names: list[str]
    obs: xr.DataArray
    sea: xr.DataArray
    sea_note: str
    withheld: xr.DataArray | None
    fingerprint: str
    missing: int
    transforms: FieldTransforms
    rescaling: Rescaling
    roundings: dict[str, Rounding]
    skewed: bool

    @classmethod
    def of(
        cls,
        ds: xr.Dataset,
        names: list[str],
        sea: xr.DataArray | None,
        lakes: bool | None,
        withheld: xr.DataArray | None,
        space: str,
    ) -> _Field:
        fields = [grid.standardise(ds[n]) for n in names]
        obs = fields[0] if len(fields) == 1 else _stack(fields, names)
        surveys = [gaps.survey(f) for f in fields]
        found = _sea(fields, ds.drop_vars(names), surveys, sea, lakes)
        # a method that wrote into its input would change the user's data, and the next method's
        at_sea = _read_only(found.mask)
        for name, field, survey in zip(names, fields, surveys, strict=True):
            _check(name, field, survey, at_sea, own=found.own)
        n_sea = int(at_sea.sum()) * fields[0].sizes["time"]
        # From the counts of the survey: the field has been read once already.
        missing = sum(n_sea - int(s.pixel_count.where(at_sea, 0).sum()) for s in surveys)
        fingerprint = "-".join(s.attrs["fingerprint"] for s in surveys)
        hidden = _hidden(withheld, fields[0], obs)
        seen = fields
        if hidden is not None:  # withheld values must not even contribute to the magnitude
            seen = _unstack(obs.where(~hidden), names)
            surveys = [gaps.survey(f) for f in seen]
        transforms, magnitudes, roundings, skewed = {}, {}, {}, False
        for name, field, survey in zip(names, seen, surveys, strict=True):
            transform = choose(space, ds[name], field)
            warn_of_strays(name, survey, at_sea, transform)
            least, most = survey.least.where(at_sea), survey.most.where(at_sea)
            low, high = float(least.min()), float(most.max())
            magnitude = Magnitude.of(name, low, high, field.dtype)
            roundings[name] = Rounding.of(ds[name], max(abs(low), abs(high)))
            if transform.kind != "none":
                # The transform increases, so extremes stay extremes: the field need not be read
                # again.
                low, high = float(transform.apply(least).min()), float(transform.apply(most).max())
                magnitude = Magnitude.of(name, low, high, field.dtype)
            transforms[name], magnitudes[name] = transform, magnitude
            unknown = space == "auto" and not by_name(ds[name])[1]
            skewed |= unknown and is_skewed(least.values, most.values)
        rescaling = Rescaling(magnitudes, obs)
        note = found.origin if found.guessed else ""
        return cls(
            *(names, obs, at_sea, note, hidden, fingerprint, missing),
            *(FieldTransforms(transforms), rescaling, roundings, skewed),
        )

    def fill(
        self, ds: xr.Dataset, method: Method, *, score: bool, members: int, seed: int
    ) -> xr.Dataset:
        """Return `ds` with the variables of this field filled."""
        seen = self.obs
        if self.withheld is not None:
            seen = seen.where(~self.withheld)
            if not bool(seen.notnull().any()):
                raise InputError(
                    f"withheld hides all observations of {', '.join(self.names)}; "
                    "leave some of them False"
                )
        _check_method(method, self.obs)
        seen = _read_only(seen)
        if isinstance(method, Auto):
            # Its trials are on withheld clouds, which give the score as well.
            field, plan = self._planned(method, ds, seen)
            scores, shown = dict(plan.scores), field.shown(seen)
            estimator: Any = plan
        else:
            if self.skewed:
                note_skewness(self.names)
            field, shown = self, self.shown(seen)
            estimator, scores = method, {}
            if score:
                if isinstance(method, FitsOnce) and getattr(method, "shares_fit", False):
                    estimator = method.fitted_to(shown, self.sea)
                scores = withheld_score(estimator, shown, self.sea, seed)
        if members:
            estimate = estimator.simulate(shown, self.sea, members)
        else:
            estimate = estimator.reconstruct(shown, self.sea)
        if "error" in estimate:
            stated = estimate["error"].transpose(*shown.dims)
            for name, own in zip(self.names, _unstack(stated, self.names), strict=True):
                sample = scores[name].gaps if name in scores else None
                if sample is not None:
                    scores[name] = scores[name].at_level(sample.pick(own), sample.odds)
        for one in scores.values():
            one.warn_of_scale()
        scales = {name: one.scale for name, one in scores.items()}
        distributions = {name: scale.distribution for name, scale in scales.items()}
        # scaled in the space of the method, in which the score was made; then units, then the
        # inverse transform
        of_tails = tails_seed(method, seed)
        estimate = calibrated(estimate, scales, self.names, shown, seed=of_tails)
        scores = {name: field.score_in_units(name, one) for name, one in scores.items()}
        normalised = getattr(method, "normalise", False)
        estimate = field.rescaling.invert(estimate, normalised=normalised)
        estimate = field.transforms.invert(estimate, distributions)
        # from `seen`: what is withheld must come back as an estimate
        filled = _merged(seen, estimate["mean"].transpose(*seen.dims), self.sea)
        estimate = estimate.drop_vars("mean")
        for name in self.names:
            ds = field._insert(ds, name, filled, estimate, method, scores.get(name))
        return ds

    def shown(self, seen: xr.DataArray) -> xr.DataArray:
        """Return what a method is given of the observations."""
        return _read_only(self.rescaling.apply(self.transforms.apply(seen)))

    def score_in_units(self, name: str, score: WithheldScore) -> WithheldScore:
        """Bring the score of a variable from the space of the method to the units of the field."""
        if not self.rescaling.usual:
            summary, estimates = self.rescaling.score(name, score.summary), score.estimates
            if estimates is not None:
                estimates = estimates._replace(
                    truth=self.rescaling.values(name, estimates.truth),
                    mean=self.rescaling.values(name, estimates.mean),
                )
            score = replace(score, summary=summary, estimates=estimates)
        return in_both_spaces(score, self.transforms.by_name[name])

    def _planned(self, method: Auto, ds: xr.Dataset, seen: xr.DataArray) -> tuple[_Field, FillPlan]:
        """Plan a fill by `Auto`; of a skewed field in logarithms, where that does better."""
        plan = method.plan(self.shown(seen), self.sea)
        # A budget allows for the trials of one space only.
        if not self.skewed or len(self.names) > 1 or method.budget is not None or not plan.scores:
            return self, plan
        (name,) = self.names
        transform = choose("log", ds[name], seen)
        why = "better on withheld clouds"
        transforms = FieldTransforms({name: replace(transform, why=why)})
        other = replace(self, transforms=transforms, rescaling=Rescaling({name: Magnitude()}, seen))
        other_plan = method.plan(other.shown(seen), self.sea)
        as_it_is = self.score_in_units(name, plan.scores[name])
        if name in other_plan.scores:
            in_logarithms = other.score_in_units(name, other_plan.scores[name])
            if is_better(in_logarithms, as_it_is, transform):
                log.info("%s is filled %s, %s", name, WORDS["log"], why)
                return other, other_plan
        return self, plan

    def _insert(
        self,
        ds: xr.Dataset,
        name: str,
        filled: xr.DataArray,
        estimate: xr.Dataset,
        method: Method,
        score: WithheldScore | None,
    ) -> xr.Dataset:
        """Put one filled variable and its ancillary variables in place of `ds[name]`."""

        def of_variable(array: xr.DataArray) -> xr.DataArray:
            if "variable" not in array.dims:
                return array
            return array.sel(variable=name, drop=True)

        like, obs, values, members = ds[name], of_variable(self.obs), of_variable(filled), 0
        transform, rounding = self.transforms.by_name[name], self.roundings[name]
        if transform.kind != "none":
            # values differ by orders of magnitude: the largest says nothing of how the small ones
            # are rounded
            rounding = replace(rounding, magnitude=0.0)
        distribution = GAUSSIAN
        if score is not None:
            distribution = score.scale.distribution
        hidden = None
        if self.withheld is not None:
            hidden = of_variable(self.withheld)
        source = gaps.source_flags(obs, values, values.notnull() | self.sea, hidden)
        extra = {f"{name}_source": lay_out(source, like, obs)}
        for key in estimate.data_vars:
            part = of_variable(estimate[key])
            if key == "error":
                part = _where_estimated(part.transpose(*obs.dims), source)
                # What is recorded in steps is not known better than a step tells.
                part = rounding.at_least(part, values)
                attrs = error_attrs(name, like, distribution)
                part = part.drop_attrs(deep=False).assign_attrs(attrs)
            elif key in ("lower", "upper") and not self.transforms.usual:
                if transform.kind == "none":
                    continue
                part = _where_estimated(part.transpose(*obs.dims), source)
                part = part.drop_attrs(deep=False).assign_attrs(limit_attrs(name, like, key))
            elif key == "members":
                members = part.sizes[MEMBER]
                extra[f"{name}_members"] = _members(part, values, source, like)
                continue
            extra[f"{name}_{key}"] = lay_out(part, like, obs)
        new = grid.restore(values, like)
        new.attrs = like.attrs | self._provenance(ds, like, list(extra), method, estimate, score)
        by = method.name
        if chosen := estimate.attrs.get("chosen"):
            by += f" ({' + '.join(chosen)})"
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        if transform.kind != "none":
            by += f", {WORDS[transform.kind]}"
        if members:
            by += f", with {members} members"
        history = f"{now} sstfill {__version__}: {name} filled by {by}"
        if earlier := str(ds.attrs.get("history", "")):
            history += f"\n{earlier}"
        return with_ancillary(ds, holdable(new), extra).assign_attrs(history=history)

    def _provenance(
        self,
        ds: xr.Dataset,
        like: xr.DataArray,
        extra: list[str],
        method: Method,
        estimate: xr.Dataset,
        score: WithheldScore | None,
    ) -> dict[str, str]:
        """Attributes that state how a variable was filled."""
        record = {
            "name": method.name,
            "options": config.options(method),
            "diagnostics": config.plain(estimate.attrs),
        }
        if "members" in estimate:
            record["members"] = estimate.sizes[MEMBER]
        transform = self.transforms.by_name[str(like.name)]
        if transform.kind != "none":
            record["transform"] = transform.to_dict()
        # the user's own first: `unfilled` tells by the order which are ours
        linked = [*names_in(str(like.attrs.get("ancillary_variables", "")), ds), *extra]
        attrs = {
            "ancillary_variables": " ".join(dict.fromkeys(linked)),
            "sstfill_version": __version__,
            "sstfill_method": json.dumps(record, allow_nan=False),
            "sstfill_fingerprint": self.fingerprint,
        }
        if self.sea_note:
            attrs["sstfill_sea"] = self.sea_note
        if score:
            attrs["sstfill_score"] = json.dumps(config.plain(score.summary), allow_nan=False)
        return attrs


def _merged(seen: xr.DataArray, mean: xr.DataArray, sea: xr.DataArray) -> xr.DataArray:
    """Put the estimate into the gaps at sea."""
    if seen.chunks or mean.chunks:
        mean = mean.astype(seen.dtype)
        # of the observation where there is one: a sum or a blend would not keep its bits
        merged = xr.where(seen.notnull(), seen, mean.where(sea & np.isfinite(mean)))
        return merged.transpose(*seen.dims)
    # A copy that is ours: the input must not change.
    out = np.array(seen.values)
    at_sea = sea.transpose(*seen.dims[-2:]).values
    for index in np.ndindex(out.shape[:-2]):  # image by image, which needs less memory
        image = mean.values[index]
        gap = np.isnan(out[index]) & at_sea & np.isfinite(image)
        np.copyto(out[index], image, where=gap, casting="same_kind")
    return seen.copy(data=out)


def _where_estimated(error: xr.DataArray, source: xr.DataArray) -> xr.DataArray:
    """Keep the error where a pixel is filled or withheld; elsewhere it is NaN."""
    if error.chunks or source.chunks:
        return error.astype(np.float32).where((source == 1) | (source == 3))
    out = np.full(error.shape, np.nan, np.float32)
    for index in np.ndindex(out.shape[:-2]):  # image by image, which needs less memory
        estimated = (source.values[index] == 1) | (source.values[index] == 3)
        out[index][estimated] = error.values[index][estimated]
    return error.copy(data=out)


def _members(
    draws: xr.DataArray, values: xr.DataArray, source: xr.DataArray, like: xr.DataArray
) -> xr.DataArray:
    """Lay out members: draws where a pixel is filled or withheld, elsewhere what the field holds.

    Parameters
    ----------
    draws
        Dims ``member`` and those of `values`.
    values, source
        The filled field and its flags.
    like
        The user's variable, whose type, attributes and packing the members have.
    """
    drawn = xr.apply_ufunc(
        in_gaps,
        draws.transpose(MEMBER, *values.dims).variable,
        values.variable,
        (source.isin(ESTIMATED) & np.isfinite(values)).variable,
        dask="parallelized",
        output_dtypes=[values.dtype],
        keep_attrs=False,
    )
    dtype = drawn.dtype
    if like.dtype.kind == "f" and like.dtype != dtype:
        dtype, most = like.dtype, np.finfo(like.dtype).max
        # a draw may lie beyond half precision, and infinity is no value
        drawn = drawn.clip(-most, most).astype(dtype)
    name = str(like.name)
    coordinate = member_coordinate(draws.sizes[MEMBER])
    field = xr.DataArray(drawn, {MEMBER: coordinate}).assign_attrs(members_attrs(name, like))
    found = lay_out(field, like, values).rename(f"{name}_members")
    found.encoding = packed_like(like)
    return holdable(found)


def _check_room(fields: Sequence[_Field], members: int) -> None:
    """Refuse more members than memory holds; lazy ones are computed block by block."""
    needed = [COPIES * field.obs.nbytes for field in fields if field.obs.chunks is None]
    free = memory()
    if members * max(needed, default=0) > free:
        raise OptionError(
            f"members={members} needs about {members * max(needed) / 1e9:,.1f} GB of memory, "
            f"{free / 1e9:,.1f} GB are free; give fewer, or fill unit by unit into a Zarr store: "
            "sstfill fill --members N --out OUT.zarr --memory SIZE"
        )


def chosen_method(method: Method | str | None, seed: int) -> Method:
    """Return a method: the one given, one by its name with defaults, or `sstfill.Auto` for None."""
    if method is None:
        return Auto(seed=int(seed))
    if isinstance(method, str):
        return seeded(method_class(method), seed)
    if isinstance(method, type):
        raise OptionError(f"{method.__name__} is a class; call it: {method.__name__}()")
    if not (isinstance(method, Method) and is_dataclass(method)):
        raise OptionError(
            f"{method!r} is not a method; give a name such as 'dineof', or a method: Dineof()"
        )
    return method


def wanted_space(transform: Asked, method: Method) -> Asked:
    """Return the transform to fill in: the one asked for, or that of a network's training.

    Raises
    ------
    OptionError
        A network was trained in another space than the one asked for.
    """
    trained: Asked | None = getattr(method, "trained_transform", None)
    if trained is None or transform == trained:
        return transform
    if transform != "auto":
        raise OptionError(
            f"transform={transform!r}, but the network was trained with transform={trained!r}; "
            "leave it out"
        )
    return trained


def _as_dataset(data: xr.Dataset | xr.DataArray) -> xr.Dataset:
    if isinstance(data, xr.DataArray):
        if data.name in data.coords:
            raise InputError(
                f"the field {data.name!r} has the name of one of its coordinates; "
                "rename it: .rename('sst')"
            )
        name = "field" if data.name is None else data.name
        return data.to_dataset(name=name, promote_attrs=False)
    if isinstance(data, xr.Dataset):
        return data
    raise InputError(f"cannot fill a {type(data).__name__}; give an xarray Dataset or DataArray")


def _read_only(array: xr.DataArray) -> xr.DataArray:
    """Return a view that a method cannot write to."""
    if array.chunks is not None:
        return array
    view = np.asarray(array.data).view()
    view.flags.writeable = False
    return array.copy(deep=False, data=view)


def _sea(
    fields: list[xr.DataArray],
    rest: xr.Dataset,
    surveys: list[xr.Dataset],
    given: xr.DataArray | None,
    lakes: bool | None,
) -> Sea:
    """Find the sea of variables that are filled together: one of the sea tells for all."""
    seen = np.asarray(sum(s.pixel_count for s in surveys) > 0)
    first = next((field for field in fields if is_of_the_sea(field)), fields[0])
    return locate_sea(first, rest, seen, given, lakes=lakes)


def _check(
    name: str, field: xr.DataArray, survey: xr.Dataset, sea: xr.DataArray, *, own: bool
) -> None:
    """Refuse what cannot be filled; `own`: the sea mask was found in the data, not given."""
    if (n := int(survey.infinite)) > 0:
        raise InputError(
            f"{name!r} holds {n} infinite values; "
            f"make them missing: ds.where(np.isfinite(ds[{name!r}]))"
        )
    if not bool(sea.any()) and bool(survey.pixel_count.any()):
        raise InputError(
            f"the sea mask is land everywhere ({sea.shape}); give 1 at sea and 0 on land"
        )
    total = int(survey.pixel_count.sum())
    at_sea = int(survey.pixel_count.where(sea, 0).sum())
    if own and at_sea and total - at_sea > OFF_SEA * total:
        raise InputError(
            f"{1 - at_sea / total:.1%} of the observations of {name!r} lie on land by the sea mask "
            "of the data; give another as sea=, 1 at sea and 0 on land"
        )
    if not at_sea:
        raise InputError(
            f"{name!r}: nothing observed at sea in {field.sizes['time']} images; "
            "check the fill value, the quality threshold and the sea mask"
        )


def _check_method(method: Method, obs: xr.DataArray) -> None:
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
    """Where an observation is withheld; the dims of the user's mask may be in any order."""
    if withheld is None:
        return None
    axes = grid.axes(withheld)
    mask = withheld.transpose(*axes.dims, ...)
    if tuple(mask.sizes[d] for d in axes.dims) != field.shape:
        raise InputError(
            f"withheld of shape {withheld.shape} does not fit the field of shape {field.shape}; "
            "give a mask of the same shape"
        )
    # Masks lie on the grid of the field by shape; where both have coordinates, these must agree as
    # well.
    times = dates.read_times(withheld, axes.dims[0], dates.candidates(withheld))
    coords = {n: mask[c] for n, c in (("lat", axes.lat), ("lon", axes.lon)) if c is not None}
    if times is not None:
        coords["time"] = xr.DataArray(times.variable)
    for name, theirs in coords.items():
        if name not in field.coords:
            continue
        if not _same_coordinate(theirs, field[name]):
            raise InputError(
                f"withheld lies on another {name} than the field; align it: .reindex_like(field)"
            )
    # a mask read from a file may be of floats, NaN where nothing is withheld
    hidden = mask.fillna(0).astype(bool).data.reshape(field.shape)
    return field.copy(data=hidden) & obs.notnull()


def _same_coordinate(a: xr.DataArray, b: xr.DataArray) -> bool:
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return bool(np.array_equal(a.values, b.values))
    if a.ndim != b.ndim or a.ndim > 1:  # curvilinear: the shapes were compared
        return True
    return bool(np.allclose(a.values, b.values, atol=1e-4, equal_nan=True))


def _unstack(obs: xr.DataArray, names: list[str]) -> list[xr.DataArray]:
    """Undo `_stack`."""
    if "variable" not in obs.dims:
        return [obs]
    return [obs.sel(variable=name, drop=True) for name in names]


def _stack(fields: list[xr.DataArray], names: list[str]) -> xr.DataArray:
    first = fields[0]
    for name, field in zip(names, fields, strict=True):
        same = all(c in field.coords and first[c].equals(field[c]) for c in first.coords)
        if first.sizes != field.sizes or not same:
            raise InputError(
                f"variables filled together need one grid; {name} {dict(field.sizes)} is not on "
                f"that of {names[0]} {dict(first.sizes)}; regrid it: .interp_like()"
            )
    # xarray would keep the attributes of the first for all.
    bare = [field.drop_attrs() for field in fields]
    return xr.concat(bare, xr.Variable("variable", names), join="override")
