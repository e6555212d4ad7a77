# SPDX-License-Identifier: Apache-2.0
"""What sstfill sees of a dataset: its fields and their gaps, what is passed over, and what would
fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from sstfill.errors import InputError, OptionError, SstfillError
from sstfill.fields import gaps, grid
from sstfill.fields.sea import find_sea, sea_mask
from sstfill.fill import fill
from sstfill.io.ghrsst import flag_bits
from sstfill.methods import METHODS

FLAGS = ("quality_level", "l2p_flags")


@dataclass(frozen=True)
class FieldDescription:
    """One field: its `title`, what is known of it, and in `trouble` why it could not be filled
    (empty if it could).

    `facts` holds ``time``, ``grid``, ``sea``, ``gaps`` and ``methods`` (those that can do with so
    many images), as far as the field could be understood.
    """

    name: str
    title: str
    facts: dict[str, str]
    trouble: str

    def __str__(self) -> str:
        lines = [f"  {key:<8} {text}" for key, text in self.facts.items()]
        verdict = f"  CANNOT BE FILLED: {self.trouble}" if self.trouble else "  ready to fill"
        return "\n".join([f"{self.name}: {self.title}", *lines, verdict])


@dataclass(frozen=True)
class Description:
    """What `describe` found; it prints as a short report.

    Attributes
    ----------
    fields
        The fields that would be filled, or were asked for.
    passed_over
        Name of each other variable, and why it is no field to fill.
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
        parts = [str(field) for field in self.fields] or [f"NO FIELD TO FILL: {self.trouble}"]
        parts += ["passed over:\n" + _listed(self.passed_over)] if self.passed_over else []
        parts += ["quality to select by:\n" + _listed(self.quality)] if self.quality else []
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return str(self)


def describe(
    data: xr.Dataset | xr.DataArray,
    *,
    variables: str | Sequence[str] | None = None,
    sea: xr.DataArray | None = None,
) -> Description:
    """Say what would be filled and with what; reads the data twice, fills nothing, and raises
    nothing of sstfill's.

    Parameters
    ----------
    data
        A Dataset or DataArray, as for `sstfill.fill.fill`.
    variables
        Which variables of a Dataset; by default each one that can be filled.
    sea
        True at sea, as for `sstfill.fill.fill`.

    Returns
    -------
    Description
        Prints as a report; a trouble found is told in it.

    Examples
    --------
    >>> from sstfill.synthetic import ocean
    >>> found = describe(ocean(shape=(8, 16, 16), seed=1), variables="sst")
    >>> found.fields[0].facts["sea"]
    "89.8 % of the grid, from variable 'sea'"
    """
    ds = data.to_dataset(name=data.name or "field") if isinstance(data, xr.DataArray) else data
    try:
        names, trouble = grid.pick(ds, variables), ""
    except (InputError, OptionError) as error:
        names, trouble = [], str(error)
    able = grid.candidates(ds)
    return Description(
        fields=tuple(_described(ds, name, sea) for name in names),
        passed_over={
            str(n): _reason(v, n in able) for n, v in ds.data_vars.items() if n not in names
        },
        quality={str(n): _quality(ds[n]) for n in ds.variables if str(n).lower() in FLAGS},
        trouble=trouble,
    )


@dataclass(frozen=True, kw_only=True)
class _NoMethod:
    """Fills nothing: it takes a field through the checks of `fill` and out again."""

    name: ClassVar[str] = "none"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        return xr.Dataset({"mean": obs})


def _described(ds: xr.Dataset, name: str, sea: xr.DataArray | None) -> FieldDescription:
    da = ds[name]
    sizes = ", ".join(f"{d} {n}" for d, n in da.sizes.items())
    words = [
        f"{da.dtype} ({sizes})",
        str(da.attrs.get("units", "")),
        str(da.attrs.get("long_name", "")),
    ]
    title = ", ".join(filter(None, words))
    facts: dict[str, str] = {}
    try:
        field = grid.standardise(da)
        facts |= {"time": _time(field), "grid": _grid(field)}
        facts |= _gaps(ds, field, sea)
        able = [n for n, cls in METHODS.items() if field.sizes["time"] >= cls.min_times]
        facts["methods"] = ", ".join(able)
        fill(ds, _NoMethod(), variables=name, sea=sea, score=False)
    except SstfillError as error:
        return FieldDescription(name, title, facts, str(error))
    return FieldDescription(name, title, facts, "")


def _time(field: xr.DataArray) -> str:
    count = f"{field.sizes['time']} images"
    if "time" not in field.coords:
        return f"{count}, no dates: steps are taken as equal"
    first, last = (_date(field["time"].values[i]) for i in (0, -1))
    steps = np.diff(grid.days(field))
    if not steps.size:
        return f"{first}, {count}"
    usual, least, most = (
        _days(float(step)) for step in (np.median(steps), steps.min(), steps.max())
    )
    pace = (
        f"one each {usual}"
        if np.allclose(steps, steps[0], rtol=0.01)
        else f"{least} to {most} apart, mostly {usual}"
    )
    return f"{first} to {last}, {count}, {pace}"


def _date(value: object) -> str:
    return str(value)[:19].removesuffix("T00:00:00").removesuffix(" 00:00:00")


def _days(step: float) -> str:
    return f"{step:g} d" if step >= 1 else f"{24 * step:.3g} h"


def _grid(field: xr.DataArray) -> str:
    dy, dx = grid.cell_km(field)
    if "lat" not in field.coords:
        return f"{' x '.join(map(str, field.shape[1:]))} cells without latitude and longitude"
    kind = "" if field["lat"].ndim == 1 else ", curvilinear"
    where = ", ".join(
        f"{n} {float(field[n].min()):.5g} to {float(field[n].max()):.5g}" for n in ("lat", "lon")
    )
    return f"{where}{kind}, cells of {dy:.3g} x {dx:.3g} km"


def _gaps(ds: xr.Dataset, field: xr.DataArray, sea: xr.DataArray | None) -> dict[str, str]:
    given = find_sea(ds) if sea is None else sea
    found = gaps.survey(field)
    wet = found.pixel_count > 0 if given is None else sea_mask(field, given)
    origin = "pixels observed at least once" if given is None else f"from variable {given.name!r}"
    said = {
        "sea": f"{_percent(float(wet.mean()))} of the grid, {origin if sea is None else 'as given'}"
    }
    whole = int(wet.sum()) * field.sizes["time"]
    if whole:
        missing = 1 - int(found.pixel_count.where(wet, 0).sum()) / whole
        empty = int((found.image_count == 0).sum())
        never = int(((found.pixel_count == 0) & wet).sum())
        said["gaps"] = (
            f"{_percent(missing)} of the sea, {empty} images empty, {never} sea pixels never observed"
        )
    return said


def _reason(da: xr.DataArray, candidate: bool) -> str:
    if candidate:
        return "not asked for"
    if da.dtype.kind != "f":
        return f"{da.dtype} values, no field"
    try:
        grid.axes(da)
    except InputError as error:
        return str(error)
    return "goes with another variable (a mask, flag, error or the like)"


def _quality(flags: xr.DataArray) -> str:
    if str(flags.name).lower() == "l2p_flags":
        return ", ".join(flag_bits(flags))
    low, high = flags.attrs.get("valid_min", 0), flags.attrs.get("valid_max", 5)
    return str(flags.attrs.get("flag_meanings", "")) or f"levels {low} to {high}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _listed(entries: dict[str, str]) -> str:
    return "\n".join(f"  {name}: {text}" for name, text in entries.items())
