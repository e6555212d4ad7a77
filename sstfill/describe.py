# SPDX-License-Identifier: Apache-2.0
"""Describe a dataset: its fields and their gaps, the other variables, and what would fail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from sstfill.errors import InputError, OptionError, SstfillError
from sstfill.fields import gaps, grid
from sstfill.fields.reading import dates
from sstfill.fields.reading.account import MissingValues
from sstfill.fields.reading.dates import days_since_first
from sstfill.fields.reading.positions import along_axis, cell_km, degrees, on_the_sphere
from sstfill.fields.reading.rules import located
from sstfill.fields.reading.sea import locate_sea
from sstfill.fields.reading.variables import (
    find_fields,
    is_ancillary,
    missing_means_none,
    pick_fields,
)
from sstfill.fields.transform import WORDS
from sstfill.fill import fill
from sstfill.io.ghrsst import flag_bits
from sstfill.methods import METHODS
from sstfill.printable import printable

BESIDE = "goes with another variable (a mask, flag, error or the like)"
FLAGS = ("quality_level", "l2p_flags")


@dataclass(frozen=True)
class FieldDescription:
    """One field that could be filled, or why it could not.

    Attributes
    ----------
    name, title
        Name of the variable; its type, sizes, units and long name.
    facts
        What is known by key: ``time``, ``grid``, ``sea``, ``gaps``, ``methods`` (those that work
        with so many images), ``missing`` (values by the rule that makes them so) and ``values`` (if
        they are transformed), as far as the field could be understood.
    trouble
        Why it could not be filled; empty if it could.
    """

    name: str
    title: str
    facts: dict[str, str]
    trouble: str

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}"]
        lines += [f"  {key:<8} {text}" for key, text in self.facts.items()]
        lines += [f"  CANNOT BE FILLED: {self.trouble}" if self.trouble else "  ready to fill"]
        return "\n".join(map(printable, lines))  # names and attributes may hold line breaks


@dataclass(frozen=True)
class Description:
    """What `describe` found; it prints as a short report.

    Attributes
    ----------
    fields
        The fields that would be filled, or were asked for.
    passed_over
        Name of each other variable, and why it is not a field to fill.
    quality
        Quality variables by which `sstfill.io.open` can select, and what they hold.
    trouble
        Why there is no field at all; empty if there is one.
    """

    fields: tuple[FieldDescription, ...]
    passed_over: dict[str, str]
    quality: dict[str, str]
    trouble: str = ""

    def __str__(self) -> str:
        parts = list(map(str, self.fields))
        if not parts:
            parts = [f"NO FIELD TO FILL: {printable(self.trouble)}"]
        if self.passed_over:
            parts.append("passed over:\n" + _listed(self.passed_over))
        if self.quality:
            parts.append("quality to select by:\n" + _listed(self.quality))
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return str(self)


def describe(
    data: xr.Dataset | xr.DataArray,
    *,
    variables: str | Sequence[str] | None = None,
    sea: xr.DataArray | None = None,
    lakes: bool | None = None,
    missing: Mapping[str, MissingValues] | None = None,
) -> Description:
    """Describe what would be filled, and what would fail, without filling.

    The data are read twice. No `SstfillError` is raised: it becomes part of the description.

    Parameters
    ----------
    data
        A Dataset or DataArray, as for `sstfill.fill.fill`.
    variables
        Which variables of a Dataset; by default each one that can be filled.
    sea, lakes
        True at sea, and whether lakes are filled, as for `sstfill.fill.fill`.
    missing
        The account of the file that the data come from, see `sstfill.io.missing_values`.

    Returns
    -------
    Description
        It prints as a report.

    Examples
    --------
    >>> from sstfill.synthetic import ocean
    >>> found = describe(ocean(shape=(8, 16, 16), seed=1), variables="sst")
    >>> found.fields[0].facts["sea"]
    "89.8 % of the grid, from variable 'sea'"
    """
    if isinstance(data, xr.DataArray):
        data = data.to_dataset(name=data.name or "field")
    # Coordinates are found as `fill` finds them.
    ds = located(data)
    names, trouble = [], ""
    try:
        names = pick_fields(ds, variables)
    except (InputError, OptionError) as error:
        trouble = str(error)
    candidates = find_fields(ds)
    fields = tuple(_describe_field(ds, name, sea, lakes, missing or {}) for name in names)
    # A variable that serves as mask of the sea is not passed over.
    told = [field.facts.get("sea", "") for field in fields]
    others = {}
    for name, variable in ds.data_vars.items():
        masks = any(line.endswith(f"from variable {name!r}") for line in told)
        if name not in names and not masks:
            others[name] = variable
    return Description(
        fields=fields,
        passed_over={str(n): _reason(v, n in candidates) for n, v in others.items()},
        quality={str(n): _quality(ds[n]) for n in ds.variables if str(n).lower() in FLAGS},
        trouble=trouble,
    )


@dataclass(frozen=True, kw_only=True)
class _NoMethod:
    """Fills nothing: it only takes a field through the checks of `fill`."""

    name: ClassVar[str] = "none"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        return xr.Dataset({"mean": obs})


def _describe_field(
    ds: xr.Dataset,
    name: str,
    sea: xr.DataArray | None,
    lakes: bool | None,
    missing: Mapping[str, MissingValues],
) -> FieldDescription:
    da = ds[name]
    sizes = ", ".join(f"{d} {n}" for d, n in da.sizes.items())
    words = [
        f"{da.dtype} ({sizes})",
        str(da.attrs.get("units", "")),
        str(da.attrs.get("long_name", "")),
    ]
    title = ", ".join(word for word in words if word)
    facts: dict[str, str] = {}
    if name in missing:
        facts["missing"] = str(missing[name])
    try:
        field = grid.standardise(da)
        # Filled in one by one, so that what was understood before a failure is shown.
        facts |= {"time": _time(field, grid.series_times(da)), "grid": _grid(field)}
        facts |= _gaps(ds.drop_vars(name), field, sea, lakes)
        images = field.sizes["time"]
        facts["methods"] = ", ".join(n for n, cls in METHODS.items() if images >= cls.min_times)
        # by the checks of `fill` itself: a second set of them would differ before long
        filled = fill(ds, _NoMethod(), variables=name, sea=sea, lakes=lakes, score=False)
        transform = json.loads(filled[name].attrs["sstfill_method"]).get("transform")
        if transform is not None:
            facts["values"] = f"filled {WORDS[transform['kind']]} ({transform['why']})"
    except SstfillError as error:
        return FieldDescription(name, title, facts, str(error))
    return FieldDescription(name, title, facts, "")


def _time(field: xr.DataArray, told: dates.SeriesTimes | None) -> str:
    count = f"{field.sizes['time']} images"
    if told is None:
        return f"{count}, no dates: steps are taken as equal"
    line = _span(field, count)
    return f"{line}; {told.note}" if told.note else line


def _span(field: xr.DataArray, count: str) -> str:
    times = field["time"].values
    steps = np.diff(days_since_first(field))
    if not steps.size:
        return f"{_date(times[0])}, {count}"
    usual = _length(float(np.median(steps)))
    if np.allclose(steps, steps[0], rtol=0.01):
        pace = f"one each {usual}"
    else:
        least, most = _length(float(steps.min())), _length(float(steps.max()))
        pace = f"{least} to {most} apart, mostly {usual}"
    return f"{_date(times[0])} to {_date(times[-1])}, {count}, {pace}"


def _date(value: object) -> str:
    return str(value)[:19].removesuffix("T00:00:00").removesuffix(" 00:00:00")


def _length(days: float) -> str:
    if days >= 1:
        return f"{days:g} d"
    return f"{24 * days:.3g} h"


def _grid(field: xr.DataArray) -> str:
    cells = " x ".join(map(str, field.shape[1:]))
    try:
        dy, dx = cell_km(field)
    except InputError as error:
        # With latitudes there should be distances: the error says what is wrong with them.
        if "lat" in field.coords:
            raise
        return f"{cells} cells without distances: {error}"
    size = f"cells of {dy:.3g} x {dx:.3g} km"
    if "lat" not in field.coords:
        if on_the_sphere(field):
            return f"{cells}, {size}, in degrees from a rotated pole"
        if any(along_axis(field, dim) is not None for dim in ("y", "x")):
            return f"{cells} cells without latitude and longitude, {size}"
        return f"{cells} cells without latitude and longitude"
    parts = []
    for name, values in zip(("lat", "lon"), degrees(field), strict=True):
        parts.append(f"{name} {np.nanmin(values):.5g} to {np.nanmax(values):.5g}")
    if field["lat"].ndim > 1:
        parts.append("curvilinear")
    return f"{', '.join(parts)}, {size}"


def _gaps(
    rest: xr.Dataset, field: xr.DataArray, sea: xr.DataArray | None, lakes: bool | None
) -> dict[str, str]:
    # The fingerprint would hash the whole field, which nothing here asks for.
    survey = gaps.survey(field, fingerprint=False)
    found = locate_sea(field, rest, survey.pixel_count.values > 0, sea, lakes=lakes)
    at_sea = found.mask
    facts = {"sea": f"{_percent(float(at_sea.mean()))} of the grid, {found.origin}"}
    total = int(at_sea.sum()) * field.sizes["time"]
    if total:
        missing = 1 - int(survey.pixel_count.where(at_sea, 0).sum()) / total
        empty = int((survey.image_count == 0).sum())
        never = int(((survey.pixel_count == 0) & at_sea).sum())
        images = f"{empty} images empty, {never} sea pixels never observed"
        facts["gaps"] = f"{_percent(missing)} of the sea, {images}"
    return facts


def _reason(da: xr.DataArray, candidate: bool) -> str:
    if candidate and missing_means_none(str(da.name), da):
        return "missing may mean none, so it is filled only if it is named"
    if candidate:
        return "not asked for"
    if da.dtype.kind != "f":
        return f"{da.dtype} values, not a field"
    if is_ancillary(str(da.name), da):
        return BESIDE
    try:
        grid.axes(da)
    except InputError as error:
        return str(error)
    return BESIDE


def _quality(flags: xr.DataArray) -> str:
    if str(flags.name).lower() == "l2p_flags":
        return ", ".join(flag_bits(flags))
    # GHRSST defines levels 0 to 5 where the file does not say.
    low, high = flags.attrs.get("valid_min", 0), flags.attrs.get("valid_max", 5)
    return str(flags.attrs.get("flag_meanings", "")) or f"levels {low} to {high}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _listed(entries: dict[str, str]) -> str:
    return "\n".join(printable(f"  {name}: {text}") for name, text in entries.items())
