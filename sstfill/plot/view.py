# SPDX-License-Identifier: Apache-2.0
"""What a picture shows: one filled variable with error and source, and a time step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr

from sstfill.errors import InputError, OptionError, ReadError, unknown
from sstfill.fields import grid
from sstfill.io.untrusted.documents import parse_json

OBSERVED, FILLED, NOT_FILLED, WITHHELD, LAND = range(5)
"""The values of a ``v_source`` variable; see docs/architecture.md, "What fill() returns"."""

Label = str | int | np.datetime64 | datetime


@dataclass(frozen=True)
class View:
    """One filled variable, dims ``(time, lat, lon)`` or ``(time, y, x)``.

    `error` is None where the method states none.
    """

    field: xr.DataArray
    source: xr.DataArray
    error: xr.DataArray | None

    def at(self, step: int) -> View:
        """Load one time step, dims ``(lat, lon)`` or ``(y, x)``."""
        error = None
        if self.error is not None:
            error = self.error.isel(time=step).load()
        return View(self.field.isel(time=step).load(), self.source.isel(time=step).load(), error)

    @property
    def units(self) -> str:
        """Units as they are printed."""
        return printed(str(self.field.attrs.get("units", "")))

    @property
    def method(self) -> str:
        """Name of the method that filled the field, and those it chose; empty if unknown."""
        text = str(self.field.attrs.get("sstfill_method", "{}"))
        try:
            method = parse_json(text, "sstfill_method", remedy="")
        except ReadError:
            return ""
        if not isinstance(method, dict):
            return ""
        name = str(method.get("name", ""))
        diagnostics = method.get("diagnostics")
        if isinstance(diagnostics, dict) and diagnostics.get("chosen"):
            name += f" ({' + '.join(map(str, diagnostics['chosen']))})"
        return name

    @property
    def label(self) -> str:
        """Name of the quantity for a title, at most some 40 characters."""
        name = str(self.field.name)
        for key in ("standard_name", "long_name"):
            text = str(self.field.attrs.get(key, "")).strip()
            if 0 < len(text) <= 40:
                name = text.replace("_", " ")
        if " " in name:
            return name[:1].upper() + name[1:]
        return name  # a single word may be the name of a variable


def printed(units: str) -> str:
    """Return units as they are printed: ``°C``, ``K``, or the units of the file.

    Examples
    --------
    >>> printed("degree_Celsius"), printed("kelvin"), printed("mg m-3")
    ('°C', 'K', 'mg m-3')
    """
    return grid.temperature_unit(units) or units.strip()


def with_units(label: str, units: str) -> str:
    """Return the label of an axis: the quantity and, where known, its units."""
    if units:
        return f"{label} ({units})"
    return label


def view(filled: xr.Dataset, variable: str | None = None) -> View:
    """Find the filled variable in what `fill()` returned.

    Parameters
    ----------
    filled
        The dataset `fill()` returned.
    variable
        Name of the variable; needed only where several were filled.

    Raises
    ------
    InputError
        Nothing in the dataset has a ``<name>_source`` beside it.
    OptionError
        No such variable, or several to choose from.
    """
    names = [str(name) for name in filled.data_vars if f"{name}_source" in filled]
    if not names:
        held = ", ".join(map(str, filled.data_vars)) or "(none)"
        raise InputError(
            f"no variable with its '_source' flags among {held}; pass the dataset that fill() "
            "returned"
        )
    if variable is None and len(names) > 1:
        raise OptionError(
            f"{len(names)} filled variables ({', '.join(names)}); choose one with "
            f"variable={names[0]!r}"
        )
    if variable is not None and variable not in names:
        raise unknown("filled variable", variable, names)
    name = variable or names[0]
    # standardise() takes floating fields only; flags up to 4 stay exact.
    source = filled[f"{name}_source"].astype("float32")
    error = filled.get(f"{name}_error")
    return View(
        field=grid.standardise(filled[name]),
        source=grid.standardise(source),
        error=None if error is None else grid.standardise(error),
    )


def half_filled(source: xr.DataArray) -> int:
    """Return the step of whose sea the filled fraction is nearest one half; it shows a method best.

    Examples
    --------
    >>> flags = xr.DataArray([[[0, 0, 4]], [[0, 1, 4]], [[1, 1, 4]]], dims=("time", "lat", "lon"))
    >>> half_filled(flags)
    1
    """
    space = source.dims[1:]
    sea = (source != LAND).sum(space)
    # An image without sea is NaN, and never the nearest.
    fraction = (source == FILLED).sum(space) / sea.where(sea > 0)
    distance = abs(fraction - 0.5).fillna(np.inf).values
    return int(distance.argmin())


def step_of(field: xr.DataArray, time: Label) -> int:
    """Return the index of the step that a label names.

    A label is an index (negative from the end) or a date, of which the nearest step is taken.

    Raises
    ------
    OptionError
        The index or the date lies outside the series, or the date cannot be read.
    """
    count = field.sizes["time"]
    if isinstance(time, int | np.integer):
        if not -count <= time < count:
            raise OptionError(
                f"no time step {time}; choose an index from 0 to {count - 1}{_span(field)}"
            )
        return int(time) % count
    seconds = _seconds(field)
    if seconds is None:
        raise OptionError(
            f"time {time!r} is a date but the data have none; choose an index from 0 to {count - 1}"
        )
    wanted = _label_seconds(time, field)
    slack = 86_400.0  # a date without an hour names the whole day
    if count > 1:
        # of a monthly series any day of the month names its image
        slack = max(slack, float(np.median(np.diff(seconds))))
    if not seconds.min() - slack < wanted < seconds.max() + slack:
        raise OptionError(
            f"no time {str(time)!r} in the series; choose an index from 0 to "
            f"{count - 1}{_span(field)}"
        )
    return int(abs(seconds - wanted).argmin())


def spread(field: xr.DataArray, n: int) -> list[int]:
    """Return at most `n` steps, evenly spread over the series, first and last included."""
    if n < 1:
        raise OptionError(f"n is {n}; choose at least 1 date")
    return sorted({int(step) for step in np.linspace(0, field.sizes["time"] - 1, n).round()})


def date(field: xr.DataArray, step: int) -> str:
    """Return the date of a step for a title, with the hour only if it varies; else the index."""
    return dates(field)[step]


def dates(field: xr.DataArray) -> list[str]:
    """Return the dates of all steps, see `date`."""
    if _seconds(field) is None:
        return [f"step {step}" for step in range(field.sizes["time"])]
    times = list(map(str, field["time"].dt.strftime("%Y-%m-%d %H:%M").values))
    one_hour = len({when[10:] for when in times}) == 1
    if one_hour:
        return [when[:10] for when in times]
    return times


def _seconds(field: xr.DataArray) -> np.ndarray | None:
    """Return the seconds of each step since 1970, in the data's calendar; None without dates."""
    if "time" not in field.coords:
        return None
    times = field["time"].values
    if np.issubdtype(times.dtype, np.datetime64):
        return times.astype("datetime64[s]").astype("float64")
    if times.dtype == object and hasattr(times[0], "calendar"):
        # Other calendars have no NumPy type.
        return np.array([_cftime_seconds(when) for when in times])
    return None


def _label_seconds(time: Label, field: xr.DataArray) -> float:
    """Return the seconds since 1970 of a user's date, in the calendar of the data."""
    first = field["time"].values[0]
    if isinstance(time, datetime) and time.tzinfo is not None:
        # Times of a series are in UTC without saying so.
        time = time.astimezone(UTC).replace(tzinfo=None)
    try:
        if hasattr(first, "calendar"):
            # The class of the data's own dates carries the calendar.
            return _cftime_seconds(first.replace(**_parts(str(time))))
        # NumPy warns of a time zone, even of UTC.
        stamp = np.datetime64(str(time).removesuffix("Z"), "s")
        if np.isnat(stamp):
            raise ValueError("not a time")
    except (ValueError, TypeError) as error:
        raise OptionError(
            f"time {time!r} is not a date; write it as '2017-03-11', or give an index"
        ) from error
    return float(stamp.astype("float64"))


def _parts(text: str) -> dict[str, int]:
    """Return year to second of an ISO date in any calendar; NumPy knows only the Gregorian one."""
    found = list(map(int, re.findall(r"\d+", text)))
    if not found:
        raise ValueError(f"no date in {text!r}")
    # a year alone is its first day
    parts = {"year": 1, "month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}
    parts.update(zip(parts, found, strict=False))
    return parts


def _cftime_seconds(when: Any) -> float:
    import cftime

    return float(cftime.date2num(when, "seconds since 1970-01-01", calendar=when.calendar))


def _span(field: xr.DataArray) -> str:
    if _seconds(field) is None:
        return ""
    return f", or a date from {date(field, 0)} to {date(field, field.sizes['time'] - 1)}"
