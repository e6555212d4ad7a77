# SPDX-License-Identifier: Apache-2.0
"""Dates in every form that people give them are the same dates."""

from __future__ import annotations

import datetime as dt
import logging
import re

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_fields import series

import sstfill
from sstfill.describe import describe
from sstfill.errors import InputError
from sstfill.fields import grid
from sstfill.fields.reading import dates
from sstfill.fields.reading.dates import absolute_days, days_since_first, year_length
from sstfill.methods import Climatology

CALENDARS = {
    "standard": 365.2425,
    "proleptic_gregorian": 365.2425,
    "julian": 365.25,
    "noleap": 365,
    "365_day": 365,
    "all_leap": 366,
    "366_day": 366,
    "360_day": 360,
}


def numbered(days, form, dtype=np.int64):
    return np.array([float(f"{day:{form}}") for day in days]).astype(dtype)


def decimal_years(days):
    begin = days.to_period("Y").to_timestamp()
    lengths = np.where(days.is_leap_year, 366, 365)
    return days.year + ((days - begin) / pd.Timedelta("1D")) / lengths


def since(days, unit, start="1900-01-01"):
    return (days - pd.Timestamp(start)) / pd.Timedelta(1, unit)


SPELLINGS = {
    "YYYYMMDD": lambda d: (numbered(d, "%Y%m%d"), {}),
    "YYYYMMDD, float": lambda d: (numbered(d, "%Y%m%d", float), {}),
    "YYYYMMDD in units": lambda d: (numbered(d, "%Y%m%d"), {"units": "YYYYMMDD"}),
    "YYYYMMDD, units of days": lambda d: (numbered(d, "%Y%m%d"), {"units": "days"}),
    "YYYYMMDDHH": lambda d: (numbered(d, "%Y%m%d%H"), {}),
    "YYYYMMDDHHMM": lambda d: (numbered(d, "%Y%m%d%H%M"), {}),
    "YYYYMMDDHHMMSS": lambda d: (numbered(d, "%Y%m%d%H%M%S"), {}),
    "YYYYDDD": lambda d: (numbered(d, "%Y%j"), {}),
    "decimal years": lambda d: (decimal_years(d), {}),
    "decimal years in units": lambda d: (decimal_years(d), {"units": "decimal year"}),
    "years in units": lambda d: (decimal_years(d), {"units": "years"}),
    "day as": lambda d: (numbered(d, "%Y%m%d", float), {"units": "day as %Y%m%d.%f"}),
    "day as, noon": lambda d: (numbered(d, "%Y%m%d", float) + 0.5, {"units": "day as %Y%m%d.%f"}),
    "datenum": lambda d: (since(d, "D", "1970-01-01") + 719529, {"units": "Matlab datenum"}),
    "Julian days": lambda d: (since(d, "D", "1970-01-01") + 2440587.5, {"units": "Julian Day"}),
    "Excel": lambda d: (since(d, "D", "1970-01-01") + 25569, {"units": "excel date"}),
    "plain days": lambda d: (since(d, "D", "1900-01-01"), {}),
    "days since": lambda d: (since(d, "D"), {"units": "days since 1900-1-1 0:0:0"}),
    "Days Since": lambda d: (since(d, "D"), {"units": "Days Since 1900-01-01"}),
    "day since": lambda d: (since(d, "D"), {"units": "day since 1900-01-01"}),
    "days since JAN": lambda d: (since(d, "D"), {"units": "days since 01-JAN-1900"}),
    "days since day 0": lambda d: (since(d, "D"), {"units": "days since 0000-01-00"}),
    "days since year 0": lambda d: (since(d, "D"), {"units": "days since 0000-01-01 00:00:00"}),
    "days since year 1": lambda d: (since(d, "D"), {"units": "days since 1-1-1 00:00:0.0"}),
    "hours since": lambda d: (since(d, "h"), {"units": "hours since 1900-01-01T00:00Z"}),
    "seconds since": lambda d: (since(d, "s"), {"units": "seconds since 1970"}),
    "weeks since": lambda d: (since(d, "D") / 7, {"units": "weeks since 1900-01-01"}),
    "no calendar": lambda d: (
        since(d, "D"),
        {"units": "days since 1900-01-01", "calendar": "none"},
    ),
    "ISO": lambda d: (d.strftime("%Y-%m-%dT%H:%M:%SZ").to_numpy(), {}),
    "WRF": lambda d: (d.strftime("%Y-%m-%d_%H:%M:%S").to_numpy().astype("S"), {}),
    "digits": lambda d: (d.strftime("%Y%m%d").to_numpy().astype(str), {}),
    "01-Jan-2001": lambda d: (d.strftime("%d-%b-%Y").to_numpy(), {}),
    "slashes": lambda d: (d.strftime("%Y/%m/%d").to_numpy(), {}),
    "date": lambda d: (np.array([day.date() for day in d], object), {}),
    "datetime": lambda d: (np.array(d.to_pydatetime(), object), {}),
    "zone": lambda d: (np.array([day.tz_localize("UTC") for day in d], object), {}),
    "period": lambda d: (d.to_period("D"), {}),
    "cftime": lambda d: (
        np.array([cftime.datetime(t.year, t.month, t.day, calendar="gregorian") for t in d]),
        {},
    ),
    "datetime64[s]": lambda d: (d.to_numpy().astype("M8[s]"), {}),
}

some_days = st.lists(
    st.dates(dt.date(1905, 1, 1), dt.date(2095, 12, 31)), min_size=2, max_size=8, unique=True
).map(lambda days: pd.DatetimeIndex(sorted(days)))


def spelled(days, values, attrs=None):
    bare = series(len(days)).drop_vars("time")
    return bare.assign_coords(time=("time", values, attrs or {}))


def lags(da):
    return days_since_first(grid.standardise(da))


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(days=some_days)
@settings(max_examples=5, deadline=None)
def test_every_spelling_is_the_same_dates(spelling, days):
    da = spelled(days, *SPELLINGS[spelling](days))
    np.testing.assert_allclose(lags(da), lags(spelled(days, days)), atol=1e-4)
    field = grid.standardise(da)
    xr.testing.assert_identical(grid.restore(field, da), da)


@given(
    first=st.integers(1900 * 12, 2050 * 12),
    steps=st.lists(st.integers(1, 30), min_size=1, max_size=6),
)
@settings(max_examples=5, deadline=None)
def test_months_in_every_spelling(first, steps):
    months = first + np.cumsum([0, *steps])
    year, month = months // 12, months % 12 + 1
    days = pd.DatetimeIndex([f"{y}-{m:02d}-01" for y, m in zip(year, month, strict=True)])
    expected = lags(spelled(days, days))
    bare = series(len(days)).drop_vars("time")
    together = {"year": ("time", year), "month": ("time", month)}
    ways = [
        spelled(days, year * 100 + month),
        spelled(days, months - 1900 * 12, {"units": "months since 1900-01-01"}),
        spelled(days, days.to_period("M")),
        spelled(days, days.strftime("%Y-%m").to_numpy()),
        spelled(days, days.strftime("%b %Y").to_numpy()),
        bare.assign_coords(together),
        bare.assign_coords(xr.Coordinates(together)).set_index(time=["year", "month"]),
        spelled(days, np.arange(len(days))).assign_coords(together),
    ]
    for way in ways:
        np.testing.assert_allclose(lags(way), expected, atol=1e-6)


@pytest.mark.parametrize("calendar", CALENDARS)
@given(
    year=st.integers(1600, 2100),
    month=st.integers(1, 12),
    day=st.integers(1, 28),
    later=st.integers(0, 4000),
)
@settings(max_examples=5, deadline=None)
def test_a_year_is_as_long_as_its_calendar_has_it(calendar, year, month, day, later):
    first = cftime.datetime(year, month, day, calendar=calendar)
    second = first + dt.timedelta(days=later)
    field = grid.standardise(series(time=[first, *[second + dt.timedelta(n) for n in (1, 2, 3)]]))
    assert year_length(field) == CALENDARS[calendar]
    days = days_since_first(field)[1]
    second = field["time"].values[1]
    passed = second.dayofyr - first.dayofyr - days
    # The same day of the year comes back with each year, but for its leap day.
    drift = (passed + year_length(field) / 2) % year_length(field) - year_length(field) / 2
    assert abs(drift) <= (2.3 if calendar not in ("noleap", "365_day", "360_day") else 1e-6) or (
        calendar in ("all_leap", "366_day") and abs(drift) < 1e-6
    )


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "all_leap"])
def test_the_cycle_of_a_climatology_does_not_drift(calendar):
    times = []
    for year in range(1980, 2010):
        times += [cftime.datetime(year, month, 15, calendar=calendar) for month in range(1, 13)]
    month = np.array([time.month for time in times])
    noise = np.random.default_rng(0).normal(0, 0.1, (len(times), 5, 6))
    truth = 5 * np.sin(2 * np.pi * month / 12)[:, None, None] + noise
    da = series(len(times), time=times).copy(data=truth.astype("f4"))
    seen = da.where(np.random.default_rng(1).random(truth.shape) > 0.3)
    filled = sstfill.fill(seen, Climatology(), score=False)["sst"]
    assert float(np.sqrt(((filled - truth) ** 2).where(seen.isnull()).mean())) < 0.13


def test_coded_dates_of_another_calendar():
    attrs = {"units": "day as %Y%m%d.%f", "calendar": "360_day"}
    da = spelled([0] * 4, np.array([20010229.0, 20010230, 20010301, 20010330]), attrs)
    assert lags(da).tolist() == [0, 1, 2, 31]
    texts = ["2001-02-29", "2001-02-30", "2001-03-01", "2001-03-30"]
    assert lags(spelled([0] * 4, texts, {"calendar": "360_day"})).tolist() == [0, 1, 2, 31]
    days = {"units": "days since 2001-01-01", "calendar": "360"}
    assert year_length(grid.standardise(spelled([0] * 4, np.arange(4), days))) == 360


@pytest.mark.parametrize(
    ("units", "values", "expected"),
    [
        ("months since 2001-01-31", [0, 1, 2, 3], [0, 28, 59, 89]),
        ("months since 2001-01-01", [0.5, 1.5, 2.5, 3.5], [0, 29.5, 59, 89.5]),
        ("years since 2000-03-01", [0, 1, 2, 4], [0, 365, 730, 1461]),
        ("month as %Y%m.%f", [200101.5, 200102.5, 200103, 200104], [0, 29.5, 43.5, 74.5]),
        ("hours", [0, 24, 48, 60], [0, 1, 2, 2.5]),
    ],
)
def test_months_and_years_since(units, values, expected):
    assert lags(spelled(values, np.array(values), {"units": units})) == pytest.approx(expected)


def test_zones_are_brought_to_utc():
    local = pd.date_range("2001-03-24", periods=4, tz="Europe/Paris")
    da = series(4).drop_vars("time").assign_coords(time=local)
    field = grid.standardise(da)
    assert str(field["time"].values[0]).startswith("2001-03-23T23:00")
    # the night in which the clocks change is an hour shorter
    assert days_since_first(field) == pytest.approx([0, 1, 2 - 1 / 24, 3 - 1 / 24])


def months(values, name="month", **more):
    da = series(len(values)).drop_vars("time").rename(time=name)
    return da.assign_coords({name: list(values)} | more)


def test_months_and_seasons_of_no_year():
    starts = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]
    assert lags(months(range(1, 13))).tolist() == starts
    assert lags(months(["Jan", "Feb", "Mar", "Apr"])).tolist() == starts[:4]
    assert lags(months(["DJF", "MAM", "JJA", "SON"], "season")).tolist() == starts[::3]
    assert lags(months([1, 2, 3, 4], "season")).tolist() == starts[::3]
    assert lags(months([1, 32, 60, 366], "dayofyear")).tolist() == [0, 31, 59, 365]
    assert lags(months([1, 2, 3, 53], "week")).tolist() == [0, 7, 14, 364]
    assert lags(months([2000, 2001, 2002, 2004], "year")).tolist() == [0, 366, 731, 1461]
    assert lags(months([1, 2, 3, 4], year=2004)).tolist() == [0, 31, 60, 91]
    nameless = series(4).drop_vars("time").rename(time="month")
    assert lags(nameless) == pytest.approx(np.arange(4) * 30.436875)


def test_seasons_in_the_order_of_letters_tell_the_order():
    da = months(["DJF", "JJA", "MAM", "SON"], "season")
    with pytest.raises(InputError, match=r"isel\(season=\[0, 2, 1, 3\]\)"):
        grid.standardise(da)
    assert lags(da.isel(season=[0, 2, 1, 3])).tolist() == [0, 90, 181, 273]


def test_years_and_months_in_two_dimensions_are_stacked():
    da = series(4).drop_vars("time").rename(time="month").assign_coords(month=[1, 2, 3, 4])
    da = xr.concat([da, da], xr.Variable("year", [2001, 2002]))
    with pytest.raises(InputError, match=r"\.stack\(time=\('month', 'year'\)\)|\.stack\(time="):
        grid.standardise(da)
    stacked = da.stack(time=("year", "month"))
    assert lags(stacked).tolist() == [0, 31, 59, 90, 365, 396, 424, 455]


def dataset(**variables):
    return xr.Dataset({"sst": series(4).drop_vars("time")} | variables)


@pytest.mark.parametrize(
    "beside",
    [
        {"date": ("time", np.array([0, 1, 2, 9]), {"units": "days since 2001-01-01"})},
        {"date": ("time", np.array([20010101, 20010102, 20010103, 20010110]))},
        {
            "time_counter": (
                "time",
                pd.DatetimeIndex(["2001-01-01", "2001-01-02", "2001-01-03", "2001-01-10"]),
            )
        },
        {
            "Times": (
                "time",
                np.array(
                    [
                        b"2001-01-01_00:00:00",
                        b"2001-01-02_00:00:00",
                        b"2001-01-03_00:00:00",
                        b"2001-01-10_00:00:00",
                    ]
                ),
            )
        },
        {"year": ("time", [2001] * 4), "month": ("time", [1] * 4), "day": ("time", [1, 2, 3, 10])},
        {"year": ("time", [2001] * 4), "doy": ("time", [1, 2, 3, 10])},
    ],
    ids=lambda beside: "-".join(beside),
)
@pytest.mark.parametrize("index", [False, True])
def test_dates_beside_the_time_are_found(beside, index):
    ds = dataset(**beside)
    if index:
        ds = ds.assign_coords(time=np.arange(4))
    ds = dates.declare(ds)
    assert set(beside) <= set(ds.coords)
    assert lags(ds["sst"]).tolist() == [0, 1, 2, 9]


def test_a_dimension_of_another_name_has_its_time_beside(tmp_path):
    ds = dataset(time=("time", np.array([0, 1, 2, 9]), {"units": "days since 2001-01-01"}))
    ds = ds.reset_index("time").rename_dims(time="nt", lat="ny", lon="nx").reset_coords()
    ds["sst"][1, 2, 2] = np.nan
    ds.to_netcdf(tmp_path / "nt.nc")
    with sstfill.io.open(tmp_path / "nt.nc") as found:
        assert lags(found["sst"]).tolist() == [0, 1, 2, 9]


def test_what_is_no_time_is_left_alone():
    ds = dataset(
        t=("lat", np.arange(5.0)), day=("lat", np.arange(5.0)), flag=("time", [1, 2, 1, 3])
    )
    assert set(dates.declare(ds).coords) == {"lat", "lon"}
    dated = ds.assign_coords(time=pd.date_range("2001", periods=4)).assign(
        date=("time", [1, 2, 3, 4])
    )
    assert set(dates.declare(dated).coords) == {"lat", "lon", "time"}


def test_dates_are_taken_before_parts_of_them():
    days = pd.date_range("2001-01-01", periods=4)
    parts = {"year": ("time", [2001] * 4), "month": ("time", [1] * 4)}
    for values in (days, days.strftime("%Y-%m-%d").to_numpy(), numbered(days, "%Y%m%d")):
        assert lags(spelled(days, values).assign_coords(parts)).tolist() == [0, 1, 2, 3]


def test_a_guess_is_warned_of(caplog):
    dates._warn_once.cache_clear()
    caplog.set_level(logging.WARNING)
    ds = dataset().assign_coords(time=[20010101, 20010102, 20010103, 20010104])
    dates.declare(dates.declare(ds))
    (record,) = caplog.records
    assert "read as YYYYMMDD, the first is 2001-01-01" in record.message
    stated = ds.assign_coords(time=ds["time"].assign_attrs(units="day as %Y%m%d.%f"))
    dates.declare(stated)
    dates.declare(ds.assign_coords(time=[0, 1, 2, 3]))
    assert len(caplog.records) == 1
    dates.declare(ds.assign_coords(time=[0, 24, 48, 72]))
    assert "steps of 24" in caplog.records[1].message


@pytest.mark.parametrize(
    ("values", "attrs", "message"),
    [
        ([0, 1, 2, 3], {"units": "jours depuis 2000-01-01"}, "jours depuis.*not known.*days since"),
        ([0, 1, 2, 3], {"units": "days 2000-01-01"}, "without 'since'.*'days since 2000-01-01'"),
        ([0, 1, 2, 3], {"units": "days since yesterday"}, "make no dates"),
        ([0, 1, 2, 3], {"units": "days since 2000-01-01", "calendar": "mayan"}, "mayan.*noleap"),
        ([20010101, 20010131, 20010132, 20010201], {}, "look like YYYYMMDD.*20010132 is no date"),
        ([2001001, 2001366, 2002001, 2002002], {}, "look like YYYYDDD.*2001366 is no date"),
        ([20010101, 20010131, 20010132, 20010201], {"units": "yyyymmdd"}, "20010132.*no date"),
        ([1e9, 1e9 + 86400, 1.1e9, 1.2e9], {}, "neither dates nor days"),
        (np.float32([20010101, 20010103, 20010105, 20010107]), {}, "single precision"),
        (["a", "b", "c", "d"], {}, "'a'.*to_datetime"),
        (["01/02/2001", "02/02/2001", "03/02/2001", "04/02/2001"], {}, "01/02/2001.*to_datetime"),
        (["2001-01-01", "", "2001-01-03", "2001-01-04"], {}, "blank.*step 1"),
        ([20010101, 20010103, 20010102, 20010104], {}, "2001-01-02T00:00:00 at step 2; sort"),
        ([20010101, 20010101, 20010102, 20010104], {}, "2001-01-01T00:00:00 twice"),
        ([0.0, np.nan, 1.0, 2.0], {}, "missing.*step 1"),
        ([0.0, 1.0, 2.0, np.inf], {}, "infinite"),
        (
            np.array([dt.datetime(2001, 1, 1), dt.datetime(2001, 1, 2, tzinfo=dt.UTC)] * 2),
            {},
            "datetime values.*to_datetime",
        ),
    ],
)
def test_times_that_cannot_be_known_are_refused(values, attrs, message):
    with pytest.raises(InputError, match=message):
        grid.standardise(spelled(range(4), values, attrs))


def test_an_unknown_third_dimension_may_be_the_time():
    with pytest.raises(InputError, match=r"rename it: \.rename\(\{'nz': 'time'\}\)"):
        grid.standardise(series(4).drop_vars("time").rename(time="nz"))


def test_months_since_in_a_file_do_not_stop_it(tmp_path):
    numbers = ("time", np.arange(4), {"units": "months since 2001-01-01"})
    other = ("time", np.arange(4), {"units": "days since 1990-01-01"})
    ds = dataset(start=other).assign_coords(time=numbers)
    ds["sst"][1, 2, 2] = np.nan
    ds.to_netcdf(tmp_path / "months.nc")
    with sstfill.io.open(tmp_path / "months.nc") as found:
        assert found["start"].dtype.kind == "M"
        assert lags(found["sst"]).tolist() == [0, 31, 59, 90]
        filled = sstfill.fill(found, "interpolate", score=False)
        assert filled["time"].attrs["units"] == "months since 2001-01-01"
        xr.testing.assert_identical(filled["time"].variable, found["time"].variable)


def test_a_year_joined_at_both_ends_as_the_docs_have_it():
    da = months(range(1, 13))
    joined = da.isel(month=[11, *range(12), 0])
    joined = joined.assign_coords(month=("month", range(14), {"units": "months"}))
    assert lags(joined) == pytest.approx(np.arange(14) * 30.436875)


@pytest.mark.parametrize(
    ("values", "attrs", "told"),
    [
        ([20010131, 20010201, 20010202, 20010203], {}, "2001-01-31 to 2001-02-03.*YYYYMMDD"),
        ([0, 1, 2, 3], {}, "one each 1 d; no units: taken as days"),
        ([0, 1, 2, 3], {"units": "days since 0000-01-01"}, "0000-01-01 to .*year 0"),
        (["0", "1", "2", "3"], {"units": "days since 2001-01-01"}, "2001-01-01 to 2001-01-04"),
        ([1, 2, 3, 4], {"units": "days of the run"}, "1 to 4, 4 images"),
        (
            [1, 2, 3, 4],
            {"units": "hours since 2001-01-01", "calendar": "none"},
            "one each 1 h; no calendar: hours are counted",
        ),
    ],
)
def test_info_tells_how_times_are_read(values, attrs, told):
    da = spelled(range(4), values, attrs)
    da[1, 2, 2] = np.nan
    (field,) = describe(da).fields
    assert re.search(told, field.facts["time"]) and not field.trouble


@pytest.mark.parametrize("kind", ["period", "zone", "dates", "levels", "beside"])
def test_a_fill_gives_back_the_times_of_the_user(kind):
    days = pd.date_range("2001-01-01", periods=4)
    bare = series(4).drop_vars("time")
    parts = {"year": ("time", [2001] * 4), "month": ("time", [1, 2, 3, 4])}
    da = {
        "period": bare.assign_coords(time=days.to_period("D")),
        "zone": bare.assign_coords(time=days.tz_localize("Europe/Paris")),
        "dates": bare.assign_coords(time=("time", np.array([day.date() for day in days], object))),
        "levels": bare.assign_coords(xr.Coordinates(parts)).set_index(time=["year", "month"]),
        "beside": bare.assign_coords(time=[0, 1, 2, 3], valid_time=("time", days)),
    }[kind]
    da[1, 2, 2] = np.nan
    filled = sstfill.fill(da, "interpolate", score=False)
    assert int(filled["sst"].isnull().sum()) == 0
    for name in da.coords:
        xr.testing.assert_identical(filled[name].variable, da[name].variable)


def test_withheld_masks_and_pictures_know_the_dates():
    from sstfill.plot.view import step_of

    da = spelled(range(4), [20011226, 20011227, 20011228, 20011229])
    hidden = xr.zeros_like(da, bool)
    hidden[0, 0, 0] = True
    filled = sstfill.fill(da, "interpolate", score=False, withheld=hidden)
    assert filled["time"].values.tolist() == da["time"].values.tolist()
    assert step_of(grid.standardise(filled["sst"]), "2001-12-28") == 2


@given(
    values=st.lists(
        st.one_of(
            st.sampled_from(
                [0, 1, -1, 1e300, -1e300, 2**62, 20010131, 2001, 2001.5, np.inf, np.nan]
            ),
            st.floats(),
            st.text(max_size=8),
        ),
        min_size=4,
        max_size=4,
    ),
    units=st.sampled_from(
        [
            "",
            *("months since 2001-01-01", "years since 1-1-1", "days since 0000-00-00"),
            *("seconds since 9999-12-31", "weeks since \x1b[2J", "months since 99999-01-01"),
            *("Julian Day", "datenum", "YYYYMMDD", "day as %Y%m%d.%f", "year as %Y.%f", "years"),
        ]
    ),
    calendar=st.sampled_from(["standard", "360_day", "julian", "none", "x", ""]),
    name=st.sampled_from(["time", "month", "season", "year", "dayofyear", "datenum"]),
)
@example([-1, 0, 1, 2], "years since 1-1-1", "julian", "time")
@settings(max_examples=60, deadline=None)
def test_whatever_stands_for_times_is_read_or_refused_in_one_line(values, units, calendar, name):
    if all(isinstance(value, int | float) for value in values):
        values = np.array(values, np.float64)
    else:
        values = np.array([str(value) for value in values])
    attrs = {"units": units, "calendar": calendar}
    bare = series(4).drop_vars("time").rename(time=name)
    da = bare.assign_coords({name: (name, values, attrs)})
    try:
        days = lags(da)
    except InputError as error:
        assert "\n" not in str(error) and "\x1b" not in str(error)
    else:
        assert np.isfinite(days).all() and (np.diff(days) > 0).all()


@pytest.mark.parametrize("kind", ["dates", "calendar", "numbers", "hours", "none"])
def test_absolute_days_are_the_same_in_a_part_of_a_series(kind):
    days = np.array([0.0, 1.5, 2.0, 7.25])
    field = xr.DataArray(np.zeros((4, 1, 1)), dims=("time", "y", "x"))
    if kind == "dates":
        time = np.datetime64("2020-02-28T06", "ns") + (days * 86400e9).astype("m8[ns]")
        field = field.assign_coords(time=time)
    elif kind == "calendar":
        start = cftime.Datetime360Day(2020, 2, 28, 6)
        field = field.assign_coords(time=[start + dt.timedelta(days=d) for d in days])
    elif kind in ("numbers", "hours"):
        units = {"numbers": "days", "hours": "hours"}[kind]
        values = days * {"numbers": 1, "hours": 24}[kind]
        field = field.assign_coords(time=("time", values, {"units": units}))
    else:
        days = np.arange(4.0)
    whole, part = absolute_days(field), absolute_days(field[2:], first=2)
    assert (whole[2:] == part).all()
    assert whole - whole[0] == pytest.approx(days)
    since = {"dates": 18320.25, "calendar": 50 * 360 + 57.25}.get(kind, 0.0)
    assert whole[0] == pytest.approx(since)
