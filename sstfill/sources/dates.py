# SPDX-License-Identifier: Apache-2.0
"""Read the times of a recipe: absolute ones, and ones relative to the day on which it runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sstfill.errors import OptionError

RELATIVE = re.compile(r"-\s*(\d{1,5})\s*([hdw])")
HOURS = {"h": 1, "d": 24, "w": 168}


def is_relative(text: str) -> bool:
    """Whether a time counts back from now, such as ``"-30d"``.

    >>> is_relative("-30d"), is_relative("2023-01-01")
    (True, False)
    """
    return RELATIVE.fullmatch(text.strip()) is not None


def span(text: str) -> timedelta:
    """Read a length of time: whole hours, days or weeks.

    >>> span("10d")
    datetime.timedelta(days=10)
    """
    found = RELATIVE.fullmatch("-" + text.strip())
    if found is None:
        raise OptionError(f"{text!r} is not a length of time; write 10d, 36h or 2w")
    return timedelta(hours=int(found[1]) * HOURS[found[2]])


def moment(text: str, now: datetime) -> datetime:
    """Read a time, and return it in UTC without a zone.

    Parameters
    ----------
    text
        ``"2023-01-31"``, ``"2023-01-31T06:00"`` (UTC unless it names a zone), or back from now by
        whole hours, days or weeks: ``"-6h"`` falls on the hour, ``"-30d"`` and ``"-4w"`` on
        midnight.
    now
        What relative times count from, with its zone.

    Raises
    ------
    OptionError
        If it is neither.

    >>> moment("-30d", datetime(2024, 3, 1, 17, 45, tzinfo=UTC))
    datetime.datetime(2024, 1, 31, 0, 0)
    """
    if found := RELATIVE.fullmatch(text.strip()):
        start = now.astimezone(UTC).replace(tzinfo=None, minute=0, second=0, microsecond=0)
        # -30d means whole days, so that two runs of one day ask for the same
        if found[2] != "h":
            start = start.replace(hour=0)
        try:
            return start - timedelta(hours=int(found[1]) * HOURS[found[2]])
        except OverflowError as error:
            raise OptionError(f"{text!r} lies before the year 1; write a later time") from error
    try:
        when = datetime.fromisoformat(text.strip())
        # NumPy's times know no zone
        if when.tzinfo is not None:
            when = when.astimezone(UTC).replace(tzinfo=None)
        return when
    except (ValueError, OverflowError) as error:
        raise OptionError(
            f"{text!r} is not a time; write 2023-01-31, 2023-01-31T06:00, or back from today: "
            "-30d, -6h"
        ) from error
