# SPDX-License-Identifier: Apache-2.0
"""Lay granules on a regular time axis, on which missing days are steps too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sstfill.errors import InputError, OptionError
from sstfill.fields.reading import date_forms

SECOND, HOUR, DAY = np.timedelta64(1, "s"), np.timedelta64(1, "h"), np.timedelta64(1, "D")
LOOSE = 0.25
"""Fraction of a step by which a gap between granules may differ from whole steps."""
ENOUGH = 3
"""Gaps that a step is inferred from; with fewer, days are tried first."""
MOST_STEPS = 1_000_000
STAMP = re.compile(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)(?:[T _]?(\d\d):?(\d\d):?(\d\d))?(?!\d)")
Times = NDArray[np.datetime64]


class TimeAxis(NamedTuple):
    """Times of all steps, and the step of each granule."""

    times: Times
    steps: NDArray[np.int_]


def axis(times: Times, step: str) -> TimeAxis:
    """Lay granules on a regular axis; steps without a granule get the time when one is due.

    Parameters
    ----------
    times
        Time of each granule, in seconds, any order.
    step
        ``"auto"``: the step that all gaps are multiples of, the median gap or one day. ``"none"``:
        no steps but those that there are. Otherwise a length such as ``"1D"`` or ``"12h"``.

    >>> days = np.array(["2022-06-01", "2022-06-04", "2022-06-02"], "M8[s]")
    >>> axis(days, "auto").times.astype("M8[D]").astype(str).tolist()
    ['2022-06-01', '2022-06-02', '2022-06-03', '2022-06-04']
    """
    if step == "none":
        known, steps = np.unique(times, return_inverse=True)
        return TimeAxis(known, steps)
    length = inferred(times) if step == "auto" else _length(step)
    turns = (times - times.min()) / length
    # The circular mean of where in a step granules lie: overpasses come earlier and later by turns,
    # and none may be rounded to its neighbour's step.
    phase = np.angle(np.exp(2j * np.pi * turns).mean()) / (2 * np.pi)
    steps = np.rint(turns - phase).astype(int)
    first = steps.min()
    steps -= first
    if steps.max() >= MOST_STEPS:
        raise InputError(
            f"step={step!r} makes {steps.max() + 1} steps of {len(times)} granules; "
            "give a longer one"
        )
    seconds = (np.arange(steps.max() + 1) + first + phase) * (length / SECOND)
    due = times.min() + np.rint(seconds).astype(int) * SECOND
    # where there is a granule, its own time and not that when it was due
    due[steps] = times
    return TimeAxis(due, steps)


def _length(step: str) -> np.timedelta64:
    try:
        length = pd.Timedelta(step).to_timedelta64().astype("m8[s]")
    except (ValueError, TypeError) as error:
        raise OptionError(
            f"step={step!r} is not a length of time; give auto, none, or one such as 1D or 12h"
        ) from error
    if np.isnat(length) or length < SECOND:
        raise OptionError(
            f"step={step!r} is not a length of time; give a second or more, such as 1D"
        )
    return np.timedelta64(length)


def inferred(times: Times) -> np.timedelta64:
    """Infer the step of a regular series with holes, an hour or more; `InputError` without one."""
    # rounded to hours: overpasses drift by minutes from day to day
    hours = np.unique((times + HOUR // 2).astype("M8[h]"))
    gaps = np.diff(hours) / HOUR
    if not gaps.size:
        return DAY.astype("m8[s]")
    likely = [float(np.median(gaps)), 24.0]
    if len(gaps) < ENOUGH:
        likely.reverse()
    for step in likely:
        multiples = gaps / step
        if (np.abs(multiples - np.maximum(np.rint(multiples), 1)) <= LOOSE).all():
            return np.timedelta64(round(step * 3600), "s")
    raise InputError(
        f"granules come every {gaps.min():g} to {gaps.max():g} hours, which is no regular step; "
        "give one, such as step='1D', or step='none' to keep their times as they are"
    )


def moment(attrs: Mapping[Any, Any], path: Path) -> np.datetime64:
    """Return the time of a granule without a time axis, by its attributes or its name."""
    for text in (attrs.get("time_coverage_start", ""), attrs.get("start_time", ""), path.name):
        found = _stamp(str(text))
        if found is not None:
            return found
    raise InputError(
        f"{path} has no time: no time axis, no time_coverage_start, no date such as 20220601 in "
        "its name; add a time coordinate"
    )


def _stamp(text: str) -> np.datetime64 | None:
    """Find the first date (and time) in a text.

    >>> str(_stamp("2022-06-01 19:00:00")), str(_stamp("A2022152.L3m_DAY_SST.nc"))
    ('2022-06-01T19:00:00', '2022-06-01T00:00:00')
    """
    # names hold other numbers, too: orbits, versions
    for found in STAMP.finditer(text):
        parts = [int(part or 0) for part in found.groups()]
        try:
            return np.datetime64(pd.Timestamp(*parts), "s")
        except ValueError:
            continue  # digits that are not a date
    # as NASA's ocean colour names its files, A2022152
    for found in re.finditer(r"(?<!\d)\d{7}(?!\d)", text):  # year and day of the year
        number = np.array([float(found[0])])
        form = date_forms.form_guessed(number)
        dates = None if form is None else date_forms.from_code(number, form, "standard")
        if dates is not None:
            return np.datetime64(dates[0], "s")
    return None


def created(attrs: Mapping[Any, Any]) -> str:
    """Return when a granule was made, as text that sorts; empty if its attributes do not say."""
    for key in ("date_created", "creation_date", "date_modified"):
        stamp = _stamp(str(attrs.get(key, "")))
        if stamp is not None:
            return str(stamp)
    return ""
