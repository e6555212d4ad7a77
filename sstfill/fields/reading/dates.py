# SPDX-License-Identifier: Apache-2.0
"""The dates of a series: found, read in whatever form they have, checked, and counted in days.

The forms are in `sstfill.fields.reading.date_forms`, the names and units in ``dates.toml``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields.reading import date_forms
from sstfill.fields.reading.date_forms import GREGORIAN, LENGTHS, TABLES, calendar_of, unit_of
from sstfill.fields.reading.positions import cf_roles
from sstfill.printable import quoted

log = logging.getLogger(__name__)

TIME: tuple[str, ...] = tuple(TABLES["names"]["time"])
"""Usual names of a time, the likeliest first."""
YEAR = 365.2425
"""Days of a mean year of the Gregorian calendar."""
NO_YEAR = 2001
"""The year, without a leap day, that months and days of no year are laid in."""
MOST_DAYS = 1e7
"""Counts without units beyond this are no days: they would be 27,000 years."""


@dataclass(frozen=True)
class SeriesTimes:
    """The times of a series.

    Attributes
    ----------
    names
        The coordinates that they are read from.
    variable
        Dates, or numbers with ``units``, along the time dimension.
    note
        How they are read, where they are not dates as they stand.
    caution
        What to warn of: numbers that only look like dates, a year that is made up.
    year_known
        False where the year is made up.
    """

    names: tuple[Hashable, ...]
    variable: xr.Variable
    note: str = ""
    caution: str = ""
    year_known: bool = True

    @property
    def name(self) -> str:
        """The names, for a message."""
        return ", ".join(map(str, self.names))

    @property
    def are_dates(self) -> bool:
        """Whether these are dates, rather than a count."""
        return self.variable.dtype.kind in "MO"


def is_cftime(c: xr.DataArray | xr.Variable) -> bool:
    """Whether a coordinate holds dates of a calendar that NumPy does not know."""
    return c.dtype == object and c.size > 0 and hasattr(np.ravel(c.values)[0], "calendar")


# --- which coordinates tell the time --------------------------------------------------------------


def candidates(da: xr.DataArray, cf: Mapping[str, list[Hashable]] | None = None) -> list[Hashable]:
    """Return the coordinates (or bare dimensions) that may tell the time, the likeliest first.

    Those with CF attributes come first (`cf`, where they are known already), then those that hold
    dates, then those with usual names.
    """
    if cf is None:
        cf = cf_roles(da)
    found = [*cf.get("time", []), *cf.get("T", [])]
    found += [name for name, values in da.coords.variables.items() if _holds_dates(values)]
    # to list the coordinates takes longer than to look through the list
    names = [(name, str(name).lower()) for name in (*da.coords, *da.dims)]
    for usual in TIME:
        found += [name for name, lower in names if lower == usual]
    later = [name for name in found if str(name).lower() in TABLES["names"]["other"]]
    # a `dict` keeps the order and drops what was found twice
    return list(dict.fromkeys([name for name in found if name not in later] + later))


def _holds_dates(variable: xr.Variable) -> bool:
    """Whether a variable is made of dates, or of numbers since one, by its type and units alone."""
    if variable.dtype.kind == "M" or is_cftime(variable):
        return True
    if variable.dtype == object and variable.size:
        return isinstance(np.ravel(variable.values)[0], date | pd.Period)
    if variable.dtype.kind in "iuf":
        units = str(variable.attrs.get("units", "")).lower()
        return " since " in units or " as %y" in units
    return False


def declare(ds: xr.Dataset) -> xr.Dataset:
    """Make the times of the fields coordinates, also where the file does not declare them so.

    A warning tells, once a process, where only the numbers themselves show that they are dates.
    """
    dims: dict[Hashable, None] = {}  # a set would not keep their order
    for da in ds.data_vars.values():
        if da.dtype.kind == "f" and da.ndim > 2:
            dims |= dict.fromkeys(da.dims)
    for dim in dims:
        try:
            times = times_along(ds, dim)
        except InputError:
            continue  # refused where the field is used, if it is
        if times is None:
            continue
        if times.are_dates:
            ds = ds.set_coords(times.names)
        if times.caution:
            first = _date(times.variable.values[0])
            _warn_once(f"{times.name!r}: {times.note}, the first is {first}; {times.caution}")
    return ds


def times_along(ds: xr.Dataset, dim: Hashable) -> SeriesTimes | None:
    """Read the times along a dimension of a dataset from coordinates and plain variables.

    Their order is not checked.
    """
    along, coords = {}, set(ds.coords)
    for name, variable in ds.variables.items():
        if variable.dims == (dim,) or (name in coords and variable.ndim == 0):
            along[name] = variable
    # with the indexes that they have: to make or to align them anew takes longer than all the rest
    indexes = {name: index for name, index in ds.xindexes.items() if name in along}
    carried = xr.Coordinates(along, indexes)
    # an array without values carries the coordinates to the functions that ask for one
    bare = xr.DataArray(np.empty(ds.sizes[dim], bool), carried, [dim])
    return _told(bare, dim, candidates(bare))


@lru_cache(maxsize=1000)
def _warn_once(caution: str) -> None:
    """Warn of a time, once for the reading of a file and the filling of what was read."""
    log.warning("time %s", caution)


def decode(ds: xr.Dataset) -> xr.Dataset:
    """Decode the times of a dataset opened without, and leave those that xarray cannot decode.

    `read_times` reads these, or refuses them by name.
    """
    decoded = {}
    for name, variable in ds.variables.items():
        if " since " not in str(variable.attrs.get("units", "")).lower():
            continue
        try:
            # one by one: a single time that fails would leave all of them undecoded
            one = xr.decode_cf(xr.Dataset({"time": variable}), decode_timedelta=False)
        except (ValueError, OverflowError):
            continue
        decoded[name] = one.variables["time"]
    close = ds.close
    ds = ds.assign(decoded)
    # `assign` makes a dataset that closes nothing
    ds.set_close(close)
    return ds


def is_part(name: Hashable) -> bool:
    """Whether a name is that of a part of a date: a year, a season, an hour."""
    tables = [*TABLES["parts"].values(), *TABLES["periods"].values()]
    return any(str(name).lower() in spellings for spellings in tables)


# --- reading them ---------------------------------------------------------------------------------


def read_times(da: xr.DataArray, dim: Hashable, found: Iterable[Hashable]) -> SeriesTimes | None:
    """Read the times along a dimension from the coordinates that tell them best.

    Parameters
    ----------
    da
        The array with its coordinates.
    dim
        Its time dimension.
    found
        The `candidates`; those along `dim` are tried in their order, that of the dimension first.

    Returns
    -------
    SeriesTimes or None
        None where the dimension has no coordinate, and its name tells no step.

    Raises
    ------
    InputError
        Times that are missing, duplicate, not in order, or in no form that is known.
    """
    times = _told(da, dim, found)
    if times is not None:
        _check(times, dim)
    return times


def _told(da: xr.DataArray, dim: Hashable, found: Iterable[Hashable]) -> SeriesTimes | None:
    """Read times, in any order, from what tells them best."""
    names = [name for name in found if name in da.coords and da[name].dims == (dim,)]
    names.sort(key=lambda name: (_rank(da[name], dim), name != dim))
    sure = [name for name in names if _rank(da[name], dim) == 0]
    if sure:
        return _read(da[sure[0]], dim)
    sources: list[Hashable | None] = [*names]
    # A year alone tells less than a year and a month, and these less than a date in one place.
    sources.insert(sum(_rank(da[name], dim) < 2 for name in names), None)
    count, trouble = None, None
    for source in sources:
        try:
            read = _from_parts(da, dim) if source is None else _read(da[source], dim, da)
        except InputError as error:
            if source == dim:
                trouble = error
            trouble = trouble or error
            continue
        if read is not None and read.are_dates:
            return read
        count = count or read
    if trouble is not None and (count is None or (dim in da.coords and dim not in count.names)):
        raise trouble
    if count is not None and trouble is not None:
        return replace(count, caution=str(trouble))
    return count or _without_values(da, dim)


def _rank(time: xr.DataArray, dim: Hashable) -> int:
    """Rank a coordinate by what it tells of the time of an image, 0 for dates under its name."""
    name = str(time.name).lower()
    if name in TABLES["names"]["other"]:
        return 4
    if _holds_dates(time.variable):
        usual = name in TIME or time.attrs.get("standard_name") == "time"
        return 0 if usual or time.name == dim else 3
    return 2 if is_part(name) else 1


def _read(time: xr.DataArray, dim: Hashable, da: xr.DataArray | None = None) -> SeriesTimes:
    """Read one coordinate; `da` holds others, such as the year of months."""
    name = str(time.name)
    if isinstance(time.dtype, pd.DatetimeTZDtype):
        # NumPy's dates have no zone
        values = time.to_index().tz_convert(None).to_numpy()
        return SeriesTimes((name,), xr.Variable((dim,), values), "brought to UTC")
    values = time.values
    if values.size == 0:
        raise InputError(f"time {name!r} has no steps; give at least one image")
    if values.dtype.kind in "Mm" or is_cftime(time):
        return SeriesTimes((name,), xr.Variable((dim,), values, time.attrs))
    _check_missing(time, dim)
    calendar = calendar_of(time.attrs)
    if calendar is None:
        known = ", ".join(["standard", *TABLES["year_lengths"]])
        raise InputError(
            f"time {name!r} has the calendar {quoted(time.attrs['calendar'])}, which is not known; "
            f"set ds[{name!r}].attrs['calendar'] to one of {known}"
        )
    if values.dtype.kind == "O" and all(isinstance(v, int | float) for v in values.tolist()):
        values = values.astype(np.float64)
    if values.dtype.kind in "iuf":
        return _from_numbers(time, values, dim, calendar, da)
    texts = date_forms.texts_of(values)
    if texts is not None and all(re.fullmatch(r"\d+(\.\d+)?", text) for text in texts):
        numbers = np.array(list(map(float, texts)))
        return _from_numbers(time, numbers, dim, calendar, da)
    if texts is not None:
        if "" in texts:
            raise InputError(
                f"time {name!r} is missing (blank) at step {texts.index('')}; "
                f"drop it: ds.isel({dim}=ds[{name!r}].str.strip() != '')"
            )
        months = date_forms.months_of(texts)
        if months is not None:
            return _in_no_year(name, dim, months, "months", da)
        dates = date_forms.from_texts(texts, calendar)
        if dates is not None:
            return SeriesTimes(
                (name,), xr.Variable((dim,), dates), f"read from texts: {quoted(texts[0])}"
            )
        raise InputError(
            f"time {name!r} holds texts such as {quoted(texts[0])}, whose form is not known; "
            f"convert it: ds[{name!r}] = pd.to_datetime(ds[{name!r}].values, format=...)"
        )
    dates = date_forms.from_objects(values) if values.dtype.kind == "O" else None
    if dates is None:
        raise InputError(
            f"time {name!r} holds {type(values[0]).__name__} values; "
            f"convert it: ds[{name!r}] = pd.to_datetime(...)"
        )
    kind = type(values[0]).__name__
    return SeriesTimes((name,), xr.Variable((dim,), dates), f"read from values of type {kind}")


def _from_numbers(
    time: xr.DataArray, values: NDArray, dim: Hashable, calendar: str, da: xr.DataArray | None
) -> SeriesTimes:
    name, units = str(time.name), " ".join(str(time.attrs.get("units", "")).split())
    if not np.isfinite(values).all():
        raise InputError(f"time {name!r} holds infinite values; give each image a date")
    first, joint, reference = _split(units)
    unit = unit_of(first)
    if joint == "since":
        return _since(name, values, dim, units, calendar)
    stated = date_forms.form_named(units) or date_forms.epoch_named(units)
    called = date_forms.form_named(name, str(time.attrs.get("long_name", "")))
    called = called or date_forms.epoch_named(name, str(time.attrs.get("long_name", "")))
    bare = units.lower() in TABLES["no_units"]["words"]
    periods = _periods(time, values, dim, da) if bare or unit is not None else None
    if periods is not None:
        return periods
    if stated is not None or (called is not None and bare):
        dates = _coded(time, values, stated or called or {}, calendar, strict=stated is not None)
        if dates is not None:
            return SeriesTimes((name,), xr.Variable((dim,), dates[0]), dates[1])
    if not bare and unit is None:
        raise InputError(_unknown_units(name, units))
    if unit is not None and re.search(r"\d", reference):
        raise InputError(
            f"time {name!r} has the units {quoted(units)}, without 'since'; "
            f"set ds[{name!r}].attrs['units'] = '{first} since {reference}'"
        )
    # Units of days do not keep 20010131 from being a date; those of years are in the same range.
    form = date_forms.form_guessed(values)
    of_years = form is not None and form["name"] == "years" and unit == "year"
    too_many = unit == "day" and float(values.min()) > MOST_DAYS
    if form is not None and (bare or of_years or too_many):
        found = _guess(time, values, form, calendar)
        if found is not None:
            certain = of_years or _period_of(name) == "year"
            # 20010131 may be a date, or 54,000 years of days
            caution = "" if certain else "if it counts days, give it units: 'days since 2000-01-01'"
            note = f"read as {form['name']}"
            return SeriesTimes((name,), xr.Variable((dim,), found), note, caution)
    if bare and float(np.abs(values).max()) > MOST_DAYS:
        raise InputError(
            f"time {name!r} holds numbers such as {values[0]:.17g} without units, which are "
            f"neither dates nor days; set ds[{name!r}].attrs['units'], "
            "such as 'seconds since 1970-01-01'"
        )
    numbers = xr.Variable((dim,), values, time.attrs)
    if not bare:
        return SeriesTimes((name,), numbers)
    caution = ""
    step = float(np.median(np.diff(values.astype(np.float64)))) if values.size > 1 else 1.0
    if step != 1:
        caution = f"its steps of {step:g} may be of another unit: give it units, such as 'hours'"
    return SeriesTimes((name,), numbers, "no units: taken as days", caution)


def _split(units: str) -> tuple[str, str, str]:
    """Split units into the unit, ``since`` or nothing, and the rest."""
    first, _, rest = units.partition(" ")
    joint, _, reference = rest.partition(" ")
    if joint.lower() == "since":
        return first, "since", reference
    return first, "", rest


def _unknown_units(name: str, units: str) -> str:
    return (
        f"time {name!r} has the units {quoted(units)}, which are not known; "
        f"set ds[{name!r}].attrs['units'], such as 'days since 2000-01-01'"
    )


def _since(name: str, values: NDArray, dim: Hashable, units: str, calendar: str) -> SeriesTimes:
    first, _, reference = _split(units)
    unit = unit_of(first)
    if unit is None:
        raise InputError(_unknown_units(name, units))
    if calendar == "none":
        numbers = xr.Variable((dim,), values, {"units": unit})
        return SeriesTimes(
            (name,), numbers, f"no calendar: {unit}s are counted, there are no dates"
        )
    try:
        dates = date_forms.since(values, unit, reference, calendar)
    except (ValueError, OverflowError):
        dates = None
    if dates is None:
        raise InputError(
            f"time {name!r} has the units {quoted(units)}, calendar {calendar}, which make no "
            "dates; "
            f"set ds[{name!r}].attrs['units'], such as 'days since 2000-01-01'"
        )
    note = ""
    if unit in ("month", "year") and calendar in GREGORIAN:
        note = f"{unit}s of the calendar since {reference}"
    if re.match(r"0+-", reference) and calendar in GREGORIAN:
        note = "the year 0 is that of the proleptic Gregorian calendar"
    return SeriesTimes((name,), xr.Variable((dim,), dates), note)


def _coded(
    time: xr.DataArray, values: NDArray, code: Any, calendar: str, *, strict: bool
) -> tuple[NDArray, str] | None:
    """Read numbers whose units or name tell how they are made; `strict` refuses other ones."""
    name = str(time.name)
    if "at_1970" in code:
        likely = abs(float(np.median(values)) - code["at_1970"]) * LENGTHS[code["unit"]]
        if not strict and likely > 1000 * YEAR:
            return None
        dates = date_forms.from_epoch(values, code)
    else:
        _check_exact(name, values)
        dates = date_forms.from_code(values, code, calendar)
    if dates is None and strict:
        wrong = _first_wrong(values, code, calendar)
        raise InputError(
            f"time {name!r} holds {wrong:.17g}, which is no date in {code['name']} of the "
            f"{calendar} calendar; mend it, or its units"
        )
    return None if dates is None else (dates, f"read as {code['name']}")


def _guess(time: xr.DataArray, values: NDArray, form: Any, calendar: str) -> NDArray | None:
    """Read numbers that look like dates; None where they may be a count as well.

    Raises
    ------
    InputError
        They have seven digits or more, and one of them is no date.
    """
    _check_exact(str(time.name), values)
    dates = date_forms.from_code(values, form, calendar)
    if dates is None and form["name"] != "YYYYMM":
        wrong = _first_wrong(values, form, calendar)
        raise InputError(
            f"time {str(time.name)!r} holds numbers such as {values[0]:.17g}, which look like "
            f"{form['name']}, but {wrong:.17g} is no date; mend it, or "
            f"set ds[{str(time.name)!r}].attrs['units'], such as 'days since 2000-01-01'"
        )
    return dates


def _first_wrong(values: NDArray, form: Any, calendar: str) -> float:
    for value in values:
        one = np.array([value])
        if "at_1970" in form:
            read = date_forms.from_epoch(one, form)
        else:
            read = date_forms.from_code(one, form, calendar)
        if read is None:
            return float(value)
    return float(values[0])


def _check_exact(name: str, values: NDArray) -> None:
    # 20010131 in single precision is 20010132
    if values.dtype == np.float32 and float(values.max()) > date_forms.EXACT_IN_SINGLE:
        raise InputError(
            f"time {name!r} holds dates such as {values[0]:.0f} in single precision, which rounds "
            "them; store them as float64 or int"
        )


# --- dates in several variables, and periods of no year -------------------------------------------


def _from_parts(da: xr.DataArray, dim: Hashable) -> SeriesTimes | None:
    """Read dates from a year and months or days of the year, each a coordinate."""
    names: dict[str, Hashable] = {}
    for part, spellings in TABLES["parts"].items():
        for name, values in da.coords.items():
            if str(name).lower() in spellings and values.dims == (dim,):
                names.setdefault(part, name)
    if "year" not in names or not {"month", "dayofyear"} & set(names):
        return None
    # both tell the same; a day without a month tells nothing
    unwanted = "dayofyear" if "month" in names else "day"
    names.pop(unwanted, None)
    calendar = calendar_of(da[names["year"]].attrs) or "standard"
    parts = {}
    for part, name in names.items():
        values = da[name].values
        if part == "month" and (texts := date_forms.texts_of(values)):
            values = date_forms.months_of(texts)
        if values is None or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            return None
        if (values != np.floor(values)).any():
            return None
        parts[part] = values.astype(np.int64)
    label = ", ".join(map(str, names.values()))
    dates = date_forms.from_parts(parts, calendar)
    if dates is None:
        raise InputError(
            f"{label} of {str(dim)!r} make no dates of the {calendar} calendar; "
            f"mend them, or give a time: ds[{str(dim)!r}] = pd.to_datetime(...)"
        )
    return SeriesTimes(tuple(names.values()), xr.Variable((dim,), dates), f"read from {label}")


def _periods(
    time: xr.DataArray, values: NDArray, dim: Hashable, da: xr.DataArray | None
) -> SeriesTimes | None:
    """Read months, seasons, weeks or days of a year that has no number; None for other names."""
    name, kind = str(time.name), _period_of(time.name)
    if kind is None or (values != np.floor(values)).any() or np.abs(values).max() > MOST_DAYS:
        return None
    numbers, last = values.astype(np.int64), int(values.max())
    least = int(values.min())
    if kind == "month" and least >= 1 and last <= 12:
        return _in_no_year(name, dim, numbers, "months", da)
    if kind == "season" and least >= 1 and last <= 4:
        return _in_no_year(name, dim, 3 * numbers - 2, "seasons (1 is December to February)", da)
    if kind == "dayofyear" and least >= 1 and last <= 366:
        return _in_no_year(name, dim, numbers, "days", da)
    if kind == "week" and least >= 1 and last <= 53:
        return _in_no_year(name, dim, 7 * numbers - 6, "weeks", da)
    if kind in LENGTHS and "units" not in time.attrs and last < TABLES["codes"]["years"][0]:
        count = xr.Variable((dim,), values, {"units": kind})
        return SeriesTimes((name,), count, f"no units: {kind}s, by its name")
    return None


def _period_of(name: Hashable) -> str | None:
    for kind, spellings in TABLES["periods"].items():
        if str(name).lower() in spellings:
            return str(kind)
    return None


def _in_no_year(
    name: str, dim: Hashable, numbers: NDArray, what: str, da: xr.DataArray | None
) -> SeriesTimes:
    """Lay months or days of the year in one year: that of a scalar coordinate, or any."""
    year, given = NO_YEAR, False
    for spelled in TABLES["parts"]["year"]:
        if da is None or spelled not in da.coords or da[spelled].ndim > 0:
            continue
        if da[spelled].dtype.kind in "iu":
            year, given = int(da[spelled]), True
    by_day = what in ("days", "weeks")
    if by_day and int(numbers.max()) > 365 and not given:
        year -= 1  # the day 366 is in a leap year only
    part = "dayofyear" if by_day else "month"
    parts = {"year": np.full(len(numbers), year), part: numbers}
    dates = date_forms.from_parts(parts, "standard")
    if dates is None:
        raise InputError(f"{name!r} holds a number that is not in the year {year}; drop it")
    if given:
        return SeriesTimes((name,), xr.Variable((dim,), dates), f"{what} of {year}")
    note = f"{what} of no year, taken as {year}"
    caution = "the end of the year is not joined to its beginning"
    return SeriesTimes((name,), xr.Variable((dim,), dates), note, caution, year_known=False)


def _without_values(da: xr.DataArray, dim: Hashable) -> SeriesTimes | None:
    """Return a count of months, seasons or years for a dimension that is called so."""
    kind = _period_of(dim)
    size = da.sizes[dim]
    steps = {
        "month": (1, "month"),
        "season": (3, "month"),
        "year": (1, "year"),
        "week": (1, "week"),
    }
    if kind not in steps:
        return None
    every, unit = steps[kind]
    count = xr.Variable((dim,), np.arange(size) * every, {"units": unit})
    return SeriesTimes((), count, f"no values: one each {kind}, by its name")


# --- checks ---------------------------------------------------------------------------------------


def _check_missing(time: xr.DataArray, dim: Hashable) -> None:
    bad = np.flatnonzero(time.isnull().values)
    if bad.size:
        raise InputError(
            f"time {time.name!r} is missing (NaT) at step {bad[0]}; "
            f"drop it: ds.isel({dim}=ds[{time.name!r}].notnull().values)"
        )


def _check(times: SeriesTimes, dim: Hashable) -> None:
    """Refuse times that are missing, duplicate or not in order."""
    values, name = times.variable.values, times.name
    _check_missing(xr.DataArray(times.variable, name=name), dim)
    ordered, at = np.unique(values, return_index=True)
    if ordered.size < values.size:
        first = values[np.setdiff1d(np.arange(values.size), at)[0]]
        raise InputError(
            f"time {name!r} holds {_date(first)} twice; drop one: ds.drop_duplicates({str(dim)!r})"
        )
    if (values[1:] < values[:-1]).any():
        step = int(np.flatnonzero(values[1:] < values[:-1])[0]) + 1
        remedy = f"ds.sortby({name!r})"
        if "texts" in times.note or " of no year" in times.note or len(times.names) > 1:
            # These sort by their letters, or one of several at a time.
            remedy = f"ds.isel({dim}={np.argsort(values).tolist()})"
        raise InputError(
            f"time {name!r} goes back to {_date(values[step])} at step {step}; sort it: {remedy}"
        )


def _date(value: object) -> str:
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="s"))
    return str(value)


# --- counting -------------------------------------------------------------------------------------


def in_days(time: xr.DataArray | xr.Variable, values: NDArray) -> NDArray[np.float64]:
    """Return numbers in the ``units`` of a standardised time, or spans of time, in days."""
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "D")
    if values.dtype == object:
        return np.array([span.total_seconds() / 86400 for span in values])
    unit = unit_of(str(time.attrs.get("units", "day")).split(" ")[0])
    return values.astype(np.float64) * LENGTHS.get(unit or "day", 1.0)


def days_since_first(field: xr.DataArray) -> NDArray[np.float64]:
    """Days since the first step, float64, of a standardised field in any calendar.

    Numeric time counts days unless its ``units`` say otherwise; without a time coordinate steps are
    one day apart.

    >>> times = np.array(["2003-01-01", "2003-01-02T12"], "M8[ns]")
    >>> field = xr.DataArray(np.zeros((2, 1, 1)), {"time": times}, ("time", "y", "x"))
    >>> days_since_first(field).tolist()
    [0.0, 1.5]
    """
    time = field["time"]
    return in_days(time, time.values - time.values[0])


def usual_step(days: NDArray[np.floating]) -> float:
    """Return the median of the days between images; 1 for a single one."""
    if len(days) > 1:
        return float(np.median(np.diff(days)))
    return 1.0


def absolute_days(field: xr.DataArray, first: int = 0) -> NDArray[np.float64]:
    """Days since 1970, float64, of a standardised field in any calendar: the same number for an
    image in whatever part of the series it is seen.

    Numeric time counts days, unless its ``units`` say otherwise, from where it counts. Without a
    time coordinate images are counted, `first` of which come before the field.

    >>> times = np.array(["1970-01-02", "2003-01-02T12"], "M8[ns]")
    >>> field = xr.DataArray(np.zeros((2, 1, 1)), {"time": times}, ("time", "y", "x"))
    >>> absolute_days(field).tolist()
    [1.0, 12054.5]
    """
    if "time" not in field.coords:
        return first + np.arange(field.sizes["time"], dtype=np.float64)
    time = field["time"]
    if time.dtype.kind == "M":
        return in_days(time, time.values - np.datetime64(0, "s"))
    if is_cftime(time):
        epoch = {"year": 1970, "month": 1, "day": 1, "hour": 0, "minute": 0}
        return in_days(time, time.values - time.values[0].replace(**epoch, second=0, microsecond=0))
    return in_days(time, time.values)


def year_length(field: xr.DataArray) -> float:
    """Return the days of a mean year in the calendar of a standardised field.

    >>> dates = xr.date_range("2003-01-01", periods=2, calendar="360_day", use_cftime=True)
    >>> year_length(xr.DataArray([0.0, 0.0], {"time": dates}, "time"))
    360.0
    """
    if "time" not in field.coords or not is_cftime(field["time"]):
        return YEAR
    return float(TABLES["year_lengths"].get(field["time"].values[0].calendar, YEAR))
