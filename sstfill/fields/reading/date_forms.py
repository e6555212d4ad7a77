# SPDX-License-Identifier: Apache-2.0
"""Dates as people write them: parts, numbers, texts and objects become dates of a calendar.

Dates of the Gregorian calendar are ``datetime64``; those of other calendars are objects of cftime.
Each function returns None where the values are no dates of its form.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import cftime
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields import tables

TABLES: dict[str, Any] = tables.load("dates")
"""Names, units, codes and calendars, see ``dates.toml``."""
LENGTHS: dict[str, float] = TABLES["lengths"]
"""Length of each unit in days."""
GREGORIAN = ("standard", "gregorian", "proleptic_gregorian")
MONTH, DAY = 12, 86_400_000_000  # months of a year, microseconds of a day
LAST_YEAR = 9999
EXACT_IN_SINGLE = 2**24
"""Whole numbers beyond this are rounded in single precision."""


def unit_of(word: str) -> str | None:
    """Return the unit that a word spells: ``day`` for ``days`` or ``d``; None for another word.

    >>> unit_of("Hrs"), unit_of("jours")
    ('hour', None)
    """
    for unit, spellings in TABLES["units"].items():
        if word.lower() in spellings:
            return str(unit)
    return None


def calendar_of(attrs: Mapping[Any, Any]) -> str | None:
    """Return the calendar that attributes name, as the libraries spell it; None if unknown."""
    spelled = str(attrs.get("calendar", "standard")).strip().lower().replace(" ", "_")
    for calendar, spellings in TABLES["calendars"].items():
        if spelled in spellings:
            return str(calendar)
    if spelled in GREGORIAN or spelled in TABLES["year_lengths"]:
        return spelled
    return None


def words_of(text: str) -> str:
    """Return the letters of a text in lower case, by which tables name a form.

    >>> words_of("day as %Y%m%d.%f")
    'dayasymdf'
    """
    return re.sub(r"[^a-z]", "", text.lower())


# --- dates from their parts -----------------------------------------------------------------------


def month_starts(months: NDArray[np.int64], calendar: str) -> NDArray:
    """Return the dates on which months begin, counted from January of the year 0.

    Dates that are written out have a calendar, also where it is said that they have none.

    Raises
    ------
    ValueError
        For a year 0 of the Julian calendar, which has none.
    """
    if calendar in (*GREGORIAN, "none"):
        since_1970 = np.asarray(months, np.int64) - 1970 * MONTH
        return since_1970.astype("M8[M]").astype("M8[us]")
    if calendar == "julian" and len(months) and np.min(months) < MONTH:
        raise ValueError("the Julian calendar has no year 0")
    starts = np.empty(len(months), object)
    for i, month in enumerate(np.asarray(months, np.int64).tolist()):
        starts[i] = cftime.datetime(month // MONTH, month % MONTH + 1, 1, calendar=calendar)
    return starts


def later(dates: NDArray, microseconds: NDArray) -> NDArray:
    """Return dates so many microseconds later, rounded to whole ones."""
    # rounded: a fraction of a day, as a float, is off by less than a microsecond
    steps = np.rint(microseconds).astype(np.int64)
    if dates.dtype.kind == "M":
        return dates + steps.astype("m8[us]")
    moved = np.empty(len(dates), object)
    for i, step in enumerate(steps.tolist()):
        moved[i] = dates[i] + timedelta(microseconds=step)
    return moved


def between(first: NDArray, last: NDArray) -> NDArray[np.float64]:
    """Return the microseconds from some dates to others."""
    spans = last - first
    if spans.dtype.kind == "m":
        return spans / np.timedelta64(1, "us")
    return np.array([span / timedelta(microseconds=1) for span in spans], np.float64)


def from_parts(parts: Mapping[str, NDArray], calendar: str) -> NDArray | None:
    """Put dates together; None if one of them is not in the calendar.

    Parameters
    ----------
    parts
        Whole numbers of the same length: ``year`` and perhaps ``month``, ``day`` or ``dayofyear``,
        ``hour``, ``minute``, ``second``; ``fraction`` of the finest of these, 0 to 1. Months and
        years without a day begin on their first.
    calendar
        As cftime spells it.

    >>> from_parts({"year": np.array([2001]), "dayofyear": np.array([32])}, "standard")
    array(['2001-02-01T00:00:00.000000'], dtype='datetime64[us]')
    """
    year = np.asarray(parts["year"], np.int64)
    if ((year < 1) | (year > LAST_YEAR)).any():
        return None
    year = year * MONTH
    # the last part is the finest, and a fraction is one of it
    unit = [name for name in parts if name != "fraction"][-1]
    if "month" in parts:
        month = np.asarray(parts["month"], np.int64)
        if ((month < 1) | (month > MONTH)).any():
            return None
        start = month_starts(year + month - 1, calendar)
        end = month_starts(year + month, calendar)
    else:
        start, end = month_starts(year, calendar), month_starts(year + MONTH, calendar)
    shift = np.zeros(len(year))
    for name, length in (("hour", "hour"), ("minute", "minute"), ("second", "second")):
        if name in parts:
            if ((parts[name] < 0) | (parts[name] >= (24 if name == "hour" else 60))).any():
                return None
            shift += parts[name] * (LENGTHS[length] * DAY)
    day = parts.get("dayofyear", parts.get("day"))
    if day is not None:
        shift += (np.asarray(day, np.float64) - 1) * DAY
    length_of = LENGTHS.get("day" if unit == "dayofyear" else unit, 1.0) * DAY
    if "fraction" in parts:
        # 2001.5 is the middle of its own year, leap year or not
        span = between(start, end) if unit in ("year", "month") else length_of
        shift += parts["fraction"] * span
    if (shift < 0).any() or (shift >= between(start, end)).any():
        return None
    return later(start, shift)


# --- numbers --------------------------------------------------------------------------------------


def from_code(values: NDArray, form: Mapping[str, Any], calendar: str) -> NDArray | None:
    """Read numbers such as 20010131 by a form of the table; a fraction is one of the last part."""
    digits = sum(width for _, width in form["parts"])
    if (values < 0).any() or (values >= 10.0**digits).any():
        return None
    whole = np.floor(values)
    fraction = np.asarray(values - whole, np.float64)
    rest = whole.astype(np.int64)
    parts: dict[str, NDArray] = {}
    for name, width in reversed(form["parts"][1:]):
        # from the right: the year takes what is left
        rest, parts[name] = np.divmod(rest, 10**width)
    ordered = {"year": rest}
    for name, _ in form["parts"][1:]:
        ordered[name] = parts[name]
    if fraction.any():
        ordered["fraction"] = fraction
    return from_parts(ordered, calendar)


def form_named(*texts: str) -> Mapping[str, Any] | None:
    """Return the form of numbers that units or a name call by its word."""
    called = {words_of(text) for text in texts}
    for form in TABLES["codes"]["forms"]:
        if called & set(form["words"]):
            return dict(form)
    return None


def epoch_named(*texts: str) -> Mapping[str, Any] | None:
    """Return the count, such as Julian days, that units or a name call by its word."""
    called = {words_of(text) for text in texts}
    for epoch in TABLES["epochs"].values():
        if called & set(epoch["words"]):
            return dict(epoch)
    return None


def form_guessed(values: NDArray) -> Mapping[str, Any] | None:
    """Return the form that numbers look like: the years and the number of digits fit."""
    first, last = TABLES["codes"]["years"]
    for form in TABLES["codes"]["forms"]:
        scale = 10 ** sum(width for _, width in form["parts"][1:])
        if (values >= first * scale).all() and (values < (last + 1) * scale).all():
            return dict(form)
    return None


def from_epoch(values: NDArray, epoch: Mapping[str, Any]) -> NDArray | None:
    """Read a count since a known day as dates."""
    # the count of the day 1970-01-01 is in the table, so that fractions keep most of their digits
    days = (np.asarray(values, np.float64) - epoch["at_1970"]) * LENGTHS[epoch["unit"]]
    if (np.abs(days) > LAST_YEAR * 366).any():
        return None
    return later(np.zeros(len(days), "M8[us]"), days * DAY)


def since(values: NDArray, unit: str, reference: str, calendar: str) -> NDArray | None:
    """Read numbers of a unit since a date, as the standard calendar counts months and years."""
    numbers = np.asarray(values, np.float64)
    # Beyond, the numbers of NumPy and cftime overflow.
    if (np.abs(numbers) * LENGTHS[unit] > LAST_YEAR * 366).any():
        return None
    fixed = unit not in ("month", "year")
    if fixed:
        decoded = _decoded(numbers * LENGTHS[unit], values, unit, reference, calendar)
        if decoded is not None:
            return decoded
    start = _reference(reference)
    if start is None:
        return None
    month, shift = start
    if fixed:  # a year 0 or a day 0, which the libraries do not know
        base = month_starts(np.full(len(numbers), month), calendar)
        return later(base, shift + numbers * (LENGTHS[unit] * DAY))
    step = MONTH if unit == "year" else 1
    whole = np.floor(numbers).astype(np.int64)
    begin = _shifted(month + whole * step, shift, calendar)
    end = _shifted(month + (whole + 1) * step, shift, calendar)
    return later(begin, (numbers - whole) * between(begin, end))


def _shifted(months: NDArray[np.int64], shift: float, calendar: str) -> NDArray:
    """Return the times so far after the start of months."""
    begin = month_starts(months, calendar)
    length = between(begin, month_starts(months + 1, calendar))
    # A reference on the 31st is the last day of shorter months.
    return later(begin, np.minimum(shift, length - DAY))


def _decoded(
    days: NDArray, values: NDArray, unit: str, reference: str, calendar: str
) -> NDArray | None:
    """Decode as xarray does, which knows most ways to write a reference date."""
    spelled = f"{unit}s since {reference}"
    if unit == "week":
        # the libraries know no weeks
        values, spelled = days, f"days since {reference}"
    coded = xr.Variable("time", values, {"units": spelled, "calendar": calendar})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which object holds the dates, how the text is padded
            return np.asarray(xr.decode_cf(xr.Dataset({"time": coded}))["time"].values)
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        return None


def _reference(text: str) -> tuple[int, float] | None:
    """Return the month, counted from the year 0, and the microseconds in it."""
    found = re.fullmatch(TABLES["reference"]["pattern"], text.strip().lower())
    if found is not None:
        part = {name: float(value or 0) for name, value in found.groupdict().items()}
        if found["day"] is None:
            part["day"] = 1.0
    else:
        try:
            when = pd.Timestamp(text)
        except (ValueError, OverflowError, TypeError):
            return None
        if pd.isna(when):
            return None
        if when.tzinfo is not None:
            when = when.tz_convert("UTC").tz_localize(None)
        part = {n: float(getattr(when, n)) for n in ("year", "month", "day", "hour", "minute")}
        part["second"] = float(when.second)
    if not 1 <= part["month"] <= MONTH:
        return None
    days = part["day"] - 1 + part["hour"] / 24 + part["minute"] / 1440 + part["second"] / 86400
    return int(part["year"]) * MONTH + int(part["month"]) - 1, days * DAY


# --- texts and objects ----------------------------------------------------------------------------


def texts_of(values: NDArray) -> list[str] | None:
    """Return texts without the blanks around them; None where the values are no texts."""
    if values.dtype.kind not in "SUO" and values.dtype.kind != "T":
        return None
    texts = []
    for value in values.tolist():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str):
            return None
        # NetCDF pads texts of fixed length with blanks or NULs
        texts.append(value.strip(" \t\n\0"))
    return texts


def from_texts(texts: list[str], calendar: str) -> NDArray | None:
    """Read texts such as ``2001-01-31``, ``2001-01-31_06:00:00`` or ``31-Jan-2001``."""
    if calendar not in (*GREGORIAN, "none"):
        return _from_matches(texts, calendar)
    for form in TABLES["text"]["formats"]:
        try:
            read = pd.to_datetime(texts, format=form, utc=True)
        except ValueError:
            continue
        return np.asarray(read.tz_localize(None).values)
    return None


def _from_matches(texts: list[str], calendar: str) -> NDArray | None:
    found = [re.fullmatch(TABLES["text"]["parts"], text) for text in texts]
    if not all(found):
        return None
    parts = {}
    for name in ("year", "month", "day", "hour", "minute", "second"):
        numbers = [int(match[name] or (name == "day")) for match in found if match]
        parts[name] = np.array(numbers, np.int64)
    return from_parts(parts, calendar)


def months_of(texts: list[str]) -> NDArray[np.int64] | None:
    """Return the months that texts name, 1 to 12: ``Jan``, ``January``, or one within ``DJF``."""
    months = []
    for text in texts:
        word = text.lower()
        if word in TABLES["text"]["seasons"]:
            months.append(TABLES["text"]["seasons"][word])
            continue
        # three letters or more, for "ma" is March and May
        named = [n for n, month in enumerate(TABLES["text"]["months"], 1) if month.startswith(word)]
        if len(word) < 3 or len(named) != 1:
            return None
        months.append(named[0])
    return np.array(months, np.int64)


def from_objects(values: NDArray) -> NDArray | None:
    """Read objects of pandas and of the standard library: periods, times with a zone, days."""
    listed = values.tolist()
    if all(isinstance(value, pd.Period) for value in listed):
        return np.asarray(pd.PeriodIndex(listed).to_timestamp().values)
    if not all(isinstance(value, date | np.datetime64) for value in listed):
        return None
    zoned = {getattr(value, "tzinfo", None) is not None for value in listed}
    if len(zoned) > 1:  # some of them lie anywhere within a day
        return None
    return np.asarray(pd.to_datetime(listed, utc=True).tz_localize(None).values)
