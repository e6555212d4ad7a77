# SPDX-License-Identifier: Apache-2.0
"""The dates of a series: found, checked, and in days since the first, in any calendar."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import xarray as xr

from sstfill.errors import InputError

TIME = ("time", "t", "date", "day", "dates", "days", "datetime", "ocean_time", "time_counter")
DAYS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1 / 86400),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 1440),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("month", "months"), 30.436875),
    **dict.fromkeys(("year", "years"), 365.2425),
}
"""Length in days of a unit of numeric time; any other unit counts as a day."""


def is_cftime(c: xr.DataArray) -> bool:
    """Whether a coordinate holds dates of a calendar that NumPy does not know."""
    return c.dtype == object and c.size > 0 and hasattr(np.ravel(c.values)[0], "calendar")


def check_dates(time: xr.DataArray, dim: Hashable) -> None:
    """Refuse times that are no dates or numbers, or missing, duplicate or not in order."""
    values, name = time.values, time.name
    if values.dtype.kind not in "MmiufO" or any(isinstance(v, str) for v in values[:1]):
        raise InputError(
            f"time {name!r} holds {values.dtype} values; "
            f"convert it: ds[{name!r}] = pd.to_datetime(...)"
        )
    if values.size == 0:
        raise InputError(f"time {name!r} has no steps; give at least one image")
    bad = np.flatnonzero(time.isnull().values)
    if bad.size:
        raise InputError(
            f"time {name!r} is missing (NaT) at step {bad[0]}; "
            f"drop it: ds.isel({dim}=ds[{name!r}].notnull().values)"
        )
    ordered, at = np.unique(values, return_index=True)
    if ordered.size < values.size:
        first = values[np.setdiff1d(np.arange(values.size), at)[0]]
        raise InputError(
            f"time {name!r} holds {_date(first)} twice; drop one: ds.drop_duplicates({str(dim)!r})"
        )
    if (values[1:] < values[:-1]).any():
        step = int(np.flatnonzero(values[1:] < values[:-1])[0]) + 1
        raise InputError(
            f"time {name!r} goes back to {_date(values[step])} at step {step}; "
            f"sort it: ds.sortby({name!r})"
        )


def _date(value: object) -> str:
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="s"))
    return str(value)


def days_since_first(field: xr.DataArray) -> np.ndarray:
    """Days since the first step, float64, of a standardised field in any calendar.

    Numeric time counts days unless its ``units`` say otherwise; without a time coordinate steps are
    one day apart.

    >>> times = np.array(["2003-01-01", "2003-01-02T12"], "M8[ns]")
    >>> field = xr.DataArray(np.zeros((2, 1, 1)), {"time": times}, ("time", "y", "x"))
    >>> days_since_first(field).tolist()
    [0.0, 1.5]
    """
    time = field["time"]
    since = time.values - time.values[0]
    if since.dtype.kind == "m":
        return since / np.timedelta64(1, "D")
    if since.dtype == object:
        return np.array([s.total_seconds() / 86400 for s in since])
    unit = str(time.attrs.get("units", "days")).split(" ")[0].lower()
    return since.astype(np.float64) * DAYS.get(unit, 1.0)
