# SPDX-License-Identifier: Apache-2.0
"""Refuse a box, a depth or a period beyond what a dataset covers; nothing is clipped."""

from __future__ import annotations

import dataclasses

from sstfill.errors import OptionError
from sstfill.sources.copernicus.coverage import Coverage, CoverageAxis, milliseconds, since_1970
from sstfill.sources.copernicus.request import RANGES, CopernicusRequest

SLACK = 1e-3  # of a step: float32 coordinates


def covered(request: CopernicusRequest, coverage: Coverage) -> CopernicusRequest:
    """Return the request with the ends of the dataset where it names none.

    Raises
    ------
    OptionError
        The request goes beyond what the dataset covers.
    """
    axis = coverage.axes.get("time")
    if axis is None:
        raise OptionError(f"{request.dataset_id} has no time dimension; choose another dataset")
    first, last = str(milliseconds(axis.first)), str(milliseconds(axis.last))
    start, end = request.start_datetime or first, request.end_datetime or last
    if request.clip_end and since_1970(end) > axis.last:
        end = last
    if not axis.first <= since_1970(start) <= axis.last or since_1970(end) > axis.last:
        raise OptionError(
            f"{request.dataset_id} has times from {first} to {last}, not {start} to {end}; "
            "ask for what lies within"
        )
    for name in RANGES:
        _check_range(name, request, coverage)
    return dataclasses.replace(request, start_datetime=start, end_datetime=end)


def _check_range(name: str, request: CopernicusRequest, coverage: Coverage) -> None:
    """Raise `OptionError` for a range beyond the axis, or for several levels of depth."""
    low, high = request.range_of(name)
    axis = coverage.axes.get(name)
    if axis is None:
        return
    # latitudes may descend
    first, last = sorted((axis.first, axis.last))
    slack = SLACK * abs(axis.step or 0.0)
    if name != "longitude" or not around_the_globe(axis):
        for value in (low, high):
            if value is None:
                continue
            if name == "longitude":
                value = turned(value)
            if not first - slack <= value <= last + slack:
                raise OptionError(
                    f"{request.dataset_id} has {name} from {first:g} to {last:g}, "
                    f"not {request.box()}; ask for what lies within"
                )
    if name == "depth" and (levels := axis.inside(low, high)) > 1:
        raise OptionError(
            f"the request covers {levels} levels of depth; give one: minimum_depth and "
            "maximum_depth of the same value take the nearest"
        )


def around_the_globe(longitude: CoverageAxis) -> bool:
    """Whether an axis goes around the globe, also where its values are the centres of cells.

    >>> around_the_globe(CoverageAxis(first=-179.95, last=179.95, step=0.1))
    True
    >>> around_the_globe(CoverageAxis(first=-6, last=36, step=1))
    False
    """
    step = abs(longitude.step or 0.0)
    return abs(longitude.last - longitude.first) + step >= 360 - SLACK * step


def turned(longitude: float) -> float:
    """Return a longitude from -180 to 180, as the client turns it.

    >>> turned(190), turned(180)
    (-170, 180)
    """
    if -180 <= longitude <= 180:
        return longitude
    return (longitude + 180) % 360 - 180
